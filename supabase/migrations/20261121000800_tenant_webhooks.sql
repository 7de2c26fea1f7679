select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * The webhook inbox: every verified delivery is stored once and applied in the same transaction. What
 * cannot be applied yet stays with its error and is tried again; nothing acknowledged is lost.
 */
create table webhook_events (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  connection_id uuid not null,
  provider text not null,
  provider_event_id text not null,
  kind text not null,
  payload jsonb not null,
  events jsonb not null,
  results jsonb,
  status text not null default 'received',
  attempts integer not null default 0,
  error text,
  next_attempt_at timestamptz,
  processed_at timestamptz,
  received_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint webhook_events_provider_event_key unique (business_id, connection_id, provider_event_id),
  constraint webhook_events_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  -- A connection with events stays: it is made inactive, so that nothing acknowledged is lost with it.
  constraint webhook_events_connection_fkey foreign key (business_id, connection_id) references public.provider_connections (business_id, id),
  constraint webhook_events_status check (status in ('received', 'processing', 'processed', 'failed', 'ignored')),
  constraint webhook_events_provider_event_id_length check (char_length(provider_event_id) between 1 and 500),
  constraint webhook_events_events check (jsonb_typeof(events) = 'array')
);
comment on table webhook_events is 'Every verified delivery of a provider, once. The raw payload is kept so that it can be applied again.';
comment on column webhook_events.provider_event_id is 'What makes a delivery unique, such as CallSid:status:sequence. Twilio signs no time, so this key is the protection against replays.';
comment on column webhook_events.payload is 'As received. @personal free_text';
comment on column webhook_events.events is 'The canonical events it contains. @personal free_text';
comment on column webhook_events.results is 'What applying them gave: ids of the rows.';
comment on column webhook_events.error is 'Why applying failed last time.';
comment on column webhook_events.next_attempt_at is 'When it is tried again; null when it is not.';
create index webhook_events_received_at_idx on webhook_events (business_id, received_at desc, id desc);
create index webhook_events_due_idx on webhook_events (business_id, next_attempt_at) where status = 'failed';
call private.protect('webhook_events', reads => 'integrations.read');
call private.guard_status('webhook_events', 'status');

create function channel_of_event(business_id uuid, connection_id uuid, kind text, address text, external_id text) returns channels
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_channel channels;
begin
  select * into v_channel from channels c
  where c.business_id = channel_of_event.business_id and c.connection_id = channel_of_event.connection_id
    and c.kind = channel_of_event.kind and c.address_normalized = channel_of_event.address;
  -- Some callbacks name no number: the call or message they are about tells.
  if not found and channel_of_event.address is null then
    select c.* into v_channel from channels c
    where c.business_id = channel_of_event.business_id and c.connection_id = channel_of_event.connection_id
      and c.id in (
        select m.channel_id from messages m where m.business_id = c.business_id and m.channel_id = c.id
          and m.provider_message_id = channel_of_event.external_id
        union all
        select k.channel_id from calls k where k.business_id = c.business_id and k.provider_call_id = channel_of_event.external_id);
  end if;
  if v_channel.id is null then
    perform private.fail('PT404', format('No %s channel of this connection has the address %s.', channel_of_event.kind, left(coalesce(channel_of_event.address, '?'), 64)),
      'ours', 'unknown_channel', 'Add the channel; the event will be applied then.');
  end if;
  return v_channel;
end $$;
comment on function channel_of_event(uuid, uuid, text, text, text) is 'The channel an event belongs to, within its connection: by kind and own address, else by the call or message it is about.';

create function apply_webhook_event(webhook webhook_events) returns jsonb
language plpgsql security definer
set search_path from current
as $$
declare
  v_event jsonb;
  v_results jsonb := '[]';
  v_result jsonb;
  v_channel channels;
  v_message messages;
  v_call calls;
  v_transcript call_transcripts;
