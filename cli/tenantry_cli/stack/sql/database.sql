-- What a new hosted Supabase database holds before the first migration. Runs once per database,
-- as the superuser where there is one, else as `postgres` (a hosted or self-hosted Supabase).

create schema if not exists extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant usage on schema public to anon, authenticated, service_role;

do $$
begin
  if current_user <> 'postgres' then
    grant all on schema extensions to postgres;
  end if;
end $$;

-- Extensions that are not `trusted`: Supabase lets `postgres` create them from its allow-list,
-- plain Postgres does not. Here its superuser makes them beforehand, so that a migration's
-- `create extension if not exists ... with schema extensions` succeeds everywhere. Hosted has
-- pg_stat_statements, pgcrypto and uuid-ossp from the start; the embedded build lacks the last two.
do $$
declare
  extension text;
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    return;
  end if;
  for extension in
    select name
    from pg_available_extensions
    where name in ('pg_stat_statements', 'pgcrypto', 'uuid-ossp', 'vector', 'moddatetime')
    order by name
  loop
    execute format('create extension if not exists %I with schema extensions', extension);
  end loop;
end $$;

-- Supabase opens everything new in `public` to the API roles. The first migration takes this back;
-- it is given here so that the taking back is tested.
alter default privileges for role postgres in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to anon, authenticated, service_role;

-- PostgREST reads the catalog again after each change of it. Only a superuser makes event triggers.
do $do$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    return;
  end if;

  create or replace function extensions.pgrst_ddl_watch() returns event_trigger
  language plpgsql as $$
  begin
    if exists (
      select from pg_event_trigger_ddl_commands() as command
      where command.schema_name is distinct from 'pg_temp'
    ) then
      notify pgrst, 'reload schema';
    end if;
  end $$;

  create or replace function extensions.pgrst_drop_watch() returns event_trigger
  language plpgsql as $$
  begin
    if exists (select from pg_event_trigger_dropped_objects() where not is_temporary) then
      notify pgrst, 'reload schema';
    end if;
  end $$;

  if not exists (select from pg_event_trigger where evtname = 'pgrst_ddl_watch') then
    create event trigger pgrst_ddl_watch on ddl_command_end
      execute function extensions.pgrst_ddl_watch();
    create event trigger pgrst_drop_watch on sql_drop
      execute function extensions.pgrst_drop_watch();
  end if;
end $do$;
