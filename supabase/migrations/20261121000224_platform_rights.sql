/*
 * Rights beyond plain roles: roles that inherit, templates, single permissions given or denied, single
 * records shared or denied. How they add up is in the next files but one (user_access):
 * record denied > permission denied > record shared > permission given > roles; scope is the widest.
 */

-- role_hierarchies ------------------------------------------------------------------------------------

create table public.role_hierarchies (
  business_id uuid not null references public.businesses on delete cascade,
  parent_role_id uuid not null references public.roles on delete cascade,
  child_role_id uuid not null references public.roles,
  created_at timestamptz not null default now(),
  primary key (business_id, parent_role_id, child_role_id),
  constraint role_hierarchies_not_itself check (parent_role_id <> child_role_id)
);
comment on table public.role_hierarchies is 'A role of a business that carries everything another role carries.';
comment on column public.role_hierarchies.parent_role_id is 'The role that inherits; one of the business''s own.';
comment on column public.role_hierarchies.child_role_id is 'The role inherited from: a system role or one of the business.';
create index role_hierarchies_parent_role_id_idx on public.role_hierarchies (parent_role_id);
create index role_hierarchies_child_role_id_idx on public.role_hierarchies (child_role_id);
call private.protect('public.role_hierarchies', registry => true, reads => 'members.read', guard => false);

create function private.tg_role_hierarchies_sound() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform 1 from public.businesses b where b.id = new.business_id for no key update;
  if not exists (
    select 1 from public.roles p join public.roles c on c.id = new.child_role_id
    where p.id = new.parent_role_id and p.business_id = new.business_id and (c.business_id is null or c.business_id = new.business_id)) then
    perform private.fail('22023', 'A role inherits from a system role or from one of its own business.', 'inherits', 'unknown_role', 'List the roles of the business.');
  end if;
  if exists (select 1 from public.roles c where c.id = new.child_role_id and c.business_id is null and c.code = 'owner') then
    perform private.fail('22023', 'No role inherits from owner.', 'inherits', 'owner_is_not_inherited', 'Make the member an owner instead.');
  end if;
  if exists (
    with recursive below(role_id) as (
      select new.child_role_id
      union
      select h.child_role_id from below b join public.role_hierarchies h on h.parent_role_id = b.role_id
    )
    select 1 from below where role_id = new.parent_role_id) then
    perform private.fail('22023', 'A role cannot inherit from itself.', 'inherits', 'circular', 'Leave out the role that already inherits from this one.');
  end if;
  return new;
end $$;
comment on function private.tg_role_hierarchies_sound() is 'Keeps inheritance within a business and without circles, for every role and under concurrency.';
create trigger _100_sound before insert or update on public.role_hierarchies
  for each row execute function private.tg_role_hierarchies_sound();

create function private.carried_roles(role_ids uuid[]) returns table (role_id uuid, carried_role_id uuid)
language sql stable security definer set search_path = ''
as $$
  with recursive c(role_id, carried) as (
    select distinct r, r from unnest(role_ids) r
    union
    select c.role_id, h.child_role_id from c join public.role_hierarchies h on h.parent_role_id = c.carried
  )
  select c.role_id, c.carried from c
$$;
comment on function private.carried_roles(uuid[]) is 'Each of these roles with itself and every role it inherits from.';

-- permission_templates ---------------------------------------------------------------------------------

