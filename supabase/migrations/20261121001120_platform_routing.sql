/*
 * What the gateway asks to find the home of a request, and what each database asks of a request that came in.
 *
 * The gateway remembers homes; a memory may be old. In databases beside the main one it says with every request by
 * which home it went, and check_request() refuses one whose tenant does not live there: before anything was read or
 * written, so that the gateway looks again and sends it once more. The pooled tables of the main database would pay
 * a fifth more for every request; there a home changes only after routers had the time to see it announced. Either
 * way nobody gets the emptiness of a home that was left for an answer.
 */
create function private.kinds_of_principal(organization_id uuid, principal uuid) returns text[]
language sql stable security definer set search_path = ''
as $$
  select coalesce(array_agg(distinct k.kind order by k.kind), '{}') from (
    select unnest(array['staff', 'admin']) as kind from public.organization_memberships m
    where m.organization_id = kinds_of_principal.organization_id and m.user_id = principal and m.status = 'active'
    union all
    select case when m.customer_id is not null then 'client' when r.rank >= 900 then 'admin' else 'staff' end
    from public.business_memberships m
    join public.businesses b on b.id = m.business_id and b.organization_id = kinds_of_principal.organization_id
    left join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
    left join public.roles r on r.id = mr.role_id
    where m.user_id = principal and m.status = 'active'
    union all
    select 'staff' from public.business_memberships m
    join public.businesses b on b.id = m.business_id and b.organization_id = kinds_of_principal.organization_id
    where m.user_id = principal and m.status = 'active' and m.customer_id is null
    union all
    select 'key' from public.api_keys a join public.businesses b on b.id = a.business_id
    where a.id = principal and b.organization_id = kinds_of_principal.organization_id and a.revoked_at is null) k
$$;
comment on function private.kinds_of_principal(uuid, uuid) is
  'As what somebody belongs to an organization: staff, admin (rank 900 and above), client (the portal), key (an API key). Empty for strangers.';

create function public.resolve_tenant(kind text, key text, principal uuid default null)
returns table (organization_id uuid, business_id uuid, slug text, isolation text, database_name text, schema_name text, state text,
  epoch integer, audience text, kinds text[], version bigint)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_organization uuid;
  v_business uuid;
  v_audience text;
begin
  if resolve_tenant.kind = 'host' then
    select b.organization_id, d.business_id, d.audience into v_organization, v_business, v_audience
    from public.business_domains d join public.businesses b on b.id = d.business_id
    where d.host = lower(resolve_tenant.key) and d.verified_at is not null;
  elsif resolve_tenant.kind = 'database' then
    select p.organization_id into v_organization from public.organization_placements p
    where p.isolation = 'database' and p.database_name = resolve_tenant.key;
  elsif resolve_tenant.kind = 'tenant' then
    v_organization := private.organization_of_tenant(lower(resolve_tenant.key));
    select b.id into v_business from public.businesses b where b.id::text = lower(resolve_tenant.key);
  end if;
  return query
  select o.id, v_business, o.slug::text, p.isolation, p.database_name, p.schema_name,
    case when o.status = 'active' then p.state else o.status end, p.epoch, v_audience,
    private.kinds_of_principal(o.id, resolve_tenant.principal), (select v.version from private.placement_version v)
  from public.organizations o join public.organization_placements p on p.organization_id = o.id
  where o.id = v_organization;
end $$;
comment on function public.resolve_tenant(text, text, uuid) is
  'For the gateway: the home of a tenant by kind of name (host, tenant: id or slug of an organization or id of a business, database) and as what a caller belongs to it. No row for an unknown name.';

create function public.homes_of(principal uuid)
returns table (organization_id uuid, isolation text, database_name text, schema_name text, state text, epoch integer, version bigint)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select p.organization_id, p.isolation, p.database_name, p.schema_name, case when o.status = 'active' then p.state else o.status end, p.epoch,
    (select v.version from private.placement_version v)
  from public.organizations o join public.organization_placements p on p.organization_id = o.id
  where o.id in (
    select m.organization_id from public.organization_memberships m where m.user_id = homes_of.principal and m.status = 'active'
    union select b.organization_id from public.business_memberships m join public.businesses b on b.id = m.business_id
      where m.user_id = homes_of.principal and m.status = 'active'
    union select b.organization_id from public.api_keys k join public.businesses b on b.id = k.business_id
      where k.id = homes_of.principal and k.revoked_at is null)
  order by p.organization_id;
end $$;
comment on function public.homes_of(uuid) is
  'For the gateway: where the organizations of a user or an API key live, for requests that name no tenant.';

-- A router goes by a home that it looked up within this time, so a home is left only when it was announced longer ago.
-- A first home leaves nothing behind, so nobody waits for that.
create function private.settle_seconds() returns numeric
language sql immutable
begin atomic
  select 0.25;
