/*
 * Changing what people may do: roles of a business's own, departments, single permissions.
 *
 * One rule holds everywhere: nobody passes on what they may not pass on, and nobody acts on somebody of a
 * higher rank. Each function locks the business first, so two of them at once see each other.
 */

-- Roles ------------------------------------------------------------------------------------------------

create function private.tg_roles_code() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if new.business_id is not null and exists (select 1 from public.roles r where r.business_id is null and r.code = new.code) then
    perform private.fail('23505', format('%s is a system role.', new.code), 'code', 'taken', 'Choose another code.');
  end if;
  if new.business_id is not null and new.rank >= 1000 then
    perform private.fail('22023', 'Only owners have the rank 1000.', 'rank', 'out_of_range', 'Send a rank from 0 to 999.');
  end if;
  return new;
end $$;
comment on function private.tg_roles_code() is 'A role of a business never takes the code of a system role, nor the rank of owners.';
create trigger _100_code before insert or update of code, rank on public.roles
  for each row execute function private.tg_roles_code();

create function private.set_role_permissions(business_id uuid, role_id uuid, permissions jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v record;
  v_level integer;
begin
  if jsonb_typeof(set_role_permissions.permissions) is distinct from 'object' then
    perform private.fail('22023', 'permissions must be an object of permission and scope.', 'permissions', 'bad_type', 'For example: {"customers.read": "department"}.');
  end if;
  for v in
    select e.key as code, jsonb_typeof(e.value) as type,
      case jsonb_typeof(e.value) when 'string' then e.value #>> '{}' when 'object' then coalesce(e.value ->> 'scope', 'business') end as scope,
      coalesce(e.value -> 'grantable', 'false') as grantable
    from jsonb_each(set_role_permissions.permissions) e order by 1
  loop
    if not exists (select 1 from public.permissions p where p.code = v.code) then
      perform private.fail('22023', format('There is no permission %s.', quote_literal(left(v.code, 64))), 'permissions', 'unknown_permission', 'List the table permissions.');
    end if;
    if v.scope is null or v.scope not in ('own', 'department', 'business') or jsonb_typeof(v.grantable) <> 'boolean' then
      perform private.fail('22023', format('%s needs a scope: own, department or business.', v.code), 'permissions', 'bad_scope',
        'Send {"' || v.code || '": "department"}, or {"scope": ..., "grantable": true} instead of the scope.');
    end if;
    -- What the role carries already is not passed on anew.
    if not private.is_trusted_caller() and not exists (
      select 1 from public.role_permissions rp where rp.role_id = set_role_permissions.role_id and rp.permission_code = v.code
        and private.scope_level(rp.scope) >= private.scope_level(v.scope) and (rp.grantable or not (v.grantable)::boolean)) then
      select g.level into v_level from private.grantable_permissions(private.current_user_id(), set_role_permissions.business_id) g where g.permission = v.code;
      if coalesce(v_level, 0) < private.scope_level(v.scope) then
        perform private.fail('42501', format('You may not pass on %s with scope %s.', v.code, v.scope), 'permissions', 'may_not_grant',
          'Ask somebody who may pass it on.', jsonb_build_object('permission', v.code));
      end if;
      v_level := null;
    end if;
  end loop;
  delete from public.role_permissions rp where rp.role_id = set_role_permissions.role_id and not set_role_permissions.permissions ? rp.permission_code;
  insert into public.role_permissions as rp (role_id, permission_code, scope, grantable)
  select set_role_permissions.role_id, e.key, case jsonb_typeof(e.value) when 'string' then e.value #>> '{}' else coalesce(e.value ->> 'scope', 'business') end,
    coalesce((e.value -> 'grantable')::boolean, false)
  from jsonb_each(set_role_permissions.permissions) e
  on conflict (role_id, permission_code) do update set scope = excluded.scope, grantable = excluded.grantable
  where (rp.scope, rp.grantable) is distinct from (excluded.scope, excluded.grantable);
end $$;
comment on function private.set_role_permissions(uuid, uuid, jsonb) is
  'Replaces the permissions of a role. Raises 42501 for one that the caller may not pass on with that scope, 22023 for one that does not exist.';

create function private.set_role_inheritance(business_id uuid, role_id uuid, inherits text[]) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_child public.roles;
  v_ids uuid[] := '{}';
  v_code text;
begin
  foreach v_code in array coalesce(set_role_inheritance.inherits, '{}') loop
    v_child := private.role_of(set_role_inheritance.business_id, v_code);
    perform private.require_rank(set_role_inheritance.business_id, v_child.rank, false, 'inherits');
    perform private.require_may_grant(set_role_inheritance.business_id, v_child.id, 'inherits');
    v_ids := v_ids || v_child.id;
  end loop;
  delete from public.role_hierarchies h
  where h.business_id = set_role_inheritance.business_id and h.parent_role_id = set_role_inheritance.role_id and h.child_role_id <> all (v_ids);
  insert into public.role_hierarchies (business_id, parent_role_id, child_role_id)
  select set_role_inheritance.business_id, set_role_inheritance.role_id, c from unnest(v_ids) c on conflict do nothing;
end $$;
comment on function private.set_role_inheritance(uuid, uuid, text[]) is 'Replaces what a role inherits. The caller must be able to give each of those roles.';

create function private.own_role(business_id uuid, role_id uuid) returns public.roles
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_role public.roles;
begin
  select * into v_role from public.roles r where r.business_id = own_role.business_id and r.id = own_role.role_id;
  if not found then
    perform private.fail('PT404', 'This business has no such role of its own.', 'role_id', 'not_found', 'System roles cannot be changed; list the roles of the business.');
  end if;
  return v_role;
end $$;
comment on function private.own_role(uuid, uuid) is 'A role of the business''s own making; raises PT404 otherwise.';

create function private.check_rank(rank integer) returns void
language plpgsql immutable set search_path = ''
as $$
begin
  if check_rank.rank is null or check_rank.rank not between 0 and 999 then
    perform private.fail('22023', 'rank must be between 0 and 999.', 'rank', 'out_of_range', 'Viewers have 100, staff 300, managers 500, admins 900.');
  end if;
end $$;
comment on function private.check_rank(integer) is 'Refuses a rank that a role of a business cannot have.';

create function public.create_role(
  business_id uuid, code text, name text, rank integer default 100, permissions jsonb default '{}', template text default null, inherits text[] default '{}')
returns public.roles
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_role public.roles;
  v_permissions jsonb := coalesce(create_role.permissions, '{}');
  v_template jsonb;
begin
  perform private.require(create_role.business_id, 'roles.write');
  perform private.check_length(create_role.name, 'name', 1, 200);
  if coalesce(create_role.code, '') !~ '^[a-z][a-z0-9_]{0,62}$' then
    perform private.fail('22023', 'code must be lower-case letters, digits and underscores.', 'code', 'bad_code', 'For example: front_desk.');
  end if;
  perform private.check_rank(create_role.rank);
  perform private.lock_business(create_role.business_id);
  perform private.require_rank(create_role.business_id, create_role.rank, false, 'rank');
  if create_role.template is not null then
    select t.permissions into v_template from public.permission_templates t
    where t.code = create_role.template and (t.business_id is null or t.business_id = create_role.business_id)
    order by t.business_id nulls last limit 1;
    if not found then
      perform private.fail('22023', format('There is no template %s.', quote_literal(left(create_role.template, 64))), 'template', 'unknown_template',
        'Use one of: ' || (select string_agg(t.code, ', ' order by t.code) from public.permission_templates t
          where t.business_id is null or t.business_id = create_role.business_id) || '.');
    end if;
    if jsonb_typeof(v_permissions) = 'object' then v_permissions := v_template || v_permissions; end if;
  end if;
  begin
    insert into public.roles (business_id, code, name, rank)
    values (create_role.business_id, create_role.code, btrim(create_role.name), create_role.rank) returning * into v_role;
  exception when unique_violation then
    perform private.fail('23505', 'This business has a role with this code.', 'code', 'taken', 'Choose another code, or change that role.');
  end;
  perform private.set_role_permissions(create_role.business_id, v_role.id, v_permissions);
  perform private.set_role_inheritance(create_role.business_id, v_role.id, create_role.inherits);
  return v_role;
end $$;
comment on function public.create_role(uuid, text, text, integer, jsonb, text, text[]) is
  'Makes a role of the business''s own: {"customers.read": "own"} or {"customers.read": {"scope": "own", "grantable": true}}, on top of a template and of inherited roles. Needs roles.write; one''s rank bounds its rank, and only permissions one may pass on can be in it. Errors: 22023, 23505 code taken, 42501.';

create function public.update_role(
  business_id uuid, role_id uuid, name text default null, rank integer default null, permissions jsonb default null, inherits text[] default null)
returns public.roles
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_role public.roles;
begin
  perform private.require(update_role.business_id, 'roles.write');
  perform private.lock_business(update_role.business_id);
  v_role := private.own_role(update_role.business_id, update_role.role_id);
  perform private.require_rank(update_role.business_id, v_role.rank, false, 'role_id');
  if update_role.name is not null then perform private.check_length(update_role.name, 'name', 1, 200); end if;
  if update_role.rank is not null then
    perform private.check_rank(update_role.rank);
    perform private.require_rank(update_role.business_id, update_role.rank, false, 'rank');
  end if;
  update public.roles r set name = coalesce(btrim(update_role.name), r.name), rank = coalesce(update_role.rank, r.rank)
  where r.id = v_role.id returning * into v_role;
  if update_role.permissions is not null then
    perform private.set_role_permissions(update_role.business_id, v_role.id, update_role.permissions);
  end if;
  if update_role.inherits is not null then
    perform private.set_role_inheritance(update_role.business_id, v_role.id, update_role.inherits);
  end if;
  return v_role;
end $$;
comment on function public.update_role(uuid, uuid, text, integer, jsonb, text[]) is
  'Changes a role of the business; null leaves a part as it is, permissions and inherits are replaced as a whole. Holders have the new rights at their next statement. Needs roles.write, as create_role().';

create function public.delete_role(business_id uuid, role_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_role public.roles;
begin
  perform private.require(delete_role.business_id, 'roles.write');
  perform private.lock_business(delete_role.business_id);
  v_role := private.own_role(delete_role.business_id, delete_role.role_id);
  perform private.require_rank(delete_role.business_id, v_role.rank, false, 'role_id');
  if exists (select 1 from public.membership_roles r where r.role_id = v_role.id)
     or exists (select 1 from public.department_roles r where r.role_id = v_role.id)
     or exists (select 1 from public.role_hierarchies h where h.child_role_id = v_role.id)
     or exists (select 1 from public.invitations i where i.role_id = v_role.id and i.status = 'pending') then
    perform private.fail('PT409', 'Members, invitations or other roles still use this role.', 'role_id', 'in_use', 'Give them another role first.');
  end if;
  delete from public.roles r where r.id = v_role.id;
end $$;
comment on function public.delete_role(uuid, uuid) is 'Removes a role of the business that nobody uses; PT409 while somebody does. Needs roles.write.';

-- Departments -------------------------------------------------------------------------------------------

create function private.check_department_values(business_id uuid, name text, kind text, parent_id uuid, manager_membership_id uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform private.check_length(check_department_values.name, 'name', 1, 200);
  if check_department_values.kind is null or check_department_values.kind not in ('executive', 'finance', 'accounting', 'hr', 'operations', 'sales', 'marketing',
    'procurement', 'it', 'legal', 'compliance', 'customer_service', 'warehouse', 'production', 'quality', 'research') then
    perform private.fail('22023', 'kind is not a kind of department.', 'kind', 'bad_choice',
      'Send executive, finance, accounting, hr, operations, sales, marketing, procurement, it, legal, compliance, customer_service, warehouse, production, quality or research.');
  end if;
  if check_department_values.parent_id is not null and not exists (select 1 from public.departments d
     where d.business_id = check_department_values.business_id and d.id = check_department_values.parent_id) then
    perform private.fail('PT404', 'There is no such department in this business.', 'parent_id', 'not_found', 'List the departments of the business.');
  end if;
  if check_department_values.manager_membership_id is not null then
    perform private.member_of(check_department_values.business_id, check_department_values.manager_membership_id);
  end if;
end $$;
comment on function private.check_department_values(uuid, text, text, uuid, uuid) is 'Refuses what a department cannot be, naming the field.';

create function public.create_department(business_id uuid, name text, kind text, parent_id uuid default null, manager_membership_id uuid default null)
returns public.departments
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_department public.departments;
begin
  perform private.require(create_department.business_id, 'departments.write');
  perform private.check_department_values(create_department.business_id, create_department.name, create_department.kind,
    create_department.parent_id, create_department.manager_membership_id);
  perform private.lock_business(create_department.business_id);
  begin
    insert into public.departments (business_id, name, kind, parent_id, manager_membership_id)
    values (create_department.business_id, btrim(create_department.name), create_department.kind, create_department.parent_id, create_department.manager_membership_id)
    returning * into v_department;
  exception when unique_violation then
    perform private.fail('23505', 'There is a department with this name there.', 'name', 'taken', 'Choose another name.');
  end;
  return v_department;
end $$;
comment on function public.create_department(uuid, text, text, uuid, uuid) is
  'Adds a department. With the first one, permissions of scope department stop reaching the whole business. Needs departments.write. kind: executive, finance, accounting, hr, operations, sales, marketing, procurement, it, legal, compliance, customer_service, warehouse, production, quality, research.';

create function public.update_department(
  business_id uuid, department_id uuid, name text default null, kind text default null, parent_id uuid default null,
  manager_membership_id uuid default null, make_root boolean default false)
returns public.departments
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_department public.departments;
begin
  perform private.require(update_department.business_id, 'departments.write');
  perform private.lock_business(update_department.business_id);
  perform private.check_department(update_department.business_id, update_department.department_id);
  select * into v_department from public.departments d where d.business_id = update_department.business_id and d.id = update_department.department_id;
  perform private.check_department_values(update_department.business_id, coalesce(update_department.name, v_department.name), coalesce(update_department.kind, v_department.kind),
    update_department.parent_id, update_department.manager_membership_id);
  begin
    update public.departments d set
      name = coalesce(btrim(update_department.name), d.name), kind = coalesce(update_department.kind, d.kind),
      parent_id = case when update_department.make_root then null else coalesce(update_department.parent_id, d.parent_id) end,
      manager_membership_id = coalesce(update_department.manager_membership_id, d.manager_membership_id)
    where d.business_id = v_department.business_id and d.id = v_department.id returning * into v_department;
  exception when unique_violation then
    perform private.fail('23505', 'There is a department with this name there.', 'name', 'taken', 'Choose another name.');
  end;
  return v_department;
end $$;
comment on function public.update_department(uuid, uuid, text, text, uuid, uuid, boolean) is
  'Changes a department; null leaves a part as it is, make_root moves it to the top. Moving it moves who reaches its records. Needs departments.write.';

create function public.delete_department(business_id uuid, department_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.require(delete_department.business_id, 'departments.write');
  perform private.lock_business(delete_department.business_id);
  perform private.check_department(delete_department.business_id, delete_department.department_id);
  if exists (select 1 from public.departments d where d.business_id = delete_department.business_id and d.parent_id = delete_department.department_id) then
    perform private.fail('PT409', 'This department has others below it.', 'department_id', 'in_use', 'Move or delete those first.');
  end if;
  delete from public.departments d where d.business_id = delete_department.business_id and d.id = delete_department.department_id;
end $$;
comment on function public.delete_department(uuid, uuid) is 'Removes a department without others below it; roles held there end, its records belong to no department. Needs departments.write.';

create function public.assign_department_role(business_id uuid, department_id uuid, membership_id uuid, role text) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
  v_role public.roles;
begin
  perform private.require(assign_department_role.business_id, 'members.write');
  perform private.lock_business(assign_department_role.business_id);
  perform private.check_department(assign_department_role.business_id, assign_department_role.department_id);
  v_membership := private.member_of(assign_department_role.business_id, assign_department_role.membership_id);
  v_role := private.role_of(assign_department_role.business_id, assign_department_role.role);
  perform private.require_rank(assign_department_role.business_id, private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  perform private.require_rank(assign_department_role.business_id, v_role.rank, false, 'role');
  perform private.require_may_grant(assign_department_role.business_id, v_role.id, 'role');
  insert into public.department_roles (business_id, department_id, membership_id, role_id)
  values (v_membership.business_id, assign_department_role.department_id, v_membership.id, v_role.id) on conflict do nothing;
end $$;
comment on function public.assign_department_role(uuid, uuid, uuid, text) is
  'Lets a member work for a department with a role. Needs members.write, a rank above the member''s (owners: also equals), and a role one may give.';

create function public.remove_department_role(business_id uuid, department_id uuid, membership_id uuid, role text) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
  v_role public.roles;
begin
  perform private.require(remove_department_role.business_id, 'members.write');
  perform private.lock_business(remove_department_role.business_id);
  v_membership := private.member_of(remove_department_role.business_id, remove_department_role.membership_id);
  perform private.require_rank(remove_department_role.business_id, private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  v_role := private.role_of(v_membership.business_id, remove_department_role.role);
  delete from public.department_roles r
  where r.business_id = v_membership.business_id and r.membership_id = v_membership.id and r.department_id = remove_department_role.department_id
    and r.role_id = v_role.id;
  if not found then
    perform private.fail('PT404', 'The member does not hold this role there.', 'role', 'not_found', 'List department_roles of the business.');
  end if;
end $$;
comment on function public.remove_department_role(uuid, uuid, uuid, text) is 'Ends a role of a member in a department. Needs members.write and a higher rank.';

-- Single permissions -------------------------------------------------------------------------------------

create function public.set_member_permission(
  business_id uuid, membership_id uuid, permission text, effect text default 'allow', scope text default 'business',
  expires_at timestamptz default null, reason text default null)
returns public.user_permissions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
  v_row public.user_permissions;
begin
  perform private.require(set_member_permission.business_id, 'roles.write');
  if not exists (select 1 from public.permissions p where p.code = set_member_permission.permission) then
    perform private.fail('22023', format('There is no permission %s.', coalesce(quote_literal(left(set_member_permission.permission, 64)), 'null')),
      'permission', 'unknown_permission', 'List the table permissions.');
  end if;
  if set_member_permission.effect is null or set_member_permission.effect not in ('allow', 'deny') then
    perform private.fail('22023', 'effect must be allow or deny.', 'effect', 'bad_choice', 'Send allow or deny.');
  end if;
  if set_member_permission.scope is null or set_member_permission.scope not in ('own', 'department', 'business')
     or set_member_permission.effect = 'deny' and set_member_permission.scope <> 'business' then
    perform private.fail('22023', 'scope must be own, department or business; a denied permission is denied everywhere.', 'scope', 'bad_scope', 'Leave scope out to deny.');
  end if;
  if set_member_permission.expires_at <= now() then
    perform private.fail('22023', 'expires_at must be in the future.', 'expires_at', 'out_of_range', 'Send a later time, or null for no end.');
  end if;
  perform private.lock_business(set_member_permission.business_id);
  v_membership := private.member_of(set_member_permission.business_id, set_member_permission.membership_id);
  perform private.require_rank(set_member_permission.business_id, private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  if set_member_permission.effect = 'deny' and private.target_rank(v_membership.business_id, v_membership.id) >= 1000 then
    perform private.fail('PT409', 'Nothing can be denied to an owner.', 'membership_id', 'is_owner', 'Give the member another role instead.');
  end if;
  if set_member_permission.effect = 'allow' and not private.is_trusted_caller() and coalesce((
    select g.level from private.grantable_permissions(private.current_user_id(), v_membership.business_id) g
    where g.permission = set_member_permission.permission), 0) < private.scope_level(set_member_permission.scope) then
    perform private.fail('42501', format('You may not pass on %s with scope %s.', set_member_permission.permission, set_member_permission.scope),
      'permission', 'may_not_grant', 'Ask somebody who may pass it on.', jsonb_build_object('permission', set_member_permission.permission));
  end if;
  insert into public.user_permissions as u (business_id, membership_id, permission_code, effect, scope, expires_at, reason, granted_by)
  values (v_membership.business_id, v_membership.id, set_member_permission.permission, set_member_permission.effect, set_member_permission.scope,
    set_member_permission.expires_at, set_member_permission.reason, private.current_user_id())
  on conflict (business_id, membership_id, permission_code) do update set
    effect = excluded.effect, scope = excluded.scope, expires_at = excluded.expires_at, reason = excluded.reason, granted_by = excluded.granted_by
  returning * into v_row;
  return v_row;
end $$;
comment on function public.set_member_permission(uuid, uuid, text, text, text, timestamptz, text) is
  'Gives a member one permission beside their roles, or denies it whatever the roles say, for a while or for good; replaces an earlier one. Needs roles.write, a rank above the member''s (owners: also equals), and for allow a permission one may pass on.';

create function public.clear_member_permission(business_id uuid, membership_id uuid, permission text) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_membership public.business_memberships;
  v_row public.user_permissions;
begin
  perform private.require(clear_member_permission.business_id, 'roles.write');
  perform private.lock_business(clear_member_permission.business_id);
  v_membership := private.member_of(clear_member_permission.business_id, clear_member_permission.membership_id);
  perform private.require_rank(clear_member_permission.business_id, private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  delete from public.user_permissions u
  where u.business_id = v_membership.business_id and u.membership_id = v_membership.id and u.permission_code = clear_member_permission.permission
  returning * into v_row;
  if not found then
    perform private.fail('PT404', 'The member has no such single permission.', 'permission', 'not_found', 'List user_permissions of the business.');
  end if;
  -- Taking back a denial gives what it denied: the same rule as for giving.
  if v_row.effect = 'deny' and not private.is_trusted_caller() and not exists (
    select 1 from private.grantable_permissions(private.current_user_id(), v_membership.business_id) g where g.permission = v_row.permission_code) then
    perform private.fail('42501', format('You may not pass on %s.', v_row.permission_code), 'permission', 'may_not_grant',
      'Ask somebody who may pass it on.', jsonb_build_object('permission', v_row.permission_code));
  end if;
end $$;
comment on function public.clear_member_permission(uuid, uuid, text) is
  'Takes a single permission or denial of a member back: their roles decide again. Needs roles.write, a higher rank, and for a denial a permission one may pass on.';

grant execute on function
  public.create_role(uuid, text, text, integer, jsonb, text, text[]), public.update_role(uuid, uuid, text, integer, jsonb, text[]),
  public.delete_role(uuid, uuid), public.create_department(uuid, text, text, uuid, uuid),
  public.update_department(uuid, uuid, text, text, uuid, uuid, boolean), public.delete_department(uuid, uuid),
  public.assign_department_role(uuid, uuid, uuid, text), public.remove_department_role(uuid, uuid, uuid, text),
  public.set_member_permission(uuid, uuid, text, text, text, timestamptz, text), public.clear_member_permission(uuid, uuid, text)
  to authenticated, service_role;
