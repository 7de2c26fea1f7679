/*
 * Keeps private.user_access and private.user_organization_access equal to what members, roles and
 * homes say, in the same transaction as any change. Locks are taken in the order of user ids, so
 * concurrent changes wait instead of deadlocking.
 */
-- What people hold --------------------------------------------------------------------------------------

create function private.held_roles(users uuid[])
returns table (user_id uuid, business_id uuid, membership_id uuid, customer_id uuid, role_id uuid, department_id uuid)
language sql stable security definer
set search_path = ''
as $$
  select m.user_id, m.business_id, m.id, m.customer_id, mr.role_id, null::uuid
  from public.business_memberships m
  join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
  where m.user_id = any (users) and m.status = 'active'
  union all
  select m.user_id, m.business_id, m.id, m.customer_id, dr.role_id, dr.department_id
  from public.business_memberships m
  join public.department_roles dr on (dr.business_id, dr.membership_id) = (m.business_id, m.id)
  where m.user_id = any (users) and m.status = 'active'
  union all
  -- Owners and admins of an organization hold that system role in all its businesses.
  select om.user_id, d.business_id, null, null, r.id, null
  from public.organization_memberships om
  join private.business_directory d on d.organization_id = om.organization_id
  join public.roles r on r.business_id is null and r.code = om.role
  where om.user_id = any (users) and om.status = 'active'
$$;
comment on function private.held_roles(uuid[]) is 'Every role these users hold: in a business, within a department of it, or through its organization.';

create function private.department_keys(users uuid[])
returns table (user_id uuid, business_id uuid, department_id uuid, record_keys uuid[])
language sql stable security definer
set search_path = ''
as $$
  with recursive mine as (
    select distinct h.user_id, h.business_id, h.department_id from private.held_roles(users) h where h.department_id is not null
  ), branch(business_id, top_id, department_id) as (
    select distinct m.business_id, m.department_id, m.department_id from mine m
    union
    select b.business_id, b.top_id, d.id from branch b
    join public.departments d on d.business_id = b.business_id and d.parent_id = b.department_id
  ), carried as (
    select b.business_id, b.top_id, array_agg(distinct k.id) as record_keys
    from branch b
    left join public.department_roles dr on (dr.business_id, dr.department_id) = (b.business_id, b.department_id)
    cross join lateral (values (b.department_id), (dr.membership_id)) k(id)
    where k.id is not null
    group by 1, 2
  )
  select m.user_id, m.business_id, m.department_id, c.record_keys
  from mine m join carried c on c.business_id = m.business_id and c.top_id = m.department_id
$$;
comment on function private.department_keys(uuid[]) is
  'Each department these users work for, and what it stands for on a record: itself, the departments below it, and the people of all of them.';

create function private.permission_rules(users uuid[])
returns table (user_id uuid, business_id uuid, permission text, role_id uuid, department_id uuid, is_whole boolean, level integer, record_keys uuid[], expires_at timestamptz)
language sql stable security definer
set search_path = ''
as $$
  with held as materialized (
    select * from private.held_roles(users)
  ), departments as materialized (
    select * from private.department_keys(users)
  ), divided as (   -- where the scope department means something
    select distinct d.business_id from public.departments d where d.business_id in (select h.business_id from held h)
  ), denied as materialized (   -- denied beats given
    select m.user_id, m.business_id, up.permission_code from public.business_memberships m
    join public.user_permissions up on (up.business_id, up.membership_id) = (m.business_id, m.id)
    where m.user_id = any (users) and up.effect = 'deny' and coalesce(up.expires_at > now(), true)
  ), rules as (
    select h.user_id, h.business_id, h.membership_id, h.customer_id, h.role_id, h.department_id, rp.permission_code as permission,
      -- A role held within a department reaches no further than it.
      case when h.department_id is not null and rp.scope = 'business' then 'department' else rp.scope end as scope,
      null::timestamptz as expires_at
    from held h
    join private.carried_roles(array(select distinct r.role_id from held r)) c on c.role_id = h.role_id
    join public.role_permissions rp on rp.role_id = c.carried_role_id
    join public.permissions p on p.code = rp.permission_code
    where h.department_id is null or p.is_record_scoped
    union all
    select m.user_id, m.business_id, m.id, m.customer_id, null, null, up.permission_code, up.scope, up.expires_at
    from public.business_memberships m
    join public.user_permissions up on (up.business_id, up.membership_id) = (m.business_id, m.id)
    where m.user_id = any (users) and m.status = 'active' and up.effect = 'allow' and coalesce(up.expires_at > now(), true)
  ), scoped as (
    select r.*, r.scope = 'business' or r.scope = 'department' and v.business_id is null as is_whole
    from rules r left join divided v on v.business_id = r.business_id
    where (r.user_id, r.business_id, r.permission) not in (select d.user_id, d.business_id, d.permission_code from denied d)
  )
  select s.user_id, s.business_id, s.permission, s.role_id, s.department_id, s.is_whole,
    case when s.is_whole then 3 else private.scope_level(s.scope) end,
    case when not s.is_whole then array_remove(array[s.membership_id, s.customer_id], null)
      || case when s.scope = 'department' then private.pool_key(s.business_id) || array(
        select unnest(d.record_keys) from departments d
        where d.user_id = s.user_id and d.business_id = s.business_id and (s.department_id is null or d.department_id = s.department_id))
      else '{}' end end,
    s.expires_at
  from scoped s