end;
comment on function private.settle_seconds() is
  'How long a router may go by what it knows. A home changes only when it has been announced (state moving) for longer than that.';
alter table private.placement_version add column announced_at timestamptz not null default '-infinity';
comment on column private.placement_version.announced_at is 'When a change of a home was last announced; taken at commit.';

create function private.tg_announce_home() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  update private.placement_version set announced_at = clock_timestamp();
  return null;
end $$;
comment on function private.tg_announce_home() is 'Deferred to commit: from now on routers can see that this home is about to change.';
create constraint trigger _970_announced after insert or update on public.organization_placements
  deferrable initially deferred for each row when (new.state = 'moving') execute function private.tg_announce_home();

create function private.tg_settle_home() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform pg_sleep(greatest(0, private.settle_seconds() * 1.5 - extract(epoch from clock_timestamp() - v.announced_at)))
  from private.placement_version v where v.announced_at > clock_timestamp() - interval '1 minute';
  return new;
end $$;
comment on function private.tg_settle_home() is 'Waits until every router has seen the announcement of this change, and no longer goes by the old home.';
create trigger _120_settle before update on public.organization_placements for each row
  when (old.database_name is distinct from new.database_name or old.schema_name is distinct from new.schema_name)
  execute function private.tg_settle_home();

create function public.placement_overview()
returns table (version bigint, elsewhere bigint, unsettled bigint, settle_seconds numeric)
language sql stable security definer set search_path = ''
as $$
  select (select v.version from private.placement_version v),
    count(*) filter (where (p.database_name, p.schema_name) <> (current_database()::text, 'public')),
    count(*) filter (where p.state = 'moving'), private.settle_seconds()
  from public.organization_placements p
$$;
comment on function public.placement_overview() is
  'For the gateway: the state of the registry, how many organizations live elsewhere than in the pooled tables of this database or are about to, and for how many seconds this may be believed.';

create function public.api_planes() returns table (kind text, name text, plane text)
language sql stable security definer set search_path = ''
as $$
  with relations as (
    select c.oid, c.relname::text as name, c.relkind, exists (select 1 from private.tenant_tables t where t.table_name = c.relname) as is_tenant
    from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
  )
  select 'relation', r.name,
    case when r.is_tenant or r.relkind = 'v' and exists (
      select 1 from pg_catalog.pg_rewrite w join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
        left join relations s on d.refclassid = 'pg_class'::regclass and s.oid = d.refobjid and s.oid <> r.oid
        left join pg_catalog.pg_proc f on d.refclassid = 'pg_proc'::regclass and f.oid = d.refobjid
      where w.ev_class = r.oid and (s.is_tenant or s.relkind = 'v' or f.proconfig::text like '%search\_path=public, %')) then 'tenant'
    when r.name = 'access_control_lists' then 'home'
    when exists (select 1 from private.registry_tables t where t.table_name = 'public.' || r.name) then 'registry'
    else 'platform' end
  from relations r
  union all
  -- Functions of the tenant plane captured their schema.
  select 'function', p.proname::text, case when exists (
      select 1 from unnest(p.proconfig) c where c like 'search\_path=public, %') then 'tenant' else 'platform' end
  from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
$$;
comment on function public.api_planes() is
  'For the gateway: where relations and functions of the API are served. tenant: the schema of the tenant at its home. home: the home''s public schema. registry: the main database, with a copy at each home that tenant rows can be embedded with. platform: the main database alone.';

grant execute on function public.resolve_tenant(text, text, uuid), public.homes_of(uuid), public.placement_overview(),
  public.api_planes() to service_role;

-- Before every request ---------------------------------------------------------------------------------

create function public.check_request() returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_home text := v_headers ->> 'x-tenantry-home';   -- organization.epoch.schema
  v_state text;
  v_epoch integer;
begin
  -- Set by the gateway alone, which takes it away from clients. Without it there is nothing to compare.
  if v_home is not null then
    select p.state, p.epoch into v_state, v_epoch
    from public.organization_placements p
    where p.organization_id = split_part(v_home, '.', 1)::uuid and p.database_name = current_database() and p.schema_name = split_part(v_home, '.', 3);
    if v_epoch is distinct from split_part(v_home, '.', 2)::integer then
      perform private.fail('PT421', 'This tenant does not live here.', null, 'not_home', 'Look its home up again.');
    end if;
    if v_state = 'moving' and current_setting('request.method', true) not in ('GET', 'HEAD') then
      perform private.fail('PT503', 'This tenant is being moved and can only be read for a moment.', null, 'moving', 'Try again in a few seconds.');
    end if;
  end if;
end $$;
comment on function public.check_request() is
  'PostgREST beside the main database calls this before every request: refuses with 421 what a gateway sent by an outdated home, and writes to a tenant that is being moved with 503.';
grant execute on function public.check_request() to anon, authenticated, service_role;
