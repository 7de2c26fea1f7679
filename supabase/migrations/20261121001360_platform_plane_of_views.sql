-- A view that reads through a function of the tenant plane belongs there as much as one that names its tables.
create or replace function public.api_planes() returns table (kind text, name text, plane text)
language sql stable security definer set search_path = ''
as $$
  with functions as (
    -- Functions of the tenant plane captured their schema.
    select p.oid, p.proname::text as name, exists (
      select 1 from unnest(p.proconfig) c where c like 'search\_path=public, %') as is_tenant
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
  ), relations as (
    select c.oid, c.relname::text as name, c.relkind, exists (select 1 from private.tenant_tables t where t.table_name = c.relname) as is_tenant
    from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
  ), read_by_view as (
    select w.ev_class as oid from pg_catalog.pg_rewrite w
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid
    where d.refclassid = 'pg_catalog.pg_class'::regclass
      and d.refobjid in (select s.oid from relations s where s.oid <> w.ev_class and (s.is_tenant or s.relkind = 'v'))
    or d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid in (select f.oid from functions f where f.is_tenant)
  )
  select 'relation', r.name,
    case when r.is_tenant or r.relkind = 'v' and r.oid in (select v.oid from read_by_view v) then 'tenant' else 'platform' end
  from relations r
  union all
  select 'function', f.name, case when f.is_tenant then 'tenant' else 'platform' end
  from functions f
$$;
