/*
 * What operators look at: indexes, statements and sessions, by tenant.
 *
 * Everything here is in `private` and granted to nobody but the roles of …1230_platform_database_roles.sql:
 * it tells of all tenants at once. Statistics of Postgres are per database, so each of these answers for
 * the database it runs in; pg_stat_activity and pg_database cover the cluster.
 */

-- Places ------------------------------------------------------------------------------------------

create function private.place_schemas() returns setof name
language sql stable
set search_path = ''
as $$
  select n.nspname from pg_catalog.pg_namespace n
  where (n.nspname = 'public' or n.nspname ~ '^tenant_[0-9a-f]{32}$')
    and exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'customers' and c.relkind in ('r', 'p'))
  order by n.nspname = 'public' desc, n.nspname
$$;
comment on function private.place_schemas() is
  'The schemas of this database that hold the tables of tenants: public first, then each tenant_<id>, registered or not.';

-- Indexes -----------------------------------------------------------------------------------------

create view private.v_index_usage_analysis with (security_invoker = true) as
with indexes as (
  select i.indexrelid, i.indrelid, i.indisunique, i.indisvalid, i.indkey, i.indpred is null and i.indexprs is null and a.amname = 'btree' as is_plain,
    n.nspname, t.relname as table_name, c.relname as index_name,
    -- Method, columns, operator classes, included columns and predicate: all that makes two indexes the same.
    substring(pg_get_indexdef(i.indexrelid) from ' USING .*$') as definition,
    exists (select from pg_constraint k where k.conindid = i.indexrelid) as backs_constraint,
    (select min(k.conname) from pg_constraint k
     where k.conrelid = i.indrelid and k.contype = 'f'
       and (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey) as supports_foreign_key
  from pg_index i
  join pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
  join pg_am a on a.oid = c.relam
  join pg_class t on t.oid = i.indrelid
  join pg_namespace n on n.oid = t.relnamespace
  where n.nspname in ('public', 'private') or n.nspname ~ '^tenant_[0-9a-f]{32}$'
), judged as (
  select x.*, s.idx_scan, s.idx_tup_read, s.idx_tup_fetch, (to_jsonb(s) ->> 'last_idx_scan')::timestamptz as last_scan_at,
    u.seq_scan + coalesce(u.idx_scan, 0) as table_scans,
    (select min(o.index_name) from indexes o
     where o.indrelid = x.indrelid and o.indexrelid <> x.indexrelid and o.definition = x.definition and o.indisvalid
       -- Of two that are the same, the one a constraint needs stays; else the unique one, else the older.
       and (o.backs_constraint, o.indisunique, -o.indexrelid::bigint) > (x.backs_constraint, x.indisunique, -x.indexrelid::bigint)) as duplicate_of,
    (select min(o.index_name) from indexes o
     where o.indrelid = x.indrelid and x.is_plain and o.is_plain and not x.indisunique and o.indisvalid
       and o.indkey::text like x.indkey::text || ' %') as covered_by
  from indexes x
  join pg_stat_all_indexes s on s.indexrelid = x.indexrelid
  join pg_stat_all_tables u on u.relid = x.indrelid
)
select j.nspname as schema_name, p.organization_id, j.table_name, j.index_name,
  j.idx_scan as scans, j.idx_tup_read as tuples_read, j.idx_tup_fetch as tuples_fetched, j.last_scan_at,
  pg_relation_size(j.indexrelid) as size_bytes, j.indisunique as is_unique, j.backs_constraint, j.supports_foreign_key,
  j.duplicate_of, j.covered_by,
  case when not j.indisvalid then 'invalid'
       when j.duplicate_of is not null then 'duplicate'
       when j.idx_scan = 0 then 'unused'
       when j.idx_scan * 100 < j.table_scans then 'rarely used'
       else 'effective' end as verdict
from judged j
left join public.organization_placements p
  on p.isolation = 'schema' and p.database_name = current_database() and p.schema_name = j.nspname;
comment on view private.v_index_usage_analysis is
  'Every index of this database with its use since the statistics began (see pg_stat_database.stats_reset). For operators.';
comment on column private.v_index_usage_analysis.schema_name is 'public and private are shared by all pooled tenants; tenant_<id> belongs to one.';
comment on column private.v_index_usage_analysis.organization_id is 'The organization whose schema it is; null for shared schemas and schemas nobody registered.';
comment on column private.v_index_usage_analysis.backs_constraint is 'True: a primary, unique or exclusion constraint or the target of a foreign key. Never drop it for being unused.';
comment on column private.v_index_usage_analysis.supports_foreign_key is 'A foreign key that its leading columns are; without the index each delete of the row pointed to reads the table.';
comment on column private.v_index_usage_analysis.last_scan_at is 'Null before Postgres 16 and for an index never scanned.';
comment on column private.v_index_usage_analysis.duplicate_of is 'An index of the same table with the same definition.';
comment on column private.v_index_usage_analysis.covered_by is 'An index that begins with the same columns, so this one may be superfluous.';
comment on column private.v_index_usage_analysis.verdict is
  'invalid (a build that failed); duplicate; unused (no scan); rarely used (less than one scan of its table in a hundred); effective.';

create function private.sp_check_index_effectiveness(minimum_days integer default 30)
returns table (schema_name name, table_name name, index_name name, verdict text, scans bigint, size_bytes bigint, backs_constraint boolean, recommendation text)
language sql stable
set search_path = ''
as $$
  with since as (
    select coalesce(d.stats_reset, pg_postmaster_start_time()) as began_at from pg_stat_database d where d.datname = current_database()
  )
  select v.schema_name, v.table_name, v.index_name, v.verdict, v.scans, v.size_bytes, v.backs_constraint,
    case
      when v.verdict = 'invalid' then format('rebuild %I.%I: its build failed, so it costs writes and serves nothing', v.schema_name, v.index_name)
      when v.backs_constraint then 'keep: a constraint needs it'
      when v.verdict = 'duplicate' then format('drop %I.%I: the same as %s', v.schema_name, v.index_name, v.duplicate_of)
      when v.is_unique then 'keep: it keeps values unique'
      when v.supports_foreign_key is not null then format('keep: deletes through %s need it', v.supports_foreign_key)
      when v.verdict = 'effective' then 'keep'
      when s.began_at > now() - make_interval(days => minimum_days)
        then format('wait: statistics began on %s, less than %s days ago', s.began_at::date, minimum_days)
      when v.covered_by is not null then format('consider dropping: %s begins with the same columns', v.covered_by)
      when v.verdict = 'unused' then format('consider dropping: no scan since %s', s.began_at::date)
      else format('look at who uses it: %s scans since %s', v.scans, s.began_at::date)
    end
  from private.v_index_usage_analysis v cross join since s
  order by v.verdict = 'effective', v.size_bytes desc, v.schema_name, v.index_name
$$;
comment on function private.sp_check_index_effectiveness(integer) is
  'What to do about each index. Nothing is called superfluous on statistics younger than minimum_days, or while a constraint or a foreign key needs it.';

create function private.sp_analyze_query_performance()
returns table (schema_name name, table_name name, live_tuples bigint, dead_tuples bigint, dead_ratio numeric, sequential_scans bigint, index_scans bigint,
  size_bytes bigint, last_vacuum_at timestamptz, last_analyze_at timestamptz, recommendation text)
language sql stable
set search_path = ''
as $$
  select s.schemaname, s.relname, s.n_live_tup, s.n_dead_tup, round(s.n_dead_tup / greatest(s.n_live_tup + s.n_dead_tup, 1)::numeric, 3),
    s.seq_scan, coalesce(s.idx_scan, 0), pg_total_relation_size(s.relid),
    greatest(s.last_vacuum, s.last_autovacuum), greatest(s.last_analyze, s.last_autoanalyze),
    case
      when s.n_dead_tup > 1000 and s.n_dead_tup > 0.2 * (s.n_live_tup + s.n_dead_tup)
        then format('vacuum (analyze) %I.%I: a fifth of its rows or more is dead', s.schemaname, s.relname)
      when s.n_live_tup + s.n_mod_since_analyze > 1000 and greatest(s.last_analyze, s.last_autoanalyze) is null
        then format('analyze %I.%I: the planner knows nothing of it', s.schemaname, s.relname)
      when s.n_mod_since_analyze > 1000 and s.n_mod_since_analyze > 0.2 * s.n_live_tup
        then format('analyze %I.%I: a fifth of its rows changed since', s.schemaname, s.relname)
      when s.n_live_tup > 10000 and s.seq_scan > 100 and s.seq_scan > coalesce(s.idx_scan, 0)
        then format('look for a missing index: %s sequential scans, %s by index', s.seq_scan, coalesce(s.idx_scan, 0))
      else 'none'
    end
  from pg_catalog.pg_stat_user_tables s
  where s.schemaname in ('public', 'private') or s.schemaname ~ '^tenant_[0-9a-f]{32}$'
  order by pg_total_relation_size(s.relid) desc, s.schemaname, s.relname
$$;
comment on function private.sp_analyze_query_performance() is
  'Every table of this database: rows, dead rows, how it is read, when it was last vacuumed and analyzed, and what to do.';

-- Sessions ----------------------------------------------------------------------------------------

create function private.schema_of_text(statement text) returns text
language sql immutable
set search_path = ''
as $$
  select case count(distinct m.found[1]) when 1 then min(m.found[1]) when 0 then null else 'several' end
  from regexp_matches(statement, '\m(tenant_[0-9a-f]{32})\M', 'g') as m(found)
$$;
comment on function private.schema_of_text(text) is
  'The tenant schema that a statement or an application name mentions; several for more than one, null for none.';

create view private.pg_stat_activity_by_schema with (security_invoker = true) as
with sessions as (
  select a.datname as database_name, a.state,
    case
      when a.datname ~ '^tenantry_[0-9a-f]{32}$' then 'public'
      when private.schema_of_text(a.application_name) is not null then private.schema_of_text(a.application_name)
      else coalesce(private.schema_of_text(a.query), 'public')
    end as schema_name,
    case
      when a.datname ~ '^tenantry_[0-9a-f]{32}$' then 'database'
      when private.schema_of_text(a.application_name) is not null then 'application name'
      when private.schema_of_text(a.query) is not null then 'last statement'
      else 'nothing'
    end as attributed_by
  from pg_stat_activity a
  where a.backend_type = 'client backend' and a.datname is not null
), counted as (
  select s.database_name, s.schema_name,
    count(*) filter (where s.state = 'active') as active_connections,
    count(*) filter (where s.state like 'idle in transaction%') as idle_in_transaction,
    count(*) as total_connections,
    string_agg(distinct s.attributed_by, ', ') as attributed_by
  from sessions s group by 1, 2
), homes as (
  select p.database_name, p.schema_name, case when count(*) = 1 and min(p.isolation) <> 'pooled' then min(p.organization_id::text)::uuid end as organization_id
  from public.organization_placements p group by 1, 2
)
select coalesce(h.database_name, c.database_name) as database_name, coalesce(h.schema_name, c.schema_name) as schema_name, h.organization_id,
  coalesce(c.active_connections, 0) as active_connections, coalesce(c.idle_in_transaction, 0) as idle_in_transaction,
  coalesce(c.total_connections, 0) as total_connections, c.attributed_by
from homes h full join counted c on c.database_name = h.database_name and c.schema_name = h.schema_name;
comment on view private.pg_stat_activity_by_schema is
  'Client connections of the whole cluster by database and tenant schema, homes without any included. For operators.';
comment on column private.pg_stat_activity_by_schema.organization_id is 'The organization whose own schema or database it is; null where several share it.';
comment on column private.pg_stat_activity_by_schema.attributed_by is
  'How sure it is. database: certain. application name: what the pool says of itself, as in application_name=tenant_<id>. last statement: the tenant schema that the last statement names. nothing: counted under public. A search_path or a function called without its schema cannot be seen from another session.';

create function private.connection_usage()
returns table (database_name name, connections bigint, active bigint, idle_in_transaction bigint, oldest_transaction_seconds integer, percent_of_limit numeric)
language sql stable security definer
set search_path = ''
as $$
  select d.datname, count(a.pid), count(a.pid) filter (where a.state = 'active'), count(a.pid) filter (where a.state like 'idle in transaction%'),
    extract(epoch from now() - min(a.xact_start))::integer,
    round(100.0 * count(a.pid)
      / least(nullif(d.datconnlimit, -1), current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer), 1)
  from pg_catalog.pg_database d
  left join pg_catalog.pg_stat_activity a on a.datid = d.oid and a.backend_type = 'client backend'
  where not d.datistemplate
  group by d.oid, d.datname, d.datconnlimit
  order by 2 desc, 1
$$;
comment on function private.connection_usage() is
  'Client connections of each database of the cluster, and how much of what may connect they are (max_connections without the reserved ones, or the database''s own limit).';

create function private.long_running_queries(longer_than interval default '1 minute')
returns table (pid integer, database_name name, schema_name text, role_name name, state text, seconds integer, waits_for text, query text)
language sql stable
set search_path = ''
as $$
  select a.pid, a.datname, coalesce(private.schema_of_text(a.query), 'public'), a.usename, a.state,
    extract(epoch from now() - a.xact_start)::integer, concat_ws(': ', a.wait_event_type, a.wait_event), left(a.query, 500)
  from pg_catalog.pg_stat_activity a
  where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.state <> 'idle' and a.xact_start < now() - longer_than
  order by a.xact_start
$$;
comment on function private.long_running_queries(interval) is
  'Transactions of the cluster open for longer, the oldest first: running, waiting or idle. Their age is that of the transaction, because that is what holds locks and dead rows.';