$$;
comment on function private.permission_rules(uuid[]) is
  'Each rule by which these users hold a permission now: a role (inherited permissions too, within a department or not) or, without role_id, a single permission. Denied permissions are left out. record_keys: see user_access; level: see scope_level().';

create function private.granted_permissions(users uuid[])
returns table (user_id uuid, business_id uuid, permission text, is_whole boolean, record_keys uuid[], level integer, expires_at timestamptz)
language sql stable security definer
set search_path = ''
as $$
  select r.user_id, r.business_id, r.permission, bool_or(r.is_whole), array_agg(distinct k.id) filter (where k.id is not null),
    max(r.level), min(r.expires_at)
  from private.permission_rules(users) r
  left join lateral unnest(r.record_keys) as k(id) on true
  group by 1, 2, 3
$$;
comment on function private.granted_permissions(uuid[]) is 'The rules of permission_rules() added up: the widest scope counts, and what several reach is reached.';

create function private.record_rules(users uuid[])
returns table (user_id uuid, business_id uuid, permission text, effect text, resource text, resource_id uuid, expires_at timestamptz, id uuid)
language sql stable security definer
set search_path = ''
as $$
  with held as materialized (
    select * from private.held_roles(users)
  ), grantees as (
    select m.user_id, m.business_id, m.id as membership_id, null::uuid as role_id, null::uuid as department_id
    from public.business_memberships m where m.user_id = any (users) and m.status = 'active'
    union
    select h.user_id, h.business_id, null, c.carried_role_id, null
    from held h join private.carried_roles(array(select distinct r.role_id from held r)) c on c.role_id = h.role_id
    union
    -- Whoever works for a department works for those above it.
    select h.user_id, h.business_id, null, null, u.id
    from held h cross join lateral (
      with recursive up(id) as (
        select h.department_id
        union
        select d.parent_id from up join public.departments d on d.business_id = h.business_id and d.id = up.id where d.parent_id is not null)
      select up.id from up) u
    where h.department_id is not null
  )
  select g.user_id, a.business_id, p.permission_code, a.effect, a.resource, a.resource_id, a.expires_at, a.id
  from public.access_control_lists a
  join grantees g on g.business_id = a.business_id
    and (g.membership_id = a.membership_id or g.role_id = a.role_id or g.department_id = a.department_id)
  join private.record_permissions p on p.resource = a.resource and p.verb = any (a.verbs)
  where a.business_id in (select h.business_id from grantees h) and coalesce(a.expires_at > now(), true)
    and (a.effect = 'deny' or not exists (   -- a denied permission beats a shared record
      select 1 from public.business_memberships m
      join public.user_permissions up on (up.business_id, up.membership_id) = (m.business_id, m.id)
      where m.user_id = g.user_id and m.business_id = g.business_id and up.permission_code = p.permission_code
        and up.effect = 'deny' and coalesce(up.expires_at > now(), true)))
