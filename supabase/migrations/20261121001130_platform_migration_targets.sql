/*
 * How far each place of the fleet is with its migrations, and which code may still work with a database.
 *
 * The truth about a place is its own ledger. These rows of the main database say what the last run of
 * `tenantry migrate` found and did, so that an operator, the gateway and the next run need not visit everybody.
 */
create table public.migration_targets (
  target text primary key,
  kind text not null,
  database_name text not null,
  schema_name text,
  organization_id uuid,
  version text,
  state text not null,
  error text,
  attempts integer not null default 0,
  catalog_hash text,
  updated_at timestamptz not null default now(),
  constraint migration_targets_kind check (kind in ('main', 'template', 'shelf', 'database', 'schema', 'reference')),
  constraint migration_targets_state check (state in ('current', 'behind', 'failed')),
  constraint migration_targets_error check ((state = 'failed') = (error is not null))
);
comment on table public.migration_targets is
  'In the main database: the databases and schemas that migrations go to, as the last run left them. Written by `tenantry migrate`.';
comment on column public.migration_targets.target is 'The database, or database/schema.';
comment on column public.migration_targets.kind is 'reference: what the catalog of a database or of a schema of an organization should hash to.';
comment on column public.migration_targets.organization_id is 'Whose place it is, of those that have one of their own. No reference: an organization may be gone before its place.';
comment on column public.migration_targets.version is 'The newest migration that was applied.';
comment on column public.migration_targets.attempts is 'Failures in a row.';
comment on column public.migration_targets.catalog_hash is 'MD5 of the catalog with the names of schemas taken out; one that differs from the reference has drifted.';
create index migration_targets_organization_id_idx on public.migration_targets (organization_id) where organization_id is not null;
alter table public.migration_targets enable row level security;
alter table public.migration_targets force row level security;
revoke all on public.migration_targets from public, anon, authenticated, service_role;
grant select on public.migration_targets to service_role;

-- Code and database -------------------------------------------------------------------------------------

create table private.compatibility (
  compatible_from text not null,
  only_row boolean primary key default true check (only_row)
);
comment on table private.compatibility is
  'The oldest code that may work with this database, told by the newest migration it knows. Set from the headers of migrations that take something away.';
insert into private.compatibility (compatible_from) values ('0');
alter table private.compatibility enable row level security;
alter table private.compatibility force row level security;

create function public.check_code_version(newest_known text) returns text
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_from text := (select c.compatible_from from private.compatibility c);
begin
  if newest_known is null or newest_known !~ '^[0-9]{1,20}$' then
    perform private.fail('22023', 'newest_known must be the version of a migration.', 'newest_known', 'bad_version', 'For example: 20261121001130.');
  end if;
  if newest_known::numeric < v_from::numeric then
    perform private.fail('PT409', format('This database needs code that knows migration %s.', v_from), 'newest_known', 'code_too_old',
      'Install a newer version, or roll the database back first.');
  end if;
  return v_from;
end $$;
comment on function public.check_code_version(text) is
  'For the gateway and the tools: refuses code whose newest known migration is older than what this database needs; returns that version. For operators.';
grant execute on function public.check_code_version(text) to service_role;
