"""Gates about row security policies."""

from __future__ import annotations

from .gate import Gate, Plant

_FROM = (
    "pg_policy p join pg_class c on c.oid = p.polrelid"
    " join pg_namespace n on n.oid = c.relnamespace"
)
_POLICIES = f"{_FROM} where {{ours}}"
_READS = f"""{_FROM}
  join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
    and d.refclassid = 'pg_class'::regclass and d.refobjid <> p.polrelid
    and d.refobjid <> 'private.my_rights'::regclass
  join pg_class r on r.oid = d.refobjid where {{ours}}"""
_CALLS = f"""{_FROM}
  join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
    and d.refclassid = 'pg_proc'::regclass
  join pg_proc f on f.oid = d.refobjid where {{ours}}"""
_NAMES = f"""{_FROM}
  cross join lateral regexp_matches(coalesce(pg_get_expr(p.polqual, p.polrelid), '')
    || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), ''), $$ids\\('([^']*)'$$, 'g') m(code)
  where {{ours}}"""
#: What policies of a table of a business (or organization) look like when deparsed. The planner
#: evaluates each sub-select once per statement; that of the bounds is a value an index can use.
_RIGHTS = (
    r"\( SELECT r\.{0}\s+FROM private\.my_rights r\s+"
    r"WHERE \(\(r\.permission = ''[a-z_.]+''::text\) AND"
    r" \(r\.home_schema = ''@schema''::text\)\)\)"
)
_OWN_ROWS = (
    r"( OR (\(user_id = \( SELECT private\.current_user_id\(\) AS current_user_id\)\)"
    r"|\(business_id IS NULL\)))?"
)
_CARRIED = (
    r"ARRAY\[business_id, shared_id, department_id, [a-z_, ]+,\s+CASE\s+"
    r"WHEN \(COALESCE\(department_id, [a-z_, ]+\) IS NULL\) "
    r"THEN private\.pool_key\(business_id\)\s+ELSE NULL::uuid\s+END\]"
)
#: Restrictive: a business (organization) where the permission is held. Permissive too, where all
#: its rows are reached.
_BOUNDS = (
    rf"^\(business_id = ANY \({_RIGHTS.format('business_ids')}::uuid\[\]\)\)$",
    r"^\(?\(?(business_id|organization_id|id) = ANY \(\( SELECT "
    r"private\.my_(business|organization)_ids\(''[a-z_.]+''::text\)"
    r" AS my_(business|organization)_ids\)::uuid\[\]\)\)?" + _OWN_ROWS + r"\)?$",
)
#: Permissive: all records, or the single one, or what is part of it.
_RECORDS = tuple(
    rf"^\({_RIGHTS.format('is_whole')} OR {single}\)$"
    for single in (
        r"private\.reaches\(\( SELECT my_reach\(''[a-z_.]+''::text\) AS my_reach\),"
        rf" business_id, {_CARRIED}, shared_id\)",
        r"may_access_record\(''[a-z]+''::text, business_id, [a-z_]+, ''[a-z_.]+''::text\)",
    )
)


def _any_of(*forms: str) -> str:
    """An array of SQL of the forms, each with the schema of the policy in it."""
    quoted = ", ".join(f"'{form}'" for form in forms)
    return f"array(select replace(f, '@schema', n.nspname) from unnest(array[{quoted}]) f)"


_REFERENCE = "reference data without a secret, the same for everybody signed in"

