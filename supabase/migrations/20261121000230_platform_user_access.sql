/*
 * Keeps private.user_access and private.user_organization_access equal to what members, roles and
 * homes say, in the same transaction as any change. Locks are taken in the order of user ids, so
 * concurrent changes wait instead of deadlocking.
 */
create function private.compute_user_access(users uuid[])
returns table (user_id uuid, permission text, home_database text, home_schema text, business_ids uuid[])
language sql stable security definer
set search_path = ''
as $$
  with held as (
    select m.user_id, m.business_id, mr.role_id
    from public.business_memberships m
    join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
    where m.user_id = any (users) and m.status = 'active'
    union
    -- Owners and admins of an organization hold that system role in all its businesses.
    select om.user_id, d.business_id, r.id
    from public.organization_memberships om
    join private.business_directory d on d.organization_id = om.organization_id
    join public.roles r on r.business_id is null and r.code = om.role
    where om.user_id = any (users) and om.status = 'active'
  )
  select h.user_id, rp.permission_code, d.database_name, d.schema_name, array_agg(distinct h.business_id)
  from held h
  join public.role_permissions rp on rp.role_id = h.role_id and rp.scope = 'business'
  join private.business_directory d on d.business_id = h.business_id
  -- While a home is being moved it can be read but not written.
  where d.is_readable and (d.is_writable or rp.permission_code like '%.read')
  group by 1, 2, 3, 4
$$;
comment on function private.compute_user_access(uuid[]) is 'What private.user_access must hold for these users, from the tables themselves.';

create function private.refresh_user_access(users uuid[]) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user uuid;
begin
  lock table private.user_access in row exclusive mode;   -- waits for a refresh of everybody
  for v_user in select distinct u from unnest(users) u where u is not null order by 1 loop
    perform pg_advisory_xact_lock(hashtextextended('user_access:' || v_user::text, 0));
  end loop;
  -- A new statement has a new snapshot (READ COMMITTED) and sees what the lock holder committed.
  delete from private.user_access a where a.user_id = any (users);
  insert into private.user_access (user_id, permission, home_database, home_schema, business_ids)
  select c.user_id, c.permission, c.home_database, c.home_schema, c.business_ids from private.compute_user_access(users) c;

  delete from private.user_organization_access a where a.user_id = any (users);
  insert into private.user_organization_access (user_id, permission, organization_ids)
  select h.user_id, h.permission, array_agg(distinct h.organization_id)
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
comment on function private.refresh_user_access(uuid[]) is 'Recomputes the access cache of these users, under one lock per user.';

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

create function private.tg_access_all() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.refresh_all_user_access();
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
    ('public.membership_roles', 'tg_access_membership_roles'), ('private.business_directory', 'tg_access_directory')) v(target, handler)
  loop
    execute format('create trigger _500_access_insert after insert on %s referencing new table as new_rows for each statement execute function private.%I()', r.target, r.handler);
    execute format('create trigger _500_access_update after update on %s referencing old table as old_rows new table as new_rows for each statement execute function private.%I()', r.target, r.handler);
    execute format('create trigger _500_access_delete after delete on %s referencing old table as old_rows for each statement execute function private.%I()', r.target, r.handler);
  end loop;
end $$;
create trigger _500_access after insert or update or delete on public.role_permissions
  for each statement execute function private.tg_access_all();
-- Suspending an organization reaches its members through the directory; its own row needs this.
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
