-- The roles of a hosted Supabase project, made by the cluster's superuser `supabase_admin`.
-- Hosted facts: supabase/postgres, the role tests of its releases for Postgres 15 and 17.
-- Passwords are set apart. Every statement may run again.

do $$
declare
  wanted record;
begin
  for wanted in
    select *
    from (values
      -- The owner of the database. Not a superuser: what works here works hosted.
      ('postgres',            'login createdb createrole replication bypassrls'),
      ('anon',                'nologin'),
      ('authenticated',       'nologin'),
      ('service_role',        'nologin bypassrls'),
      -- PostgREST logs in as this role, which can do nothing itself and becomes one of the three.
      ('authenticator',       'login noinherit'),
      -- Auth and Storage own their schemas on hosted Supabase, so `postgres` may not alter them.
      ('supabase_auth_admin', 'nologin noinherit')
    ) as roles (name, attributes)
    where not exists (select from pg_roles where rolname = roles.name)
  loop
    execute format('create role %I with %s', wanted.name, wanted.attributes);
  end loop;
end $$;

grant anon, authenticated, service_role to authenticator;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
-- Hosted Supabase lets `postgres` set this one too (supautils): rows that are copied as they are
-- must not fire the triggers that made them so.
grant set on parameter session_replication_role to postgres;

-- From 16 on a role grants only what it holds with the admin option; in 15 CREATEROLE is enough.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    grant anon, authenticated, service_role, authenticator to postgres with admin option;
    grant pg_create_subscription to postgres;
  else
    grant anon, authenticated, service_role to postgres;
  end if;
end $$;

alter role postgres      set search_path = "$user", public, extensions;
alter role anon          set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
