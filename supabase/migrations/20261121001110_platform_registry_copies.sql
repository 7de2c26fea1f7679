/*
 * Members follow their organization: the registry rows of an organization that lives in another database are
 * copied there, whole, whenever one of them changes.
 *
 * In the main database a trigger counts the changes of each organization and place (registry_places); the
 * operator's worker sends what registry_snapshot() says, and receive_registry() of the place makes its rows
 * equal. The count is taken under a row lock held until commit, so a higher one always tells a later state, and
 * the place refuses to go back. Access lists are kept at the home of the records they name, and not copied.
 */
create table private.registry_tables (
  position integer primary key,
  table_name text not null unique,
  belongs text not null,
  is_shared boolean not null default false,
  columns text[]
);
comment on table private.registry_tables is 'What of the registry goes with an organization, in the order of its references.';
comment on column private.registry_tables.belongs is 'SQL condition on row t for the organization $1.';
comment on column private.registry_tables.is_shared is 'Rows that others may use too: added and changed, never taken away.';
comment on column private.registry_tables.columns is 'The columns that are copied; null for all.';
insert into private.registry_tables (position, table_name, belongs, is_shared, columns) values
  (10, 'auth.users', 't.id in (select m.user_id from public.organization_memberships m where m.organization_id = $1
      union select m.user_id from public.business_memberships m join public.businesses b on b.id = m.business_id where b.organization_id = $1)', true, '{id}'),
  (20, 'public.profiles', 't.user_id in (select m.user_id from public.organization_memberships m where m.organization_id = $1
      union select m.user_id from public.business_memberships m join public.businesses b on b.id = m.business_id where b.organization_id = $1)', true, null),
  (30, 'public.subscription_plans', 'true', true, null),
  (40, 'public.organizations', 't.id = $1', false, null),
  (50, 'public.organization_memberships', 't.organization_id = $1', false, null),
  (60, 'public.organization_placements', 't.organization_id = $1', false, null),
  (70, 'public.subscriptions', 't.organization_id = $1', false, null),
  (80, 'public.businesses', 't.organization_id = $1', false, null),
  (90, 'public.roles', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (100, 'public.role_permissions', 't.role_id in (select r.id from public.roles r join public.businesses b on b.id = r.business_id where b.organization_id = $1)', false, null),
  (110, 'public.role_hierarchies', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (120, 'public.business_memberships', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (130, 'public.membership_roles', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (140, 'public.departments', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (150, 'public.department_roles', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (160, 'public.user_permissions', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (170, 'public.api_keys', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (180, 'public.provider_connections', 't.business_id in (select b.id from public.businesses b where b.organization_id = $1)', false, null),
  (190, 'private.revoked_sessions', 't.user_id in (select m.user_id from public.organization_memberships m where m.organization_id = $1
      union select m.user_id from public.business_memberships m join public.businesses b on b.id = m.business_id where b.organization_id = $1)', true, null);

create table private.registry_places (
  organization_id uuid not null references public.organizations on delete cascade,
  database_name text not null,
  version bigint not null default 1,
  sent_version bigint not null default 0,
  sent_at timestamptz,
  error text,
  primary key (organization_id, database_name)
);
comment on table private.registry_places is
  'In the main database: which other databases hold a copy of an organization''s registry rows, and which state was sent last.';
comment on column private.registry_places.version is 'Counts the changes; taken under the row''s lock, so a higher one is a later state.';

create table private.received_registries (
  organization_id uuid primary key,
  version bigint not null,
  received_at timestamptz not null default now()
);
comment on table private.received_registries is 'In every other database: the state of each organization''s registry rows held here.';

create table private.placement_version (
  version bigint not null,
  only_row boolean primary key default true check (only_row)
);
comment on table private.placement_version is 'Grows with every change of a home, so that a router knows whether what it remembers still holds.';
insert into private.placement_version (version) values (1);

alter table private.registry_tables enable row level security;
alter table private.registry_tables force row level security;
alter table private.registry_places enable row level security;
alter table private.registry_places force row level security;
alter table private.received_registries enable row level security;
alter table private.received_registries force row level security;
alter table private.placement_version enable row level security;
alter table private.placement_version force row level security;

-- Counting changes --------------------------------------------------------------------------------------

create function private.touch_registry(organization_ids uuid[]) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update private.registry_places p set version = p.version + 1
  from (select r.organization_id, r.database_name from private.registry_places r
        where r.organization_id = any (organization_ids) order by 1, 2 for update) due
  where (p.organization_id, p.database_name) = (due.organization_id, due.database_name);
  if found then
    perform pg_notify('tenantry_registry', '');
  end if;
end $$;
comment on function private.touch_registry(uuid[]) is 'Marks the copies of these organizations'' registry rows as outdated and wakes the worker.';

create function private.tg_registry_changed() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_row jsonb := to_jsonb(coalesce(new, old));
  v_id uuid;
begin
  -- In a database that is copied to, and where nobody lives elsewhere, this is all.
  if not exists (select 1 from private.registry_places) then return null; end if;
  v_id := (v_row ->> tg_argv[1])::uuid;
  case tg_argv[0]
    when 'organization' then
      perform private.touch_registry(array[v_id]);
    when 'business' then
      perform private.touch_registry(array(select b.organization_id from public.businesses b where b.id = v_id));
    when 'role' then
      perform private.touch_registry(array(select b.organization_id from public.roles r join public.businesses b on b.id = r.business_id where r.id = v_id));
    when 'user' then
      perform private.touch_registry(array(
        select m.organization_id from public.organization_memberships m where m.user_id = v_id
        union select b.organization_id from public.business_memberships m join public.businesses b on b.id = m.business_id where m.user_id = v_id));
    when 'everybody' then
      perform private.touch_registry(array(select distinct p.organization_id from private.registry_places p));
  end case;
  return null;
end $$;
comment on function private.tg_registry_changed() is 'Counts a change of registry rows that are copied. Arguments: whose row it is, and the column that says so.';

do $$
declare
  r record;
begin
  for r in select * from (values
    ('public.organizations', 'organization', 'id'), ('public.organization_memberships', 'organization', 'organization_id'),
    ('public.organization_placements', 'organization', 'organization_id'), ('public.subscriptions', 'organization', 'organization_id'),
    ('public.businesses', 'organization', 'organization_id'), ('public.roles', 'business', 'business_id'),
    ('public.role_permissions', 'role', 'role_id'), ('public.role_hierarchies', 'business', 'business_id'),
    ('public.business_memberships', 'business', 'business_id'), ('public.membership_roles', 'business', 'business_id'),
    ('public.departments', 'business', 'business_id'), ('public.department_roles', 'business', 'business_id'),
    ('public.user_permissions', 'business', 'business_id'), ('public.provider_connections', 'business', 'business_id'),
    ('public.profiles', 'user', 'user_id'), ('private.revoked_sessions', 'user', 'user_id'),
    ('public.subscription_plans', 'everybody', 'id')) v(target, whose, named)
  loop
    -- At commit: after every lock on somebody's rights, so that two who change both cannot wait for each other.
    execute format('create constraint trigger _950_registry after insert or update or delete on %s deferrable initially deferred for each row execute function private.tg_registry_changed(%L, %L)',
      r.target, r.whose, r.named);
  end loop;
end $$;
-- A use is noted every minute and concerns nobody.
create constraint trigger _950_registry after insert or delete on public.api_keys
  deferrable initially deferred for each row execute function private.tg_registry_changed('business', 'business_id');
create constraint trigger _950_registry_update after update of revoked_at, expires_at, name on public.api_keys
  deferrable initially deferred for each row execute function private.tg_registry_changed('business', 'business_id');

create function private.tg_placement_version() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  update private.placement_version set version = version + 1;
  return null;
end $$;
comment on function private.tg_placement_version() is 'A home changed: whoever remembers homes has to look again.';
-- A new home is in nobody's memory: founding organizations does not queue here.
create trigger _960_version after update on public.organization_placements
  for each row when (old.* is distinct from new.*) execute function private.tg_placement_version();
create trigger _960_version_gone after delete on public.organization_placements
  for each row execute function private.tg_placement_version();

-- Sending and receiving -----------------------------------------------------------------------------------

create function private.registry_snapshot(organization_id uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  r record;
  v_rows jsonb;
  v_tables jsonb := '{}';
begin
  for r in select * from private.registry_tables order by position loop
    execute format('select coalesce(jsonb_agg(%s), ''[]'') from %s t where %s',
      case when r.columns is null then 'to_jsonb(t)' else
        (select 'jsonb_build_object(' || string_agg(format('%L, t.%I', c, c), ', ') || ')' from unnest(r.columns) c) end,
      r.table_name, r.belongs) into v_rows using registry_snapshot.organization_id;
    v_tables := v_tables || jsonb_build_object(r.table_name, v_rows);
  end loop;
  return jsonb_build_object('organization_id', registry_snapshot.organization_id, 'tables', v_tables);
end $$;
comment on function private.registry_snapshot(uuid) is 'All registry rows that go with an organization, as of one moment: what receive_registry() takes.';

create function private.make_rows_equal(target text, belongs text, is_shared boolean, organization_id uuid, rows jsonb, columns text[]) returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_table regclass := target::regclass;
  v_columns text[] := array(
    select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      and (make_rows_equal.columns is null or a.attname = any (make_rows_equal.columns)) order by a.attnum);
  v_key text[] := array(
    select a.attname from pg_catalog.pg_index i cross join unnest(i.indkey) with ordinality k(attnum, place)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = v_table and i.indisprimary and k.place <= i.indnkeyatts order by k.place);
  v_names text := (select string_agg(quote_ident(c), ', ') from unnest(v_columns) c);
  v_others text[] := array(select c from unnest(v_columns) c where c <> all (v_key));
  v_removed bigint := 0;
begin
  if not is_shared then
    execute format('delete from %s t where (%s) and not exists (select 1 from jsonb_populate_recordset(null::%s, $2) s where (%s) = (%s))',
      v_table, belongs, v_table, (select string_agg('s.' || quote_ident(c), ', ') from unnest(v_key) c),
      (select string_agg('t.' || quote_ident(c), ', ') from unnest(v_key) c)) using organization_id, rows;
    get diagnostics v_removed = row_count;   -- EXECUTE does not set FOUND
  end if;
  execute format('insert into %s as t (%s) select %s from jsonb_populate_recordset(null::%s, $1) on conflict (%s) do %s',
    v_table, v_names, v_names, v_table, (select string_agg(quote_ident(c), ', ') from unnest(v_key) c),
    case when v_others = '{}' then 'nothing' else format('update set (%s) = row(%s) where (%s) is distinct from (%s)',
      (select string_agg(quote_ident(c), ', ') from unnest(v_others) c), (select string_agg('excluded.' || quote_ident(c), ', ') from unnest(v_others) c),
      (select string_agg('t.' || quote_ident(c), ', ') from unnest(v_others) c), (select string_agg('excluded.' || quote_ident(c), ', ') from unnest(v_others) c)) end)
  using rows;
  return v_removed > 0;
end $$;
comment on function private.make_rows_equal(text, text, boolean, uuid, jsonb, text[]) is
  'Makes the rows of one table that belong to an organization equal to a list. True when some were taken away.';

-- Under replication role replica, neither cascades nor checks of foreign keys run.
create function private.mend_references(schemas text[]) returns void
language plpgsql set search_path = ''
as $$
declare
  f record;
begin
  for f in
    select k.conrelid::regclass as target, k.confrelid::regclass as parent, k.confdeltype as action,
      (select string_agg(format('c.%I = p.%I', c.attname, p.attname), ' and ')
       from unnest(k.conkey, k.confkey) u(child, parent)
       join pg_catalog.pg_attribute c on c.attrelid = k.conrelid and c.attnum = u.child
       join pg_catalog.pg_attribute p on p.attrelid = k.confrelid and p.attnum = u.parent) as matches,
      (select string_agg(format('c.%I is not null', c.attname), ' and ') from unnest(k.conkey) u(child)
       join pg_catalog.pg_attribute c on c.attrelid = k.conrelid and c.attnum = u.child) as is_set,
      (select string_agg(quote_ident(c.attname), ', ') from unnest(coalesce(nullif(k.confdelsetcols, '{}'), k.conkey)) u(child)
       join pg_catalog.pg_attribute c on c.attrelid = k.conrelid and c.attnum = u.child) as cleared,
      (select string_agg('null', ', ') from unnest(coalesce(nullif(k.confdelsetcols, '{}'), k.conkey))) as nothing
    from pg_catalog.pg_constraint k
    join pg_catalog.pg_class t on t.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = t.relnamespace
    join private.registry_tables r on r.table_name::regclass = k.confrelid and not r.is_shared
    where k.contype = 'f' and k.conparentid = 0 and not t.relispartition
      and (n.nspname = any (schemas) or k.conrelid = 'public.access_control_lists'::regclass) and k.confdeltype in ('c', 'n')
      and not exists (select 1 from private.registry_tables o where o.table_name::regclass = k.conrelid)
    order by k.confdeltype, k.conrelid
  loop
    if f.action = 'c' then
      execute format('delete from %s c where %s and not exists (select 1 from %s p where %s)', f.target, f.is_set, f.parent, f.matches);
    else
      execute format('update %s c set (%s) = row(%s) where %s and not exists (select 1 from %s p where %s)', f.target, f.cleared, f.nothing, f.is_set, f.parent, f.matches);
    end if;
  end loop;
end $$;
comment on function private.mend_references(text[]) is 'Does what foreign keys of these schemas say about registry rows that are gone: clears the reference or removes the row.';

create function private.receive_registry(snapshot jsonb, version bigint, force boolean default false) returns boolean
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_organization uuid := (snapshot ->> 'organization_id')::uuid;
  v_users uuid[];
  v_removed boolean := false;
  v_is_new boolean;
  v_zones jsonb;
  r record;
  v_schema text;
begin
  perform pg_advisory_xact_lock(hashtextextended('registry:' || v_organization::text, 0));
  if not force and exists (select 1 from private.received_registries p where p.organization_id = v_organization and p.version >= receive_registry.version) then
    return false;
  end if;
  v_users := array(
    select m.user_id from public.organization_memberships m where m.organization_id = v_organization
    union select m.user_id from public.business_memberships m join public.businesses b on b.id = m.business_id where b.organization_id = v_organization);
  select jsonb_object_agg(b.id, b.timezone) into v_zones from public.businesses b where b.organization_id = v_organization;

  -- Triggers of the registry guard and audit what people do, and that happened where it was done.
  perform set_config('session_replication_role', 'replica', true);
  -- Of an organization that is not here yet nothing is here: where it has no rows either, there is nothing to do.
  v_is_new := not exists (select 1 from public.organizations o where o.id = v_organization);
  for r in select t.*, coalesce(snapshot -> 'tables' -> t.table_name, '[]') as rows from private.registry_tables t order by t.position loop
    continue when v_is_new and r.rows = '[]';
    if private.make_rows_equal(r.table_name, r.belongs, r.is_shared, v_organization, r.rows, r.columns) then
      v_removed := true;
    end if;
  end loop;
  -- Here too: everybody's rights are computed below, once.
  perform private.refresh_business_directory(array[v_organization]);
  perform set_config('session_replication_role', 'origin', true);
  v_users := v_users || array(
    select m.user_id from public.organization_memberships m where m.organization_id = v_organization
    union select m.user_id from public.business_memberships m join public.businesses b on b.id = m.business_id where b.organization_id = v_organization);
  perform private.refresh_user_access(v_users);
  select p.schema_name into v_schema from public.organization_placements p
  where p.organization_id = v_organization and p.database_name = current_database();
  if v_schema is not null and to_regnamespace(quote_ident(v_schema)) is not null then
    if v_removed then
      perform private.mend_references(array[v_schema]);
    end if;
    for r in select b.id, b.timezone from public.businesses b
             where b.organization_id = v_organization and b.timezone is distinct from coalesce(v_zones ->> b.id::text, b.timezone) loop
      execute format('select %I.restamp_metric_dates($1, $2)', v_schema) using r.id, r.timezone;
    end loop;
  end if;
  insert into private.received_registries as p (organization_id, version) values (v_organization, receive_registry.version)
  on conflict (organization_id) do update set version = excluded.version, received_at = now();
  return true;
end $$;
comment on function private.receive_registry(jsonb, bigint, boolean) is
  'Makes the registry rows of an organization in this database equal to a snapshot of the main one, and what follows from them. False when a later state is here already. For the operator''s worker, as the owner of the database.';

-- Invitations made at a home ------------------------------------------------------------------------------

create function private.receive_invitation(invitation jsonb, token_hash bytea) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  v public.invitations := jsonb_populate_record(null::public.invitations, invitation);
begin
  if exists (select 1 from public.invitations i where i.business_id = v.business_id and i.id = v.id) then return; end if;
  perform private.lock_business(v.business_id);
  -- As private.invite(): who is a member already needs none, and a later invitation replaces an earlier one.
  if exists (select 1 from public.business_memberships m join auth.users u on u.id = m.user_id
             where m.business_id = v.business_id and m.status <> 'removed' and public.normalize_email(u.email) = v.email_normalized) then
    return;
  end if;
  update public.invitations i set status = 'revoked'
  where i.business_id = v.business_id and i.email_normalized = v.email_normalized and i.status = 'pending';
  insert into public.invitations values (v.*);
  insert into private.invitation_tokens (business_id, invitation_id, token_hash) values (v.business_id, v.id, receive_invitation.token_hash);
end $$;
comment on function private.receive_invitation(jsonb, bytea) is
  'Takes an invitation over from the home where it was made. Doing it again changes nothing. For the operator''s worker.';
