select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * A delivery is stored at one home or nowhere. Whoever sent it to a place that is not its home is told to look the
 * home up again; while the home is being moved nothing is taken, and the provider sends it once more.
 */
create or replace function ingest_webhook(connection_id uuid, provider_event_id text, kind text, payload jsonb, events jsonb) returns jsonb
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
