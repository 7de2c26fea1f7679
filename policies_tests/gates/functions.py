"""Gates about functions."""

from __future__ import annotations

from .gate import Gate, Plant

_FUNCTIONS = "pg_proc p join pg_namespace n on n.oid = p.pronamespace where {ours}"
#: Source of a function: its string, or its SQL-standard body as the database prints it.
_SOURCE = "coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)"
#: Without comments, so that prose cannot trip a gate.
_CODE = f"regexp_replace(regexp_replace({_SOURCE}, '--[^\\n]*', '', 'g'), '/\\*.*?\\*/', '', 'g')"
_CALLABLE = """exists (
  select from unnest(array['anon', 'authenticated', 'service_role', 'integrator']) r
  where has_function_privilege(r, p.oid, 'execute'))"""
#: The call that refuses whoever is not entitled.
_CHECK = "\\mrequire(_business|_whole_business|_creator|_organization|_user)?\\s*\\("
_SESSION = (
    "(auth\\.|current_setting|my_business_ids|current_user|session_user|\\mnow\\(|clock_timestamp)"
)
_OUTLIVES = (
    "(pg_(try_)?advisory_lock(_shared)?\\s*\\(|\\mcreate\\s+(local\\s+)?temp|\\mlisten\\M|dblink|"
    "lo_(create|import|put))"
)
#: `if rank <> needed then raise`: an unknown rank would pass.
_NULL_UNSAFE = (
    "\\mif\\s+[^;]*?(role|rank|permission|member)\\w*(\\([^;]*?\\))?\\s*(<>|!=|not\\s+in)\\s*"
    "[^;]*?\\mthen\\M[^;]*(raise|fail)"
)
#: A constant text with parameters is as good as a plain statement.
_CONSTANT = "\\mexecute\\s+\\$sql\\$([^$]|\\$[0-9])*\\$sql\\$\\s*(using|into|;)"
_OPERATIONS = (
    "for operators alone; names of schemas come from the catalog, and all are quoted by %I"
)
_ADMINISTRATION = "runs in migrations, on names that format() quotes; nobody else may execute it"

_MAKE = (
    "create function public.planted() returns int language plpgsql security definer"
    " set search_path = '' as "
)