$$;
comment on function private.record_rules(uuid[]) is
  'What access control lists now share with these users or deny them: one row per record and permission.';

create function private.compute_user_access(users uuid[])
returns setof private.user_access
language sql stable security definer
set search_path = ''
as $$
  with principals as materialized (
    select u.id as principal_id, u.id as user_id, null::uuid as business_id, null::text[] as scopes, null::timestamptz as expires_at
    from (select distinct unnest(users) as id) u
    union all
    select k.id, m.user_id, k.business_id, k.scopes, k.expires_at
    from public.api_keys k join public.business_memberships m on (m.business_id, m.id) = (k.business_id, k.membership_id)
    where (m.user_id = any (users) or k.id = any (users)) and k.revoked_at is null and coalesce(k.expires_at > now(), true)
  ), people as materialized (
    select array(select distinct p.user_id from principals p) as ids
  ), rules as (
    select g.user_id, g.business_id, g.permission, g.is_whole, g.record_keys, null::uuid[] as denied_ids, g.expires_at
    from people, private.granted_permissions(people.ids) g
    union all
    select r.user_id, r.business_id, r.permission, false, array_agg(r.resource_id) filter (where r.effect = 'allow'),
      array_agg(r.resource_id) filter (where r.effect = 'deny'), min(r.expires_at)
    from people, private.record_rules(people.ids) r
    group by 1, 2, 3
    union all
    -- What is denied for a while comes back by itself: the moment has to be known.
    select m.user_id, m.business_id, up.permission_code, false, null, null, min(up.expires_at)
    from people, public.business_memberships m
    join public.user_permissions up on (up.business_id, up.membership_id) = (m.business_id, m.id)
    where m.user_id = any (people.ids) and m.status = 'active' and up.effect = 'deny' and up.expires_at > now()
    group by 1, 2, 3
  ), placed as (
    select p.principal_id, r.permission, d.database_name, d.schema_name, r.business_id, p.user_id,
      o.requires_mfa and p.scopes is null as needs_mfa,   -- a key was made by somebody with a second factor
      r.is_whole, r.record_keys, r.denied_ids, least(r.expires_at, p.expires_at) as expires_at
    from rules r
    join principals p on p.user_id = r.user_id and (p.scopes is null or p.business_id = r.business_id and r.permission = any (p.scopes))
    join public.permissions c on c.code = r.permission and (p.scopes is null or c.for_api_keys)
    join private.business_directory d on d.business_id = r.business_id
    join public.organizations o on o.id = d.organization_id
    -- While a home is being moved it can be read but not written.
    where d.is_readable and (d.is_writable or r.permission like '%.read')
  ), per_business as (
    select q.principal_id, q.permission, q.database_name, q.schema_name, q.business_id, q.user_id, q.needs_mfa,
      bool_or(q.is_whole) as is_whole, bool_or(q.is_whole or q.record_keys is not null) as is_reached,
      bool_or(q.denied_ids is not null) as has_denied, min(q.expires_at) as expires_at
    from placed q group by 1, 2, 3, 4, 5, 6, 7
  ), per_home as (
    select b.principal_id, b.permission, b.database_name, b.schema_name, b.user_id,
      coalesce(array_agg(b.business_id order by b.business_id) filter (where b.is_reached and not b.needs_mfa), '{}') as business_ids,
      array_agg(b.business_id order by b.business_id) filter (where b.is_reached and b.needs_mfa) as mfa_business_ids,
      array_agg(b.business_id order by b.business_id) filter (where b.is_reached and (not b.is_whole or b.has_denied)) as limited_business_ids, min(b.expires_at) as expires_at
    from per_business b group by 1, 2, 3, 4, 5
  ), keys as (
    select q.principal_id, q.permission, q.database_name, q.schema_name,
      array_agg(distinct k.id) filter (where k.kind = 'allow') as allowed, array_agg(distinct k.id) filter (where k.kind = 'deny') as denied
    from placed q
    cross join lateral (
      select 'allow' as kind, q.business_id as id where q.is_whole
      union all select 'allow', unnest(q.record_keys) where not q.is_whole
      union all select 'deny', unnest(q.denied_ids)) k
    where exists (   -- whoever reaches everything needs none
      select 1 from per_home h where (h.principal_id, h.permission, h.database_name, h.schema_name)
        = (q.principal_id, q.permission, q.database_name, q.schema_name) and h.limited_business_ids is not null)
    group by 1, 2, 3, 4
  )
  select h.principal_id, h.principal_id::text, h.permission, h.database_name, h.schema_name, h.business_ids, h.mfa_business_ids,
    h.limited_business_ids, k.allowed, k.denied,
    case when h.principal_id = h.user_id then nullif(array(
      select s.session_id::text from private.revoked_sessions s where s.user_id = h.user_id order by 1), '{}') end,
    h.expires_at
  from per_home h
  left join keys k on (k.principal_id, k.permission, k.database_name, k.schema_name) = (h.principal_id, h.permission, h.database_name, h.schema_name)
  where h.business_ids <> '{}' or h.mfa_business_ids is not null or h.expires_at is not null
