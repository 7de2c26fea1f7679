-- Everything that migrations make in some schemas, one row per fact. Names and definitions are qualified: the caller
-- sets an empty search_path. Left out: partitions (months come and go), members of extensions, and what only one
-- version of Postgres has (MAINTAIN, NOT NULL as a constraint).
with spaces as materialized (
  select n.oid, n.nspname, n.nspowner, n.nspacl from pg_namespace n where n.nspname = any (%(schemas)s)
), members as materialized (
  select d.classid, d.objid from pg_depend d where d.deptype = 'e'
), relations as materialized (
  select c.oid, c.relkind, c.relowner, c.relacl, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
    c.relreplident, s.nspname as schema, quote_ident(s.nspname) || '.' || quote_ident(c.relname) as name
  from pg_class c join spaces s on s.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not c.relispartition
    and not exists (select from members m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
), routines as materialized (
  select p.oid, p.prokind, p.proowner, p.proacl, s.nspname as schema, p.oid::regprocedure::text as signature,
    case p.prokind when 'p' then 'procedure ' when 'a' then 'aggregate ' else 'function ' end || p.oid::regprocedure as name
  from pg_proc p join spaces s on s.oid = p.pronamespace
  where not exists (select from members m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)
), types as materialized (
  select t.oid, t.typtype, t.typowner, t.typacl, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault, t.typrelid, s.nspname as schema,
    case t.typtype when 'd' then 'domain ' else 'type ' end || t.oid::regtype as name
  from pg_type t join spaces s on s.oid = t.typnamespace
  where (t.typtype in ('d', 'e', 'r') or t.typtype = 'c' and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
    and not exists (select from members m where m.classid = 'pg_type'::regclass and m.objid = t.oid)
), rights (schema, name, grantor_is_owner, grantee, privilege) as (
  select r.schema, case r.relkind when 'S' then 'sequence ' else 'table ' end || r.name, a.grantee = r.relowner, a.grantee,
    a.privilege_type || case when a.is_grantable then '*' else '' end
  from relations r, aclexplode(coalesce(r.relacl, acldefault(case r.relkind when 'S' then 's' else 'r' end::"char", r.relowner))) a
  union all
  select r.schema, 'column ' || r.name || '(' || quote_ident(t.attname) || ')', a.grantee = r.relowner, a.grantee,
    a.privilege_type || case when a.is_grantable then '*' else '' end
  from relations r join pg_attribute t on t.attrelid = r.oid and not t.attisdropped, aclexplode(t.attacl) a
  union all
  select p.schema, p.name, a.grantee = p.proowner, a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end
  from routines p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
  union all
  select t.schema, t.name, a.grantee = t.typowner, a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end
  from types t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
  union all
  select s.nspname, 'schema ' || quote_ident(s.nspname), a.grantee = s.nspowner, a.grantee,
    a.privilege_type || case when a.is_grantable then '*' else '' end
  from spaces s, aclexplode(coalesce(s.nspacl, acldefault('n', s.nspowner))) a
), facts (schema, kind, name, definition) as (
  select s.nspname, 'schema', quote_ident(s.nspname), s.nspowner::regrole::text from spaces s
  union all
  select r.schema, 'relation', r.name,
    concat_ws(' ', r.relkind, r.relowner::regrole, r.relpersistence, r.relreplident, pg_get_partkeydef(r.oid),
      case when r.relkind in ('v', 'm') then pg_get_viewdef(r.oid) end,
      (select concat_ws(' ', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcycle) from pg_sequence q where q.seqrelid = r.oid))
  from relations r
  union all
  select r.schema, 'row security', r.name, concat_ws(' ', r.relrowsecurity, r.relforcerowsecurity) from relations r where r.relkind in ('r', 'p')
  union all
  select r.schema, 'options', r.name, array(select k from unnest(r.reloptions) k order by k collate "C")::text from relations r where r.reloptions <> '{}'
  union all
  select r.schema, 'column', r.name || '(' || quote_ident(a.attname) || ')',
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, 'default ' || pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
      a.attstorage, a.attoptions::text, nullif(a.attcollation, 100)::regcollation)
  from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where r.relkind <> 'S'
  union all
  select r.schema, 'constraint', quote_ident(k.conname) || ' on ' || r.name, pg_get_constraintdef(k.oid) || ' ' || k.convalidated
  from pg_constraint k join relations r on r.oid = k.conrelid where k.contype in ('p', 'u', 'f', 'x', 'c') and k.conparentid = 0
  union all
  select r.schema, 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid || ' ' || i.indisclustered
  from pg_index i join relations r on r.oid = i.indrelid
  union all
  select r.schema, 'trigger', quote_ident(t.tgname) || ' on ' || r.name, t.tgenabled::text || ' ' || pg_get_triggerdef(t.oid)
  from pg_trigger t join relations r on r.oid = t.tgrelid where not t.tgisinternal
  union all
  select r.schema, 'policy', quote_ident(p.polname) || ' on ' || r.name,
    concat_ws(' ', p.polcmd, p.polpermissive,
      array(select case m when 0 then 'public' else m::regrole::text end as who from unnest(p.polroles) m order by who)::text,
      'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_policy p join relations r on r.oid = p.polrelid
  union all
  select r.schema, 'rule', quote_ident(w.rulename) || ' on ' || r.name, pg_get_ruledef(w.oid)
  from pg_rewrite w join relations r on r.oid = w.ev_class where w.rulename <> '_RETURN'
  union all
  select r.schema, 'statistics', x.stxname, pg_get_statisticsobjdef(x.oid) from pg_statistic_ext x join relations r on r.oid = x.stxrelid
  union all
  select p.schema, 'routine', p.name, p.proowner::regrole || ' ' || case when p.prokind = 'a' then p.signature else pg_get_functiondef(p.oid) end
  from routines p
  union all
  select t.schema, 'type', t.name,
    concat_ws(' ', t.typtype, t.typowner::regrole, case when t.typbasetype <> 0 then format_type(t.typbasetype, t.typtypmod) end, t.typnotnull, t.typdefault,
      (select string_agg(pg_get_constraintdef(k.oid), ' ' order by k.conname) from pg_constraint k where k.contypid = t.oid and k.contype = 'c'),
      (select string_agg(quote_literal(e.enumlabel), ' ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
      (select string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
       from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and not a.attisdropped))
  from types t
  union all
  select s.nspname, 'text search configuration', quote_ident(s.nspname) || '.' || quote_ident(c.cfgname),
    (select string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ', ' order by m.maptokentype, m.mapseqno)
     from pg_ts_config_map m where m.mapcfg = c.oid)
  from pg_ts_config c join spaces s on s.oid = c.cfgnamespace
  union all
  select g.schema, 'grant', g.name || ' to ' || case when g.grantee = 0 then 'public' else quote_ident(g.grantee::regrole::text) end,
    string_agg(distinct lower(g.privilege), ', ' order by lower(g.privilege))
  from rights g where g.privilege not like 'MAINTAIN%%' group by g.schema, g.name, g.grantee
  union all
  select i.schema, 'comment', replace(i.type, 'table column', 'column') || ' ' || i.identity, d.description
  from pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
  where d.objoid >= 16384 and i.schema = any (%(schemas)s)
    and not exists (select from members m where m.classid = d.classoid and m.objid = d.objoid)
    and not exists (select from pg_class c where d.classoid = 'pg_class'::regclass and c.oid = d.objoid and c.relispartition)
)
