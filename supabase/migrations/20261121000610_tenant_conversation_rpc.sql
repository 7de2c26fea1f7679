select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Threading, and recording what was written: by providers (through the webhook inbox), by members, by imports.
 */

create function channel_for(business_id uuid, channel_id uuid) returns channels
language plpgsql stable security definer
set search_path from current
as $$
declare
  v_channel channels;
begin
  select * into v_channel from channels c where c.business_id = channel_for.business_id and c.id = channel_for.channel_id;
  if not found then
    perform private.fail('PT404', 'There is no such channel in this business.', 'channel_id', 'not_found', 'List the channels of the business.');
  end if;
  return v_channel;
end $$;
comment on function channel_for(uuid, uuid) is 'A channel of the business; raises PT404 otherwise.';

create function contact_kind(channel_kind text) returns text
language sql immutable
begin atomic
  select case channel_kind when 'voice' then 'phone' when 'sms' then 'phone' when 'whatsapp' then 'whatsapp' when 'email' then 'email' else 'social' end;
end;
comment on function contact_kind(text) is 'The kind of contact point that a channel reaches.';

-- The thread for an outside address: the open one, a reopened one, or a new one.
create function thread_for(channel channels, peer text, customer_id uuid, opened_at timestamptz, inbound boolean)
returns uuid
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_id uuid;
  v_status text;
begin
  perform lock_identity((channel).business_id, 'thread:' || (channel).id::text || thread_for.peer);
  select c.id, c.status into v_id, v_status from conversations c
  where c.business_id = (channel).business_id and c.channel_id = (channel).id and c.peer = thread_for.peer
  order by c.status in ('open', 'pending', 'snoozed') desc, c.created_at desc limit 1;

  if v_id is not null and (v_status in ('open', 'pending', 'snoozed') or (v_status = 'resolved' and (channel).threading = 'single')) then
    update conversations c set status = 'open', snoozed_until = null, customer_id = coalesce(c.customer_id, thread_for.customer_id)
    where c.business_id = (channel).business_id and c.id = v_id
      and (c.status = 'resolved' or (thread_for.inbound and c.status <> 'open') or c.customer_id is null and thread_for.customer_id is not null);
    return v_id;
  end if;
  insert into conversations (business_id, channel_id, customer_id, peer, previous_conversation_id, opened_at)
  values ((channel).business_id, (channel).id, thread_for.customer_id, thread_for.peer, v_id, coalesce(thread_for.opened_at, now()))
  returning id into v_id;
  return v_id;
end $$;
comment on function thread_for(channels, text, uuid, timestamptz, boolean) is 'The conversation of an outside address on a channel: open, reopened or new, by the threading mode of the channel.';

create function store_inbound_message(channel channels, event jsonb) returns messages
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_message messages;
  v_peer text := event ->> 'peer';
  v_at timestamptz := least(coalesce((event ->> 'occurred_at')::timestamptz, now()), now() + interval '5 minutes');
  v_country text;
  v_customer uuid;
  v_conversation uuid;
