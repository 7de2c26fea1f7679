/*
 * Founding organizations and businesses, and changing who belongs to them. Everything here is RPC:
 * each function checks the caller first, locks the business (or organization) row, and only then looks,
 * so two of them at once see each other.
 */

-- Lookups shared below -------------------------------------------------------------------------------

create function private.member_rank(user_id uuid, business_id uuid) returns integer
language sql stable security definer set search_path = ''
as $$
  select coalesce(max(r.rank), -1) from (
    select r.rank from public.business_memberships m
    join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
    join public.roles r on r.id = mr.role_id
    where m.user_id = member_rank.user_id and m.business_id = member_rank.business_id and m.status = 'active'
    union all
    select r.rank from public.organization_memberships om
    join public.businesses b on b.organization_id = om.organization_id
    join public.roles r on r.business_id is null and r.code = om.role
    where om.user_id = member_rank.user_id and b.id = member_rank.business_id and om.status = 'active') r
$$;
comment on function private.member_rank(uuid, uuid) is 'The highest rank a user holds in a business; -1 for none.';

create function private.target_rank(business_id uuid, membership_id uuid) returns integer
language sql stable security definer set search_path = ''
as $$
  -- What a suspended member held still ranks: who is suspended is not fair game.
  select greatest(private.member_rank(m.user_id, m.business_id), (
    select max(r.rank) from public.membership_roles mr join public.roles r on r.id = mr.role_id
    where mr.business_id = m.business_id and mr.membership_id = m.id))
  from public.business_memberships m
  where m.business_id = target_rank.business_id and m.id = target_rank.membership_id
$$;
comment on function private.target_rank(uuid, uuid) is 'The rank of a member on whom somebody acts: suspended ones keep theirs.';

create function private.role_of(business_id uuid, code text) returns public.roles
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_role public.roles;
begin
  select * into v_role from public.roles r
  where r.code = role_of.code and (r.business_id is null or r.business_id = role_of.business_id)
  order by r.business_id nulls last limit 1;
  if not found then
    perform private.fail('22023', format('There is no role %s here.', coalesce(quote_literal(left(role_of.code, 64)), 'null')), 'role', 'unknown_role',
      'Use one of: ' || (select string_agg(r.code, ', ' order by r.rank desc, r.code) from public.roles r
        where r.business_id is null or r.business_id = role_of.business_id) || '.');
  end if;
  return v_role;
end $$;
comment on function private.role_of(uuid, text) is 'A role by code: the business''s own before the system''s. Raises 22023 and lists the choices.';

create function private.require_rank(business_id uuid, needed integer, strictly boolean, field text) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_rank integer;
begin
  if private.is_trusted_caller() then return; end if;
  v_rank := private.member_rank(private.current_user_id(), require_rank.business_id);
  -- Owners are equals who may act on each other; everybody else only on those below.
  if v_rank < needed or (strictly and v_rank = needed and v_rank < 1000) then
    perform private.fail('42501', 'Your own role is not high enough for that.', field, 'rank_too_low',
      'Ask somebody with a higher role.');
  end if;
end $$;
comment on function private.require_rank(uuid, integer, boolean, text) is 'Raises 42501 unless the caller''s rank reaches the needed one.';

create function private.grantable_permissions(user_id uuid, business_id uuid) returns table (permission text, level integer)
language sql stable security definer set search_path = ''
as $$
  select rp.permission_code, max(private.scope_level(rp.scope))
  from private.held_roles(array[grantable_permissions.user_id]) h
  join private.carried_roles(array(select distinct r.role_id from private.held_roles(array[grantable_permissions.user_id]) r)) c on c.role_id = h.role_id
  join public.role_permissions rp on rp.role_id = c.carried_role_id and rp.grantable
  where h.business_id = grantable_permissions.business_id and h.department_id is null
    and not exists (
      select 1 from public.user_permissions up
      where up.business_id = h.business_id and up.membership_id = h.membership_id and up.permission_code = rp.permission_code
        and up.effect = 'deny' and coalesce(up.expires_at > now(), true))
  group by 1
