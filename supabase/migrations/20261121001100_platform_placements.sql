/*
 * The fleet: databases beside the main one, moves between homes, and work for the operator's worker.
 *
 * Every database of a fleet has the same migrations. The main database holds the registry of all organizations;
 * a shelf (many organizations, a schema each) and the database of one organization hold a copy of the registry
 * rows of those living there, kept up by the next file. Databases and schemas are named after ids, never after
 * what people write.
 */
create table public.placement_databases (
  name text primary key,
  kind text not null,
  dsn_reference text,
  max_tenants integer,
  state text not null default 'open',
  created_at timestamptz not null default now(),
  constraint placement_databases_kind check (kind in ('shelf', 'template')),
  constraint placement_databases_state check (state in ('open', 'closed')),
  constraint placement_databases_max_tenants check (max_tenants between 1 and 1000),
  constraint placement_databases_name check (name ~ '^[a-z][a-z0-9_]{0,62}$')
);
comment on table public.placement_databases is
  'Databases that an operator keeps for organizations: shelves for schemas, and the template that databases are cloned from. The database of one organization is named in organization_placements alone.';
comment on column public.placement_databases.dsn_reference is 'Name of the setting that holds the connection string; null for the server of the main database.';
comment on column public.placement_databases.max_tenants is 'Most schemas on a shelf. What a shelf costs grows with the number of all its schemas: docs/how-to/placements.md.';
comment on column public.placement_databases.state is 'closed: takes no further organizations.';
alter table public.placement_databases enable row level security;
alter table public.placement_databases force row level security;
revoke all on public.placement_databases from public, anon, authenticated, service_role;
grant select on public.placement_databases to service_role;

-- placement_moves -----------------------------------------------------------------------------------

create table public.placement_moves (
  id uuid primary key default private.new_id(),
  organization_id uuid not null references public.organizations on delete cascade,
  from_isolation text not null,
  from_database text not null,
  from_schema text not null,
  to_isolation text not null,
  to_database text not null,
  to_schema text not null,
  state text not null default 'planned',
  row_counts jsonb not null default '{}',
  checksums jsonb not null default '{}',
  frozen_at timestamptz,
  write_pause_ms integer,
  error text,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  clean_after timestamptz,
  cleaned_at timestamptz,
  constraint placement_moves_state check (state in ('planned', 'copying', 'verifying', 'cutover', 'done', 'rolled_back')),
  constraint placement_moves_to_isolation check (to_isolation in ('pooled', 'schema', 'database')),
  constraint placement_moves_elsewhere check ((from_database, from_schema) <> (to_database, to_schema))
);
comment on table public.placement_moves is
  'Every move of an organization between homes: how far it got, and what was compared. A move that was interrupted is taken up from its state.';
comment on column public.placement_moves.row_counts is 'Rows per table, equal on both sides.';
comment on column public.placement_moves.checksums is 'Sum of a hash of every row per table, equal on both sides.';
comment on column public.placement_moves.frozen_at is 'Since when members could read but not write.';
comment on column public.placement_moves.write_pause_ms is 'How long members could read but not write.';
comment on column public.placement_moves.clean_after is 'The old home keeps its rows, inert, until then.';
create unique index placement_moves_unfinished_key on public.placement_moves (organization_id)
  where state in ('planned', 'copying', 'verifying', 'cutover');
create index placement_moves_organization_id_idx on public.placement_moves (organization_id, created_at desc);
create index placement_moves_to_clean_idx on public.placement_moves (clean_after) where cleaned_at is null;
call private.protect('public.placement_moves', registry => true, scope => 'organization', key => 'organization_id', guard => false);
call private.guard_status('public.placement_moves', 'state');

-- Work for the operator's worker ----------------------------------------------------------------------

create table public.fleet_jobs (
  id uuid primary key default private.new_id(),
  kind text not null,
  arguments jsonb not null default '{}',
  state text not null default 'queued',
  progress jsonb not null default '{}',
  result jsonb,
  error text,
  requested_by text,
  attempts integer not null default 0,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint fleet_jobs_kind check (kind in ('provision', 'move', 'suspend', 'resume', 'archive', 'drop', 'migrate_up', 'migrate_status',
    'migrate_rollback', 'backup', 'restore', 'maintenance')),
  constraint fleet_jobs_state check (state in ('queued', 'running', 'done', 'failed')),
  constraint fleet_jobs_arguments check (jsonb_typeof(arguments) = 'object' and pg_column_size(arguments) < 65536)
);
comment on table public.fleet_jobs is
  'What operators asked for that no transaction can do, such as making a database. `tenantry fleet worker` does it; the row tells how it went.';
