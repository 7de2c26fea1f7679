-- Organizations, businesses, people and channels of a benchmark database, and who may do what.
-- Runs as superuser with session_replication_role = replica, so no trigger fires; what triggers
-- would have derived (directory, access cache) is computed at the end by the functions they use.
-- Setting bench.businesses says how many.

create schema bench;
grant usage on schema bench to public;

-- Ids that a load generator can compute from a number.
create function bench.id_of(kind integer, n integer) returns uuid
language sql immutable parallel safe
return (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
create function bench.business(n integer) returns uuid
language sql immutable parallel safe return bench.id_of(1, n);
create function bench.person(n integer) returns uuid
language sql immutable parallel safe return bench.id_of(3, n);
create function bench.connection(n integer) returns uuid
language sql immutable parallel safe return bench.id_of(5, n);
create function bench.channel(n integer, kind text) returns uuid
language sql immutable parallel safe
return bench.id_of(case kind when 'voice' then 6 else 7 end, n);

-- Numbers that libphonenumber takes for valid: ten area codes, then 2000000 to 9999999.
create function bench.phone(n bigint) returns text
language sql immutable parallel safe
return '+1' || (array[212, 312, 415, 206, 305, 404, 512, 617, 702, 713])[n % 10 + 1]
  || (2000000 + n / 10);

create table bench.tenants as
select n, bench.business(n) as business_id, bench.id_of(2, (n - 1) / 4) as organization_id,
  (array['America/New_York', 'America/Los_Angeles', 'Europe/Berlin', 'Asia/Tokyo'])[n % 4 + 1]
    as timezone
from generate_series(1, current_setting('bench.businesses')::integer) n;

insert into organizations (id, name, slug, country)
select distinct organization_id, 'Organization ' || organization_id, 'o-' || organization_id, 'US'
from bench.tenants;
insert into organization_placements (organization_id) select id from organizations;
insert into subscriptions (organization_id, plan_id)
select o.id, p.id from organizations o, subscription_plans p where p.code = 'scale';
insert into businesses (id, organization_id, name, slug, timezone, country, currency)
select business_id, organization_id, 'Business ' || n, 'b-' || n, timezone, 'US', 'USD'
from bench.tenants;

-- Per business one owner and five staff. People 1 to 9 are the callers of the measurements.
create table bench.members as
select t.n as business, 1000 + t.n as person, 'owner' as role from bench.tenants t
union all
select t.n, 100000 + t.n * 5 + k, 'staff' from bench.tenants t, generate_series(0, 4) k
union all
select b, p, 'manager' from (
  select 1 as p, 40 as b union all select 2, 1
  union all select 3, generate_series(40, 44) union all select 4, generate_series(20, 219)) callers;

insert into auth.users (id, email)
select bench.person(person), 'p' || person || '@bench.example' from (select distinct person from bench.members) p;
insert into profiles (user_id, full_name) select id, email from auth.users;
insert into business_memberships (business_id, id, user_id)
select bench.business(business), bench.id_of(4, person * 10000 + business), bench.person(person)
from bench.members where person < 1000
union all
select bench.business(business), bench.id_of(4, person), bench.person(person)
from bench.members where person >= 1000;
insert into membership_roles (business_id, membership_id, role_id)
select m.business_id, m.id, r.id
from business_memberships m
join bench.members b on bench.business(b.business) = m.business_id and bench.person(b.person) = m.user_id
join roles r on r.business_id is null and r.code = b.role;

insert into provider_connections (business_id, id, provider, account_ref, name)
select business_id, bench.connection(n), 'twilio', 'AC' || lpad(to_hex(n), 32, '0'), 'Twilio'
from bench.tenants;
insert into channels (business_id, id, connection_id, kind, name, address, address_normalized, provider)
select t.business_id, bench.channel(t.n, k.kind), bench.connection(t.n), k.kind, initcap(k.kind),
  bench.phone(79000000 + t.n), bench.phone(79000000 + t.n), 'twilio'
from bench.tenants t, (values ('voice'), ('sms')) k(kind);

select private.refresh_business_directory(array(select id from organizations));
select private.refresh_all_user_access();
