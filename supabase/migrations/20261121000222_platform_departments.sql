/*
 * Departments: the tree of a business, and who works where.
 *
 * A role held within a department reaches the records of that department and of those below it. Holding any
 * role there also makes it "one's department" for permissions of scope department.
 */
create table public.departments (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default private.new_id(),
  name text not null,
  kind text not null,
  parent_id uuid,
  manager_membership_id uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint departments_name_key unique nulls not distinct (business_id, parent_id, name),
  constraint departments_parent_fkey foreign key (business_id, parent_id) references public.departments (business_id, id),
  constraint departments_manager_fkey foreign key (business_id, manager_membership_id)
    references public.business_memberships (business_id, id) on delete set null (manager_membership_id),
  constraint departments_name_length check (char_length(name) between 1 and 200),
  constraint departments_not_its_own_parent check (parent_id <> id),
  constraint departments_kind check (kind in ('executive', 'finance', 'accounting', 'hr', 'operations', 'sales', 'marketing', 'procurement',
    'it', 'legal', 'compliance', 'customer_service', 'warehouse', 'production', 'quality', 'research'))
);
comment on table public.departments is 'The departments of a business, a tree. Records may belong to one. Changed only by RPC, because it decides who reaches what.';
comment on column public.departments.parent_id is 'The department above; null at the top. Whoever works for a department reaches those below it.';
comment on column public.departments.manager_membership_id is 'Who leads it. For people to read: rights come from roles alone.';
create index departments_parent_idx on public.departments (business_id, parent_id);
create index departments_manager_idx on public.departments (business_id, manager_membership_id);
call private.protect('public.departments', registry => true, reads => 'members.read');

create function private.tg_departments_acyclic() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_above uuid := new.parent_id;
begin
  -- One change of the tree at a time: two that are right alone can close a circle together.
  perform 1 from public.businesses b where b.id = new.business_id for no key update;
  while v_above is not null loop
    if v_above = new.id then
      perform private.fail('22023', 'A department cannot stand below itself.', 'parent_id', 'circular', 'Choose a department outside its own branch.');
    end if;
    select d.parent_id into v_above from public.departments d where d.business_id = new.business_id and d.id = v_above;
  end loop;
  return new;
end $$;
comment on function private.tg_departments_acyclic() is 'Refuses a department that would stand below itself, for every role.';
create trigger _100_acyclic before insert or update of parent_id on public.departments
  for each row when (new.parent_id is not null) execute function private.tg_departments_acyclic();

create table public.department_roles (
  business_id uuid not null references public.businesses on delete cascade,
  department_id uuid not null,
  membership_id uuid not null,
  role_id uuid not null references public.roles,
  created_at timestamptz not null default now(),
  primary key (business_id, department_id, membership_id, role_id),
  constraint department_roles_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete cascade,
  constraint department_roles_membership_fkey foreign key (business_id, membership_id)
    references public.business_memberships (business_id, id) on delete cascade
);
comment on table public.department_roles is
  'The roles members hold within a department. Of such a role only what concerns records counts, and it reaches the records of the department and of those below it.';
create index department_roles_membership_idx on public.department_roles (business_id, membership_id);
create index department_roles_role_id_idx on public.department_roles (role_id);
call private.protect('public.department_roles', registry => true, reads => 'members.read', guard => false);
create trigger _110_portal before insert or update on public.department_roles
  for each row execute function private.tg_portal_members();
create trigger _100_own_role before insert or update on public.department_roles
  for each row execute function private.tg_membership_roles_own();
