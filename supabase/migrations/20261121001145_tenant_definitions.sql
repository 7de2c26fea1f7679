select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
-- Definitions that survive a dump, as in the file before: no BETWEEN before AND, and every column has a name.
alter table calls drop constraint calls_addresses;
alter table calls add constraint calls_addresses check (char_length(peer) >= 1 and char_length(peer) <= 320
  and char_length(from_address) <= 320 and char_length(to_address) <= 320);

create or replace function customer_metrics(c customers) returns table (metric text, channel_id uuid, membership_id uuid, value bigint)
language sql immutable
begin atomic
  select 'new_customers'::text as metric, null::uuid as channel_id, (c).owner_membership_id as membership_id, 1::bigint as value;
end;

create or replace function conversation_metrics(c conversations) returns table (metric text, channel_id uuid, membership_id uuid, value bigint)
language sql immutable
begin atomic
  select 'conversations_opened'::text as metric, (c).channel_id as channel_id, null::uuid as membership_id, 1::bigint as value;
end;
