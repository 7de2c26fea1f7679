/*
 * Who pays, and where they live: organizations, their home, their plan.
 *
 * An organization has one home, a database and a schema; all its businesses live there. Moving it is a
 * change of that row, and every policy of every copy follows at the next statement.
 */

-- organizations -----------------------------------------------------------------------------------

create table public.organizations (
  id uuid primary key default private.new_id(),
  name text not null,
  slug private.slug not null,
  billing_email private.email_address,
  country private.country_code,
  status text not null default 'active',
  requires_mfa boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint organizations_slug_key unique (slug),
  constraint organizations_name_length check (char_length(name) between 1 and 200),
  constraint organizations_status check (status in ('active', 'suspended', 'closed'))
);
comment on table public.organizations is 'Who pays: the top of the hierarchy. Owns businesses and has one plan.';
comment on column public.organizations.slug is 'Short name in addresses, unique across the installation.';
comment on column public.organizations.billing_email is 'Where invoices of the plan go. @personal email';
comment on column public.organizations.requires_mfa is 'True: its businesses are open only to sessions with a second factor (aal2). See set_mfa_requirement().';
comment on column public.organizations.status is 'suspended: members see nothing until it is active again; closed: the same, for good.';

call private.protect('public.organizations', registry => true, scope => 'organization', key => 'id',
  reads => 'organization.read',
  updates => 'organization.write', update_columns => array['name', 'billing_email', 'country']);
-- No insert: create_organization(). No delete: closing keeps the books.

create table public.organization_memberships (
  organization_id uuid not null references public.organizations on delete cascade,
  user_id uuid not null references auth.users on delete cascade,
  role text not null default 'admin',
  status text not null default 'active',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (organization_id, user_id),
  constraint organization_memberships_role check (role in ('owner', 'admin')),
  constraint organization_memberships_status check (status in ('active', 'suspended', 'removed'))
);
comment on table public.organization_memberships is
  'Owners and admins of an organization. They reach all its businesses; members of one business are in business_memberships.';
create index organization_memberships_user_id_idx on public.organization_memberships (user_id);
call private.protect('public.organization_memberships', registry => true, scope => 'organization', key => 'organization_id',
  reads => 'organization.read', own_rows => 'user_id = (select private.current_user_id())', guard => false);
-- Written only by RPC.

-- organization_placements --------------------------------------------------------------------------

create table public.organization_placements (
  organization_id uuid primary key references public.organizations on delete cascade,
  isolation text not null default 'pooled',
  database_name text not null default current_database(),
  schema_name text not null default 'public',
  dsn_reference text,
  schema_version text,
  state text not null default 'active',
  epoch integer not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint organization_placements_isolation check (isolation in ('pooled', 'schema', 'database')),
  constraint organization_placements_state check (state in ('provisioning', 'active', 'moving', 'read_only', 'failed', 'archived')),
  constraint organization_placements_schema_name check (schema_name ~ '^[a-z_][a-z0-9_]{0,62}$'),
  constraint organization_placements_epoch check (epoch > 0)
);
comment on table public.organization_placements is
  'The home of each organization: database, schema, state. Access functions answer only at home, so a copy elsewhere is inert.';
comment on column public.organization_placements.isolation is 'pooled (shared tables), schema (own schema), database (own database).';
comment on column public.organization_placements.dsn_reference is 'Name of the connection setting, never the connection string itself.';
comment on column public.organization_placements.epoch is 'Grows by one with every move; a writer that saw an older epoch is refused.';
call private.protect('public.organization_placements', registry => true, scope => 'organization', key => 'organization_id');
-- No grants: operators only. Members need not know where their rows are.
call private.guard_status('public.organization_placements', 'state');

-- plans ---------------------------------------------------------------------------------------------

