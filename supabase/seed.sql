/*
 * A small story to look at: Bluebird Group runs a dental practice and a physiotherapy studio, Copperline
 * is a print shop that must never see them. A month of calls and messages ends today.
 *
 * All people and numbers are fictitious (555-01xx is reserved for fiction, example domains by RFC 2606).
 * Everybody's password is tenantry-demo. Never run this on a database that serves real people.
 */
select set_config('search_path', 'public, extensions, pg_temp', false);

-- People -------------------------------------------------------------------------------------------------

create temporary table seed_people (id uuid, email text, full_name text);
insert into seed_people values
  ('a0000000-0000-4000-8000-000000000001', 'owner@bluebird.example', 'Olivia Bird'),
  ('a0000000-0000-4000-8000-000000000002', 'manager@bluebird.example', 'Mateo Marsh'),
  ('a0000000-0000-4000-8000-000000000003', 'staff@bluebird.example', 'Sana Tariq'),
  ('a0000000-0000-4000-8000-000000000004', 'viewer@bluebird.example', 'Victor Lund'),
  ('a0000000-0000-4000-8000-000000000005', 'owner@copperline.example', 'Cleo Copper');

-- Empty strings, not nulls, where the auth service of hosted Supabase reads strings.
insert into auth.users (id, aud, role, email, encrypted_password, email_confirmed_at, confirmation_token, recovery_token,
  email_change, email_change_token_new, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
select id, 'authenticated', 'authenticated', email, '$2b$10$.KBHM/QWmoMgkQ9kf1bjJOvSQXvvBnS9iQ4hxlir6YbaBgL2RDmue', now(), '', '', '', '',
  '{"provider": "email", "providers": ["email"]}', jsonb_build_object('full_name', full_name), now() - interval '60 days', now()
from seed_people;
insert into auth.identities (id, provider, provider_id, user_id, identity_data, created_at, updated_at)
select gen_random_uuid(), 'email', id::text, id,
  jsonb_build_object('sub', id, 'email', email, 'email_verified', true), now() - interval '60 days', now()
from seed_people;

-- Organizations and businesses ---------------------------------------------------------------------------

insert into organizations (id, name, slug, country, billing_email) values
  ('b0000000-0000-4000-8000-000000000001', 'Bluebird Group', 'bluebird', 'US', 'billing@bluebird.example'),
  ('b0000000-0000-4000-8000-000000000002', 'Copperline', 'copperline', 'GB', 'billing@copperline.example');
insert into organization_placements (organization_id) select id from organizations where slug in ('bluebird', 'copperline');
insert into subscriptions (organization_id, plan_id)
select o.id, p.id from organizations o join subscription_plans p on p.code = 'growth' where o.slug in ('bluebird', 'copperline');
insert into organization_memberships (organization_id, user_id, role) values
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'owner'),
  ('b0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000005', 'owner');

insert into businesses (id, organization_id, name, slug, timezone, country, currency, locale) values
  ('c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001', 'Bluebird Dental', 'bluebird-dental', 'America/New_York', 'US', 'USD', 'en-US'),
  ('c0000000-0000-4000-8000-000000000002', 'b0000000-0000-4000-8000-000000000001', 'Bluebird Physio', 'bluebird-physio', 'America/Los_Angeles', 'US', 'USD', 'en-US'),
  ('c0000000-0000-4000-8000-000000000003', 'b0000000-0000-4000-8000-000000000002', 'Copperline Print', 'copperline-print', 'Europe/London', 'GB', 'GBP', 'en-GB');

insert into business_memberships (business_id, id, user_id, joined_at) values
  ('c0000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', now() - interval '60 days'),
  ('c0000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002', now() - interval '50 days'),
  ('c0000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000003', 'a0000000-0000-4000-8000-000000000003', now() - interval '40 days'),
  ('c0000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000004', 'a0000000-0000-4000-8000-000000000004', now() - interval '30 days'),
  ('c0000000-0000-4000-8000-000000000002', 'd0000000-0000-4000-8000-000000000005', 'a0000000-0000-4000-8000-000000000001', now() - interval '60 days'),
  ('c0000000-0000-4000-8000-000000000003', 'd0000000-0000-4000-8000-000000000006', 'a0000000-0000-4000-8000-000000000005', now() - interval '60 days');
insert into membership_roles (business_id, membership_id, role_id)
select m.business_id, m.id, r.id
from (values
  ('d0000000-0000-4000-8000-000000000001'::uuid, 'owner'), ('d0000000-0000-4000-8000-000000000002', 'manager'),
  ('d0000000-0000-4000-8000-000000000003', 'staff'), ('d0000000-0000-4000-8000-000000000004', 'viewer'),
  ('d0000000-0000-4000-8000-000000000005', 'owner'), ('d0000000-0000-4000-8000-000000000006', 'owner')) v(membership_id, role)
