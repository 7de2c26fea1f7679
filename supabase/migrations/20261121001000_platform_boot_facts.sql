/*
 * What the gateway compares with gateway/tenantry_gateway/expected_database.json before it serves: one row
 * for each thing that decides who sees and changes what. Fingerprints are the same on Postgres 15 to 18, in
 * databases of any name, whatever rows they hold and whichever months audit_logs has partitions for; those of a
 * tenant's schema are written as if it were called public, so that one list fits all of them.
 */
create function public.boot_facts(schema text default null) returns table (section text, name text, fingerprint text, risk text)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  -- Each can make somebody else of a caller, or change what a name or a write means.
  v_whole constant boolean := boot_facts.schema is null;
  v_schema constant text := coalesce(quote_ident(boot_facts.schema), 'public');
  v_risky constant text := '^(pgrst\.|request\.|(role|session_authorization|session_replication_role|row_security|search_path|local_preload_libraries)$)';
begin
  return query
  with schemas as (
    select n.oid, n.nspname <> 'private' as served
    from pg_catalog.pg_namespace n
    where n.nspname = any (case when v_whole then array['public', 'private'] else array[boot_facts.schema] end)
  ), owner as (
    select n.nspowner as id from pg_catalog.pg_namespace n where n.nspname = 'private'
  ), people as (
    select r.* from pg_catalog.pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'integrator')
  ), members_of_extensions as (
    select d.classid, d.objid from pg_catalog.pg_depend d where d.deptype = 'e'
  ), relations as materialized (
    select c.oid, c.relkind, c.relacl, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relispartition, s.served,
      case c.relowner when o.id then 'owner' else c.relowner::regrole::text end as belongs_to,
      -- The partitions of a table are one thing here: a name for all, and a row for each way they differ.
      replace(coalesce((select i.inhparent::regclass || ' partition' from pg_catalog.pg_inherits i
                where c.relispartition and i.inhrelid = c.oid), c.oid::regclass::text), v_schema, 'public') as name
    from pg_catalog.pg_class c join schemas s on s.oid = c.relnamespace cross join owner o
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not exists (select from members_of_extensions e where e.classid = 'pg_class'::regclass and e.objid = c.oid)
  ), routines as materialized (
    select p.*, replace(p.oid::regprocedure::text, v_schema, 'public') as name, case p.proowner when o.id then 'owner' else p.proowner::regrole::text end as belongs_to
    from pg_catalog.pg_proc p join schemas s on s.oid = p.pronamespace cross join owner o
    where not exists (select from members_of_extensions e where e.classid = 'pg_proc'::regclass and e.objid = p.oid)
  ), privileges (object, grantee, privilege) as (
    select r.name, a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end
    from relations r, pg_catalog.aclexplode(r.relacl) a where a.grantee <> r.relowner
    union all
    select r.name, a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end || '(' || t.attname || ')'
    from relations r join pg_catalog.pg_attribute t on t.attrelid = r.oid and not t.attisdropped, pg_catalog.aclexplode(t.attacl) a
    where a.grantee <> r.relowner
    union all
    select p.name, a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end
    from routines p, pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a where a.grantee <> p.proowner
    union all
    select 'schema ' || n.nspname, a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end
    from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
    where (n.oid in (select s.oid from schemas s) or v_whole and n.nspname = 'extensions') and a.grantee <> n.nspowner
    union all
    select 'database', a.grantee, a.privilege_type || case when a.is_grantable then '*' else '' end
    from pg_catalog.pg_database d, pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
    where v_whole and d.datname = current_database() and a.grantee <> d.datdba
    union all
    select 'default ' || d.defaclobjtype::text || coalesce(' in ' || d.defaclnamespace::regnamespace::text, ''), a.grantee, a.privilege_type
    from pg_catalog.pg_default_acl d join owner o on o.id = d.defaclrole, pg_catalog.aclexplode(d.defaclacl) a
    where (v_whole and d.defaclnamespace = 0 or d.defaclnamespace in (select s.oid from schemas s)) and a.grantee <> d.defaclrole
  ), settings (role, parameter, value) as (
    select coalesce(r.rolname::text, 'everybody') || case when g.setdatabase <> 0 and r.rolname is not null then ' here' else '' end,
      split_part(k, '=', 1), substr(k, strpos(k, '=') + 1)
    from pg_catalog.pg_db_role_setting g left join people r on r.oid = g.setrole, unnest(g.setconfig) k
    where v_whole and (g.setrole = 0 or r.oid is not null)
      and (g.setdatabase = 0 or g.setdatabase = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))
  ), facts (section, name, text, risk) as (
    -- Row security
    select 'policies', r.name, concat_ws(' ', r.belongs_to, r.relrowsecurity, r.relforcerowsecurity),
      case when r.served and not (r.relrowsecurity and r.relforcerowsecurity) then 'open' else 'none' end
    from relations r where r.relkind in ('r', 'p')
    union all
    select 'policies', r.name || ' ' || quote_ident(p.polname),
      concat_ws(E'\n', p.polcmd, p.polpermissive,
        (select string_agg(case m when 0 then 'PUBLIC' else m::regrole::text end, ', ' order by m::regrole::text collate "C") from unnest(p.polroles) m),
        -- Each names the schema whose rights it asks for: its own, and no other.
        'using ' || replace(pg_get_expr(p.polqual, p.polrelid), quote_literal(coalesce(boot_facts.schema, 'public')), '''its own'''),
        'check ' || replace(pg_get_expr(p.polwithcheck, p.polrelid), quote_literal(coalesce(boot_facts.schema, 'public')), '''its own''')),
      case when p.polpermissive then 'widens' else 'none' end
    from pg_catalog.pg_policy p join relations r on r.oid = p.polrelid
    -- Grants
    union all
    select 'grants', g.object || ' to ' || case g.grantee when 0 then 'PUBLIC' else g.grantee::regrole::text end,
      string_agg(distinct g.privilege collate "C", ', '),
      case when g.grantee = 0 or g.grantee in (select p.oid from people p where p.rolname = 'anon') or g.object like 'default %'
        then 'open' else 'widens' end
    from privileges g group by g.object, g.grantee
    union all
    select 'grants', 'default functions', coalesce(string_agg(a.privilege_type, ', '), ''), 'none'
    from owner o
      left join pg_catalog.pg_default_acl d on d.defaclrole = o.id and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
      left join pg_catalog.aclexplode(coalesce(d.defaclacl, pg_catalog.acldefault('f', o.id))) a on a.grantee = 0
    where v_whole
    -- Functions
    union all
    select 'functions', p.name,
      concat_ws(E'\n', p.belongs_to, p.prokind, p.provolatile, p.prosecdef, p.proleakproof, p.proisstrict, p.proparallel, l.lanname,
        pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
        array(select k from unnest(p.proconfig) k order by k collate "C")::text, p.prosrc,
        -- Postgres 18 makes these ids itself; the older form is the other text that the migration has for it.
        case when p.name = 'private.new_id()' and regexp_replace(pg_get_function_sqlbody(p.oid), '\s+', ' ', 'g') in
            ('BEGIN ATOMIC SELECT uuidv7() AS uuidv7; END',
             'BEGIN ATOMIC SELECT (encode(set_bit(set_bit(OVERLAY(uuid_send(gen_random_uuid()) PLACING SUBSTRING(int8send(((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint) FROM 3) FROM 1 FOR 6), (52)::bigint, 1), (53)::bigint, 1), ''hex''::text))::uuid AS encode; END')
          then 'a time-ordered id' else pg_get_function_sqlbody(p.oid) end),
      case when p.prosecdef and not exists (select from unnest(p.proconfig) k where k like 'search\_path=%') then 'open' else 'none' end
    from routines p join pg_catalog.pg_language l on l.oid = p.prolang
    -- Triggers and rules
    union all
    select 'triggers', r.name || ' ' || quote_ident(t.tgname),
      t.tgenabled::text || ' ' || replace(replace(pg_get_triggerdef(t.oid), ' ' || r.oid::regclass || ' ', ' ' || r.name || ' '), v_schema, 'public'), 'none'
    from pg_catalog.pg_trigger t join relations r on r.oid = t.tgrelid where not t.tgisinternal
    union all
    select 'triggers', r.name || ' keys', t.tgenabled::text, 'open'
    from pg_catalog.pg_trigger t join relations r on r.oid = t.tgrelid where t.tgisinternal and t.tgenabled <> 'O'
    union all
    select 'triggers', r.name || ' rule ' || quote_ident(w.rulename), pg_get_ruledef(w.oid), 'widens'
    from pg_catalog.pg_rewrite w join relations r on r.oid = w.ev_class where r.relkind in ('r', 'p')
    -- Views
    union all
    select 'views', r.name,
      concat_ws(E'\n', r.belongs_to, r.relkind, array(select k from unnest(r.reloptions) k order by k collate "C")::text,
        -- Before Postgres 16 every column is printed with its table's name. What the view reads is listed apart.
        regexp_replace(pg_get_viewdef(r.oid), '\m[a-z_][a-z0-9_]*\.', '', 'g'),
        (select string_agg(distinct replace(i.identity, v_schema, 'public') collate "C", ', ')
         from pg_catalog.pg_rewrite w join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid,
           pg_catalog.pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) i
         where w.ev_class = r.oid)),
      case when r.served and not (r.relkind = 'v' and exists (
          select from unnest(r.reloptions) k where k like 'security\_invoker=%' and split_part(k, '=', 2)::boolean))
        then 'open' else 'none' end
    from relations r where r.relkind in ('v', 'm', 'f')
    -- Constraints. NOT NULL is left out: it became a constraint in Postgres 18.
    union all
    select 'constraints', r.name || ' ' || quote_ident(k.conname), concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated), 'none'
    from pg_catalog.pg_constraint k join relations r on r.oid = k.conrelid
    where k.contype in ('p', 'u', 'f', 'x', 'c') and k.conparentid = 0 and not r.relispartition
    union all
    select 'constraints', r.name || ' ' || quote_ident(c.relname), concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid), 'none'
    from pg_catalog.pg_index i join relations r on r.oid = i.indrelid join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indisunique and not r.relispartition and not exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
    -- Roles. Who logs in, and as whom, is the operator's choice where it is not an API role.
    union all
    select 'roles', p.rolname::text, concat_ws(' ', p.rolsuper, p.rolinherit, p.rolcreatedb, p.rolcreaterole, p.rolreplication, p.rolbypassrls,
      case when p.rolname in ('anon', 'authenticated', 'service_role') then p.rolcanlogin end), 'none'
    from people p where v_whole
    union all
    -- Postgres 15 has no options of its own for inheriting and becoming.
    select 'roles', p.rolname || ' in ' || a.roleid::regrole,
      concat_ws(' ', a.admin_option, coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, p.rolinherit), coalesce((to_jsonb(a) ->> 'set_option')::boolean, true)),
      'open'
    from pg_catalog.pg_auth_members a join people p on p.oid = a.member where v_whole
    union all
    select 'roles', s.role || ' set ' || s.parameter, s.value, case when s.parameter ~ v_risky then 'open' else 'none' end
    from settings s where s.role <> 'everybody' and s.parameter not like 'pgrst.%'
    -- Settings that PostgREST reads from the database before its own configuration, and those of the whole database.
    union all
    select 'settings', s.role || ' set ' || s.parameter, s.value, 'open'
    from settings s where s.parameter like 'pgrst.%' or (s.role = 'everybody' and s.parameter ~ v_risky)
  )
  select distinct f.section, replace(f.name, v_schema, 'public') collate "C",
    left(encode(sha256(convert_to(replace(coalesce(f.text, ''), v_schema, 'public'), 'UTF8')), 'hex'), 32), f.risk
  from facts f;

  if not v_whole then
    if to_regclass(v_schema || '.schema_migrations') is not null then
      return query execute format(
        'select ''migrations'', m.version, left(encode(sha256(convert_to(m.version, ''UTF8'')), ''hex''), 32), ''none'' from %s.schema_migrations m', v_schema);
    end if;
  elsif to_regclass('supabase_migrations.schema_migrations') is not null then
    return query
    select 'migrations', m.version::text, left(encode(sha256(convert_to(m.version, 'UTF8')), 'hex'), 32), 'none'
    from supabase_migrations.schema_migrations m;
  end if;