$$;
comment on function private.grantable_permissions(uuid, uuid) is
  'What a user may pass on in a business, and how far it may reach: permissions held through a role that marks them grantable, and not denied.';

create function private.first_ungrantable(user_id uuid, business_id uuid, role_id uuid) returns text
language sql stable security definer set search_path = ''
as $$
  select rp.permission_code
  from private.carried_roles(array[first_ungrantable.role_id]) c
  join public.role_permissions rp on rp.role_id = c.carried_role_id
  left join private.grantable_permissions(first_ungrantable.user_id, first_ungrantable.business_id) g on g.permission = rp.permission_code
  where coalesce(g.level, 0) < private.scope_level(rp.scope)
  order by 1 limit 1
$$;
comment on function private.first_ungrantable(uuid, uuid, uuid) is 'A permission of the role that the user may not pass on, inherited ones included; null when they may give the role.';

create function private.require_may_grant(business_id uuid, role_id uuid, field text) returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_permission text;
begin
  if private.is_trusted_caller() then return; end if;
  v_permission := private.first_ungrantable(private.current_user_id(), require_may_grant.business_id, require_may_grant.role_id);
  if v_permission is not null then
    perform private.fail('42501', format('You may not pass on %s, which this role carries.', v_permission), field, 'may_not_grant',
      'Ask somebody who may pass it on.', jsonb_build_object('permission', v_permission));
  end if;
end $$;
comment on function private.require_may_grant(uuid, uuid, text) is 'Raises 42501 unless the caller may pass on every permission of a role: nobody gives what they may not give.';

create function private.lock_business(business_id uuid) returns public.businesses
language plpgsql security definer set search_path = ''
as $$
declare
  v_business public.businesses;
begin
  select * into v_business from public.businesses b where b.id = lock_business.business_id for no key update;
  if not found then
    perform private.fail('PT404', 'There is no such business.', 'business_id', 'not_found', 'Check business_id.');
  end if;
  return v_business;
end $$;
comment on function private.lock_business(uuid) is 'Locks a business so that changes of its members happen one after the other.';

-- Organizations and businesses -----------------------------------------------------------------------

create function public.create_organization(name text, slug text default null, country text default null, billing_email text default null)
returns public.organizations
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_user uuid := private.require_user();
  v_slug text := coalesce(create_organization.slug, private.slugify(create_organization.name),
    'organization-' || left(private.new_token(), 8));   -- a name without a Latin letter or digit
  v_organization public.organizations;
begin
  perform private.check_length(create_organization.name, 'name', 1, 200);
  perform private.check_slug(v_slug);
  perform private.check_country(create_organization.country);
  if create_organization.billing_email is not null and not public.is_valid_email(create_organization.billing_email) then
    perform private.fail('22023', 'billing_email is not an e-mail address.', 'billing_email', 'bad_email', 'Send one address, like billing@example.com.');
  end if;
  -- A slug somebody asked for must be free; one made from the name gets a suffix, also when many make it at once.
  perform pg_advisory_xact_lock(hashtextextended('organization slug:' || v_slug, 0));
  if create_organization.slug is null and exists (select 1 from public.organizations o where o.slug = v_slug) then
    v_slug := v_slug || '-' || left(private.new_token(), 6);
  end if;
  begin
    insert into public.organizations (name, slug, country, billing_email)
    values (btrim(create_organization.name), v_slug, create_organization.country, create_organization.billing_email)
    returning * into v_organization;
  exception when unique_violation then
    perform private.fail('23505', 'This slug is taken.', 'slug', 'taken', 'Choose another slug, or leave it out.');
  end;
  insert into public.organization_placements (organization_id) values (v_organization.id);
  insert into public.subscriptions (organization_id, plan_id)
  select v_organization.id, p.id from public.subscription_plans p where p.code = 'free';
  insert into public.organization_memberships (organization_id, user_id, role) values (v_organization.id, v_user, 'owner');
  return v_organization;
