/*
 * Protection, written once. `call private.protect('customers', read => 'customers.read', ...)` gives a
 * table its row security, two policies per verb, its column grants and its guard trigger. What the calls
 * produce is pinned in policies_tests/expected/.
 */

/*
 * The guard of every table of a business, for every role, before any other row trigger:
 *  - row triggers run before the policy's check, so somebody without the right is refused here: later triggers'
 *    errors must not tell whether the business exists, where it lives or what country it is in. It also gives
 *    the refusal a field and a remedy, which Postgres's own words about a policy lack,
 *  - business_id and id never change,
 *  - a place that is not home, or that is being moved, takes no writes (members are stopped by the
 *    policies; this stops service_role, workers and definer functions),
 *  - timestamps and authors are the database's word, not the client's.
 */
create function private.tg_guard() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  home private.business_directory;
  v_permission text;
  v_context text;
begin
  -- Argument: the permission that a member needs to insert, where members may.
  if tg_op = 'DELETE' then
    if current_setting('role') <> 'authenticated' then
      select * into home from private.business_directory d where d.business_id = old.business_id;
      -- Found but elsewhere: refuse. When the business itself is being deleted, let it cascade.
      if found and not (home.is_writable and home.schema_name = tg_table_schema and home.database_name = current_database())
         and exists (select 1 from public.businesses b where b.id = old.business_id) then
        perform private.fail('PT409', 'This business does not live here, or is being moved.', 'business_id', 'not_home',
          'Read the registry again and retry at its home.');
      end if;
    end if;
    return old;
  end if;

  if tg_op = 'UPDATE' then
    if new.business_id is distinct from old.business_id or new.id is distinct from old.id then
      perform private.fail('42501', 'business_id and id of a row never change.', 'business_id', 'immutable',
        'Create the row in the other business instead.');
    end if;
    new.created_at := old.created_at;
    new.created_by := old.created_by;
    new.updated_at := now();
    new.updated_by := coalesce(private.current_user_id(), new.updated_by);
  else
    if new.business_id is null then
      perform private.fail('22023', 'business_id is missing.', 'business_id', 'missing', 'Send the id of the business that the row belongs to.');
    end if;
    new.created_at := coalesce(new.created_at, now());
    new.updated_at := new.created_at;
    new.created_by := coalesce(private.current_user_id(), new.created_by);
    new.updated_by := new.created_by;
  end if;

  if current_setting('role') in ('authenticated', 'anon') then
    if tg_op = 'INSERT' then
      -- Not in the query itself: an array as its parameter takes longer than the lookup.
      v_permission := coalesce(tg_argv[0], 'business.read');
      if not exists (select 1 from private.my_rights r
                     where r.permission = v_permission and r.home_schema = tg_table_schema and new.business_id = any (r.business_ids)) then
        get diagnostics v_context = pg_context;
        -- One line: the client's own statement, which the policy would refuse too, in words that name nothing. A
        -- function has asked for the right it needs. There, a role of the business's own making may lack
        -- business.read, and a business may live elsewhere: any right in it will do.
        if tg_nargs > 0 and strpos(v_context, e'\n') = 0
          or not exists (
            select 1 from private.user_access a where a.user_id = private.current_user_id()
              and new.business_id = any ((private.my_access(a.permission, a.home_database, a.home_schema)).business_ids)) then
          perform private.fail('42501', format('You may not add rows of %s to this business.', tg_table_name), 'business_id', 'permission_missing',
            'Check business_id, or ask an admin of the business for a role that allows it.',
            jsonb_strip_nulls(jsonb_build_object('permission', tg_argv[0])));
        end if;
      end if;
    end if;
  else
    select * into home from private.business_directory d where d.business_id = new.business_id;
    if not found or not (home.is_writable and home.schema_name = tg_table_schema and home.database_name = current_database()) then
      perform private.fail('PT409', 'This business does not live here, or is being moved.', 'business_id', 'not_home',
        'Check business_id; if it is right, read the registry again and retry at its home.');
    end if;
  end if;
  return new;
end $$;
comment on function private.tg_guard() is
  'Row guard of tenant tables: identity is immutable, writes happen only at home, times and authors are set by the database.';

-- Tables of the registry have no home of their own: same guard without the fence.
create function private.tg_guard_registry() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    if to_jsonb(new) -> 'id' is distinct from to_jsonb(old) -> 'id'
       or to_jsonb(new) -> 'business_id' is distinct from to_jsonb(old) -> 'business_id'
       or to_jsonb(new) -> 'organization_id' is distinct from to_jsonb(old) -> 'organization_id' then
      perform private.fail('42501', 'The identity of a row never changes.', 'id', 'immutable', 'Create a new row instead.');
    end if;
    new.created_at := old.created_at;
    new.updated_at := now();
  end if;
  return new;
