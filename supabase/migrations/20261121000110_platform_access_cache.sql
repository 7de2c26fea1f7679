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
  -- The spelling that tokens have: compared as text, a malformed subject is simply nobody, and nothing is parsed.
  subject text collate "C" not null generated always as (user_id::text) stored,
  permission text collate "C" not null,
  home_database text collate "C" not null,
  home_schema text collate "C" not null,
  business_ids uuid[] not null,
  -- All of these are null for most people, so that reading them costs nothing.
  mfa_business_ids uuid[],
  limited_business_ids uuid[],
  record_keys uuid[],
  denied_ids uuid[],
  blocked_session_ids text[],
  expires_at timestamptz,
  primary key (subject, permission, home_database, home_schema)
) with (toast_tuple_target = 8160, fillfactor = 70);
create index user_access_user_id_idx on private.user_access (user_id);
alter table private.user_access alter column business_ids set storage main;
comment on table private.user_access is
  'Per principal (a user or an API key), permission and home: the businesses where the permission is held. A cache with triggers for owners; never written by hand.';
comment on column private.user_access.user_id is 'A user, or an API key.';
comment on column private.user_access.subject is 'The same, spelled as the subject of a token.';
comment on column private.user_access.business_ids is 'Businesses where the permission is held for all records or for some.';
comment on column private.user_access.mfa_business_ids is 'More of them, for a session with a second factor (aal2) alone.';
comment on column private.user_access.limited_business_ids is 'Those of them where the permission does not reach all records.';
comment on column private.user_access.record_keys is
  'Where some business is limited, what a record must carry to be reached: a membership, a department, a customer, its own id, private.pool_key() of the business, or the id of a business where all are reached or only single records denied.';
comment on column private.user_access.denied_ids is 'Records that an access control list denies, whatever else allows them.';
comment on column private.user_access.blocked_session_ids is 'Sessions the user ended whose tokens have not run out.';
comment on column private.user_access.expires_at is 'When a rule behind this row runs out. From then on the rules themselves are asked, until the row is refreshed.';

create table private.user_organization_access (
  user_id uuid not null,
  permission text not null,
  organization_ids uuid[] not null,
  mfa_organization_ids uuid[],
  blocked_session_ids text[],
  primary key (user_id, permission)
);
comment on table private.user_organization_access is
  'Per user and organization permission (organization.read, organization.write, organization.owner): the organizations. The columns mean what they mean in user_access.';

create table private.revoked_sessions (
  session_id uuid primary key,
  user_id uuid not null,
  revoked_at timestamptz not null default now()
);
comment on table private.revoked_sessions is
  'Sessions that a user ended. The tokens of a session run out within an hour; until then this is what stops them.';
create index revoked_sessions_user_id_idx on private.revoked_sessions (user_id);

-- No API role has a grant on these; row security on top, so that a later grant alone opens nothing.
alter table private.business_directory enable row level security;
alter table private.business_directory force row level security;
alter table private.user_access enable row level security;
alter table private.user_access force row level security;
alter table private.user_organization_access enable row level security;
alter table private.user_organization_access force row level security;
alter table private.revoked_sessions enable row level security;
alter table private.revoked_sessions force row level security;

/*
 * The one place that decides whether a right is held now: everything that asks for rights comes through
 * here, so what is refused here (a session without its second factor, an ended session, an anonymous
 * sign-in, a rule that has run out) is refused in policies, functions and guards alike. Policies read the
 * view below, which answers by itself only where there is nothing to refuse.
 */
-- Definer because: reads the cache, which no API role may. plpgsql, because before Postgres 18 a
-- `language sql` function is planned again at every call (four times dearer, measured on 15).
create function private.my_access(permission text, home_database text, home_schema text) returns private.user_access
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
declare
  v_claims json := nullif(current_setting('request.jwt.claims', true), '')::json;
  v private.user_access;
begin
  select * into v from private.user_access a
  where a.subject = lower((v_claims ->> 'sub') collate "C") and a.permission = my_access.permission
    and a.home_database = my_access.home_database and a.home_schema = my_access.home_schema;
  if v.expires_at <= now() then
    select * into v from private.compute_user_access(array[v.user_id]) c
    where c.user_id = v.user_id and c.permission = my_access.permission
      and c.home_database = my_access.home_database and c.home_schema = my_access.home_schema;
  end if;
  if v.user_id is null or v_claims ->> 'is_anonymous' = 'true'
     or v.blocked_session_ids is not null and v_claims ->> 'session_id' = any (v.blocked_session_ids) then
    return null;
  end if;
  if v.mfa_business_ids is not null and v_claims ->> 'aal' = 'aal2' then
    v.business_ids := v.business_ids || v.mfa_business_ids;
  end if;
  return v;
end $$;
comment on function private.my_access(text, text, text) is
  'What the caller holds of a permission in one home, as of this statement; null for nothing.';

/*
 * What policies read, once per statement and table. A view instead of a function because a sub-select of a
 * prepared statement is planned once, while calling a function costs three times the lookup it makes
 * (docs/performance.md). It runs as its owner and shows nobody more than their own rows; the barrier keeps
 * conditions of a reader from being asked about anybody else's. Short, because Postgres walks through a
 * prepared statement each time it locks what it reads.
 */