end $$;
comment on function public.create_organization(text, text, text, text) is
  'Founds an organization on the free plan with the caller as its owner. Errors: 22023 bad value, 23505 slug taken, 42501 not signed in.';

create function public.create_business(
  organization_id uuid, name text, timezone text default 'UTC', country text default null, currency text default null,
  slug text default null, locale text default 'en')
returns public.businesses
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_slug text := coalesce(create_business.slug, private.slugify(create_business.name), 'business-' || left(private.new_token(), 8));
  v_country text := create_business.country;
  v_user uuid := private.current_user_id();
  v_business public.businesses;
  v_membership uuid;
begin
  perform private.require_organization(create_business.organization_id, 'organization.write');
  perform private.check_length(create_business.name, 'name', 1, 200);
  if v_country is null then
    select o.country into v_country from public.organizations o where o.id = create_business.organization_id;
  end if;
  perform private.check_country(coalesce(v_country, ''));
  if not private.is_timezone(create_business.timezone) then
    perform private.fail('22023', 'timezone is not a name of the tz database.', 'timezone', 'bad_timezone', 'For example: America/New_York.');
  end if;
  if coalesce(create_business.currency, 'USD') !~ '^[A-Z]{3}$' then
    perform private.fail('22023', 'currency must be an ISO 4217 code.', 'currency', 'bad_currency', 'For example: USD.');
  end if;
  if coalesce(create_business.locale, 'en') !~ '^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$' then
    perform private.fail('22023', 'locale must be a BCP 47 language tag.', 'locale', 'bad_locale', 'For example: en-US.');
  end if;
  perform private.check_slug(v_slug);
  perform 1 from public.organizations o where o.id = create_business.organization_id for no key update;
  if create_business.slug is null and exists (
    select 1 from public.businesses b where b.organization_id = create_business.organization_id and b.slug = v_slug) then
    v_slug := v_slug || '-' || left(private.new_token(), 6);
  end if;
  begin
    insert into public.businesses (organization_id, name, slug, timezone, country, currency, locale)
    values (create_business.organization_id, btrim(create_business.name), v_slug, create_business.timezone, v_country,
            coalesce(create_business.currency, 'USD'), coalesce(create_business.locale, 'en'))
    returning * into v_business;
  exception when unique_violation then
    perform private.fail('23505', 'This slug is taken in the organization.', 'slug', 'taken', 'Choose another slug, or leave it out.');
  end;
  if v_user is not null then
    insert into public.business_memberships (business_id, user_id) values (v_business.id, v_user) returning id into v_membership;
    insert into public.membership_roles (business_id, membership_id, role_id)
    values (v_business.id, v_membership, (private.role_of(v_business.id, 'owner')).id);
  end if;
  return v_business;
end $$;
comment on function public.create_business(uuid, text, text, text, text, text, text) is
  'Adds a business to an organization, with the caller as its owner. Needs organization.write. Errors: 22023 bad value, 23505 slug taken, PT402 plan limit.';

create function private.session_is_open() returns boolean
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_claims jsonb := private.current_claims();
begin
  return coalesce(v_claims ->> 'is_anonymous', 'false') <> 'true' and not exists (
    select 1 from private.revoked_sessions s
    where s.user_id = private.current_user_id() and s.session_id::text = v_claims ->> 'session_id');
end $$;
comment on function private.session_is_open() is 'False for anonymous sign-ins and for sessions that were ended.';

create function public.my_businesses()
returns table (business_id uuid, name text, slug text, organization_id uuid, organization_name text, timezone text,
               country text, currency text, roles text[], permissions text[], needs_second_factor boolean)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_user uuid := private.current_user_id();