$$;
comment on function private.compute_user_access(uuid[]) is
  'What private.user_access must hold now for these principals (users, with their API keys, or keys), from the tables themselves.';

create function private.refresh_user_access(users uuid[]) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user uuid;
begin
  -- An `on conflict do update` fires the triggers of both events, one of them for no rows.
  if array_remove(users, null) = '{}' then return; end if;
  lock table private.user_access in row exclusive mode;   -- waits for a refresh of everybody
  for v_user in select distinct u from unnest(users) u where u is not null order by 1 loop
    perform pg_advisory_xact_lock(hashtextextended('user_access:' || v_user::text, 0));
  end loop;
  -- A new statement has a new snapshot (READ COMMITTED) and sees what the lock holder committed.
  delete from private.user_access a where a.user_id = any (users) or a.user_id in (
    select k.id from public.api_keys k join public.business_memberships m on (m.business_id, m.id) = (k.business_id, k.membership_id)
    where m.user_id = any (users));
  insert into private.user_access (user_id, permission, home_database, home_schema, business_ids, mfa_business_ids,
    limited_business_ids, record_keys, denied_ids, blocked_session_ids, expires_at)
  select c.user_id, c.permission, c.home_database, c.home_schema, c.business_ids, c.mfa_business_ids,
    c.limited_business_ids, c.record_keys, c.denied_ids, c.blocked_session_ids, c.expires_at
  from private.compute_user_access(users) c;

  delete from private.user_organization_access a where a.user_id = any (users);
  insert into private.user_organization_access (user_id, permission, organization_ids, mfa_organization_ids, blocked_session_ids)
  select h.user_id, h.permission,
    coalesce(array_agg(distinct h.organization_id) filter (where not o.requires_mfa), '{}'),
    array_agg(distinct h.organization_id) filter (where o.requires_mfa),
    nullif(array(select s.session_id::text from private.revoked_sessions s where s.user_id = h.user_id order by 1), '{}')
  from (
    select m.user_id, b.organization_id, 'organization.read' as permission
    from public.business_memberships m join public.businesses b on b.id = m.business_id
    where m.user_id = any (users) and m.status = 'active'
    union all
    select om.user_id, om.organization_id, p.permission
    from public.organization_memberships om
    cross join lateral unnest(case om.role when 'owner' then array['organization.read', 'organization.write', 'organization.owner']
                                           else array['organization.read', 'organization.write'] end) as p(permission)
    where om.user_id = any (users) and om.status = 'active'
  ) h
  join public.organizations o on o.id = h.organization_id and o.status = 'active'
  group by 1, 2;
end $$;
comment on function private.refresh_user_access(uuid[]) is 'Recomputes the access cache of these users and their API keys, under one lock per user.';

create function private.refresh_expired_access() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_users uuid[] := array(
    select distinct coalesce(m.user_id, a.user_id) from private.user_access a
    left join public.api_keys k on k.id = a.user_id
    left join public.business_memberships m on (m.business_id, m.id) = (k.business_id, k.membership_id)
    where a.expires_at <= now());