create table public.subscription_plans (
  id uuid primary key default private.new_id(),
  code text not null unique,
  name text not null,
  limits jsonb not null default '{}',
  price_minor bigint not null default 0,
  currency private.currency_code not null default 'USD',
  billing_interval text not null default 'month',
  is_public boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint subscription_plans_price check (price_minor between 0 and 100000000000),
  constraint subscription_plans_interval check (billing_interval in ('month', 'year')),
  constraint subscription_plans_limits check (
    jsonb_typeof(limits) = 'object' and limits - array['businesses', 'seats', 'customers', 'storage_bytes', 'credits'] = '{}')
);
comment on table public.subscription_plans is 'What an organization can buy. The same list for everybody.';
comment on column public.subscription_plans.limits is
  'Upper bounds enforced in the database: businesses, seats (active members, over all businesses), customers, storage_bytes, credits. A missing key means no bound.';
comment on column public.subscription_plans.price_minor is 'Price per interval in minor units of currency (ISO 4217).';
alter table public.subscription_plans enable row level security;
alter table public.subscription_plans force row level security;
revoke all on public.subscription_plans from public, anon, authenticated, service_role;
create policy subscription_plans_select on public.subscription_plans for select to anon, authenticated using (is_public);
grant select (id, code, name, limits, price_minor, currency, billing_interval, is_public, created_at, updated_at)
  on public.subscription_plans to anon, authenticated;
grant select, insert, update on public.subscription_plans to service_role;

insert into public.subscription_plans (id, code, name, limits, price_minor)
select pg_catalog.md5('plan ' || v.code)::uuid, v.code, v.name, v.limits::jsonb, v.price_minor from (values
  ('free', 'Free', '{"businesses": 2, "seats": 5, "customers": 5000}', 0),
  ('growth', 'Growth', '{"businesses": 10, "seats": 50, "customers": 100000}', 9900),
  ('scale', 'Scale', '{}', 49900)) v(code, name, limits, price_minor);

create table public.subscriptions (
  organization_id uuid primary key references public.organizations on delete cascade,
  plan_id uuid not null references public.subscription_plans,
  status text not null default 'active',
  current_period_start timestamptz not null default now(),
  current_period_end timestamptz,
  trial_ends_at timestamptz,
  provider text,
  provider_reference text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint subscriptions_status check (status in ('trialing', 'active', 'past_due', 'canceled')),
  constraint subscriptions_period check (current_period_end > current_period_start)
);
comment on table public.subscriptions is 'The plan an organization is on. past_due keeps access; canceled falls back to the limits of the plan free.';
create index subscriptions_plan_id_idx on public.subscriptions (plan_id);
call private.protect('public.subscriptions', registry => true, scope => 'organization', key => 'organization_id',
  reads => 'organization.read');
call private.guard_status('public.subscriptions', 'status');

-- Limits --------------------------------------------------------------------------------------------

create function private.plan_limit(organization_id uuid, resource text) returns bigint
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_limit bigint;
begin
  select (p.limits ->> plan_limit.resource)::bigint into v_limit
  from public.subscriptions s
  join public.subscription_plans p on p.code = 'free' and s.status = 'canceled' or p.id = s.plan_id and s.status <> 'canceled'
  where s.organization_id = plan_limit.organization_id;
  if not found then   -- an organization without a subscription gets what everybody gets
    select (p.limits ->> plan_limit.resource)::bigint into v_limit from public.subscription_plans p where p.code = 'free';
  end if;
  return v_limit;
end $$;
comment on function private.plan_limit(uuid, text) is 'The bound of a resource under the organization''s plan; null for none.';

create function private.enforce_plan_limit(organization_id uuid, resource text, used bigint, maximum bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  if enforce_plan_limit.used > enforce_plan_limit.maximum then
    perform private.fail('PT402', format('The plan of this organization allows %s %s.', maximum, resource), resource, 'plan_limit',
      'Remove some or choose a larger plan.', jsonb_build_object('limit', maximum, 'used', used - 1));
  end if;
end $$;
comment on function private.enforce_plan_limit(uuid, text, bigint, bigint) is 'Raises PT402 (HTTP 402) when a use would pass the plan''s bound.';