begin
  if not private.session_is_open() then return; end if;
  return query
  select b.id, b.name, b.slug::text, o.id, o.name, b.timezone, b.country::text, b.currency::text,
    array(select distinct r.code from private.held_roles(array[v_user]) h join public.roles r on r.id = h.role_id
      where h.business_id = b.id and h.department_id is null order by 1),
    array(select a.permission from private.user_access a
      where a.user_id = v_user and b.id = any ((private.my_access(a.permission, a.home_database, a.home_schema)).business_ids) order by 1),
    o.requires_mfa and coalesce(private.current_claims() ->> 'aal', '') <> 'aal2'
      and not exists (select 1 from public.api_keys k where k.id = v_user)
  from public.businesses b
  join public.organizations o on o.id = b.organization_id
  where b.id in (select unnest(a.business_ids || coalesce(a.mfa_business_ids, '{}')) from private.user_access a where a.user_id = v_user)
  order by o.name, b.name, b.id;
end $$;
comment on function public.my_businesses() is
  'The businesses of the caller with the roles and permissions held there now. needs_second_factor: the organization asks for one and this session has none, so nothing of the business is open to it yet.';

-- Invitations ----------------------------------------------------------------------------------------

create table public.invitations (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default private.new_id(),
  email_normalized private.email_address not null,
  role_id uuid references public.roles on delete set null,
  department_id uuid,
  customer_id uuid,
  status text not null default 'pending',
  expires_at timestamptz not null default now() + interval '7 days',
  invited_by uuid references auth.users on delete set null,
  accepted_by uuid references auth.users on delete set null,
  accepted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint invitations_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete set null (department_id),
  constraint invitations_status check (status in ('pending', 'accepted', 'revoked', 'expired'))
);
comment on table public.invitations is 'Open and past invitations. The token is shown once, to the inviter; only its hash is stored, apart.';
comment on column public.invitations.email_normalized is 'Only an account with this verified address may accept. @personal email';
create unique index invitations_pending_key on public.invitations (business_id, email_normalized) where status = 'pending';
comment on column public.invitations.role_id is 'Null once the role of a past invitation was deleted.';
comment on column public.invitations.department_id is 'The department to work for, with the same role there; null for none.';
comment on column public.invitations.customer_id is 'For the portal: the customer whom the person is.';
create index invitations_department_idx on public.invitations (business_id, department_id);
create index invitations_role_id_idx on public.invitations (role_id);
create index invitations_invited_by_idx on public.invitations (invited_by);
create index invitations_accepted_by_idx on public.invitations (accepted_by);
call private.protect('public.invitations', registry => true, reads => 'members.read');
-- Written only by RPC.
call private.guard_status('public.invitations', 'status');
create trigger _100_own_role before insert or update of role_id on public.invitations
  for each row execute function private.tg_membership_roles_own();

create table private.invitation_tokens (
  business_id uuid not null,
  invitation_id uuid not null,
  token_hash bytea not null,
  primary key (business_id, invitation_id),
  constraint invitation_tokens_token_hash_key unique (token_hash),
  constraint invitation_tokens_invitation_fkey foreign key (business_id, invitation_id)
    references public.invitations (business_id, id) on delete cascade
);
comment on table private.invitation_tokens is 'SHA-256 of the token of each invitation. Apart from invitations, so that members can select all of those.';
alter table private.invitation_tokens enable row level security;
alter table private.invitation_tokens force row level security;

create function private.invitation_of_token(token text) returns public.invitations
language sql stable security definer set search_path = ''
as $$
  select i.* from private.invitation_tokens t
  join public.invitations i on (i.business_id, i.id) = (t.business_id, t.invitation_id)
  where t.token_hash = private.token_hash(invitation_of_token.token)
$$;
comment on function private.invitation_of_token(text) is 'The invitation a token belongs to; null for none.';

create function private.invite(business_id uuid, email text, role_id uuid, department_id uuid, customer_id uuid)
returns table (invitation_id uuid, token text, expires_at timestamptz)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_email text := public.normalize_email(invite.email);
  v_token text := private.new_token();
  v_invitation public.invitations;