begin
  delete from private.revoked_sessions s where s.revoked_at < now() - interval '1 day';
  perform private.refresh_user_access(v_users);
  return cardinality(v_users);
end $$;
comment on function private.refresh_expired_access() is
  'Refreshes whom a rule that ran out concerns. Until then their rights are computed at each statement: right, but slower.';

create function private.tg_access_users() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  -- Three statements: one that names a transition table the event does not have would not parse.
  if tg_op = 'INSERT' then
    perform private.refresh_user_access(array(select user_id from new_rows));
  elsif tg_op = 'DELETE' then
    perform private.refresh_user_access(array(select user_id from old_rows));
  else
    perform private.refresh_user_access(array(select user_id from new_rows union select user_id from old_rows));
  end if;
  return null;
end $$;

create function private.tg_access_membership_roles() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    perform private.refresh_user_access(array(select m.user_id from new_rows n
      join public.business_memberships m on (m.business_id, m.id) = (n.business_id, n.membership_id)));
  elsif tg_op = 'DELETE' then
    perform private.refresh_user_access(array(select m.user_id from old_rows n
      join public.business_memberships m on (m.business_id, m.id) = (n.business_id, n.membership_id)));
  else
    perform private.refresh_user_access(array(select m.user_id from (select * from new_rows union select * from old_rows) n
      join public.business_memberships m on (m.business_id, m.id) = (n.business_id, n.membership_id)));
  end if;
  return null;
end $$;

create function private.refresh_all_user_access() returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  lock table private.user_access in share row exclusive mode;
  perform private.refresh_user_access(array(
    select user_id from public.business_memberships union select user_id from public.organization_memberships
    union select user_id from private.user_access union select user_id from private.user_organization_access));
end $$;
comment on function private.refresh_all_user_access() is 'Recomputes the access cache of everybody: after a change of what a role means, or a restore.';

-- Whom a change of what a role means concerns: its holders, and those of roles that inherit from it.
create function private.refresh_role_holders(role_ids uuid[]) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (select 1 from public.roles r where r.id = any (role_ids) and r.business_id is null) then
    perform private.refresh_all_user_access();
    return;
  end if;
  perform private.refresh_user_access(array(
    with recursive above(role_id) as (
      select unnest(role_ids)
      union
      select h.parent_role_id from above a join public.role_hierarchies h on h.child_role_id = a.role_id
    )
    select m.user_id from above a join public.membership_roles mr on mr.role_id = a.role_id
    join public.business_memberships m on (m.business_id, m.id) = (mr.business_id, mr.membership_id)
    union
    select m.user_id from above a join public.department_roles dr on dr.role_id = a.role_id
    join public.business_memberships m on (m.business_id, m.id) = (dr.business_id, dr.membership_id)));
end $$;
comment on function private.refresh_role_holders(uuid[]) is 'Recomputes the access cache of whoever holds one of these roles, directly or by inheritance.';

create function private.tg_access_roles() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  -- Argument: the column that names the role.
  if tg_op = 'INSERT' then
    perform private.refresh_role_holders(array(select (to_jsonb(n) ->> tg_argv[0])::uuid from new_rows n));
  elsif tg_op = 'DELETE' then
    perform private.refresh_role_holders(array(select (to_jsonb(o) ->> tg_argv[0])::uuid from old_rows o));
  else
    perform private.refresh_role_holders(array(select (to_jsonb(n) ->> tg_argv[0])::uuid from (select * from new_rows union all select * from old_rows) n));
  end if;
  return null;
end $$;

-- Departments and shared records concern whoever is in the business; few change, so all are recomputed.
create function private.tg_access_businesses() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_businesses uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(distinct n.business_id) into v_businesses from new_rows n;
  elsif tg_op = 'DELETE' then
    select array_agg(distinct o.business_id) into v_businesses from old_rows o;
  else
    select array_agg(distinct n.business_id) into v_businesses from (select * from new_rows union all select * from old_rows) n;
  end if;
  perform private.refresh_user_access(array(
    select m.user_id from public.business_memberships m where m.business_id = any (v_businesses)
    union select om.user_id from public.organization_memberships om
    join public.businesses b on b.organization_id = om.organization_id where b.id = any (v_businesses)));
  return null;