create table public.permission_templates (
  id uuid primary key default private.new_id(),
  business_id uuid references public.businesses on delete cascade,
  code text not null,
  name text not null,
  permissions jsonb not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint permission_templates_code_key unique nulls not distinct (business_id, code),
  constraint permission_templates_code check (code ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint permission_templates_name_length check (char_length(name) between 1 and 200),
  constraint permission_templates_permissions check (jsonb_typeof(permissions) = 'object')
);
comment on table public.permission_templates is 'Sets of permissions to start a role from; create_role() copies them. Those without a business are offered everywhere.';
comment on column public.permission_templates.permissions is 'Permission code to scope: {"customers.read": "department"}.';
call private.protect('public.permission_templates', registry => true, reads => 'members.read', own_rows => 'business_id is null');

create function private.tg_permission_templates_known() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_bad text;
begin
  select e.key into v_bad from jsonb_each_text(new.permissions) e
  left join public.permissions p on p.code = e.key
  where p.code is null or e.value not in ('own', 'department', 'business') or (e.value <> 'business' and not p.is_record_scoped) limit 1;
  if v_bad is not null then
    perform private.fail('22023', format('%s is no permission, or has a scope that it cannot have.', quote_literal(left(v_bad, 64))), 'permissions', 'unknown_permission',
      'List the table permissions.');
  end if;
  return new;
end $$;
comment on function private.tg_permission_templates_known() is 'Refuses templates with permissions or scopes that do not exist.';
create trigger _100_known before insert or update on public.permission_templates
  for each row execute function private.tg_permission_templates_known();

insert into public.permission_templates (code, name, permissions) values
  ('accountant', 'Accountant', '{"business.read": "business", "members.read": "business", "billing.read": "business", "customers.read": "business", "metrics.read": "business"}'),
  ('hr_officer', 'HR officer', '{"business.read": "business", "members.read": "business", "members.write": "business", "departments.write": "business"}'),
  ('warehouse_keeper', 'Warehouse keeper', '{"business.read": "business", "members.read": "business", "customers.read": "department"}'),
  ('buyer', 'Buyer', '{"business.read": "business", "members.read": "business", "channels.read": "business", "customers.read": "department", "conversations.read": "department", "conversations.write": "department", "messages.read": "department", "messages.write": "department"}'),
  ('dispatcher', 'Dispatcher', '{"business.read": "business", "members.read": "business", "channels.read": "business", "customers.read": "business", "customers.write": "business", "conversations.read": "business", "conversations.write": "business", "messages.read": "business", "messages.write": "business", "calls.read": "business", "calls.write": "business"}'),
  ('marketer', 'Marketer', '{"business.read": "business", "members.read": "business", "channels.read": "business", "customers.read": "business", "conversations.read": "business", "metrics.read": "business"}');

-- user_permissions --------------------------------------------------------------------------------------

create table public.user_permissions (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default private.new_id(),
  membership_id uuid not null,
  permission_code text not null references public.permissions,
  effect text not null,
  scope text not null default 'business',
  expires_at timestamptz,
  reason text,
  granted_by uuid references auth.users on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint user_permissions_key unique (business_id, membership_id, permission_code),
  constraint user_permissions_membership_fkey foreign key (business_id, membership_id)
    references public.business_memberships (business_id, id) on delete cascade,
  constraint user_permissions_effect check (effect in ('allow', 'deny')),
  constraint user_permissions_scope check (scope in ('own', 'department', 'business')),
  constraint user_permissions_deny_is_whole check (effect = 'allow' or scope = 'business'),
  constraint user_permissions_reason_length check (char_length(reason) <= 500)
);
comment on table public.user_permissions is 'Single permissions of a member beside their roles: given, or denied whatever the roles say.';
comment on column public.user_permissions.scope is 'How far a given permission reaches; a denied one is denied everywhere.';
comment on column public.user_permissions.expires_at is 'From this moment on the row means nothing; null for no end.';
comment on column public.user_permissions.reason is 'Why, for whoever looks later. @personal free_text';
create index user_permissions_permission_code_idx on public.user_permissions (permission_code);
create index user_permissions_granted_by_idx on public.user_permissions (granted_by);
call private.protect('public.user_permissions', registry => true, reads => 'members.read');
create trigger _110_portal before insert or update on public.user_permissions
  for each row execute function private.tg_portal_members();
create trigger _100_scope before insert or update on public.user_permissions
  for each row execute function private.tg_permission_scope();

-- access_control_lists ----------------------------------------------------------------------------------

create table private.record_permissions (
  resource text not null,
  verb text not null,
  permission_code text not null references public.permissions,
  primary key (resource, verb, permission_code)
);
comment on table private.record_permissions is 'What a verb of an access control list means: the permissions it gives or takes for that record and its parts.';
alter table private.record_permissions enable row level security;
alter table private.record_permissions force row level security;
create index record_permissions_permission_code_idx on private.record_permissions (permission_code);
insert into private.record_permissions values
  ('customers', 'read', 'customers.read'), ('customers', 'write', 'customers.write'), ('customers', 'delete', 'customers.delete'),
  ('conversations', 'read', 'conversations.read'), ('conversations', 'read', 'messages.read'),
  ('conversations', 'write', 'conversations.write'), ('conversations', 'write', 'messages.write'),
  ('calls', 'read', 'calls.read'), ('calls', 'write', 'calls.write');

create table public.access_control_lists (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default private.new_id(),
  resource text not null,
  resource_id uuid not null,
  membership_id uuid,
  role_id uuid references public.roles on delete cascade,
  department_id uuid,
  verbs text[] not null,
  effect text not null default 'allow',
  expires_at timestamptz,
  granted_by uuid references auth.users on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint access_control_lists_key unique nulls not distinct (business_id, resource, resource_id, membership_id, role_id, department_id, effect),
  constraint access_control_lists_membership_fkey foreign key (business_id, membership_id)
    references public.business_memberships (business_id, id) on delete cascade,
  constraint access_control_lists_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete cascade,
  constraint access_control_lists_resource check (resource in ('customers', 'conversations', 'calls')),
  constraint access_control_lists_grantee check (num_nonnulls(membership_id, role_id, department_id) = 1),
  constraint access_control_lists_verbs check (cardinality(verbs) > 0 and verbs <@ array['read', 'write', 'delete']),
  constraint access_control_lists_effect check (effect in ('allow', 'deny'))
);
comment on table public.access_control_lists is
  'Single records shared with, or denied to, a member, the holders of a role, or the people of a department. Parts of a record (messages, contact points, transcripts) go with it.';
comment on column public.access_control_lists.resource is 'Table of the record: customers, conversations or calls.';
comment on column public.access_control_lists.resource_id is 'The record. No foreign key, because records live at the home of the organization; the row goes with its record.';
comment on column public.access_control_lists.verbs is 'read, write, delete.';
comment on column public.access_control_lists.effect is 'allow shares; deny keeps it from the grantee whatever else allows it.';
create index access_control_lists_membership_idx on public.access_control_lists (business_id, membership_id);
create index access_control_lists_department_idx on public.access_control_lists (business_id, department_id);
create index access_control_lists_role_id_idx on public.access_control_lists (role_id);
create index access_control_lists_granted_by_idx on public.access_control_lists (granted_by);
call private.protect('public.access_control_lists', registry => true, reads => 'members.write',
  own_rows => 'granted_by = (select private.current_user_id()) and business_id = any ((select private.my_business_ids(''records.share''))::uuid[])');

create function private.tg_access_control_lists_own_role() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if new.role_id is not null and not exists (
    select 1 from public.roles r where r.id = new.role_id and (r.business_id is null or r.business_id = new.business_id)) then
    perform private.fail('22023', 'This role belongs to another business.', 'role_id', 'unknown_role', 'Choose a system role or one of this business.');
  end if;
  return new;
end $$;
comment on function private.tg_access_control_lists_own_role() is 'A record is shared with a system role or one of the business, for every role.';
create trigger _100_own_role before insert or update of role_id on public.access_control_lists
  for each row execute function private.tg_access_control_lists_own_role();

-- Policies compare shared_id and not id, so that the index they read stays small: see private.protect().
create function private.tg_access_control_lists_mark() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_schema text := (select d.schema_name from private.business_directory d
    where d.business_id = new.business_id and d.database_name = current_database());
begin
  -- Elsewhere, or at a home that was not made yet, there is no record to mark.
  if to_regclass(quote_ident(v_schema) || '.' || quote_ident(new.resource)) is null then return null; end if;
  execute format('update %I.%I set shared_id = id where business_id = $1 and id = $2 and shared_id is null', v_schema, new.resource)
    using new.business_id, new.resource_id;
  return null;
end $$;
comment on function private.tg_access_control_lists_mark() is 'Marks the record that an access control list names. One that comes after its list marks itself: tg_shared().';
create trigger _600_mark after insert or update of business_id, resource, resource_id on public.access_control_lists
  for each row execute function private.tg_access_control_lists_mark();