GATES = (
    Gate(
        "policies are for signed-in members alone",
        "A policy to PUBLIC admits visitors and every role made later.",
        f"""
        select p.polname || ' to ' || array_to_string(array(
          select case r when 0 then 'public' else r::regrole::text end from unnest(p.polroles) r),
            ', ')
        from {_POLICIES} and p.polroles <> array['authenticated'::regrole::oid]
        """,
        (
            Plant(
                "create policy anybody on public.customers for select using (false)",
                "anybody to public",
            ),
            Plant(
                "create policy visitors on public.customers for select to anon using (false)",
                "visitors to anon",
            ),
        ),
        {
            "subscription_plans_select to anon, authenticated": "the price list is public; the"
            " policy "
            "shows public plans alone"
        },
    ),
    Gate(
        "policies have one of few forms",
        "One evaluation per statement, an index condition, no table read, nothing to get wrong.",
        f"""
        select p.polname from {_POLICIES} and exists (
          select from unnest(array[pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck,
            p.polrelid)]) e
          where e is not null
            and e !~ all (case when p.polpermissive then {_any_of(*_BOUNDS, *_RECORDS)}
              else {_any_of(*_BOUNDS)} end))
        """,
        (
            Plant(
                "create policy open on public.customers for select to authenticated using (true)",
                "open",
            ),
            Plant(
                "create policy own_id on public.customers for select to authenticated"
                " using (business_id = business_id)",
                "own_id",
            ),
            Plant(
                "create policy per_row on public.customers for select to authenticated"
                " using (business_id = any (public.my_business_ids('customers.read')))",
                "per_row",
            ),
            Plant(
                "create policy abroad on public.channels for select to authenticated"
                " using (business_id = any ((select r.business_ids from private.my_rights r"
                " where r.permission = 'channels.read' and r.home_schema = 'elsewhere')::uuid[]))",
                "abroad",
            ),
            Plant(
                "create policy also on public.customers for select to authenticated using ("
                "business_id = any ((select public.my_business_ids('customers.read'))::uuid[])"
                " or true)",
                "also",
            ),
            Plant(
                "create policy unkeyed on public.customers for select to authenticated using ("
                "(select r.is_whole from private.my_rights r"
                " where r.permission = 'customers.read' and r.home_schema = 'public') or true)",
                "unkeyed",
            ),
            Plant(
                "create policy unbound on public.messages as restrictive for select"
                " to authenticated using ((select r.is_whole from private.my_rights r"
                " where r.permission = 'messages.read' and r.home_schema = 'public')"
                " or public.may_access_record('conversations', business_id, conversation_id,"
                " 'messages.read'))",
                "unbound",
            ),
        ),
        {
            "status_transitions_select": _REFERENCE,
            "permissions_select": _REFERENCE,
            "subscription_plans_select": "public plans alone",
            **dict.fromkeys(
                ("role_permissions_select", "role_permissions_select_only_held"),
                "the form on role_id: roles the caller may see",
            ),
            **dict.fromkeys(
                ("profiles_select", "profiles_select_only_held"),
                "the form on user_id: colleagues and oneself",
            ),
            **dict.fromkeys(("profiles_update", "profiles_update_only_held"), "one's own profile"),
            **dict.fromkeys(
                ("access_control_lists_select", "access_control_lists_select_only_held"),
                "the form, and what one shared oneself while one may share",
            ),
        },
    ),
    Gate(
        "what may be written is checked when it is written",
        "USING alone decides about the old row; WITH CHECK about the new one.",
        f"""
        select p.polname from {_POLICIES} and (
          (p.polcmd in ('a', 'w') and p.polwithcheck is null)
          or (p.polcmd = 'w' and pg_get_expr(p.polqual, p.polrelid)
              is distinct from pg_get_expr(p.polwithcheck, p.polrelid)))
        """,
        (
            Plant(
                "create policy half on public.messages for update to authenticated using (false)",
                "half",
            ),
            Plant(
                "create policy wide on public.messages for update to authenticated using (false)"
                " with check (true)",
                "wide",
            ),
        ),
    ),
    Gate(
        "one permissive policy per table and verb",
        "Permissive policies add up: a second one can only open.",
        f"""
        select c.oid::regclass || ' ' || p.polcmd::text from {_POLICIES}
        group by c.oid, p.polcmd having count(*) filter (where p.polpermissive) <> 1
        union all
        select c.oid::regclass || ' for all: ' || p.polname from {_POLICIES} and p.polcmd = '*'
        """,
        (
            Plant(
                "create policy more on public.customers for select to authenticated using (false)",
                "customers r",
            ),
            Plant(
                "create policy everything on public.messages to authenticated using (false)",
                "messages for all: everything",
            ),
        ),
    ),
    Gate(
        "one restrictive policy beside each permissive one",
        "It bounds what is held in this session, whatever permissive policies are added later.",
        f"""
        select c.oid::regclass || ' ' || p.polcmd::text from {_POLICIES}
        group by c.oid, p.polcmd having count(*) filter (where not p.polpermissive) <> 1
        """,
        (
            Plant("drop policy customers_update_only_held on public.customers", "customers w"),
            Plant(
                "create policy again on public.calls as restrictive for select to authenticated"
                " using (false)",
                "calls r",
            ),
        ),
        {
            "status_transitions r": _REFERENCE,
            "permissions r": _REFERENCE,
            "subscription_plans r": "public plans alone",
        },
    ),
    Gate(
        "policies read no table",
        "A table under row security in a policy recurses or depends on the reader's other rights.",
        f"""
        select p.polname || ' reads ' || r.oid::regclass from {_READS}
        """,
        (
            Plant(
                "create policy looks on public.messages for update to authenticated using (exists ("
                "select from public.customers x where x.business_id = messages.business_id))"
                " with check (false)",
                "looks reads customers",
            ),
        ),
    ),
    Gate(
        "policies of the tenant plane ask the place they are in",
        "The function of the schema answers only at home: a copy elsewhere must show nothing.",
        f"""
        select distinct p.polname || ' calls ' || f.oid::regprocedure from {_CALLS}
          and exists (select from pg_trigger t where t.tgrelid = c.oid
            and t.tgfoid = 'private.tg_guard()'::regprocedure)
          and f.pronamespace <> c.relnamespace
          -- Which are told everything they know.
          and f.oid not in ('private.pool_key(uuid)'::regprocedure,
            'private.reaches(private.user_access,uuid,uuid[],uuid)'::regprocedure)
        """,
        (
            Plant(
                "create policy anywhere on public.customers for select to authenticated using ("
                "business_id = any ((select private.my_business_ids('customers.read'))::uuid[]))",
                "anywhere calls private.my_business_ids(text)",
            ),
        ),
    ),
    Gate(
        "all parts of a policy ask for the same permission",
        "A record that is reached by one right and limited by another is limited by none.",
        f"""
        select p.polname from {_FROM}, unnest(array[pg_get_expr(p.polqual, p.polrelid),
          pg_get_expr(p.polwithcheck, p.polrelid)]) e
        where {{ours}} and e ~ 'is_whole' and (
          select count(distinct m[1])
          from regexp_matches(e, $$'([a-z_]+\\.[a-z_]+)'::text$$, 'g') m) <> 1
        """,
        (
            Plant(
                "create policy mixed on public.contact_points for select to authenticated using ("
                "business_id = any ((select public.my_business_ids('customers.read'))::uuid[])"
                " and (select r.is_whole from private.my_rights r"
                " where r.permission = 'calls.read' and r.home_schema = 'public'))",
                "mixed",
            ),
        ),
    ),
    Gate(
        "policies name permissions that exist",
        "A misspelled permission admits nobody, and one day somebody who defines it.",
        f"""
        select p.polname || ': ' || m.code[1] from {_NAMES}
          and m.code[1] not in (select code from public.permissions)
          and m.code[1] not in ('organization.read', 'organization.write', 'organization.owner')
        """,
        (
            Plant(
                "create policy typo on public.messages for delete to authenticated using ("
                "business_id = any ((select public.my_business_ids('messages.delte'))::uuid[]))",
                "typo: messages.delte",
            ),
        ),
    ),
    Gate(
        "policies, triggers and views do not leak by LEAKPROOF",
        "A leakproof function runs before the policy, on other tenants' rows.",
        """
        select p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where {ours} and p.proleakproof
        """,
        (
            Plant(
                "alter function private.is_anonymous_number(text) leakproof",
                "private.is_anonymous_number(text)",
                True,
            ),
        ),
    ),
)