end $$;

-- A shared record concerns its grantees: one member, or everybody when it is a role or a department.
create function private.tg_access_records() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_rows public.access_control_lists[];
begin
  if tg_op = 'INSERT' then
    select array_agg(n) into v_rows from new_rows n;
  elsif tg_op = 'DELETE' then
    select array_agg(o) into v_rows from old_rows o;
  else
    select array_agg(n) into v_rows from (select * from new_rows union all select * from old_rows) n;
  end if;
  perform private.refresh_user_access(array(
    select m.user_id from unnest(v_rows) a
    join public.business_memberships m on m.business_id = a.business_id and (a.membership_id is null or m.id = a.membership_id)
    union
    select om.user_id from unnest(v_rows) a join public.businesses b on b.id = a.business_id
    join public.organization_memberships om on om.organization_id = b.organization_id where a.role_id is not null));
  return null;
end $$;

create function private.tg_access_sessions() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.refresh_user_access(array(select n.user_id from new_rows n));
  return null;
end $$;

-- A use is noted every minute and changes no right: only these two columns do.
create function private.tg_access_key() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.refresh_user_access(array(
    select m.user_id from public.business_memberships m where (m.business_id, m.id) = (new.business_id, new.membership_id)));
  return null;
end $$;

create function private.tg_access_keys_gone() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from private.user_access a where a.user_id in (select o.id from old_rows o);
  return null;
end $$;

-- A business came, went or moved: its members and the owners and admins of its organization.
create function private.tg_access_directory() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_businesses uuid[];
  v_organizations uuid[];
begin
  if tg_op = 'DELETE' then
    select array_agg(business_id), array_agg(distinct organization_id) into v_businesses, v_organizations from old_rows;
  else
    select array_agg(business_id), array_agg(distinct organization_id) into v_businesses, v_organizations from new_rows;
  end if;
  perform private.refresh_user_access(array(
    select user_id from public.business_memberships m where m.business_id = any (v_businesses)
    union select user_id from public.organization_memberships m where m.organization_id = any (v_organizations)));
  return null;
end $$;

do $$
declare
  r record;
begin
  for r in select * from (values
    ('public.business_memberships', 'tg_access_users'), ('public.organization_memberships', 'tg_access_users'),
    ('public.membership_roles', 'tg_access_membership_roles'), ('public.user_permissions', 'tg_access_membership_roles'),
    ('public.department_roles', 'tg_access_businesses'), ('public.departments', 'tg_access_businesses'),
    ('public.access_control_lists', 'tg_access_records'), ('private.business_directory', 'tg_access_directory')) v(target, handler)
  loop
    execute format('create trigger _500_access_insert after insert on %s referencing new table as new_rows for each statement execute function private.%I()', r.target, r.handler);
    execute format('create trigger _500_access_update after update on %s referencing old table as old_rows new table as new_rows for each statement execute function private.%I()', r.target, r.handler);
    execute format('create trigger _500_access_delete after delete on %s referencing old table as old_rows for each statement execute function private.%I()', r.target, r.handler);
  end loop;
end $$;
do $$
declare
  r record;
begin
  for r in select * from (values ('public.role_permissions', 'role_id'), ('public.role_hierarchies', 'parent_role_id')) v(target, named)
  loop
    execute format('create trigger _500_access_insert after insert on %s referencing new table as new_rows for each statement execute function private.tg_access_roles(%L)', r.target, r.named);
    execute format('create trigger _500_access_update after update on %s referencing old table as old_rows new table as new_rows for each statement execute function private.tg_access_roles(%L)', r.target, r.named);
    execute format('create trigger _500_access_delete after delete on %s referencing old table as old_rows for each statement execute function private.tg_access_roles(%L)', r.target, r.named);
  end loop;
end $$;
create trigger _500_access_insert after insert on public.api_keys
  referencing new table as new_rows for each statement execute function private.tg_access_membership_roles();
create trigger _500_access_update after update of revoked_at, expires_at on public.api_keys
  for each row execute function private.tg_access_key();