begin
  if coalesce(v_peer, '') = '' then
    perform private.fail('22023', 'The sender is missing.', 'peer', 'missing', 'Send the sender''s address.');
  end if;
  select d.country into v_country from private.business_directory d where d.business_id = (channel).business_id;
  v_customer := link_customer((channel).business_id, contact_kind((channel).kind), v_peer, v_country, (channel).kind, event ->> 'profile_name');
  if v_customer is not null then
    v_peer := coalesce((select n.normalized from normalize_contact(contact_kind((channel).kind), v_peer, v_country) n), v_peer);
  end if;
  v_conversation := thread_for(channel, v_peer, v_customer, v_at, true);
  insert into messages (business_id, conversation_id, channel_id, direction, sender_kind, body, media, location, provider_message_id,
    in_reply_to_provider_id, payload, segments, occurred_at)
  values ((channel).business_id, v_conversation, (channel).id, 'inbound', 'customer', coalesce(event ->> 'text', ''),
    coalesce(nullif(event -> 'media', 'null'), '[]'), nullif(event -> 'location', 'null'), event ->> 'external_id',
    event ->> 'reply_to_external_id',
    jsonb_strip_nulls(jsonb_build_object('button_payload', event ->> 'button_payload', 'profile_name', event ->> 'profile_name', 'label', event ->> 'label')),
    (event ->> 'segments')::integer, v_at)
  on conflict (business_id, channel_id, provider_message_id) do nothing
  returning * into v_message;
  if v_message.id is null then   -- delivered before: the first row stands
    select * into v_message from messages m
    where m.business_id = (channel).business_id and m.channel_id = (channel).id and m.provider_message_id = event ->> 'external_id';
    return v_message;
  end if;
  if (channel).kind = 'whatsapp' then
    update conversations c set service_window_until = greatest(c.service_window_until, v_at + interval '24 hours')
    where c.business_id = v_message.business_id and c.id = v_conversation;
  end if;
  if event ->> 'opt' in ('out', 'in') then
    update contact_points p set opted_out_at = case when event ->> 'opt' = 'out' then coalesce(p.opted_out_at, v_at) end
    where p.business_id = v_message.business_id and p.customer_id = v_customer
      and p.normalized = v_peer and p.kind = contact_kind((channel).kind);
  end if;
  return v_message;
end $$;
comment on function store_inbound_message(channels, jsonb) is
  'Stores a message from outside once: customer found or created, conversation threaded, opt-out noted. Event: see ingest_webhook().';

create function store_message_status(channel channels, event jsonb) returns messages
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_message messages;
  v_status text := event ->> 'status';
  v_at timestamptz := coalesce((event ->> 'occurred_at')::timestamptz, now());
  v_peer text := event ->> 'peer';
  v_country text;
  v_customer uuid;
begin
  if coalesce(event ->> 'external_id', '') = '' then
    perform private.fail('22023', 'The message id is missing.', 'external_id', 'missing', 'Send the provider''s message id.');
  end if;
  -- The callback can overtake the answer to our own sending: then it creates the row.
  if not exists (select 1 from messages m where m.business_id = (channel).business_id and m.channel_id = (channel).id
                 and m.provider_message_id = event ->> 'external_id') and coalesce(v_peer, '') <> '' then
    select d.country into v_country from private.business_directory d where d.business_id = (channel).business_id;
    v_customer := link_customer((channel).business_id, contact_kind((channel).kind), v_peer, v_country, (channel).kind);
    insert into messages (business_id, conversation_id, channel_id, direction, sender_kind, provider_message_id, occurred_at)
    values ((channel).business_id, thread_for(channel, v_peer, v_customer, v_at, false), (channel).id, 'outbound', 'system', event ->> 'external_id', v_at)
    on conflict (business_id, channel_id, provider_message_id) do nothing;
  end if;
  -- Each status has its own moment and the earliest wins, so any order and any repetition gives the same row.
  update messages m set
    queued_at = case when v_status = 'queued' then least(m.queued_at, v_at) else m.queued_at end,
    sending_at = case when v_status = 'sending' then least(m.sending_at, v_at) else m.sending_at end,
    sent_at = case when v_status = 'sent' then least(m.sent_at, v_at) else m.sent_at end,
    delivered_at = case when v_status = 'delivered' then least(m.delivered_at, v_at) else m.delivered_at end,
    read_at = case when v_status = 'read' then least(m.read_at, v_at) else m.read_at end,
    failed_at = case when v_status = 'failed' then least(m.failed_at, v_at) else m.failed_at end,
    canceled_at = case when v_status = 'canceled' then least(m.canceled_at, v_at) else m.canceled_at end,
    error_code = coalesce((event ->> 'error_code')::integer, m.error_code),
    is_retryable = coalesce((event ->> 'retryable')::boolean, m.is_retryable)
  where m.business_id = (channel).business_id and m.channel_id = (channel).id and m.provider_message_id = event ->> 'external_id'
    and m.direction = 'outbound'
  returning * into v_message;
  if (event ->> 'opt_out')::boolean then
    update contact_points p set opted_out_at = coalesce(p.opted_out_at, v_at)
    where p.business_id = (channel).business_id and p.kind = contact_kind((channel).kind) and p.normalized = v_peer;
  end if;
  return v_message;
