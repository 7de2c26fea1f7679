select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * What front ends read: every view runs with the rights of the caller (security_invoker), so row
 * security decides. `create or replace` would drop that option when it is not repeated: never use it.
 */
create view daily_metrics with (security_invoker = true) as
select s.business_id, s.metric_date, s.metric, 'business'::text as dimension, s.business_id as dimension_id, sum(s.value)::bigint as value
from daily_metric_slots s group by s.business_id, s.metric_date, s.metric having sum(s.value) <> 0
union all
select s.business_id, s.metric_date, s.metric, 'channel', s.channel_id, sum(s.value)::bigint
from daily_metric_slots s where s.channel_id <> '00000000-0000-0000-0000-000000000000'
group by s.business_id, s.metric_date, s.metric, s.channel_id having sum(s.value) <> 0
union all
select s.business_id, s.metric_date, s.metric, 'staff', s.membership_id, sum(s.value)::bigint
from daily_metric_slots s where s.membership_id <> '00000000-0000-0000-0000-000000000000'
group by s.business_id, s.metric_date, s.metric, s.membership_id having sum(s.value) <> 0;
comment on view daily_metrics is 'Metrics per local day: of the business (dimension business), of each channel, of each member (staff). Days without a value have no row.';

create view performance_metrics with (security_invoker = true) as
select d.business_id, d.metric_date, d.metric, d.value,
  (sum(d.value) over week)::bigint as sum_7_days,
  (sum(d.value) over month)::bigint as sum_30_days,
  round((sum(d.value) over week)::numeric / 7, 2) as average_7_days,
  round((sum(d.value) over month)::numeric / 30, 2) as average_30_days,
  case when (sum(d.value) over month) > 0
    then round(((sum(d.value) over week)::numeric / 7) / ((sum(d.value) over month)::numeric / 30) - 1, 4) end as trend
from (
  select s.business_id, s.metric_date, s.metric, sum(s.value)::bigint as value
  from daily_metric_slots s group by s.business_id, s.metric_date, s.metric having sum(s.value) <> 0
) d
window week as (partition by d.business_id, d.metric order by d.metric_date range between interval '6 days' preceding and current row),
  month as (partition by d.business_id, d.metric order by d.metric_date range between interval '29 days' preceding and current row);
comment on view performance_metrics is 'Each metric and local day with sums and averages over 7 and 30 days ending that day; trend is the 7-day average against the 30-day average (0.1 = 10 percent above).';

create view conversation_threads with (security_invoker = true) as
select c.business_id, c.id, c.status, c.status in ('open', 'pending', 'snoozed') as is_active, c.subject, c.peer,
  c.customer_id, cu.display_name as customer_name, cu.primary_phone as customer_phone, cu.primary_email as customer_email,
  c.channel_id, ch.kind as channel_kind, ch.name as channel_name,
  c.assigned_membership_id, c.last_message_at, c.last_message_preview, c.message_count, c.unread_count, c.snoozed_until,
  c.service_window_until, c.created_at
from conversations c
left join customers cu on (cu.business_id, cu.id) = (c.business_id, c.customer_id)
left join channels ch on (ch.business_id, ch.id) = (c.business_id, c.channel_id);
comment on view conversation_threads is 'The inbox: conversations with customer, channel, last message and unread count. Order by last_message_at.';

create view customer_summary with (security_invoker = true) as
select c.business_id, c.id, c.display_name, c.kind, c.company_name, c.primary_phone, c.primary_email, c.lifecycle_stage, c.source, c.tags,
  c.owner_membership_id, c.created_at,
  coalesce(ca.calls, 0) as call_count, ca.answered as answered_call_count, ca.seconds as call_seconds, ca.last_at as last_call_at,
  coalesce(co.conversations, 0) as conversation_count, coalesce(co.messages, 0) as message_count, co.unread as unread_count, co.last_at as last_message_at,
  greatest(ca.last_at, co.last_at) as last_interaction_at
from customers c
left join lateral (
  select count(*) as calls, count(*) filter (where k.answered_at is not null) as answered, coalesce(sum(k.duration_seconds), 0)::bigint as seconds, max(k.started_at) as last_at
  from calls k where k.business_id = c.business_id and k.customer_id = c.id) ca on true
left join lateral (
  select count(*) as conversations, coalesce(sum(v.message_count), 0)::bigint as messages, coalesce(sum(v.unread_count), 0)::bigint as unread, max(v.last_message_at) as last_at
  from conversations v where v.business_id = c.business_id and v.customer_id = c.id) co on true
where c.deleted_at is null and c.merged_into_id is null;
comment on view customer_summary is 'Customers with what happened with them: calls, conversations, messages, last interaction. Removed and merged ones are left out.';

create view business_dashboard_data with (security_invoker = true) as
select b.id as business_id, b.name, b.timezone, t.today,
  coalesce(m.customers, 0) as customer_count, coalesce(m.new_customers_today, 0) as new_customers_today, coalesce(m.new_customers_30_days, 0) as new_customers_30_days,
  coalesce(m.calls_today, 0) as calls_today, coalesce(m.calls_30_days, 0) as calls_30_days,
  coalesce(m.calls_answered_30_days, 0) as calls_answered_30_days, coalesce(m.calls_missed_today, 0) as calls_missed_today,
  coalesce(m.call_seconds_30_days, 0) as call_seconds_30_days,
  coalesce(m.messages_today, 0) as messages_today, coalesce(m.messages_30_days, 0) as messages_30_days,
  coalesce(o.open_conversations, 0) as open_conversations, coalesce(o.unread_messages, 0) as unread_messages
from public.businesses b
cross join lateral (select (now() at time zone b.timezone)::date as today) t
left join lateral (
  select
    (sum(s.value) filter (where s.metric = 'new_customers'))::bigint as customers,
    (sum(s.value) filter (where s.metric = 'new_customers' and s.metric_date = t.today))::bigint as new_customers_today,
    (sum(s.value) filter (where s.metric = 'new_customers' and s.metric_date > t.today - 30))::bigint as new_customers_30_days,
    (sum(s.value) filter (where s.metric in ('calls_inbound', 'calls_outbound') and s.metric_date = t.today))::bigint as calls_today,
    (sum(s.value) filter (where s.metric in ('calls_inbound', 'calls_outbound') and s.metric_date > t.today - 30))::bigint as calls_30_days,
    (sum(s.value) filter (where s.metric = 'calls_answered' and s.metric_date > t.today - 30))::bigint as calls_answered_30_days,
    (sum(s.value) filter (where s.metric = 'calls_missed' and s.metric_date = t.today))::bigint as calls_missed_today,
    (sum(s.value) filter (where s.metric = 'call_seconds' and s.metric_date > t.today - 30))::bigint as call_seconds_30_days,
    (sum(s.value) filter (where s.metric in ('messages_inbound', 'messages_outbound') and s.metric_date = t.today))::bigint as messages_today,
    (sum(s.value) filter (where s.metric in ('messages_inbound', 'messages_outbound') and s.metric_date > t.today - 30))::bigint as messages_30_days
  from daily_metric_slots s where s.business_id = b.id) m on true
left join lateral (
  select count(*) as open_conversations, sum(c.unread_count)::bigint as unread_messages
  from conversations c where c.business_id = b.id and c.status in ('open', 'pending', 'snoozed')) o on true
where b.id = any ((select my_business_ids('metrics.read'))::uuid[]);
comment on view business_dashboard_data is 'One row per business with the figures of today (local day) and the last 30 days.';

grant select on daily_metrics, performance_metrics, conversation_threads, customer_summary, business_dashboard_data, metric_drift
  to authenticated, service_role;
