-- Customers of one business at its home, each with a telephone number: bench.rows rows in all.
-- Runs with the home's schema first in search_path and session_replication_role = replica, so
-- what triggers would have derived is given here.
with people as (
  select n, '+1' || (2122000000 + n) as phone
  from generate_series(1, current_setting('bench.rows')::integer / 2) n),
added as (
  insert into customers (business_id, first_name, last_name, primary_phone, lifecycle_stage, source, city,
    country, notes, metric_date)
  select current_setting('bench.business')::uuid, 'First ' || n, 'Last ' || n % 997, phone, 'lead', 'import',
    'Lisbon', 'US', case when n % 5 = 0 then 'Prefers to be called in the morning, reference ' || n end,
    current_date
  from people
  returning business_id, id, primary_phone)
insert into contact_points (business_id, customer_id, kind, raw, normalized, is_primary)
select business_id, id, 'phone', primary_phone, primary_phone, true from added;