begin
  for v_event in select e from jsonb_array_elements((webhook).events) with ordinality as t(e, n) order by n loop
    v_result := jsonb_build_object('type', v_event ->> 'type');
    case v_event ->> 'type'
      when 'message.inbound', 'message.status' then
        v_channel := channel_of_event((webhook).business_id, (webhook).connection_id, v_event ->> 'channel_kind', v_event ->> 'ours', v_event ->> 'external_id');
        if v_event ->> 'type' = 'message.inbound' then
          v_message := store_inbound_message(v_channel, v_event);
        else
          v_message := store_message_status(v_channel, v_event);
        end if;
        v_result := v_result || jsonb_build_object('message_id', v_message.id, 'conversation_id', v_message.conversation_id, 'status', v_message.status);
      when 'call.event' then
        -- A leg needs only its parent; its own numbers may be nobody's channel.
        if v_event ->> 'parent_external_id' is null then
          v_channel := channel_of_event((webhook).business_id, (webhook).connection_id, 'voice', v_event ->> 'ours', v_event ->> 'external_id');
        end if;
        v_call := store_call_event((webhook).business_id, v_channel, v_event);
        v_result := v_result || jsonb_build_object('call_id', v_call.id, 'status', v_call.status, 'customer_id', v_call.customer_id,
          'voice', coalesce((v_channel).settings, '{}'));
      when 'call.recording' then
        v_call := store_call_recording((webhook).business_id, v_event);
        v_result := v_result || jsonb_build_object('call_id', v_call.id);
      when 'call.transcript' then
        v_transcript := store_call_transcript((webhook).business_id, v_event);
        v_result := v_result || jsonb_build_object('transcript_id', v_transcript.id, 'call_id', v_transcript.call_id);
      else
        v_result := v_result || jsonb_build_object('ignored', true);
    end case;
    v_results := v_results || v_result;
  end loop;
  return v_results;
end $$;
comment on function apply_webhook_event(webhook_events) is 'Applies the canonical events of a delivery to the tables.';

create function process_webhook_event(webhook webhook_events) returns webhook_events
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_results jsonb;
  v_state text;
  v_message text;
  v_webhook webhook_events;
begin
  begin
    v_results := apply_webhook_event(webhook);
    update webhook_events w set results = v_results, error = null, next_attempt_at = null, attempts = w.attempts + 1, processed_at = now(),
      status = case when jsonb_array_length(w.events) = 0 then 'ignored' else 'processed' end
    where w.business_id = (webhook).business_id and w.id = (webhook).id returning * into v_webhook;
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
    -- 5 s, 10 s, 20 s ... up to an hour, twelve times; then it waits for a person.
    update webhook_events w set status = 'failed', attempts = w.attempts + 1, error = left(v_state || ': ' || v_message, 1000),
      next_attempt_at = case when w.attempts < 11 then now() + least(make_interval(secs => 5 * 2 ^ w.attempts), interval '1 hour') end
    where w.business_id = (webhook).business_id and w.id = (webhook).id returning * into v_webhook;
  end;
  return v_webhook;
end $$;
comment on function process_webhook_event(webhook_events) is 'Applies a stored delivery; keeps the error and the time of the next attempt when it fails.';

-- A delivery is stored at one home or nowhere. Whoever sent it to a place that is not its home is told to look the
-- home up again; while the home is being moved nothing is taken, and the provider sends it once more.
create function ingest_webhook(connection_id uuid, provider_event_id text, kind text, payload jsonb, events jsonb) returns jsonb
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_connection public.provider_connections;
  v_home private.business_directory;
  v_webhook webhook_events;
  v_duplicate boolean := false;
