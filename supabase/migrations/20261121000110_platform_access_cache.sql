/*
 * What every policy asks: "in which businesses does the caller hold this permission?"
 *
 * The answer is kept ready in private.user_access and maintained by triggers in the same transaction
 * as any change of members, roles or homes, so a policy costs one indexed lookup per statement and a
 * right that is taken away is gone at the next statement. Nothing about rights is in the token.
 *
 * private.business_directory says where each business lives (database, schema) and whether that place
 * may be read and written. A copy of the tables anywhere else answers nobody: it is not home.
 */
create table private.business_directory (
  business_id uuid primary key,
  organization_id uuid not null,
  database_name text not null,
  schema_name text not null,
  is_readable boolean not null,
  is_writable boolean not null,
  timezone text not null,
  country text not null
);
comment on table private.business_directory is
  'Where each business lives and what hot paths need of it: one lookup instead of three joins. Maintained by triggers on businesses, organizations and organization_placements.';
create index business_directory_organization_id_idx on private.business_directory (organization_id);

create table private.user_access (
  user_id uuid not null,
  permission text not null,
  home_database text not null,
  home_schema text not null,
  business_ids uuid[] not null,
  primary key (user_id, permission, home_database, home_schema)
) with (toast_tuple_target = 8160, fillfactor = 70);
alter table private.user_access alter column business_ids set storage main;
comment on table private.user_access is
  'Per user, permission and home: the businesses where the user holds the permission. A cache with triggers for owners; never written by hand.';

create table private.user_organization_access (
  user_id uuid not null,
  permission text not null,
  organization_ids uuid[] not null,
  primary key (user_id, permission)
);
comment on table private.user_organization_access is
  'Per user and organization permission (organization.read, organization.write, organization.owner): the organizations.';

-- No API role has a grant on these; row security on top, so that a later grant alone opens nothing.
alter table private.business_directory enable row level security;
alter table private.business_directory force row level security;
alter table private.user_access enable row level security;
alter table private.user_access force row level security;
alter table private.user_organization_access enable row level security;
alter table private.user_organization_access force row level security;

-- Definer because: reads the cache, which no API role may. plpgsql, because before Postgres 18 a
-- `language sql` function is planned again at every call (four times dearer, measured on 15).
create function private.my_business_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
begin
  return coalesce((
    select array_agg(b.id)
    from private.user_access a, unnest(a.business_ids) as b(id)
    where a.user_id = private.current_user_id() and a.permission = my_business_ids.permission), '{}');
end $$;
comment on function private.my_business_ids(text) is
  'Businesses, wherever they live, in which the caller holds the permission. For tables of the registry; tenant tables use the function of their own schema, which answers only at home.';

create function private.my_organization_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
begin
  return coalesce((
    select a.organization_ids from private.user_organization_access a
    where a.user_id = private.current_user_id() and a.permission = my_organization_ids.permission), '{}');
end $$;
comment on function private.my_organization_ids(text) is
  'Organizations in which the caller holds organization.read, organization.write or organization.owner.';
grant execute on function private.my_business_ids(text), private.my_organization_ids(text) to authenticated, service_role;

create function private.require(business_id uuid, permission text) returns void
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if private.is_trusted_caller() then return; end if;
  if require.business_id = any (private.my_business_ids(require.permission)) is not true then   -- null-safe
    perform private.fail('42501', format('You do not hold %s in this business.', require.permission),
      'business_id', 'permission_missing', 'Ask an admin of the business for a role that includes it.',
      jsonb_build_object('permission', require.permission));
  end if;
end $$;
comment on function private.require(uuid, text) is
  'First statement of every definer function about a business of the registry: raises 42501 unless the caller holds the permission there.';

create function private.require_organization(organization_id uuid, permission text) returns void
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if private.is_trusted_caller() then return; end if;
  if require_organization.organization_id = any (private.my_organization_ids(require_organization.permission)) is not true then
    perform private.fail('42501', format('You do not hold %s in this organization.', require_organization.permission),
      'organization_id', 'permission_missing', 'Ask an owner of the organization.',
      jsonb_build_object('permission', require_organization.permission));
  end if;
end $$;
comment on function private.require_organization(uuid, text) is
  'First statement of every definer function about an organization: raises 42501 unless the caller holds the permission there.';

create function private.require_user() returns uuid
language plpgsql stable
set search_path = ''
as $$
declare
  caller uuid := private.current_user_id();
begin
  if caller is null or coalesce(private.current_claims() ->> 'role', '') <> 'authenticated' then
    perform private.fail('42501', 'This needs a signed-in user.', null, 'not_signed_in', 'Sign in and send the access token.');
  end if;
  -- An anonymous sign-in proves nothing about a person; by default it may not join or found anything.
  if coalesce((private.current_claims() ->> 'is_anonymous')::boolean, false) then
    perform private.fail('42501', 'This is not open to anonymous users.', null, 'anonymous_user', 'Sign up with an e-mail address first.');
  end if;
  return caller;
end $$;
comment on function private.require_user() is 'The signed-in, non-anonymous caller; raises 42501 otherwise.';