create trigger _500_access_delete after delete on public.api_keys
  referencing old table as old_rows for each statement execute function private.tg_access_keys_gone();
create trigger _500_access after insert on private.revoked_sessions
  referencing new table as new_rows for each statement execute function private.tg_access_sessions();
-- Suspending an organization, or asking for a second factor, reaches its members through the directory; its own row needs this.
create function private.tg_access_organizations() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.refresh_user_access(array(
    select m.user_id from public.organization_memberships m join new_rows n on n.id = m.organization_id
    union select m.user_id from public.business_memberships m join public.businesses b on b.id = m.business_id join new_rows n on n.id = b.organization_id));
  return null;
end $$;
create trigger _500_access after update on public.organizations
  referencing new table as new_rows for each statement execute function private.tg_access_organizations();

-- The four questions of a product built on top ------------------------------------------------------
-- Total functions: null or unknown arguments give false (or null), nothing raises. A signed-in caller
-- learns about oneself, and about members of businesses where one may see members.

create function private.may_ask_about(user_id uuid, business_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return coalesce(private.is_trusted_caller()
    or may_ask_about.user_id = private.current_user_id()
    or may_ask_about.business_id = any (private.my_business_ids('members.write')), false);
end $$;
comment on function private.may_ask_about(uuid, uuid) is 'True when the caller may learn about this user in this business.';

create function public.can_access_business(user_id uuid, business_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return private.may_ask_about(can_access_business.user_id, can_access_business.business_id)
    and exists (select 1 from private.user_access a
      where a.user_id = can_access_business.user_id and a.permission = 'business.read'
        and can_access_business.business_id = any (a.business_ids));
end $$;
comment on function public.can_access_business(uuid, uuid) is
  'True when the user is an active member of the business, or owner or admin of its organization. Callers learn about themselves and, as admins, about their business; otherwise false.';

create function public.has_business_role(user_id uuid, business_id uuid, role text) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return public.can_access_business(has_business_role.user_id, has_business_role.business_id)
    and (exists (
      select 1 from public.business_memberships m
      join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
      join public.roles r on r.id = mr.role_id
      where m.user_id = has_business_role.user_id and m.business_id = has_business_role.business_id
        and m.status = 'active' and r.code = has_business_role.role)
    or exists (
      select 1 from public.organization_memberships om
      join public.businesses b on b.organization_id = om.organization_id
      where b.id = has_business_role.business_id and om.user_id = has_business_role.user_id
        and om.status = 'active' and om.role = has_business_role.role));
end $$;
comment on function public.has_business_role(uuid, uuid, text) is
  'True when the user holds exactly this role (by code) in the business, directly or through the organization. Ask for permissions, not roles, where you can.';

create function public.is_business_admin(user_id uuid, business_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return public.has_business_role(is_business_admin.user_id, is_business_admin.business_id, 'owner')
      or public.has_business_role(is_business_admin.user_id, is_business_admin.business_id, 'admin');
end $$;
comment on function public.is_business_admin(uuid, uuid) is 'True when the user is owner or admin of the business.';

create function public.get_user_organization_ids(user_id uuid) returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not coalesce(private.is_trusted_caller() or get_user_organization_ids.user_id = private.current_user_id(), false) then
    return '{}';
  end if;
  return coalesce((select array(select o from unnest(a.organization_ids) o order by o)
    from private.user_organization_access a
    where a.user_id = get_user_organization_ids.user_id and a.permission = 'organization.read'), '{}');
end $$;
comment on function public.get_user_organization_ids(uuid) is 'The organizations a user belongs to. Empty for anybody but oneself.';

create function public.get_user_organization_id(user_id uuid) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (public.get_user_organization_ids(get_user_organization_id.user_id))[1];
end $$;
comment on function public.get_user_organization_id(uuid) is
  'The user''s organization; the oldest one of several. Null for anybody but oneself. See get_user_organization_ids for all.';

grant execute on function public.can_access_business(uuid, uuid), public.has_business_role(uuid, uuid, text),
  public.is_business_admin(uuid, uuid), public.get_user_organization_ids(uuid), public.get_user_organization_id(uuid)
  to authenticated, service_role;