begin
  if v_email is null then
    perform private.fail('22023', 'email is not an e-mail address.', 'email', 'bad_email', 'Send one address, like ana@example.com.');
  end if;
  perform private.lock_business(invite.business_id);
  if exists (select 1 from public.business_memberships m join auth.users u on u.id = m.user_id
             where m.business_id = invite.business_id and m.status <> 'removed' and public.normalize_email(u.email) = v_email) then
    perform private.fail('23505', 'This person is a member already.', 'email', 'already_member', 'Change their roles instead.');
  end if;
  -- A second invitation replaces the first: its token stops working.
  update public.invitations i set status = 'revoked'
  where i.business_id = invite.business_id and i.email_normalized = v_email and i.status = 'pending';
  insert into public.invitations (business_id, email_normalized, role_id, department_id, customer_id, invited_by)
  values (invite.business_id, v_email, invite.role_id, invite.department_id, invite.customer_id, private.current_user_id())
  returning * into v_invitation;
  insert into private.invitation_tokens (business_id, invitation_id, token_hash)
  values (v_invitation.business_id, v_invitation.id, private.token_hash(v_token));
  return query select v_invitation.id, v_token, v_invitation.expires_at;
end $$;
comment on function private.invite(uuid, text, uuid, uuid, uuid) is 'Writes an invitation after its caller checked who may invite whom.';

create function public.invite_member(business_id uuid, email text, role text, department_id uuid default null)
returns table (invitation_id uuid, token text, expires_at timestamptz)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_role public.roles;
begin
  perform private.require(invite_member.business_id, 'members.write');
  v_role := private.role_of(invite_member.business_id, invite_member.role);
  if v_role.business_id is null and v_role.code = 'customer' then
    perform private.fail('22023', 'Customers are invited with invite_portal_customer().', 'role', 'portal_role', 'Call invite_portal_customer with the customer_id.');
  end if;
  perform private.require_rank(invite_member.business_id, v_role.rank, false, 'role');
  perform private.require_may_grant(invite_member.business_id, v_role.id, 'role');
  perform private.check_department(invite_member.business_id, invite_member.department_id);
  return query select i.invitation_id, i.token, i.expires_at
    from private.invite(invite_member.business_id, invite_member.email, v_role.id, invite_member.department_id, null) i;
end $$;
comment on function public.invite_member(uuid, text, text, uuid) is
  'Invites an e-mail address with a role of up to one''s own rank whose permissions one may pass on, and optionally into a department. Returns the token once: send it to that address. Needs members.write. Valid for 7 days; inviting again replaces it.';