end $$;
comment on function public.boot_facts(text) is
  'One row for each thing in public and private, or in the schema of a tenant, that decides who may do what, with a fingerprint of its definition, and the risk it would be if nobody had shipped it: none, widens (only on a shipped object) or open (anywhere). For the gateway, which compares them before it serves.';
grant execute on function public.boot_facts(text) to service_role;

create function public.boot_digest(schema text default null) returns text
language sql stable
begin atomic
  select encode(sha256(convert_to(string_agg(concat_ws(E'\n', f.section, f.name, f.fingerprint, f.risk), E'\n'
    order by f.section collate "C", f.name collate "C", f.fingerprint collate "C", f.risk collate "C"), 'UTF8')), 'hex')
  from public.boot_facts(boot_digest.schema) f;
end;
comment on function public.boot_digest(text) is
  'One fingerprint of all boot_facts(): the gateway compares the rows once, and this alone in the many places that are alike.';
grant execute on function public.boot_digest(text) to service_role;

create function public.boot_rows() returns setof integer
language sql stable
begin atomic
  select pg_catalog.generate_series(1, 1001);
end;
comment on function public.boot_rows() is 'More rows than PostgREST may hand out at once: the gateway asks for them to see that its max-rows is set.';
grant execute on function public.boot_rows() to service_role;