end $$;
comment on function private.tg_guard_registry() is 'Row guard of registry tables: keys are immutable, updated_at is kept.';

create function private.tg_refuse_change() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  -- The rows of a business go with the business itself (a cascade), and only then.
  if tg_op = 'DELETE' and not exists (select 1 from public.businesses b where b.id = old.business_id) then
    return old;
  end if;
  perform private.fail('42501', format('Rows of %s are never changed or removed.', tg_table_name), null, 'append_only',
    'Add a new row that corrects the old one.');
  return null;
end $$;
comment on function private.tg_refuse_change() is 'Makes a table append-only for every role.';

-- Definer because: looks for lists whatever the caller may see of them.
create function private.tg_shared() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    new.shared_id := coalesce(old.shared_id, new.shared_id);
  elsif exists (select 1 from public.access_control_lists a
                where a.business_id = new.business_id and a.resource = tg_table_name and a.resource_id = new.id) then
    new.shared_id := new.id;
  end if;
  return new;
end $$;
comment on function private.tg_shared() is 'A record that an access control list ever named is marked and stays so: what denies it must find it.';

create table private.table_permissions (
  table_name text not null,
  verb text not null,
  permission_code text not null,
  resource text,
  record_column text,
  primary key (table_name, verb),
  constraint table_permissions_verb check (verb in ('select', 'insert', 'update', 'delete'))
);
comment on table private.table_permissions is 'Which permission each verb on each table asks for: what private.protect() was told. Read by explain_access().';
comment on column private.table_permissions.resource is 'The record whose owner, department and access lists decide, where they do: the table itself or the one its rows are parts of.';
comment on column private.table_permissions.record_column is 'The column that names that record.';
alter table private.table_permissions enable row level security;
alter table private.table_permissions force row level security;

create table private.tenant_tables (
  table_name text primary key
);
comment on table private.tenant_tables is
  'The tables of the tenant plane: what moves, is copied and is backed up with an organization. Written by private.protect().';
alter table private.tenant_tables enable row level security;
alter table private.tenant_tables force row level security;

/*
 * Gives one table its protection. Verbs without a permission get neither policy nor grant. Every column of a
 * readable table can be read, so that `select *` works: a secret lives in a table of `private` instead.
 *   target          the table; unqualified names are found in the schema being migrated
 *   reads .. deletes  permission code per verb
 *   insert_columns, update_columns  the only columns a member may set; business_id is added to inserts
 *   own_rows        an extra condition or-ed into the select policy (portal, own profile), as SQL
 *   registry        true for tables of the control plane (they know no home)
 *   scope, key      'business' (default) or 'organization', and the column that carries its id
 *   guard           false for append-only tables, which have guards of their own
 *   owners          for records that somebody owns: the columns that name a membership. Permissions then reach as
 *                   far as their scope says (all records, those of a department, one's own), and access control
 *                   lists share or deny single records. The table has a department_id and a shared_id; `about` names
 *                   the customer
 *   parent          for parts of such a record, {table, column}: reached as the record they belong to
 */
create procedure private.protect(
  target regclass,
  reads text default null,
  inserts text default null,
  updates text default null,
  deletes text default null,
  insert_columns text[] default '{}',
  update_columns text[] default '{}',
  own_rows text default null,
  registry boolean default false,
  guard boolean default true,
  scope text default 'business',
  key text default 'business_id',
  owners text[] default '{}',
  about text default null,
  parent text[] default '{}'
)
language plpgsql
set search_path = ''
as $$
declare
  schema_name name;
  table_name name;
  visible text;
  rights text;
  bounded text;
  reached text;
  verb text;
  code text;
  clauses text;
  -- What of a record may stand among the caller's keys; a record of nobody carries the key of the pool.
  carried text := case when owners <> '{}' then format(
    'array[business_id, shared_id, department_id, %s, case when coalesce(department_id, %s) is null then private.pool_key(business_id) end]',
    (select string_agg(quote_ident(c), ', ') from unnest(array_remove(owners || about, null)) c),
    (select string_agg(quote_ident(c), ', ') from unnest(owners) c)) end;