join business_memberships m on m.id = v.membership_id
join roles r on r.code = v.role and r.business_id is null;

-- Channels -----------------------------------------------------------------------------------------------

-- The demo account of the provider: its secret is public, so the connection of a real business is made by connect_provider().
insert into provider_connections (business_id, id, provider, account_ref, name) values
  ('c0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001', 'twilio', 'AC00000000000000000000000000000001', 'Twilio (demo)');
insert into private.provider_secrets (business_id, connection_id, position, secret) values
  ('c0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001', 1, 'tenantry-demo-twilio-token');

insert into channels (business_id, id, connection_id, kind, name, address, provider, settings) values
  ('c0000000-0000-4000-8000-000000000001', 'f0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001', 'voice', 'Front desk', '+14155550199', 'twilio',
   '{"greeting": "Thank you for calling Bluebird Dental. Please leave a message.", "record": true, "language": "en-US"}'),
  ('c0000000-0000-4000-8000-000000000001', 'f0000000-0000-4000-8000-000000000002', 'e0000000-0000-4000-8000-000000000001', 'sms', 'Text line', '+14155550199', 'twilio', '{}'),
  ('c0000000-0000-4000-8000-000000000001', 'f0000000-0000-4000-8000-000000000003', 'e0000000-0000-4000-8000-000000000001', 'whatsapp', 'WhatsApp', '+14155550199', 'twilio', '{}'),
  ('c0000000-0000-4000-8000-000000000002', 'f0000000-0000-4000-8000-000000000004', null, 'voice', 'Studio', '+13235550188', null, '{}'),
  ('c0000000-0000-4000-8000-000000000002', 'f0000000-0000-4000-8000-000000000005', null, 'sms', 'Studio texts', '+13235550188', null, '{}'),
  ('c0000000-0000-4000-8000-000000000003', 'f0000000-0000-4000-8000-000000000006', null, 'voice', 'Counter', '+442079460188', null, '{}'),
  ('c0000000-0000-4000-8000-000000000003', 'f0000000-0000-4000-8000-000000000007', null, 'sms', 'Order line', '+447400123456', null, '{}');

-- Customers ----------------------------------------------------------------------------------------------

create temporary table seed_customers (business_id uuid, n integer, first_name text, last_name text, city text, stage text, phone text);
insert into seed_customers
select b.id, row_number() over (partition by b.id order by f.i), f.name, l.name,
  case b.slug when 'copperline-print' then 'London' when 'bluebird-physio' then 'Los Angeles' else 'New York' end,
  (array['customer', 'customer', 'prospect', 'lead'])[1 + f.i % 4],
  case b.slug when 'copperline-print' then '+442079460' || (200 + f.i)
    when 'bluebird-physio' then '+13235550' || (100 + f.i) else '+12125550' || (100 + f.i) end
from businesses b
cross join unnest(array['Amara', 'Björn', 'Chloé', 'Dmitri', 'Esther', 'Farid', 'Grace', 'Hiro', 'Inés', 'Jonas', 'Kavya', 'Liam',
  'Mei', 'Noor', 'Omar', 'Paula', 'Quinn', 'Rosa', 'Seán', 'Tomás', 'Uma', 'Vera', 'Wale', 'Yuki']) with ordinality as f(name, i)
join unnest(array['Adler', 'Brandt', 'Costa', 'Diaz', 'Eriksson', 'Fofana', 'Gonçalves', 'Hall', 'Ivanova', 'Jensen', 'Khan', 'Lopez',
  'Müller', 'Novak', 'Okafor', 'Petit', 'Quist', 'Rossi', 'Silva', 'Tanaka', 'Ueda', 'Vargas', 'Weiss', 'Young']) with ordinality as l(name, i)
  on l.i = 1 + (f.i * 7 + length(b.slug)) % 24
where b.id::text like 'c0000000%' and f.i <= case b.slug when 'bluebird-dental' then 24 when 'bluebird-physio' then 8 else 12 end;

insert into customers (business_id, first_name, last_name, city, country, lifecycle_stage, source, tags, created_at)
select s.business_id, s.first_name, s.last_name, s.city, b.country, s.stage, 'seed', case when s.n % 5 = 0 then array['vip'] else '{}' end,
  now() - make_interval(days => 30 - s.n, hours => s.n % 9)
from seed_customers s join businesses b on b.id = s.business_id
order by s.business_id, s.n;
insert into contact_points (business_id, customer_id, kind, raw)
select c.business_id, c.id, k.kind, case k.kind when 'phone' then s.phone
  else lower(extensions.unaccent(c.first_name || '.' || c.last_name)) || '@mail.example' end