begin
  select * into v_connection from public.provider_connections c where c.id = ingest_webhook.connection_id and c.is_active;
  if found then
    select * into v_home from private.business_directory d where d.business_id = v_connection.business_id and d.is_readable;
  end if;
  if v_home.business_id is null then
    perform private.fail('PT404', 'This connection takes no events.', 'connection_id', 'not_found', 'Check the webhook URL at the provider.');
  end if;
  if (v_home.database_name, v_home.schema_name) <> (current_database()::text, current_schema()::text) then
    perform private.fail('PT409', 'The business of this connection does not live here.', 'connection_id', 'not_home', 'Look the connection up again and send the event to its home.');
  end if;
  if not v_home.is_writable then
    perform private.fail('PT503', 'The business of this connection is being moved and takes no events for a moment.', 'connection_id', 'moving', 'Send it again in a few seconds.');
  end if;
  insert into webhook_events (business_id, connection_id, provider, provider_event_id, kind, payload, events)
  values (v_connection.business_id, v_connection.id, v_connection.provider, ingest_webhook.provider_event_id, ingest_webhook.kind,
    ingest_webhook.payload, coalesce(ingest_webhook.events, '[]'))
  on conflict (business_id, connection_id, provider_event_id) do nothing
  returning * into v_webhook;
  if v_webhook.id is null then
    v_duplicate := true;
    select * into v_webhook from webhook_events w
    where w.business_id = v_connection.business_id and w.connection_id = v_connection.id and w.provider_event_id = ingest_webhook.provider_event_id;
  else
    v_webhook := process_webhook_event(v_webhook);
  end if;
  return jsonb_build_object('event_id', v_webhook.id, 'duplicate', v_duplicate, 'status', v_webhook.status, 'results', coalesce(v_webhook.results, '[]'));
end $$;
comment on function ingest_webhook(uuid, text, text, jsonb, jsonb) is
  'Stores a verified delivery once and applies its canonical events in the same transaction. A repetition changes nothing and returns the first results. Refused with PT409 where the business does not live and with PT503 while it is being moved: nothing is stored then. For the role integrator only.';

create function retry_webhook_events(max_events integer default 100) returns integer
language plpgsql security definer
set search_path from current
as $$
declare
  v_webhook webhook_events;
  v_done integer := 0;
begin
  perform private.refresh_expired_access();   -- what runs out in time has nobody else to notice
  for v_webhook in
    select w.* from private.business_directory d
    join webhook_events w on w.business_id = d.business_id and w.status = 'failed' and w.next_attempt_at <= now()
    where d.is_writable and d.database_name = current_database() and d.schema_name = current_schema()
    order by w.next_attempt_at limit greatest(max_events, 0) for update of w skip locked
  loop
    v_webhook := process_webhook_event(v_webhook);
    v_done := v_done + (v_webhook.status = 'processed')::int;
  end loop;
  return v_done;
end $$;
comment on function retry_webhook_events(integer) is 'Applies failed deliveries that are due again; returns how many succeeded. For the role integrator only.';

create function retry_webhook_event(business_id uuid, event_id uuid) returns webhook_events
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_webhook webhook_events;
begin
  perform require_business(retry_webhook_event.business_id, 'integrations.write');
  select * into v_webhook from webhook_events w
  where w.business_id = retry_webhook_event.business_id and w.id = retry_webhook_event.event_id for update;
  if not found then
    perform private.fail('PT404', 'There is no such event in this business.', 'event_id', 'not_found', 'List the webhook events of the business.');
  end if;
  if v_webhook.status <> 'failed' then
    perform private.fail('PT409', 'Only a failed event can be retried.', 'event_id', 'not_failed', 'Nothing to do: it was applied.');
  end if;
  return process_webhook_event(v_webhook);
end $$;
comment on function retry_webhook_event(uuid, uuid) is 'Applies a failed delivery again now, for example after adding the missing channel. Needs integrations.write.';

grant execute on function ingest_webhook(uuid, text, text, jsonb, jsonb), retry_webhook_events(integer) to integrator;
grant execute on function retry_webhook_event(uuid, uuid) to authenticated, service_role;
