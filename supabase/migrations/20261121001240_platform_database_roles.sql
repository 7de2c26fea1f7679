/*
 * Roles for people and programs that log in to the database itself. None has a password or may log in: an
 * operator makes a login and puts it into one of them, as in
 *   create role shop_backend login password '…' in role app_rw;
 *
 *   app_rw      what the product's own backend may do: exactly what `authenticated` may. Row security holds: a
 *               connection sees nothing until it says for whom it acts (set_config('request.jwt.claims', …)).
 *               Like PostgREST it is trusted to say that truly, and cannot become service_role.
 *   app_ro      analytics about tenants: numbers, never a row of a tenant. Policies admit `authenticated` alone,
 *               whose rights include writing, so there is no role that reads rows under them and writes nothing;
 *               and one that reads rows past them would be an operator. Who reports on rows reads them as a
 *               member (app_rw, or the API), or from a backup.
 *   app_admin   migrations and maintenance: becomes the owner of the database. An operator: past every policy.
 *   app_backup  reads everything, past row security, for pg_dump. An operator.
 *
 * Who may grant what differs: from Postgres 16 on only a holder with the admin option grants a role, before it
 * only a superuser gives BYPASSRLS. What is not possible here is left to an administrator, and
 * private.database_roles() says which statement is missing.
 */
do $$
declare
  v_role text;
begin
  foreach v_role in array array['app_rw', 'app_ro', 'app_admin', 'app_backup'] loop
    begin
      execute format('create role %I nologin', v_role);
    exception
      when duplicate_object then null;   -- roles belong to the cluster, not to this database
      when insufficient_privilege then
        raise notice '% is not made: this role may not create roles. As an administrator: create role % nologin', v_role, v_role;
    end;
  end loop;
end $$;

create function private.missing_role_grants() returns table (role name, what text, remedy text)
language sql stable
set search_path = ''
as $$
  with owner as (
    select quote_ident(pg_catalog.pg_get_userbyid(d.datdba)) as name from pg_catalog.pg_database d where d.datname = current_database()
  ), wanted (role, what, granted, attribute, remedy) as (
    select 'app_admin', 'becoming the owner', o.name, null,
      -- From Postgres 16 on whoever makes a role is a member of it, and memberships may not go in a circle.
      case when current_setting('server_version_num')::integer >= 160000 then format('revoke app_admin from %s; ', o.name) else '' end
        || format('grant %s to app_admin', o.name)
    from owner o
    union all values
    ('app_rw', 'the rights of members', 'authenticated', null, 'grant authenticated to app_rw'),
    ('app_backup', 'reading every table', 'pg_read_all_data', null, 'grant pg_read_all_data to app_backup'),
    ('app_backup', 'reading past row security', null, 'bypassrls', 'alter role app_backup bypassrls')
  )
  select w.role::name, w.what, case when r.oid is null then format('create role %s nologin; ', w.role) else '' end || w.remedy
  from wanted w left join pg_catalog.pg_roles r on r.rolname = w.role
  where r.oid is null
    or (w.attribute is not null and not r.rolbypassrls)
    or (w.granted is not null and not exists (
      select from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid and quote_ident(g.rolname) = w.granted))
$$;
comment on function private.missing_role_grants() is 'What the login roles lack here, and the statement with which an administrator gives it.';

do $$
declare
  v_missing record;
begin
  for v_missing in select * from private.missing_role_grants() m where m.remedy not like 'create role %' loop
    begin
      execute v_missing.remedy;
    exception when insufficient_privilege or feature_not_supported or invalid_grant_operation then
      raise notice '% goes without % here. As an administrator: %', v_missing.role, v_missing.what, v_missing.remedy;
    end;
  end loop;
end $$;

-- Functions of the owner, which answer with numbers alone.
do $$ begin
  grant usage on schema private to app_ro;
  grant execute on function private.tenant_statistics(), private.system_statistics(), private.database_sizes(),
    private.connection_usage(), private.tenant_growth(integer) to app_ro;
exception when undefined_object then
  raise notice 'app_ro does not exist here: nothing is granted to it';
end $$;

create function private.database_roles() returns table (role name, purpose text, is_present boolean, reads_past_row_security boolean, members name[], missing text[])
language sql stable
set search_path = ''
as $$
  select k.role::name, k.purpose, r.oid is not null, coalesce(r.rolbypassrls or r.rolsuper, false),
    array(select u.rolname from pg_catalog.pg_auth_members m join pg_catalog.pg_roles u on u.oid = m.member
          where m.roleid = r.oid and u.rolcanlogin and u.rolname <> current_user order by 1),
    array(select m.remedy from private.missing_role_grants() m where m.role = k.role order by 1)
  from (values
    ('app_rw', 'reads and writes as the member it names, under row security'),
    ('app_ro', 'reads numbers about tenants, no row of any'),
    ('app_admin', 'becomes the owner: migrations, maintenance'),
    ('app_backup', 'reads everything, for backups')) k(role, purpose)
  left join pg_catalog.pg_roles r on r.rolname = k.role
$$;
comment on function private.database_roles() is
  'The roles for logins to the database: who is in them, and what an administrator has yet to grant (empty: nothing). For operators.';