from customers c
join seed_customers s on s.business_id = c.business_id and s.first_name = c.first_name and s.last_name = c.last_name
cross join (values ('phone'), ('email')) k(kind)
where c.source = 'seed';

-- A month of calls ---------------------------------------------------------------------------------------

-- Deterministic: the n-th call follows from n alone, so every installation tells the same story.
insert into calls (business_id, channel_id, customer_id, direction, peer, from_address, to_address, provider, provider_call_id, status,
  started_at, answered_at, ended_at, duration_seconds, outcome, handled_by_membership_id)
select c.business_id, ch.id, c.id, x.direction, c.primary_phone,
  case x.direction when 'inbound' then c.primary_phone else ch.address_normalized end,
  case x.direction when 'inbound' then ch.address_normalized else c.primary_phone end,
  ch.provider, 'seed-call-' || ch.id || '-' || n, x.status, x.started_at,
  case when x.status = 'completed' then x.started_at + interval '8 seconds' end,
  x.started_at + make_interval(secs => 8 + x.seconds), case when x.status = 'completed' then x.seconds end,
  case x.status when 'completed' then 'completed' when 'no_answer' then 'no_answer' else 'busy' end,
  case when x.status = 'completed' then (select m.id from business_memberships m where m.business_id = c.business_id order by m.id offset n % 3 limit 1) end
from channels ch
cross join lateral (select case ch.business_id when 'c0000000-0000-4000-8000-000000000001' then 140
  when 'c0000000-0000-4000-8000-000000000002' then 40 else 60 end as calls) v
cross join lateral generate_series(1, v.calls) n
cross join lateral (select
  case when n % 4 = 0 then 'outbound' else 'inbound' end as direction,
  case when n % 9 = 0 then 'no_answer' when n % 23 = 0 then 'busy' else 'completed' end as status,
  40 + (n * 37) % 520 as seconds,
  now() - make_interval(hours => (n - 1) * 710 / v.calls, mins => (n * 11) % 60) as started_at) x
join lateral (select c.* from customers c where c.business_id = ch.business_id and c.source = 'seed' order by c.created_at offset (n * 7) % 8 limit 1) c on true
where ch.kind = 'voice' and ch.id::text like 'f0000000%';

insert into call_transcripts (business_id, call_id, language, segments, text, summary, sentiment)
select k.business_id, k.id, 'en',
  '[{"speaker": "customer", "start": 0.4, "end": 3.1, "text": "Hi, could I move my appointment to Thursday?"},
    {"speaker": "agent", "start": 3.4, "end": 6.0, "text": "Of course, ten o''clock is free."}]',
  'Hi, could I move my appointment to Thursday? Of course, ten o''clock is free.', 'Moves the appointment to Thursday, ten o''clock.', 'positive'
from calls k where k.provider_call_id like 'seed-call-f0000000-0000-4000-8000-000000000001-%' and k.status = 'completed' and k.direction = 'inbound'
order by k.started_at desc limit 5;

-- Conversations ------------------------------------------------------------------------------------------

insert into conversations (business_id, channel_id, customer_id, peer, opened_at)
select c.business_id, ch.id, c.id, c.primary_phone, c.created_at + interval '1 hour'
from customers c join channels ch on ch.business_id = c.business_id and ch.kind = 'sms'
where c.source = 'seed';
insert into messages (business_id, conversation_id, channel_id, direction, sender_kind, sender_membership_id, body, provider_message_id, occurred_at, sent_at, delivered_at, segments)
select v.business_id, v.id, v.channel_id, t.direction, case t.direction when 'inbound' then 'customer' else 'member' end,
  case t.direction when 'outbound' then (select m.id from business_memberships m where m.business_id = v.business_id order by m.id limit 1) end,
  t.body, 'seed-message-' || v.id || '-' || t.n, x.at,
  case t.direction when 'outbound' then x.at end, case t.direction when 'outbound' then x.at + interval '3 seconds' end, 1
from conversations v
join customers c on c.business_id = v.business_id and c.id = v.customer_id
cross join (values
  (1, 'inbound', 'Hello! Are you open on Saturday?'),
  (2, 'outbound', 'Good morning! Yes, from nine to one.'),
  (3, 'inbound', 'Great, can I come at ten?'),
  (4, 'outbound', 'Ten is yours. See you then!'),
  (5, 'inbound', 'Thank you 🙂')) t(n, direction, body)
cross join lateral (select v.opened_at + make_interval(mins => t.n * (3 + length(c.first_name)), secs => length(c.last_name)) as at) x
where c.source = 'seed' and t.n <= 2 + length(c.last_name) % 4
order by x.at;
update conversations v set status = 'resolved' where v.last_message_at < now() - interval '10 days';
update conversations v set unread_count = 0 where v.status = 'resolved';

drop table seed_people, seed_customers;
