-- Customers, contact points, conversations, messages and calls, interleaved in time as they would
-- have arrived. Runs as superuser with session_replication_role = replica and without secondary
-- indexes; every derived column is given here. Settings: bench.customers, bench.calls, bench.messages.

-- One business has a fifth of all customers, ten share three tenths, the rest have between a fifth
-- and nine fifths of what is left for each.
select setseed(0.42);
alter table bench.tenants add customers integer;
with total as (select current_setting('bench.customers')::numeric as customers),
-- The businesses that the measurements look at are average ones.
small as (
  select n, case when n between 40 and 44 then 1 else 0.2 + 1.6 * random()::numeric end as weight
  from bench.tenants where n > 11)
update bench.tenants t set customers = round(total.customers * case
    when t.n = 1 then 0.2
    when t.n <= 11 then 0.03
    else 0.5 * (select weight from small where small.n = t.n) / (select sum(weight) from small) end)
from total;

create unlogged table bench.people as
select row_number() over (order by at) as i, p.*, uuidv7(p.at - clock_timestamp()) as id,
  (p.at at time zone p.timezone)::date as local_day
from (
  select t.n, t.business_id, t.timezone, now() - random() * interval '365 days' as at
  from bench.tenants t, generate_series(1, t.customers)) p;
alter table bench.people add primary key (i);
analyze bench.people;

insert into customers (business_id, id, first_name, last_name, company_name, primary_email,
  primary_phone, lifecycle_stage, source, city, country, notes, metric_date, created_at, updated_at)
select p.business_id, p.id,
  (array['Ana','Ben','Carla','David','Elena','Frank','Grace','Hugo','Irina','Jonas','Klara','Liam',
    'Maria','Noah','Olga','Pavel','Quinn','Rosa','Samuel','Teresa'])[p.i * 7 % 20 + 1],
  (array['Miller','Smith','Garcia','Novak','Rossi','Kowalski','Yamada','Silva','Jensen','Dubois'])[p.i * 3 % 10 + 1]
    || p.i % 997,
  case when p.i % 3 = 0 then 'Company ' || p.i % 5000 end,
  case when p.i % 3 = 1 then 'c' || p.i || '@mail' || p.i % 50 || '.example' end,
  bench.phone(p.i), (array['lead','prospect','customer','former'])[p.i % 4 + 1], 'import',
  (array['Lisbon','Oslo','Austin','Kyoto','Graz','Porto','Dallas','Bergen'])[p.i % 8 + 1], 'US',
  case when p.i % 5 = 0 then 'Prefers to be called in the morning, reference ' || p.i end,
  p.local_day, p.at, p.at
from bench.people p order by p.i;

insert into contact_points (business_id, customer_id, kind, raw, normalized, is_primary, created_at, updated_at)
select p.business_id, p.id, v.kind, v.address, v.address, true, p.at, p.at
from bench.people p, lateral (values
  ('phone', bench.phone(p.i)),
  ('email', case when p.i % 3 = 1 then 'c' || p.i || '@mail' || p.i % 50 || '.example' end)) v(kind, address)
where v.address is not null order by p.i;

-- Five messages to a conversation, an hour apart.
insert into conversations (business_id, id, channel_id, customer_id, peer, status, opened_at, metric_date,
  message_count, unread_count, last_message_at, last_message_preview, created_at, updated_at)
select p.business_id, p.id, bench.channel(p.n, 'sms'), p.id, bench.phone(p.i), 'open', p.at, p.local_day,
  5, 3, p.at + interval '5 hours', 'Message 5 of ' || p.i, p.at, p.at
from bench.people p
where p.i % greatest(1, current_setting('bench.customers')::integer * 5 / current_setting('bench.messages')::integer) = 0
order by p.i;

insert into messages (business_id, id, conversation_id, channel_id, direction, sender_kind, body,
  provider_message_id, occurred_at, sent_at, metric_date, created_at, updated_at)
select c.business_id, uuidv7(m.at - clock_timestamp()), c.id, c.channel_id, d.direction,
  case d.direction when 'inbound' then 'customer' else 'system' end,
  'Message ' || k || ': thank you, Thursday at ten is fine for us.', 'SM' || c.id || k,
  m.at, case d.direction when 'outbound' then m.at end, (m.at at time zone t.timezone)::date, m.at, m.at
from conversations c join bench.tenants t using (business_id), generate_series(1, 5) k,
  lateral (select c.opened_at + k * interval '1 hour' as at) m,
  lateral (select case when k % 2 = 1 then 'inbound' else 'outbound' end as direction) d
order by m.at;

insert into calls (business_id, id, channel_id, customer_id, direction, peer, from_address, to_address,
  status, started_at, answered_at, ended_at, duration_seconds, outcome, metric_date, created_at, updated_at)
select p.business_id, uuidv7(k.at - clock_timestamp()), bench.channel(p.n, 'voice'), p.id, 'inbound',
  bench.phone(p.i), bench.phone(p.i), bench.phone(79000000 + p.n), k.status, k.at,
  case k.status when 'completed' then k.at end, k.at + k.seconds * interval '1 second', k.seconds,
  k.status, (k.at at time zone p.timezone)::date, k.at, k.at
from (
  -- Some call often, most once or never.
  select 1 + floor((select count(*) from bench.people) * random() ^ 2)::bigint as i, random() as age,
    case when n % 4 = 0 then 'no_answer' else 'completed' end as status,
    case when n % 4 = 0 then 0 else 20 + n % 600 end as seconds
  from generate_series(1, current_setting('bench.calls')::integer) n) r
join bench.people p using (i),
  lateral (select p.at + r.age * (now() - p.at) as at, r.status, r.seconds) k
order by k.at;

insert into daily_metric_slots (business_id, metric_date, metric, channel_id, membership_id, slot, value)
select d.business_id, d.metric_date, d.metric, d.channel_id, d.membership_id, 0, d.expected
from metric_differences(array(select business_id from bench.tenants)) d;
