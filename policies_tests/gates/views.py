"""Gates about views and what else may be served."""

from __future__ import annotations

from .gate import Gate, Plant

_DEPENDS = """
  pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_rewrite w on w.ev_class = c.oid
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
"""

GATES = (
    Gate(
        "views run as their caller",
        "A view runs as its owner, past every policy, unless it says otherwise; create or replace "
        "forgets that it did.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind = 'v'
          and not coalesce(c.reloptions && array['security_invoker=true', 'security_invoker=on',
            'security_invoker=1'], false)
        """,
        (
            Plant("create view public.peek as select * from public.customers", "peek"),
            Plant(
                "do $$ begin execute 'create or replace view public.daily_metrics as '"
                " || pg_get_viewdef('public.daily_metrics'::regclass); end $$;"
                "alter view public.daily_metrics reset (security_invoker)",
                "daily_metrics",
            ),
        ),
        {
            "private.my_rights": "what policies read of a table that no role of the API may read:"
            " the caller's own rows alone, behind a barrier",
        },
    ),
    Gate(
        "a view that runs as its owner has a barrier",
        "Without one, a condition of the reader may be asked about rows that the view leaves out.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind = 'v'
          and not coalesce(array_to_string(c.reloptions, ' ')
            ~ '(security_invoker|security_barrier)=(true|on|1)', false)
        """,
        (Plant("alter view private.my_rights reset (security_barrier)", "private.my_rights"),),
    ),
    Gate(
        "no materialised views or foreign tables",
        "They hold rows of all tenants and know no policies.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('m', 'f')
        """,
        (
            Plant(
                "create materialized view public.frozen as select * from public.customers", "frozen"
            ),
        ),
    ),
    Gate(
        "views read what is served",
        "A view over a private table shows it, or fails for everybody.",
        f"""
        select c.oid::regclass || ' reads ' || r.oid::regclass from {_DEPENDS}
        join pg_class r on d.refclassid = 'pg_class'::regclass and r.oid = d.refobjid
        where {{ours}} and c.relkind = 'v' and r.relnamespace = 'private'::regnamespace
          and r.oid <> c.oid
        """,
        (
            Plant(
                "create view public.peek with (security_invoker = true) as select * from"
                " private.user_access",
                "peek reads private.user_access",
            ),
        ),
        {
            "private.query_log reads private.query_samples": "for operators; no role of the API"
            " may select it",
            "private.my_rights reads private.user_access": "the caller's own rows alone",
        },
    ),
    Gate(
        "views call definer functions that were reviewed",
        "A definer function in a view is a hole of the shape of the function.",
        f"""
        select distinct c.oid::regclass || ' calls ' || f.oid::regprocedure from {_DEPENDS}
        join pg_proc f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
        where {{ours}} and c.relkind = 'v' and f.prosecdef
        """,
        (
            Plant(
                "create view public.peek with (security_invoker = true) as"
                " select * from public.metric_differences(array[gen_random_uuid()])",
                "peek calls metric_differences(uuid[])",
            ),
        ),
        {
            "metric_drift calls my_metric_differences()": "answers for the caller's businesses"
            " alone",
            "private.my_rights calls private.my_access(text,text,text)": "answers about the caller"
            " alone",
            "business_dashboard_data calls my_business_ids(text)": "the function of the policies",
        },
    ),
    Gate(
        "views are read-only",
        "A simple view is updatable, past the column grants of its table.",
        """
        select a.grantee::regrole || ' ' || a.privilege_type || ' ' || c.oid::regclass
        from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
        where {ours} and c.relkind = 'v' and a.grantee <> c.relowner
          and a.privilege_type <> 'SELECT'
        """,
        (
            Plant(
                "grant update on public.conversation_threads to authenticated",
                "authenticated UPDATE conversation_threads",
            ),
        ),
    ),
)