comment on column public.fleet_jobs.requested_by is 'Who asked, in the words of whoever asked.';
create index fleet_jobs_open_idx on public.fleet_jobs (created_at) where state in ('queued', 'running');
alter table public.fleet_jobs enable row level security;
alter table public.fleet_jobs force row level security;
revoke all on public.fleet_jobs from public, anon, authenticated, service_role;
grant select on public.fleet_jobs to service_role;
call private.guard_status('public.fleet_jobs', 'state');

create function public.request_fleet_job(kind text, arguments jsonb default '{}', requested_by text default null)
returns public.fleet_jobs
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_job public.fleet_jobs;
begin
  begin
    insert into public.fleet_jobs (kind, arguments, requested_by)
    values (request_fleet_job.kind, coalesce(request_fleet_job.arguments, '{}'), left(request_fleet_job.requested_by, 200))
    returning * into v_job;
  exception when check_violation or not_null_violation then
    perform private.fail('22023', 'There is no such job.', 'kind', 'bad_choice',
      'Send provision, move, suspend, resume, archive, drop, migrate_up, migrate_status, migrate_rollback, backup, restore or maintenance, and an object as arguments.');
  end;
  perform pg_notify('tenantry_fleet', v_job.id::text);
  return v_job;
end $$;
comment on function public.request_fleet_job(text, jsonb, text) is
  'Puts a job into the line of the operator''s worker. For operators (service_role). Follow its row in fleet_jobs.';

create function private.organization_of_tenant(key text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_id uuid := case when key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then key::uuid end;
begin
  if v_id is not null then
    return coalesce((select o.id from public.organizations o where o.id = v_id),
                    (select b.organization_id from public.businesses b where b.id = v_id));
  end if;
  return (select o.id from public.organizations o where o.slug::text = key);
end $$;
comment on function private.organization_of_tenant(text) is 'The organization meant by its id, its slug, or the id of one of its businesses; null for none.';

create function public.provision_business(
  name text, owner_email text, isolation text default 'pooled', business_name text default null, timezone text default 'UTC',
  country text default 'US', slug text default null, requested_by text default null)
returns public.fleet_jobs
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.check_length(provision_business.name, 'name', 1, 200);
  if provision_business.isolation is null or provision_business.isolation not in ('pooled', 'schema', 'database') then
    perform private.fail('22023', 'isolation is not one we know.', 'isolation', 'bad_choice', 'Send pooled, schema or database.');
  end if;
  perform private.check_slug(provision_business.slug);
  perform private.check_country(provision_business.country);
  if not private.is_timezone(provision_business.timezone) then
    perform private.fail('22023', 'timezone is not a name of the tz database.', 'timezone', 'bad_timezone', 'For example: Europe/Berlin.');
  end if;
  if not exists (select 1 from auth.users u where lower(u.email) = lower(btrim(provision_business.owner_email))) then
    perform private.fail('PT404', 'Nobody has an account with this address.', 'owner_email', 'not_found', 'Let the owner sign up first.');
  end if;
  return public.request_fleet_job('provision', jsonb_build_object(
    'name', provision_business.name, 'owner_email', provision_business.owner_email, 'isolation', provision_business.isolation,
    'business_name', coalesce(provision_business.business_name, provision_business.name), 'timezone', provision_business.timezone,
    'country', provision_business.country, 'slug', provision_business.slug), provision_business.requested_by);
end $$;
comment on function public.provision_business(text, text, text, text, text, text, text, text) is
  'Asks the operator''s worker for a new organization with one business, owned by somebody who has an account, in a placement: pooled, schema or database. For operators. Follow the job in fleet_jobs.';

create function public.move_business(business_id uuid, isolation text, requested_by text default null) returns public.fleet_jobs
language plpgsql security definer set search_path = ''
as $$
declare
  v_organization uuid := private.organization_of_tenant(move_business.business_id::text);
begin
  if move_business.isolation is null or move_business.isolation not in ('pooled', 'schema', 'database') then
    perform private.fail('22023', 'isolation is not one we know.', 'isolation', 'bad_choice', 'Send pooled, schema or database.');
  end if;
  if v_organization is null then
    perform private.fail('PT404', 'There is no such business.', 'business_id', 'not_found', 'Check business_id.');
  end if;
  return public.request_fleet_job('move', jsonb_build_object('tenant', v_organization, 'isolation', move_business.isolation), move_business.requested_by);
end $$;
comment on function public.move_business(uuid, text, text) is
  'Asks the operator''s worker to move the organization of a business, with all its businesses, into another placement. For operators. Follow the job in fleet_jobs and the move in placement_moves.';

grant execute on function public.request_fleet_job(text, jsonb, text), public.move_business(uuid, text, text),
  public.provision_business(text, text, text, text, text, text, text, text) to service_role;