begin
  select n.nspname, c.relname into strict schema_name, table_name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = target;
  if not registry then
    insert into private.tenant_tables values (table_name) on conflict do nothing;
  end if;
  execute format('alter table %s enable row level security', target);
  execute format('alter table %s force row level security', target);
  execute format('revoke all on %s from public, anon, authenticated, service_role', target);
  -- Without a guard only triggers and functions write: a job could forge history or move rows.
  execute format('grant %s on %s to service_role', case when guard then 'select, insert, update, delete' else 'select' end, target);

  -- The planner multiplies the selectivity of the policy with that of a join on the same column, expects one row
  -- from any index that begins with it, and then filters a whole tenant (measured: 5,477 ms instead of 7).
  if not registry and (select c.relkind from pg_class c where c.oid = target) = 'r' then
    execute format('alter table %s alter column %I set (n_distinct = 50)', target, key);
    -- With that estimate a small member's unfiltered page would start parallel workers: 15 ms to save nothing.
    -- Generic plans are made from statistics, so a table that fills quickly wants new ones soon.
    execute format('alter table %s set (parallel_workers = 0, autovacuum_analyze_threshold = 20, autovacuum_analyze_scale_factor = 0.05)', target);
  end if;

  foreach verb in array array['select', 'insert', 'update', 'delete'] loop
    code := case verb when 'select' then reads when 'insert' then inserts when 'update' then updates else deletes end;
    continue when code is null;
    insert into private.table_permissions as t values (table_name, verb, code, 
        case when owners <> '{}' then table_name else parent[1] end, case when owners <> '{}' then 'id' else parent[2] end)
    on conflict on constraint table_permissions_pkey do update
      set permission_code = excluded.permission_code, resource = excluded.resource, record_column = excluded.record_column;
    rights := format('(select r.%%I from private.my_rights r where r.permission = %L and r.home_schema = %L)', code, schema_name);
    -- The restrictive policy bounds whatever permissive ones say: a business where the permission is held, in this
    -- session (second factor, not ended, not anonymous). An index answers it.
    bounded := case
      when scope = 'organization' then format('%I = any ((select private.my_organization_ids(%L))::uuid[])', key, code)
      when registry then format('%I = any ((select private.my_business_ids(%L))::uuid[])', key, code)
      else format('%I = any (%s::uuid[])', key, format(rights, 'business_ids')) end;
    -- The permissive one says which rows of these. Whoever reaches all records of their businesses pays one
    -- comparison per row; the rest is not evaluated. Where all rows are reached it repeats the bounds, so that
    -- neither policy alone opens anything.
    reached := case
      when parent <> '{}' then format('%s or %I.may_access_record(%L, business_id, %I, %L)', format(rights, 'is_whole'), schema_name, parent[1], parent[2], code)
      when carried is not null then format('%s or private.reaches((select %I.my_reach(%L)), business_id, %s, shared_id)', format(rights, 'is_whole'), schema_name, code, carried)
      else bounded end;
    if verb = 'select' and own_rows is not null then
      bounded := format('%s or (%s)', bounded, own_rows);
      reached := format('%s or (%s)', reached, own_rows);
    end if;
    clauses := case verb when 'insert' then 'with check (%1$s)' when 'update' then 'using (%1$s) with check (%1$s)' else 'using (%1$s)' end;
    execute format('create policy %I on %s for %s to authenticated ', table_name || '_' || verb, target, verb) || format(clauses, reached);
    execute format('create policy %I on %s as restrictive for %s to authenticated ', table_name || '_' || verb || '_only_held', target, verb)
      || format(clauses, bounded);
    if verb = 'select' then
      -- Column grants even when all are visible: a table grant would also serve ctid and xmin.
      select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into visible
      from pg_attribute a
      where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
      execute format('grant select (%s) on %s to authenticated', visible, target);
    elsif verb = 'insert' then
      execute format('grant insert (%s) on %s to authenticated',
        (select string_agg(quote_ident(c), ', ') from unnest(array[key] || insert_columns) c), target);
    elsif verb = 'update' then
      execute format('grant update (%s) on %s to authenticated',
        (select string_agg(quote_ident(c), ', ') from unnest(update_columns) c), target);
    else
      execute format('grant delete on %s to authenticated', target);
    end if;
  end loop;

  if guard and registry then
    execute format('create trigger _010_guard before update on %s for each row execute function private.tg_guard_registry()', target);
  elsif guard then
    if carried is not null then
      -- Members cannot choose an id, so theirs names nothing yet.
      execute format('create trigger _015_shared_insert before insert on %s for each row when (current_setting(''role'') <> ''authenticated'') execute function private.tg_shared()', target);
      execute format('create trigger _015_shared_update before update of shared_id on %s for each row execute function private.tg_shared()', target);
    end if;
    execute format('create trigger _010_guard before insert or update or delete on %s for each row execute function private.tg_guard(%s)',
      target, coalesce(quote_literal(inserts), ''));
  end if;
end $$;
comment on procedure private.protect(regclass, text, text, text, text, text[], text[], text, boolean, boolean, text, text, text[], text, text[]) is
  'Row security, policies, grants and guard trigger of one table from one readable call.';

create procedure private.append_only(target regclass)
language plpgsql
set search_path = ''
as $$
begin
  execute format('create trigger _020_append_only before update or delete on %s for each row execute function private.tg_refuse_change()', target);
  execute format('create trigger _021_append_only before truncate on %s for each statement execute function private.tg_refuse_change()', target);
end $$;
comment on procedure private.append_only(regclass) is 'Makes a table append-only for every role, truncate included.';