create function public.revoke_invitation(business_id uuid, invitation_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  perform private.require(revoke_invitation.business_id, 'members.write');
  perform private.lock_business(revoke_invitation.business_id);
  update public.invitations i set status = 'revoked'
  where i.business_id = revoke_invitation.business_id and i.id = revoke_invitation.invitation_id and i.status = 'pending';
  if not found then
    perform private.fail('PT404', 'There is no open invitation with this id.', 'invitation_id', 'not_found', 'List the open invitations of the business.');
  end if;
end $$;
comment on function public.revoke_invitation(uuid, uuid) is 'Takes an open invitation back; its token stops working at once. Needs members.write.';

create function public.resend_invitation(business_id uuid, invitation_id uuid)
returns table (new_invitation_id uuid, token text, expires_at timestamptz)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_old public.invitations;
begin
  perform private.require(resend_invitation.business_id, 'members.write');
  perform private.lock_business(resend_invitation.business_id);
  select * into v_old from public.invitations i
  where i.business_id = resend_invitation.business_id and i.id = resend_invitation.invitation_id and i.status in ('pending', 'expired');
  if not found then
    perform private.fail('PT404', 'There is no open invitation with this id.', 'invitation_id', 'not_found', 'Invite the person again.');
  end if;
  perform private.require_rank(resend_invitation.business_id, (select r.rank from public.roles r where r.id = v_old.role_id), false, 'invitation_id');
  perform private.require_may_grant(resend_invitation.business_id, v_old.role_id, 'invitation_id');
  return query select i.invitation_id, i.token, i.expires_at
    from private.invite(resend_invitation.business_id, v_old.email_normalized, v_old.role_id, v_old.department_id, v_old.customer_id) i;
end $$;
comment on function public.resend_invitation(uuid, uuid) is 'Replaces an open or expired invitation by a new one with a new token. Needs members.write.';

create function public.accept_invitation(token text) returns public.business_memberships
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_user uuid := private.require_user();
  v_invitation public.invitations := private.invitation_of_token(accept_invitation.token);
  v_business uuid := v_invitation.business_id;
  v_consumed boolean := false;
  v_membership public.business_memberships;
begin
  -- Lock the business first, then consume: of eight at once exactly one updates a row.
  if v_business is not null then
    perform private.lock_business(v_business);
    update public.invitations i set status = 'accepted', accepted_by = v_user, accepted_at = now()
    where i.business_id = v_business and i.id = v_invitation.id and i.status = 'pending' and i.expires_at > now()
      -- The address must be the caller's, and proven.
      and exists (select 1 from auth.users u where u.id = v_user and u.email_confirmed_at is not null
                  and public.normalize_email(u.email) = i.email_normalized)
      -- Whoever invited must still be entitled to give this role.
      and (i.invited_by is null or private.member_rank(i.invited_by, i.business_id) >= (select r.rank from public.roles r where r.id = i.role_id)
        and private.first_ungrantable(i.invited_by, i.business_id, i.role_id) is null)
      and exists (select 1 from private.business_directory d where d.business_id = i.business_id and d.is_writable);
    v_consumed := found;
  end if;
  if not v_consumed then
    -- One text for all reasons: it tells a guesser nothing.
    perform private.fail('PT404', 'This invitation is not valid.', 'token', 'invalid_invitation',
      'Sign in with the invited, confirmed address, or ask for a new invitation.');
  end if;
  insert into public.business_memberships as m (business_id, user_id, customer_id) values (v_business, v_user, v_invitation.customer_id)
  on conflict (business_id, user_id) do update set status = 'active', joined_at = now(), customer_id = excluded.customer_id where m.status = 'removed'
  returning * into v_membership;
  if v_membership.id is null then
    perform private.fail('23505', 'You are a member of this business already.', 'token', 'already_member', 'Nothing to do.');
  end if;
  insert into public.membership_roles (business_id, membership_id, role_id)
  values (v_business, v_membership.id, v_invitation.role_id) on conflict do nothing;
  insert into public.department_roles (business_id, department_id, membership_id, role_id)
  select v_business, d.id, v_membership.id, v_invitation.role_id
  from public.departments d where d.business_id = v_business and d.id = v_invitation.department_id on conflict do nothing;
  return v_membership;
end $$;
comment on function public.accept_invitation(text) is
  'Joins the business of an invitation. The caller''s confirmed e-mail address must be the invited one. Single use, also under concurrency; one error text (PT404) for every reason.';

-- Members --------------------------------------------------------------------------------------------

create function private.member_of(business_id uuid, membership_id uuid) returns public.business_memberships
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_membership public.business_memberships;
begin
  select * into v_membership from public.business_memberships m
  where m.business_id = member_of.business_id and m.id = member_of.membership_id and m.status <> 'removed';
  if not found then
    perform private.fail('PT404', 'There is no such member in this business.', 'membership_id', 'not_found', 'List the members of the business.');
  end if;
  return v_membership;
end $$;
comment on function private.member_of(uuid, uuid) is 'A present member of the business; raises PT404 otherwise.';

-- What a member held goes with the membership, by whatever way it ends: who comes back starts anew.
create function private.tg_memberships_removed() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from public.membership_roles r where r.business_id = new.business_id and r.membership_id = new.id;
  delete from public.department_roles r where r.business_id = new.business_id and r.membership_id = new.id;
  delete from public.user_permissions p where p.business_id = new.business_id and p.membership_id = new.id;
  delete from public.access_control_lists a where a.business_id = new.business_id and a.membership_id = new.id;
  update public.api_keys k set revoked_at = now() where k.business_id = new.business_id and k.membership_id = new.id and k.revoked_at is null;
  return null;
end $$;
comment on function private.tg_memberships_removed() is 'Ends roles, permissions, shared records and API keys of a removed member.';
create trigger _300_removed after update of status on public.business_memberships
  for each row when (new.status = 'removed' and old.status <> 'removed') execute function private.tg_memberships_removed();

create function private.check_department(business_id uuid, department_id uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if check_department.department_id is not null and not exists (
    select 1 from public.departments d where d.business_id = check_department.business_id and d.id = check_department.department_id) then
    perform private.fail('PT404', 'There is no such department in this business.', 'department_id', 'not_found', 'List the departments of the business.');
  end if;
end $$;
comment on function private.check_department(uuid, uuid) is 'Raises PT404 for a department that is not one of the business; null passes.';

create function public.change_member_roles(business_id uuid, membership_id uuid, roles text[]) returns text[]
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
  v_role public.roles;
  v_ids uuid[] := '{}';
  v_code text;
begin
  perform private.require(change_member_roles.business_id, 'members.write');
  if coalesce(cardinality(change_member_roles.roles), 0) = 0 then
    perform private.fail('22023', 'roles must name at least one role.', 'roles', 'empty', 'To take all rights, remove the member.');
  end if;
  perform private.lock_business(change_member_roles.business_id);
  v_membership := private.member_of(change_member_roles.business_id, change_member_roles.membership_id);
  perform private.require_rank(change_member_roles.business_id,
    private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  foreach v_code in array change_member_roles.roles loop
    v_role := private.role_of(change_member_roles.business_id, v_code);
    perform private.require_rank(change_member_roles.business_id, v_role.rank, false, 'roles');
    if not exists (select 1 from public.membership_roles mr where mr.business_id = v_membership.business_id
                   and mr.membership_id = v_membership.id and mr.role_id = v_role.id) then
      perform private.require_may_grant(change_member_roles.business_id, v_role.id, 'roles');
    end if;
    v_ids := v_ids || v_role.id;
  end loop;
  -- New ones first, so that an owner who stays owner is never without the role.
  insert into public.membership_roles (business_id, membership_id, role_id)
  select v_membership.business_id, v_membership.id, r from unnest(v_ids) r on conflict do nothing;
  delete from public.membership_roles mr
  where mr.business_id = v_membership.business_id and mr.membership_id = v_membership.id and mr.role_id <> all (v_ids);
  return array(select r.code from public.membership_roles mr join public.roles r on r.id = mr.role_id
    where mr.business_id = v_membership.business_id and mr.membership_id = v_membership.id order by r.rank desc, r.code);
end $$;
comment on function public.change_member_roles(uuid, uuid, text[]) is
  'Replaces the roles of a member. Needs members.write, a rank above the member''s (owners: also equals) and not below the new roles'', whose permissions one may pass on. The last owner stays owner.';

create function public.remove_member(business_id uuid, membership_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
begin
  -- Anybody may leave; removing others needs the right and the rank.
  if not exists (select 1 from public.business_memberships m where m.business_id = remove_member.business_id
                 and m.id = remove_member.membership_id and m.user_id = private.current_user_id() and m.status = 'active') then
    perform private.require(remove_member.business_id, 'members.write');
  end if;
  perform private.lock_business(remove_member.business_id);
  v_membership := private.member_of(remove_member.business_id, remove_member.membership_id);
  if v_membership.user_id is distinct from private.current_user_id() then
    perform private.require_rank(remove_member.business_id,
      private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  end if;
  update public.business_memberships m set status = 'removed'
  where m.business_id = v_membership.business_id and m.id = v_membership.id;
end $$;
comment on function public.remove_member(uuid, uuid) is
  'Ends a membership; rights are gone at the next statement. Needs members.write and a higher rank; members may remove themselves. The last owner cannot go.';

create function private.set_member_status(business_id uuid, membership_id uuid, status text) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
begin
  perform private.require(set_member_status.business_id, 'members.write');
  perform private.lock_business(set_member_status.business_id);
  v_membership := private.member_of(set_member_status.business_id, set_member_status.membership_id);
  perform private.require_rank(set_member_status.business_id, private.target_rank(v_membership.business_id, v_membership.id), true, 'membership_id');
  update public.business_memberships m set status = set_member_status.status
  where m.business_id = v_membership.business_id and m.id = v_membership.id and m.status <> set_member_status.status;
end $$;
comment on function private.set_member_status(uuid, uuid, text) is 'Suspends or reactivates a member of a lower rank than the caller''s (owners: also equals).';

create function public.suspend_member(business_id uuid, membership_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.require(suspend_member.business_id, 'members.write');
  perform private.set_member_status(suspend_member.business_id, suspend_member.membership_id, 'suspended');
end $$;
comment on function public.suspend_member(uuid, uuid) is
  'Takes all rights of a member, and of their API keys, until reactivate_member(); roles stay noted. Needs members.write and a higher rank. The last owner cannot be suspended.';

create function public.reactivate_member(business_id uuid, membership_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.require(reactivate_member.business_id, 'members.write');
  perform private.set_member_status(reactivate_member.business_id, reactivate_member.membership_id, 'active');
end $$;
comment on function public.reactivate_member(uuid, uuid) is 'Gives a suspended member their rights back. Needs members.write and a higher rank; takes a seat of the plan (PT402).';

create function public.transfer_ownership(business_id uuid, membership_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_membership public.business_memberships;
  v_owner uuid;
begin
  perform private.require(transfer_ownership.business_id, 'billing.write');
  perform private.lock_business(transfer_ownership.business_id);
  perform private.require_rank(transfer_ownership.business_id, 1000, false, 'business_id');
  v_membership := private.member_of(transfer_ownership.business_id, transfer_ownership.membership_id);
  if v_membership.status <> 'active' or v_membership.customer_id is not null then
    perform private.fail('PT409', 'Only an active member can become owner.', 'membership_id', 'not_active', 'Reactivate the member first.');
  end if;
  v_owner := (private.role_of(transfer_ownership.business_id, 'owner')).id;
  insert into public.membership_roles (business_id, membership_id, role_id) values (v_membership.business_id, v_membership.id, v_owner) on conflict do nothing;
  if v_membership.user_id is distinct from private.current_user_id() then
    insert into public.membership_roles (business_id, membership_id, role_id)
    select m.business_id, m.id, (private.role_of(m.business_id, 'admin')).id
    from public.business_memberships m join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id) and mr.role_id = v_owner
    where m.business_id = transfer_ownership.business_id and m.user_id = private.current_user_id() on conflict do nothing;
    delete from public.membership_roles mr using public.business_memberships m
    where (m.business_id, m.id) = (mr.business_id, mr.membership_id) and m.business_id = transfer_ownership.business_id
      and m.user_id = private.current_user_id() and mr.role_id = v_owner;
  end if;
end $$;
comment on function public.transfer_ownership(uuid, uuid) is 'Makes another active member owner of the business; the caller, who must be owner, becomes admin.';

grant execute on function
  public.suspend_member(uuid, uuid), public.reactivate_member(uuid, uuid), public.transfer_ownership(uuid, uuid),
  public.create_organization(text, text, text, text), public.create_business(uuid, text, text, text, text, text, text),
  public.my_businesses(), public.invite_member(uuid, text, text, uuid), public.revoke_invitation(uuid, uuid),
  public.resend_invitation(uuid, uuid), public.accept_invitation(text),
  public.change_member_roles(uuid, uuid, text[]), public.remove_member(uuid, uuid)
  to authenticated, service_role;