end $$;
comment on function store_message_status(channels, jsonb) is 'Applies a delivery status to an outbound message; commutative and idempotent.';

-- For members --------------------------------------------------------------------------------------------

create function record_inbound_message(business_id uuid, channel_id uuid, peer text, body text, provider_message_id text,
  occurred_at timestamptz default null, media jsonb default '[]')
returns messages
language plpgsql security definer
set search_path from current
as $$
declare
  v_message messages;
begin
  perform require_creator(record_inbound_message.business_id, 'messages.write');
  perform private.check_length(provider_message_id, 'provider_message_id', 1, 500);
  v_message := store_inbound_message(channel_for(record_inbound_message.business_id, record_inbound_message.channel_id),
    jsonb_build_object('peer', peer, 'text', body, 'external_id', provider_message_id, 'occurred_at', occurred_at, 'media', media));
  -- Known only now: whose thread it belongs to. If not the caller's, nothing was stored.
  perform require_record('conversations', v_message.business_id, v_message.conversation_id, 'messages.write', 'peer');
  return v_message;
end $$;
comment on function record_inbound_message(uuid, uuid, text, text, text, timestamptz, jsonb) is
  'Records a message that came in by other means than our webhooks. Needs messages.write. The same provider_message_id again returns the first row.';

create function open_conversation(business_id uuid, channel_id uuid, customer_id uuid default null, peer text default null, subject text default null)
returns conversations
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_creator(open_conversation.business_id, 'conversations.write');
  v_channel channels := channel_for(open_conversation.business_id, open_conversation.channel_id);
  v_peer text := nullif(btrim(open_conversation.peer), '');
  v_customer uuid := open_conversation.customer_id;
  v_normalized text;
  v_id uuid;
  v_conversation conversations;
begin
  if v_peer is null and v_customer is null then
    perform private.fail('22023', 'Whom to talk to is missing.', 'customer_id', 'missing', 'Send customer_id, or peer with the address.');
  end if;
  if v_peer is null then
    select p.normalized into v_peer from contact_points p
    where p.business_id = open_conversation.business_id and p.customer_id = v_customer
      and (p.kind = contact_kind(v_channel.kind) or (v_channel.kind = 'whatsapp' and p.kind = 'phone'))
    order by p.kind = contact_kind(v_channel.kind) desc, p.is_primary desc, p.created_at limit 1;
    if v_peer is null then
      if not exists (select 1 from customers c where c.business_id = open_conversation.business_id and c.id = v_customer) then
        perform private.fail('PT404', 'There is no such customer in this business.', 'customer_id', 'not_found', 'Check customer_id.');
      end if;
      perform private.fail('22023', format('The customer has no address for a %s channel.', v_channel.kind), 'customer_id', 'no_address',
        'Add a contact point, or send peer.');
    end if;
  else
    select n.normalized into v_normalized from normalize_contact(contact_kind(v_channel.kind), v_peer, v_home.country) n;
    if v_normalized is null and v_channel.kind in ('sms', 'whatsapp', 'email') then
      perform private.fail('22023', 'peer is not an address for this channel.', 'peer', 'invalid_address', 'Send a phone number with its country code, or an e-mail address.');
    end if;
    v_peer := coalesce(v_normalized, v_peer);
    v_customer := coalesce(v_customer, link_customer(open_conversation.business_id, contact_kind(v_channel.kind), v_peer, v_home.country, v_channel.kind));
  end if;
  if v_customer is not null and open_conversation.business_id = any (my_limited_business_ids('customers.read')) then
    perform require_record('customers', open_conversation.business_id, v_customer, 'customers.read', 'customer_id');
  end if;
  v_id := thread_for(v_channel, v_peer, v_customer, now(), false);
  perform require_record('conversations', open_conversation.business_id, v_id, 'conversations.write', 'peer');
  select * into v_conversation from conversations c where c.business_id = open_conversation.business_id and c.id = v_id;
  if open_conversation.subject is not null then
    update conversations c set subject = open_conversation.subject
    where c.business_id = v_conversation.business_id and c.id = v_conversation.id returning * into v_conversation;
  end if;
  return v_conversation;
