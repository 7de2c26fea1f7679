-- Everything that a user made, each with the relation or type it is a part of, and how DROP calls it.
with everything as (
  select 'pg_class' as catalog, c.oid, null::text as whole_catalog, null::oid as whole from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
  union all
  select 'pg_class', c.oid, case when k.oid is null then 'pg_class' else 'pg_constraint' end, coalesce(k.oid, i.indrelid)
  from pg_class c join pg_index i on i.indexrelid = c.oid left join pg_constraint k on k.conindid = c.oid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
  union all
  select 'pg_class', c.oid, case when d.refobjid is not null then 'pg_class' end, d.refobjid from pg_class c
  left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass
  where c.relkind = 'S'
  union all
  select 'pg_type', t.oid, case when t.typrelid <> 0 then 'pg_class' when t.typelem <> 0 then 'pg_type' end,
    coalesce(nullif(t.typrelid, 0), nullif(t.typelem, 0)) from pg_type t
  union all
  select 'pg_constraint', k.oid, case when k.conrelid <> 0 then 'pg_class' else 'pg_type' end, coalesce(nullif(k.conrelid, 0), k.contypid)
  from pg_constraint k where k.contype in ('p', 'u', 'f', 'x', 'c')
  union all
  select 'pg_attrdef', d.oid, 'pg_class', d.adrelid from pg_attrdef d
  union all
  select 'pg_trigger', t.oid, 'pg_class', t.tgrelid from pg_trigger t where not t.tgisinternal
  union all
  select 'pg_policy', p.oid, 'pg_class', p.polrelid from pg_policy p
  union all
  select 'pg_rewrite', w.oid, 'pg_class', w.ev_class from pg_rewrite w
  union all
  select 'pg_statistic_ext', x.oid, 'pg_class', x.stxrelid from pg_statistic_ext x
  union all
  select 'pg_proc', p.oid, null, null from pg_proc p
  union all
  select 'pg_namespace', n.oid, null, null from pg_namespace n
  union all
  select 'pg_ts_config', c.oid, null, null from pg_ts_config c
  union all
  select 'pg_extension', e.oid, null, null from pg_extension e
)
select e.catalog, e.oid::int8, e.whole_catalog, e.whole::int8, i.type, i.identity, coalesce(i.schema, '')
from everything e, pg_identify_object(('pg_catalog.' || e.catalog)::regclass, e.oid, 0) i
where e.oid >= 16384
  and not exists (select from pg_depend d where d.classid = ('pg_catalog.' || e.catalog)::regclass and d.objid = e.oid and d.deptype = 'e')
  and coalesce(i.schema, '') not like 'pg\_toast%' and coalesce(i.schema, i.identity) <> 'supabase_migrations' and i.type is not null
