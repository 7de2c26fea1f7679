/*
 * The tenant: businesses, and the people who have an account.
 */

-- businesses ----------------------------------------------------------------------------------------

create table public.businesses (
  id uuid primary key default private.new_id(),
  organization_id uuid not null references public.organizations on delete cascade,
  name text not null,
  slug private.slug not null,
  timezone text not null default 'UTC',
  country private.country_code not null,
  currency private.currency_code not null,
  locale text not null default 'en',
  settings jsonb not null default '{}',
  status text not null default 'active',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint businesses_slug_key unique (organization_id, slug),
  constraint businesses_name_length check (char_length(name) between 1 and 200),
  constraint businesses_timezone check (private.is_timezone(timezone)),
  constraint businesses_locale check (locale ~ '^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$'),
  constraint businesses_settings check (jsonb_typeof(settings) = 'object' and pg_column_size(settings) < 65536),
  constraint businesses_status check (status in ('active', 'suspended', 'archived'))
);
comment on table public.businesses is 'The tenant: every customer, call and message belongs to exactly one. Isolation is per business.';
comment on column public.businesses.slug is 'Short name, unique within the organization.';
comment on column public.businesses.timezone is 'IANA tz name. Local days of metrics are days of this zone; changing it moves past metrics to their new days.';
comment on column public.businesses.country is 'ISO 3166-1 alpha-2. Numbers without a country code are read as numbers of this country.';
comment on column public.businesses.settings is 'Free-form settings of the product built on top; an object, at most 64 kB.';
create index businesses_organization_id_idx on public.businesses (organization_id);

call private.protect('public.businesses', registry => true, key => 'id',
  reads => 'business.read',
  updates => 'business.write', update_columns => array['name', 'timezone', 'country', 'currency', 'locale', 'settings']);
-- No insert: create_business(). No delete: suspend or archive.

-- The directory follows businesses, organizations and placements -----------------------------------

create function private.refresh_business_directory(organization_ids uuid[]) returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from private.business_directory d
  where d.organization_id = any (organization_ids)
    and not exists (select 1 from public.businesses b where b.id = d.business_id);
  insert into private.business_directory as d
    (business_id, organization_id, database_name, schema_name, is_readable, is_writable, timezone, country)
  select b.id, b.organization_id, p.database_name, p.schema_name,
    o.status = 'active' and b.status = 'active' and p.state in ('active', 'moving', 'read_only'),
    o.status = 'active' and b.status = 'active' and p.state = 'active',
    b.timezone, b.country
  from public.businesses b
  join public.organizations o on o.id = b.organization_id
  join public.organization_placements p on p.organization_id = o.id
  where o.id = any (organization_ids)
  order by b.id
  on conflict (business_id) do update set
    database_name = excluded.database_name, schema_name = excluded.schema_name,
    is_readable = excluded.is_readable, is_writable = excluded.is_writable,
    timezone = excluded.timezone, country = excluded.country
  where (d.database_name, d.schema_name, d.is_readable, d.is_writable, d.timezone, d.country)
    is distinct from (excluded.database_name, excluded.schema_name, excluded.is_readable, excluded.is_writable, excluded.timezone, excluded.country);
end $$;
comment on function private.refresh_business_directory(uuid[]) is 'Brings private.business_directory up to date for these organizations.';

create function private.tg_directory_businesses() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    perform private.refresh_business_directory(array(select distinct organization_id from old_rows));
  else
    perform private.refresh_business_directory(array(select distinct organization_id from new_rows));
  end if;
  return null;
end $$;
create function private.tg_directory_organizations() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.refresh_business_directory(array(select id from new_rows));
  return null;
end $$;
create trigger _300_directory_insert after insert on public.businesses
  referencing new table as new_rows for each statement execute function private.tg_directory_businesses();
create trigger _300_directory_update after update on public.businesses
  referencing new table as new_rows for each statement execute function private.tg_directory_businesses();
create trigger _300_directory_delete after delete on public.businesses
  referencing old table as old_rows for each statement execute function private.tg_directory_businesses();
create trigger _300_directory after update on public.organizations
  referencing new table as new_rows for each statement execute function private.tg_directory_organizations();
create trigger _300_directory_insert after insert on public.organization_placements
  referencing new table as new_rows for each statement execute function private.tg_directory_businesses();