end $$;
comment on function open_conversation(uuid, uuid, uuid, text, text) is
  'The open conversation with a customer or address on a channel; started, or reopened by the channel''s threading mode, when there is none. Needs conversations.write.';

create function record_message(business_id uuid, conversation_id uuid, body text, idempotency_key text default null) returns messages
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_request jsonb := jsonb_build_object('rpc', 'record_message', 'conversation', record_message.conversation_id, 'body', record_message.body);
  v_result jsonb;
  v_conversation conversations;
  v_message messages;
begin
  perform require_business(record_message.business_id, 'messages.write');
  perform private.check_length(record_message.body, 'body', 1, 65536);
  v_result := find_idempotent_result(record_message.business_id, idempotency_key, v_request);
  if v_result is not null then
    select * into v_message from messages m where m.business_id = record_message.business_id and m.id = (v_result ->> 'id')::uuid;
    return v_message;
  end if;
  select * into v_conversation from conversations c where c.business_id = record_message.business_id and c.id = record_message.conversation_id;
  if not found then
    perform private.fail('PT404', 'There is no such conversation in this business.', 'conversation_id', 'not_found', 'Check conversation_id.');
  end if;
  perform require_record('conversations', record_message.business_id, record_message.conversation_id, 'messages.write', 'conversation_id');
  if exists (select 1 from contact_points p join channels ch on (ch.business_id, ch.id) = (v_conversation.business_id, v_conversation.channel_id)
             where p.business_id = v_conversation.business_id and p.normalized = v_conversation.peer
               and p.kind = contact_kind(ch.kind) and p.opted_out_at is not null) then
    perform private.fail('PT409', 'This address has opted out of messages.', 'conversation_id', 'opted_out', 'Wait until they write START, or call.');
  end if;
  insert into messages (business_id, conversation_id, channel_id, direction, sender_kind, sender_membership_id, body, sent_at)
  values (v_conversation.business_id, v_conversation.id, v_conversation.channel_id, 'outbound', 'member',
    my_membership_id(v_conversation.business_id),
    record_message.body, now())
  returning * into v_message;
  perform keep_idempotent_result(record_message.business_id, idempotency_key, v_request, jsonb_build_object('id', v_message.id));
  return v_message;
end $$;
comment on function record_message(uuid, uuid, text, text) is
  'Records a message that a member sent from a phone or another tool; it is not sent from here. Needs messages.write. Errors: PT404, PT409 opted out.';

create function mark_conversation_read(business_id uuid, conversation_id uuid) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
begin
  perform require_business(mark_conversation_read.business_id, 'conversations.write');
  if exists (select 1 from conversations c where c.business_id = mark_conversation_read.business_id and c.id = mark_conversation_read.conversation_id) then
    perform require_record('conversations', mark_conversation_read.business_id, mark_conversation_read.conversation_id, 'conversations.write', 'conversation_id');
  end if;
  update conversations c set unread_count = 0
  where c.business_id = mark_conversation_read.business_id and c.id = mark_conversation_read.conversation_id and c.unread_count <> 0;
end $$;
comment on function mark_conversation_read(uuid, uuid) is 'Sets the unread counter of a conversation to zero. Needs conversations.write.';

grant execute on function
  record_inbound_message(uuid, uuid, text, text, text, timestamptz, jsonb), open_conversation(uuid, uuid, uuid, text, text),
  record_message(uuid, uuid, text, text), mark_conversation_read(uuid, uuid)
  to authenticated, service_role;
