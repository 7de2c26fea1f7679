/*
 * Who may do what in a business: permissions, roles, members, and the cache that policies read.
 *
 * Members change only through RPC (the next file), because each change must lock the business first.
 */

-- permissions and roles -----------------------------------------------------------------------------

create table public.permissions (
  code text primary key,
  description text not null,
  is_record_scoped boolean not null default false,
  for_api_keys boolean not null default true,
  constraint permissions_code check (code ~ '^[a-z_]+\.[a-z_]+$')
);
comment on table public.permissions is 'The catalogue of permissions, module.verb. The same for all businesses; roles carry them.';
comment on column public.permissions.is_record_scoped is
  'True when the permission can be held for one''s own records or those of a department; the others are for the whole business or not at all.';
comment on column public.permissions.for_api_keys is 'False for what only people may do: an API key never changes members, roles, sharing or keys.';

create table public.roles (
  id uuid primary key default private.new_id(),
  business_id uuid references public.businesses on delete cascade,
  code text not null,
  name text not null,
  rank integer not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint roles_code_key unique nulls not distinct (business_id, code),
  constraint roles_code check (code ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint roles_rank check (rank between 0 and 1000)
);
comment on table public.roles is
  'Named sets of permissions. System roles have no business and are the same everywhere; a business may add its own.';
comment on column public.roles.business_id is 'Null for a system role.';
comment on column public.roles.rank is 'Orders roles: nobody gives, changes or takes a role of a rank above their own. Rights come from permissions, never from the rank.';

create table public.role_permissions (
  role_id uuid not null references public.roles on delete cascade,
  permission_code text not null references public.permissions,
  scope text not null default 'business',
  grantable boolean not null default false,
  primary key (role_id, permission_code),
  constraint role_permissions_scope check (scope in ('own', 'department', 'business'))
);
comment on table public.role_permissions is 'Which permissions a role carries, and how far each reaches.';
comment on column public.role_permissions.scope is
  'own (records one owns), department (also those of one''s departments, of their people, and those nobody has yet; the whole business where it has no departments), business (all records).';
comment on column public.role_permissions.grantable is 'True when holders may pass the permission on: by giving a role that carries it, or in a role of their own making.';
create index role_permissions_permission_code_idx on public.role_permissions (permission_code);

create function private.scope_level(scope text) returns integer
language sql immutable parallel safe
begin atomic
  select case scope when 'business' then 3 when 'department' then 2 when 'own' then 1 end;
end;
comment on function private.scope_level(text) is 'Orders scopes: own 1, department 2, business 3.';

-- A scope below the business means nothing where records have no owner: refused, not ignored.
create function private.tg_permission_scope() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if new.scope <> 'business' and not exists (select 1 from public.permissions p where p.code = new.permission_code and p.is_record_scoped) then
    perform private.fail('22023', format('%s reaches the whole business or nothing.', new.permission_code), 'scope', 'bad_scope', 'Send business as its scope.');
  end if;
  return new;
end $$;
comment on function private.tg_permission_scope() is 'Refuses the scopes own and department for permissions that are not about single records.';
create trigger _100_scope before insert or update on public.role_permissions
  for each row execute function private.tg_permission_scope();

insert into public.permissions (code, description) values
  ('business.read', 'See the business and its settings.'),
  ('business.write', 'Change the business and its settings.'),
  ('members.read', 'See members, their roles, departments and open invitations.'),
  ('members.write', 'Invite, change and remove members up to one''s own rank.'),
  ('roles.write', 'Make and change roles of the business, and single permissions of members.'),
  ('departments.write', 'Make and change departments.'),
  ('records.share', 'Share records one reaches with members, roles or departments.'),
  ('api_keys.read', 'See API keys, without their secret.'),
  ('api_keys.write', 'Make and revoke API keys.'),
  ('billing.read', 'See the plan and its use.'),
  ('billing.write', 'Change the plan.'),
  ('integrations.read', 'See provider connections and incoming webhook events.'),
  ('integrations.write', 'Connect providers and retry their events.'),
  ('channels.read', 'See the phone numbers, mailboxes and chats of the business.'),
  ('channels.write', 'Add and change channels.'),
  ('customers.read', 'See customers and their contact points.'),
  ('customers.write', 'Add and change customers and their contact points.'),
  ('customers.delete', 'Remove customers.'),
  ('conversations.read', 'See conversations.'),
  ('conversations.write', 'Open, assign, snooze and resolve conversations.'),
  ('messages.read', 'Read messages.'),
  ('messages.write', 'Write messages.'),
  ('calls.read', 'See calls and their transcripts.'),
  ('calls.write', 'Log calls and note their outcome.'),
  ('metrics.read', 'See daily metrics and dashboards.'),
  ('audit.read', 'See the audit log.');

update public.permissions set is_record_scoped = true
where split_part(code, '.', 1) in ('customers', 'conversations', 'messages', 'calls');
update public.permissions set for_api_keys = false
where code in ('members.write', 'roles.write', 'departments.write', 'records.share', 'api_keys.read', 'api_keys.write', 'business.write',
  'billing.read', 'billing.write', 'integrations.write', 'audit.read');

-- The same ids in every database of a fleet, because memberships name them wherever they are copied.
insert into public.roles (id, code, name, rank)
select pg_catalog.md5('role ' || v.code)::uuid, v.code, v.name, v.rank from (values
  ('owner', 'Owner', 1000), ('admin', 'Admin', 900), ('director', 'Director', 700), ('manager', 'Manager', 500),
  ('staff', 'Staff', 300), ('sales_rep', 'Sales representative', 300), ('viewer', 'Viewer', 100), ('customer', 'Customer', 0)) v(code, name, rank);

-- policies_tests/permissions.yaml says the same by hand, and the tests compare. Staff work for their departments,
-- managers read everything and write there, sales representatives see what is theirs, customers what is about them.
insert into public.role_permissions (role_id, permission_code, scope, grantable)
select r.id, p.code,
  case when not p.is_record_scoped then 'business'
    when r.code = 'manager' and p.code like '%.read' then 'business'
    when r.code in ('manager', 'staff') then 'department'
    when r.code in ('sales_rep', 'customer') then 'own'
    else 'business' end,
  r.code in ('owner', 'admin')
from public.roles r
join public.permissions p on case r.code
  when 'owner' then true
  when 'admin' then p.code <> 'billing.write'
  when 'director' then p.code like '%.read' and p.code <> 'api_keys.read'
  when 'manager' then p.code like '%.read' and p.code not in ('audit.read', 'billing.read', 'api_keys.read')
    or p.code in ('customers.write', 'customers.delete', 'conversations.write', 'messages.write', 'calls.write', 'records.share')
  when 'staff' then p.code in ('business.read', 'members.read', 'channels.read', 'customers.read', 'customers.write',
    'conversations.read', 'conversations.write', 'messages.read', 'messages.write', 'calls.read', 'calls.write', 'metrics.read', 'records.share')
  when 'sales_rep' then p.code in ('business.read', 'members.read', 'channels.read', 'customers.read', 'customers.write',
    'conversations.read', 'conversations.write', 'messages.read', 'messages.write', 'calls.read', 'calls.write', 'records.share')
  when 'viewer' then p.code in ('business.read', 'members.read', 'channels.read', 'customers.read',
    'conversations.read', 'messages.read', 'calls.read', 'metrics.read')
  when 'customer' then p.code in ('conversations.read', 'messages.read')
  else false end;

-- The catalogue is the same for all and holds no secret; a business's own roles are its own.
alter table public.permissions enable row level security;
alter table public.permissions force row level security;
alter table public.role_permissions enable row level security;
alter table public.role_permissions force row level security;
revoke all on public.permissions, public.role_permissions from public, anon, authenticated, service_role;
create policy permissions_select on public.permissions for select to authenticated using (true);
grant select (code, description, is_record_scoped, for_api_keys) on public.permissions to authenticated;
grant select on public.permissions, public.role_permissions to service_role;
call private.protect('public.roles', registry => true, reads => 'members.read', own_rows => 'business_id is null');
grant select (role_id, permission_code, scope, grantable) on public.role_permissions to authenticated;

create function private.my_role_ids() returns uuid[]
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
begin
  return coalesce((select array_agg(r.id) from public.roles r
    where r.business_id is null or r.business_id = any (private.my_business_ids('members.read'))), '{}');
end $$;
comment on function private.my_role_ids() is 'Roles the caller may see: system roles and those of the caller''s businesses.';
grant execute on function private.my_role_ids() to authenticated, service_role;
create policy role_permissions_select on public.role_permissions for select to authenticated
  using (role_id = any ((select private.my_role_ids())::uuid[]));
create policy role_permissions_select_only_held on public.role_permissions as restrictive for select to authenticated
  using (role_id = any ((select private.my_role_ids())::uuid[]));

-- business_memberships ------------------------------------------------------------------------------

create table public.business_memberships (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default private.new_id(),
  user_id uuid not null references auth.users on delete cascade,
  status text not null default 'active',
  customer_id uuid,
  joined_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint business_memberships_user_key unique (business_id, user_id),
  constraint business_memberships_status check (status in ('active', 'suspended', 'removed'))
);
comment on table public.business_memberships is 'A user in a business. Roles are in membership_roles. Changed only by RPC; the last owner stays.';
comment on column public.business_memberships.status is 'Only active members have rights; a change holds from the next statement.';
comment on column public.business_memberships.customer_id is
  'For portal members: the customer they are. No foreign key, because customers live at the home of the organization; an id that is none reaches nothing.';
create index business_memberships_user_id_idx on public.business_memberships (user_id);
call private.protect('public.business_memberships', registry => true, reads => 'members.read',
  own_rows => 'user_id = (select private.current_user_id())');
call private.guard_status('public.business_memberships', 'status');

create table public.membership_roles (
  business_id uuid not null,
  membership_id uuid not null,
  role_id uuid not null references public.roles,
  created_at timestamptz not null default now(),
  primary key (business_id, membership_id, role_id),
  -- On the same level as the cascade to roles, so that a business with roles of its own can be deleted.
  constraint membership_roles_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint membership_roles_membership_fkey foreign key (business_id, membership_id)
    references public.business_memberships (business_id, id) on delete cascade
);
comment on table public.membership_roles is 'The roles a member holds. Rights add up.';
create index membership_roles_role_id_idx on public.membership_roles (role_id);
call private.protect('public.membership_roles', registry => true, reads => 'members.read', guard => false);

-- A business can only give system roles or its own: checked for every role, because a foreign key cannot.
create function private.tg_membership_roles_own() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if new.role_id is not null and not exists (select 1 from public.roles r where r.id = new.role_id
                 and (r.business_id is null or r.business_id = new.business_id)) then
    perform private.fail('22023', 'This role belongs to another business.', 'role_id', 'unknown_role', 'Choose a system role or one of this business.');
  end if;
  return new;
end $$;
create trigger _100_own_role before insert or update on public.membership_roles
  for each row execute function private.tg_membership_roles_own();

-- Customers in the portal take no seat, so they hold nothing that members hold.
create function private.tg_portal_members() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (select 1 from public.business_memberships m where m.business_id = new.business_id and m.id = new.membership_id and m.customer_id is not null)
     and not exists (select 1 from public.roles r where r.id = (to_jsonb(new) ->> 'role_id')::uuid and r.business_id is null and r.code = 'customer') then
    perform private.fail('PT409', 'A customer in the portal holds the role customer and nothing else.', 'membership_id', 'portal_member',
      'Remove them from the portal and invite them as a member.');
  end if;
  return new;
end $$;
comment on function private.tg_portal_members() is 'Keeps portal members to the role customer, for every role.';
create trigger _110_portal before insert or update on public.membership_roles
  for each row execute function private.tg_portal_members();

-- Seats: counted per organization under its lock. Customers in the portal take none.
create function private.tg_memberships_seats() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_organization uuid;
begin
  select o.id into v_organization from public.organizations o
  where o.id = (select b.organization_id from public.businesses b where b.id = new.business_id) for no key update;
  perform private.enforce_plan_limit(v_organization, 'seats',
    (select count(distinct m.user_id) from public.business_memberships m
     join public.businesses b on b.id = m.business_id
     where b.organization_id = v_organization and m.status = 'active' and m.customer_id is null and m.user_id <> new.user_id) + 1,
    private.plan_limit(v_organization, 'seats'));
  return new;
end $$;
create trigger _110_seats_insert before insert on public.business_memberships
  for each row when (new.status = 'active' and new.customer_id is null) execute function private.tg_memberships_seats();
create trigger _110_seats_update before update of status, customer_id on public.business_memberships
  for each row when (new.status = 'active' and new.customer_id is null and (old.status <> 'active' or old.customer_id is not null)) execute function private.tg_memberships_seats();

/*
 * At least one active owner, always. Checked at the end of the statement after locking the business, so
 * that two owners who remove each other at the same moment cannot both succeed.
 */
create function private.tg_last_owner() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_business uuid := old.business_id;
begin
  perform 1 from public.businesses b where b.id = v_business for no key update;
  if not found then return null; end if;   -- the business itself is going
  if not exists (
    select 1 from public.business_memberships m
    join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
    join public.roles r on r.id = mr.role_id and r.code = 'owner' and r.business_id is null
    where m.business_id = v_business and m.status = 'active') then
    perform private.fail('PT409', 'A business keeps at least one owner.', 'membership_id', 'last_owner', 'Make somebody else owner first.');
  end if;
  return null;
end $$;
create constraint trigger _400_last_owner after update or delete on public.business_memberships
  for each row execute function private.tg_last_owner();
create constraint trigger _400_last_owner after delete on public.membership_roles
  for each row execute function private.tg_last_owner();

-- Colleagues see each other's profile ----------------------------------------------------------------

create function private.my_colleague_ids() returns uuid[]
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
begin
  return array(
    select distinct m.user_id from public.business_memberships m
    where m.business_id = any (private.my_business_ids('members.read'))
    union select private.current_user_id());
end $$;
comment on function private.my_colleague_ids() is 'The caller and everybody in businesses where the caller may see members.';
grant execute on function private.my_colleague_ids() to authenticated, service_role;
create policy profiles_select on public.profiles for select to authenticated
  using (user_id = any ((select private.my_colleague_ids())::uuid[]));
create policy profiles_select_only_held on public.profiles as restrictive for select to authenticated
  using (user_id = any ((select private.my_colleague_ids())::uuid[]));