GATES = (
    Gate(
        "definer functions have a search path nobody can bend",
        "Empty, or the schema of the plane first and pg_temp last: a temporary table must not"
        " stand in.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and p.prosecdef and not exists (
          select from unnest(p.proconfig) k
          where k in ('search_path=""', 'search_path=')
            or k = format('search_path=%I, extensions, pg_temp', n.nspname))
        """,
        (
            Plant(
                "create function public.planted() returns int language sql security definer"
                " set search_path = public as 'select 1'",
                "planted()",
            ),
            Plant(
                "alter function private.require(uuid, text) reset all", "private.require(uuid,text)"
            ),
        ),
    ),
    Gate(
        "functions keep to the schema they were made in",
        "A tenant function that captured another schema would read another tenant.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and exists (
          select from unnest(p.proconfig) k where k ~ '^search_path='
            and k not in ('search_path=""', 'search_path=') and k !~ format('^search_path=%I, ',
              n.nspname))
        """,
        (
            Plant(
                "alter function public.link_customer set search_path = private, pg_temp",
                "link_customer(uuid,text,text,text,text,text)",
            ),
        ),
    ),
    Gate(
        "functions that a role of the API may execute bind their names",
        "With a pinned path, or in a body whose names were bound when it was created.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and {_CALLABLE} and p.prosqlbody is null
          and not exists (select from unnest(p.proconfig) k where k ~ '^search_path=')
        """,
        (
            Plant(
                "create function public.planted() returns int language sql as 'select 1';"
                "grant execute on function public.planted() to authenticated",
                "planted()",
            ),
        ),
    ),
    Gate(
        "functions set nothing but their search path and hints to the planner",
        "A function that lifts the statement timeout or changes the role lifts it for its caller.",
        """
        select p.oid::regprocedure || ' ' || k from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace,
          unnest(p.proconfig) k
        where {ours} and k !~ '^(search_path|enable_[a-z]+|plan_cache_mode)='
        """,
        (
            Plant(
                "alter function public.create_customer set statement_timeout = '0'",
                "create_customer(uuid,text,text,text,text,text,text,text,text,text,text[],text,text,"
                "text,text,text,text,jsonb,text) statement_timeout=0",
            ),
            Plant(
                "alter function private.new_id() set role = 'postgres'",
                "private.new_id() role=postgres",
            ),
        ),
    ),
    Gate(
        "immutable functions read neither settings nor tables",
        "A plan may keep their answer: the next caller on the connection gets the last one's rows.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and p.provolatile = 'i'
          and p.prokind = 'f' and (
          {_CODE} ~* '{_SESSION}'
          or {_CODE} ~* '\\m(from|join|into|update|table)\\s+(public|private|auth)\\.'
          or exists (select from pg_depend d join pg_class c on c.oid = d.refobjid
            and c.relkind in ('r', 'p', 'v')
                     where d.classid = 'pg_proc'::regclass and d.objid = p.oid
                       and d.refclassid = 'pg_class'::regclass
                       and d.deptype = 'n' and p.prosqlbody is not null and {_CODE} ~ ('\\m'
                         || c.relname || '\\M')
                       and {_CODE} ~* '\\mfrom\\M' and not c.reltype = any (p.proargtypes)))
        """,
        (
            Plant(
                "alter function private.current_user_id() immutable",
                "private.current_user_id()",
            ),
            Plant(
                "create function public.planted(b uuid) returns bigint language sql immutable"
                " set search_path = ''"
                " as 'select count(*) from public.customers where business_id = b'",
                "planted(uuid)",
            ),
            Plant(
                "create function public.planted(b uuid) returns bigint language sql immutable"
                " begin atomic select count(*) from public.customers where business_id = b; end",
                "planted(uuid)",
            ),
        ),
    ),
    Gate(
        "access functions are stable",
        "Volatile ones run once per row; immutable ones are remembered.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and p.provolatile <> 's'
          and p.proname in ('my_access', 'my_business_ids',
            'my_limited_business_ids', 'my_reach',
            'may_access_record', 'may_create', 'my_organization_ids',
            'my_role_ids',
            'my_colleague_ids',
                            'current_user_id', 'current_claims', 'is_trusted_caller', 'require',
                              'require_business',
                            'require_organization', 'require_rank', 'require_user',
                              'may_ask_about', 'member_rank')
        """,
        (
            Plant(
                "alter function public.my_business_ids(text) volatile",
                "my_business_ids(text)",
            ),
        ),
    ),
    Gate(
        "no function writes settings",
        "One that passes a caller's text to set_config lets the caller become somebody else.",
        f"select p.oid::regprocedure from {_FUNCTIONS} and {_CODE} ~*"
        f" '\\m(set_config|set\\s+(local|session|role))\\M'",
        (
            Plant(
                _MAKE
                + "$$ begin perform set_config('request.jwt.claims', '{}', true); return 1; end $$",
                "planted()",
            ),
            Plant(_MAKE + "$$ begin set local role postgres; return 1; end $$", "planted()"),
        ),
        {
            "private.receive_registry(jsonb,bigint,boolean)": "only the owner may call it; sets"
            " session_replication_role to two constants",
        },
    ),
    Gate(
        "statements made at run time are reviewed",
        "EXECUTE turns text into SQL with the rights of the owner.",
        f"select p.oid::regprocedure from {_FUNCTIONS} and p.prolang = "
        "(select oid from pg_language where lanname = 'plpgsql') and "
        f"regexp_replace({_CODE}, '{_CONSTANT}', '', 'gi')"
        " ~* '\\mexecute\\s+(?!function|procedure|on\\M)'",
        (
            Plant(
                "create function public.planted(q text) returns int language plpgsql as $$ begin"
                " execute $sql$ select $1 $sql$ || q using 1; return 1; end $$",
                "planted(text)",
            ),
            Plant(
                "create function public.planted(q text) returns int language plpgsql as "
                "$$ begin execute q; return 1; end $$",
                "planted(text)",
            ),
        ),
        dict.fromkeys(
            (
                "private.append_only(regclass)",
                "private.guard_status(regclass,text)",
                "private.protect(regclass,text,text,text,text,text[],text[],text,boolean,boolean,text,text,text[],text,text[])",
                "audit(regclass,text[],boolean,text)",
                "ensure_audit_partitions(integer)",
                "meter(text,text)",
                "track_status(regclass)",
            ),
            _ADMINISTRATION,
        )
        | dict.fromkeys(
            (
                "private.get_table_count(text,text)",
                "private.tenant_row_counts()",
                "private.migration_version(name)",
                "private.statement_statistics()",
                "private.statement_statistics_state()",
                "private.create_audit_partitions()",
                "private.delete_expired_idempotency_keys(interval)",
            ),
            _OPERATIONS,
        )
        | {
            "boot_facts(text)": "the ledger of a tenant's schema: its name is compared with the"
            " catalog and quoted by %I",
            "private.tg_access_control_lists_mark()": "the schema comes from the directory, the"
            " table from a constraint, and both are quoted by %I",
            "private.tg_unshared()": "the schema comes from the directory and is quoted by %I;"
            " values are parameters",
            "private.create_registry_views(text)": "runs in migrations; names come from the catalog"
            " and are quoted by %I",
            "private.tg_businesses_timezone()": "the schema comes from the directory and is"
            " quoted by %I; "
            "values are parameters",
            **dict.fromkeys(
                (
                    "private.registry_snapshot(uuid)",
                    "private.make_rows_equal(text,text,boolean,uuid,jsonb,text[])",
                    "private.mend_references(text[])",
                    "private.receive_registry(jsonb,bigint,boolean)",
                ),
                "the names come from private.registry_tables and the catalog; only the owner may"
                " call it; rows are parameters",
            ),
            "explain_access(text,uuid,text)": "the caller's text is only compared with the"
            " catalog; runs the policy of that table as the caller",
            "explain_rule(text,uuid,text,boolean)": "the table is one of the API's, compared with"
            " the catalog and quoted by %I; the id is a parameter",
        },
    ),
    Gate(
        "nothing outlives the transaction",
        "Connections are shared: what one request leaves on them the next one finds.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS}
          and {_CODE} ~* '{_OUTLIVES}'
        """,
        (
            Plant(_MAKE + "$$ begin perform pg_advisory_lock(1); return 1; end $$", "planted()"),
            Plant(_MAKE + "$$ begin create temp table t (x int); return 1; end $$", "planted()"),
        ),
    ),
    Gate(
        "definer functions check first",
        "Whoever is not entitled must be refused before anything is read or written.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and p.prosecdef and p.prokind = 'f'
          and has_function_privilege('authenticated', p.oid, 'execute') and n.nspname <> 'private'
          and not ({_CODE} ~* '{_CHECK}'
                   and regexp_replace({_CODE}, '{_CHECK}.*$', '',
                     'i') !~* '\\m(select|insert|update|delete|from|execute)\\M')
        """,
        (
            Plant(
                "create function public.planted(business_id uuid) returns setof public.customers"
                " language plpgsql"
                " security definer set search_path = '' as $$ begin return query select * from"
                " public.customers c"
                " where c.business_id = planted.business_id; end $$;"
                "grant execute on function public.planted(uuid) to authenticated",
                "planted(uuid)",
            ),
            Plant(
                "create function public.planted(b uuid) returns int language plpgsql security"
                " definer"
                " set search_path = '' as $$ begin delete from public.calls; perform"
                " private.require(b, 'calls.write');"
                " return 1; end $$; grant execute on function public.planted(uuid) to"
                " authenticated",
                "planted(uuid)",
            ),
        ),
        {
            **dict.fromkeys(
                (
                    "my_business_ids(text)",
                    "my_limited_business_ids(text)",
                    "my_reach(text)",
                    "my_permissions()",
                    "may_create(uuid,text)",
                    "may_insert(text,uuid)",
                    "may_access_record(text,uuid,uuid,text)",
                    "explain_rule(text,uuid,text,boolean)",
                    "my_businesses()",
                    "my_metric_differences()",
                    "can_access_business(uuid,uuid)",
                    "has_business_role(uuid,uuid,text)",
                    "is_business_admin(uuid,uuid)",
                    "get_user_organization_id(uuid)",
                    "get_user_organization_ids(uuid)",
                ),
                "answers about the caller alone, from the caller's own rows",
            ),
            **dict.fromkeys(
                (
                    "normalize_phone(text,text)",
                    "is_valid_phone(text,text)",
                    "format_phone(text,text)",
                    "normalize_email(text)",
                    "is_valid_email(text)",
                ),
                "a question about a text; reads numbering plans and character tables alone",
            ),
            "check_request()": "tells only whether a home named in headers is current; the gateway"
            " takes these headers away from clients",
            "revoke_api_key(uuid,uuid)": "looks first whether the caller made the key; else it"
            " checks",
            "remove_member(uuid,uuid)": "looks first whether the caller is leaving; else it checks",
        },
    ),
    Gate(
        "rights are compared null-safely",
        "`role <> 'owner'` is null for a stranger, and a null condition refuses nobody.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and p.prosecdef
          and {_CODE} ~* '{_NULL_UNSAFE}'
        """,
        (
            Plant(
                "create function public.planted(b uuid) returns text language plpgsql security"
                " definer"
                " set search_path = '' as $$ begin if private.member_role(b) <> 'owner' then"
                " raise exception 'no';"
                " end if; return 'secret'; end $$",
                "planted(uuid)",
            ),
        ),
    ),
    Gate(
        "functions take names of tables from nobody",
        "A regclass argument is a table of the caller's choice.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and {_CALLABLE}
          and p.proargtypes::oid[] && array['regclass'::regtype, 'regproc'::regtype,
            'regprocedure'::regtype,
                                            'name'::regtype, 'regtype'::regtype]::oid[]
        """,
        (
            Plant(
                "create function public.planted(t regclass) returns int language sql set"
                " search_path = ''"
                " as 'select 1'; grant execute on function public.planted(regclass) to"
                " authenticated",
                "planted(regclass)",
            ),
        ),
    ),
    Gate(
        "no function is a column of a table",
        "PostgREST offers a function of one row argument as a computed field of its table.",
        f"""
        select p.oid::regprocedure from {_FUNCTIONS} and {_CALLABLE} and p.pronargs = 1
          and exists (select from pg_class c where c.reltype = p.proargtypes[0])
        """,
        (
            Plant(
                "create function public.planted(c public.customers) returns text language sql"
                " set search_path = ''"
                " as 'select 1::text'; grant execute on function"
                " public.planted(public.customers) to authenticated",
                "planted(customers)",
            ),
        ),
    ),
    Gate(
        "functions are SQL or PL/pgSQL",
        "Other languages reach the file system and the network.",
        f"select p.oid::regprocedure from {_FUNCTIONS} and p.prolang not in "
        "(select oid from pg_language where lanname in ('sql', 'plpgsql'))",
        (
            Plant(
                "create function public.planted(int, int) returns int language internal as"
                " 'int4pl'",
                "planted(integer,integer)",
                True,
            ),
        ),
    ),
)