create view private.my_rights with (security_barrier) as
select a.permission, a.home_schema,
  case when a.expires_at is null and a.mfa_business_ids is null and a.blocked_session_ids is null
            and nullif(current_setting('request.jwt.claims', true), '')::json ->> 'is_anonymous' is distinct from 'true'
       then a.business_ids
       else (private.my_access(a.permission, a.home_database, a.home_schema)).business_ids end as business_ids,
  case when a.expires_at is null then a.limited_business_ids is null
       else (private.my_access(a.permission, a.home_database, a.home_schema)).limited_business_ids is null end as is_whole
from private.user_access a
where a.subject = lower((nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub') collate "C")
  and a.home_database = current_database();
comment on view private.my_rights is
  'What the caller holds now in this database, per permission and schema: what row policies read. Equal to private.my_access(), which decides whenever a session, a second factor, an end or an anonymous sign-in matters.';
comment on column private.my_rights.business_ids is 'Businesses where the permission is held for all records or for some.';
comment on column private.my_rights.is_whole is
  'True when the permission reaches all records of all of these: nothing else needs to be asked of a record. Says nothing about which businesses they are, not even that there are any.';
grant select on private.my_rights to authenticated;
-- Functions of a view are called by whoever reads it; this one tells callers about themselves alone.
grant execute on function private.my_access(text, text, text) to authenticated;

create function private.reaches(reach private.user_access, business_id uuid, carried uuid[], record_id uuid) returns boolean
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
  return coalesce(reaches.business_id = any (reach.business_ids)
    and ((reaches.business_id = any (reach.limited_business_ids)) is not true
      or reaches.carried && reach.record_keys and (reaches.record_id = any (reach.denied_ids)) is not true), false);
end $$;
comment on function private.reaches(private.user_access, uuid, uuid[], uuid) is
  'True when what my_access() said reaches a record that carries these keys, stored or not yet. record_id: the id, where an access control list may name the record.';
grant execute on function private.reaches(private.user_access, uuid, uuid[], uuid) to authenticated;

create function private.my_business_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
begin
  return coalesce((
    select array_agg(b.id)
    from private.user_access a, unnest((private.my_access(a.permission, a.home_database, a.home_schema)).business_ids) as b(id)
    where a.user_id = private.current_user_id() and a.permission = my_business_ids.permission), '{}');
end $$;
comment on function private.my_business_ids(text) is
  'Businesses, wherever they live, in which the caller holds the permission. For tables of the registry; tenant tables use the function of their own schema, which answers only at home.';

create function private.my_organization_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path = ''
as $$
declare
  v_claims jsonb := private.current_claims();
  v private.user_organization_access;
begin
  select * into v from private.user_organization_access a
  where a.user_id = private.current_user_id() and a.permission = my_organization_ids.permission;
  if v.user_id is null or v_claims ->> 'is_anonymous' = 'true' or coalesce(v_claims ->> 'session_id' = any (v.blocked_session_ids), false) then
    return '{}';
  end if;
  return v.organization_ids || case when v_claims ->> 'aal' = 'aal2' then coalesce(v.mfa_organization_ids, '{}') else '{}' end;
end $$;
comment on function private.my_organization_ids(text) is
  'Organizations in which the caller holds organization.read, organization.write or organization.owner.';
grant execute on function private.my_business_ids(text), private.my_organization_ids(text) to authenticated, service_role;

create function private.pool_key(business_id uuid) returns uuid
language sql immutable parallel safe
begin atomic
  select overlay(pool_key.business_id::text placing 'ffffffff' from 1 for 8)::uuid;
end;
comment on function private.pool_key(uuid) is
  'Stands for the records of a business that have neither an owner nor a department yet: whoever works for a department may take them.';
grant execute on function private.pool_key(uuid) to authenticated, service_role;

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
language plpgsql stable security definer
set search_path = ''
as $$
declare
  caller uuid := private.current_user_id();
begin
  if caller is null or coalesce(private.current_claims() ->> 'role', '') <> 'authenticated' then
    perform private.fail('42501', 'This needs a signed-in user.', null, 'not_signed_in', 'Sign in and send the access token.');
  end if;
  -- An API key acts within a business; founding, joining and sessions are for people.
  if not exists (select 1 from auth.users u where u.id = caller) then
    perform private.fail('42501', 'This needs a signed-in user, not an API key.', null, 'not_a_user', 'Sign in as a person.');
  end if;
  if exists (select 1 from private.revoked_sessions s where s.user_id = caller and s.session_id::text = private.current_claims() ->> 'session_id') then
    perform private.fail('42501', 'This session was ended.', null, 'session_revoked', 'Sign in again.');
  end if;
  -- An anonymous sign-in proves nothing about a person; by default it may not join or found anything.
  if coalesce((private.current_claims() ->> 'is_anonymous')::boolean, false) then
    perform private.fail('42501', 'This is not open to anonymous users.', null, 'anonymous_user', 'Sign up with an e-mail address first.');
  end if;
  return caller;
end $$;
comment on function private.require_user() is 'The signed-in, non-anonymous caller; raises 42501 otherwise.';
