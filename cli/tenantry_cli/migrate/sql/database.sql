-- What migrations set beside schemas: rights on the database and on `extensions`, default rights, extensions, settings of roles.
-- Roles belong to all databases of a server.
select 'grant', 'database to ' || case a.grantee when 0 then 'public' else quote_ident(a.grantee::regrole::text) end,
  string_agg(distinct lower(a.privilege_type), ', ' order by lower(a.privilege_type))
from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
where d.datname = current_database() and a.grantee <> d.datdba group by 2
union all
select 'grant', 'schema extensions to ' || case a.grantee when 0 then 'public' else quote_ident(a.grantee::regrole::text) end,
  string_agg(distinct lower(a.privilege_type), ', ' order by lower(a.privilege_type))
from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'extensions' group by 2
union all
select 'default grant', concat_ws(' ', d.defaclobjtype::text, 'in ' || d.defaclnamespace::regnamespace,
    'of', d.defaclrole::regrole, 'to', case a.grantee when 0 then 'public' else quote_ident(a.grantee::regrole::text) end),
  string_agg(distinct lower(a.privilege_type), ', ' order by lower(a.privilege_type))
from pg_default_acl d, aclexplode(d.defaclacl) a
where a.privilege_type <> 'MAINTAIN' and (d.defaclnamespace = 0 or d.defaclnamespace::regnamespace::text in ('public', 'private', 'extensions')) group by 2
union all
select 'extension', quote_ident(e.extname), e.extnamespace::regnamespace::text from pg_extension e
union all
select 'event trigger', quote_ident(t.evtname), t.evtevent || ' ' || t.evtfoid::regprocedure from pg_event_trigger t