create trigger _300_directory_update after update on public.organization_placements
  referencing new table as new_rows for each statement execute function private.tg_directory_businesses();

-- A plan bounds the number of businesses: count under a lock on the organization, so that two at once cannot both be the last.
create function private.tg_businesses_limit() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform 1 from public.organizations o where o.id = new.organization_id for no key update;
  perform private.enforce_plan_limit(new.organization_id, 'businesses',
    (select count(*) + 1 from public.businesses b where b.organization_id = new.organization_id and b.status <> 'archived'),
    private.plan_limit(new.organization_id, 'businesses'));
  return new;
end $$;
create trigger _100_limit before insert on public.businesses
  for each row execute function private.tg_businesses_limit();

-- profiles ------------------------------------------------------------------------------------------

create table public.profiles (
  user_id uuid primary key references auth.users on delete cascade,
  full_name text,
  avatar_url text,
  phone text,
  locale text,
  last_login_at timestamptz,
  login_count integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint profiles_full_name_length check (char_length(full_name) <= 200),
  constraint profiles_avatar_url check (avatar_url ~ '^https://' and char_length(avatar_url) <= 2000),
  constraint profiles_phone_length check (char_length(phone) <= 40),
  constraint profiles_locale check (locale ~ '^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$')
);
comment on table public.profiles is 'One row per account, made when the account is made. What colleagues see of each other.';
comment on column public.profiles.full_name is '@personal name';
comment on column public.profiles.avatar_url is 'https only. @personal name';
comment on column public.profiles.phone is '@personal phone';
comment on column public.profiles.last_login_at is 'Time of the last sign-in, kept from the auth service.';

alter table public.profiles enable row level security;
alter table public.profiles force row level security;
revoke all on public.profiles from public, anon, authenticated, service_role;
grant select (user_id, full_name, avatar_url, phone, locale, last_login_at, login_count, created_at, updated_at) on public.profiles to authenticated;
grant update (full_name, avatar_url, phone, locale) on public.profiles to authenticated;
grant select, update on public.profiles to service_role;
-- The select policy needs the members table and stands beside it. No insert, no delete: the account's life decides.
create policy profiles_update on public.profiles for update to authenticated
  using (user_id = (select private.current_user_id())) with check (user_id = (select private.current_user_id()));
create policy profiles_update_only_held on public.profiles as restrictive for update to authenticated
  using (user_id = (select private.current_user_id())) with check (user_id = (select private.current_user_id()));

create function private.tg_profiles_touch() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end $$;
create trigger _010_guard before update on public.profiles for each row execute function private.tg_profiles_touch();

create function private.name_of_account(metadata jsonb) returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  -- The local auth service stores the object as JSON text inside JSON.
  return left(case jsonb_typeof(metadata) when 'string' then (metadata #>> '{}')::jsonb else metadata end ->> 'full_name', 200);
exception when others then
  return null;   -- what people write about themselves must never stop a sign-up
end $$;
comment on function private.name_of_account(jsonb) is 'full_name from the metadata given at sign-up; null without one.';

-- Definer because: the auth service, which writes auth.users, has no rights on public.
create function private.tg_users_profile() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    insert into public.profiles (user_id, full_name, last_login_at, login_count)
    values (new.id, private.name_of_account(new.raw_user_meta_data), new.last_sign_in_at,
            (new.last_sign_in_at is not null)::int)
    on conflict (user_id) do nothing;
  else
    update public.profiles p set
      -- Some auth services write what the person said of themselves after the account.
      full_name = coalesce(p.full_name, private.name_of_account(new.raw_user_meta_data)),
      last_login_at = new.last_sign_in_at,
      login_count = p.login_count + (new.last_sign_in_at is distinct from old.last_sign_in_at)::int
    where p.user_id = new.id;
  end if;
  return null;
end $$;
comment on function private.tg_users_profile() is 'Makes the profile of a new account and tracks sign-ins.';
create trigger tenantry_profile_insert after insert on auth.users
  for each row execute function private.tg_users_profile();
create trigger tenantry_profile_update after update of last_sign_in_at, raw_user_meta_data on auth.users
  for each row when (new.last_sign_in_at is distinct from old.last_sign_in_at or new.raw_user_meta_data is distinct from old.raw_user_meta_data)
  execute function private.tg_users_profile();
