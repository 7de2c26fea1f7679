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
#: What a policy of a table of a business (or organization) looks like when deparsed. The planner
#: evaluates the sub-select once per statement, as a value an index can use.
_RIGHTS = (
    r"\( SELECT r\.{0}\s+FROM private\.my_rights r\s+"
    r"WHERE \(\(r\.permission = ''[a-z_.]+''::text\) AND"
    r" \(r\.home_schema = ''@schema''::text\){1}\)\)"
)
_BUSINESS = rf"business_id = ANY \({_RIGHTS.format('business_ids', '')}::uuid\[\]\)"
_ALL = rf"^\(?{_BUSINESS}\)?$"
_WHOLE = _RIGHTS.format("is_whole", "")
_OF_WHOLE = _RIGHTS.format("business_ids", r" AND r\.is_whole")
_WHOLE_BUSINESS = rf"business_id = ANY \({_OF_WHOLE}::uuid\[\]\)"
_CARRIED = (
    r"ARRAY\[business_id, shared_id, department_id, [a-z_, ]+,\s+CASE\s+"
    r"WHEN \(COALESCE\(department_id, [a-z_, ]+\) IS NULL\) "
    r"THEN private\.pool_key\(business_id\)\s+ELSE NULL::uuid\s+END\]"
)
#: Records, read: of these businesses, and where the permission is limited what carries a key.
_RECORD = (
    rf"^\(\({_BUSINESS}\) AND \({_WHOLE} OR \(\({_CARRIED} && "
    r"\( SELECT my_record_keys\(''[a-z_.]+''::text\) AS my_record_keys\)\) AND "
    r"\(\(shared_id = ANY \(\( SELECT my_denied_ids\(''[a-z_.]+''::text\) AS my_denied_ids\)"
    r"::uuid\[\]\)\) IS NOT TRUE\)\)\)\)$"
)
#: And written.
_RECORD_WRITTEN = (
    rf"^\(\({_WHOLE_BUSINESS}\) OR may_reach_record\(''[a-z_.]+''::text, business_id, "
    rf"{_CARRIED}, shared_id\)\)$"
)
#: Parts of records: reached as the record.
_AS_RECORD = r"may_access_record\(''[a-z]+''::text, business_id, [a-z_]+, ''[a-z_.]+''::text\)"
_PART = rf"^\(\({_BUSINESS}\) AND \({_WHOLE} OR {_AS_RECORD}\)\)$"
_PART_WRITTEN = rf"^\(\({_WHOLE_BUSINESS}\) OR {_AS_RECORD}\)$"
_FORMS = ", ".join(f"'{form}'" for form in (_ALL, _RECORD, _RECORD_WRITTEN, _PART, _PART_WRITTEN))
_SHAPE = (
    r"^\(?\(?(business_id|organization_id|id) = ANY \(\( SELECT "
    r"[a-z0-9_.]*my_(business|organization)_ids\(''[a-z_.]+''::text\) AS my_\1_ids\)::uuid\[\]\)\)?"
    r"( OR \(user_id = \( SELECT private\.current_user_id\(\) AS current_user_id\)\)\))?$"
).replace(r"my_\1_ids", r"my_(business|organization)_ids")
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
        "policies have the one form",
        "One evaluation per statement, an index condition, no table read, nothing to get wrong.",
        f"""
        select p.polname from {_POLICIES} and exists (
          select from unnest(array[pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck,
            p.polrelid)]) e
          where e is not null and e !~ '{_SHAPE}'
            and e !~ all (array(select replace(form, '@schema', n.nspname)
              from unnest(array[{_FORMS}]) form)))
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
                "business_id = any ((select r.business_ids from private.my_rights r"
                " where r.permission = 'customers.read' and r.home_schema = 'public')::uuid[])"
                " and ((select r.is_whole from private.my_rights r"
                " where r.permission = 'customers.read' and r.home_schema = 'public') or true))",
                "unkeyed",
            ),
        ),
        {
            "status_transitions_select": _REFERENCE,
            "permissions_select": _REFERENCE,
            "subscription_plans_select": "public plans alone",
            "roles_select": "the form, and system roles, which have no business and are no secret",
            "role_permissions_select": "the form on role_id: roles the caller may see",
            "profiles_select": "the form on user_id: colleagues and oneself",
            "profiles_update": "one's own profile",
            "permission_templates_select": "the form, and templates for everybody, which hold no"
            " secret",
            "access_control_lists_select": "the form, and what one shared oneself while one may"
            " share",
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
          and f.pronamespace <> c.relnamespace and f.oid <> 'private.pool_key(uuid)'::regprocedure
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
