select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Written communication: channels a business owns, conversations on them, messages in those.
 */

-- channels -----------------------------------------------------------------------------------------

create table channels (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  connection_id uuid,
  department_id uuid,
  kind text not null,
  name text not null,
  address text not null,
  address_normalized text not null,
  provider text,
  threading text not null default 'single',
  settings jsonb not null default '{}',
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint channels_address_key unique (business_id, kind, address_normalized),
  constraint channels_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint channels_connection_fkey foreign key (business_id, connection_id)
    references public.provider_connections (business_id, id) on delete set null (connection_id),
  constraint channels_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete set null (department_id),
  constraint channels_kind check (kind in ('voice', 'sms', 'whatsapp', 'email', 'web_chat', 'social')),
  constraint channels_name_length check (char_length(name) between 1 and 200),
  constraint channels_address_length check (char_length(address) between 1 and 320),
  constraint channels_threading check (threading in ('single', 'per_resolution')),
  constraint channels_settings check (jsonb_typeof(settings) = 'object' and pg_column_size(settings) < 16384
    and settings - array['greeting', 'forward_to', 'record', 'language'] = '{}')
);
comment on table channels is 'Phone numbers, mailboxes and chats that the business owns. One number for voice and SMS is two channels.';
comment on column channels.address is 'The number, address or handle as given.';
comment on column channels.address_normalized is 'E.164 for numbers, lower-cased for mail; incoming events are matched with it.';
comment on column channels.threading is 'single: a new message reopens a resolved conversation; per_resolution: it starts a new one that links back.';
comment on column channels.settings is 'Voice: greeting (text to say), forward_to (number to ring), record (true or false), language (BCP 47).';
comment on column channels.department_id is 'The department that answers here: what arrives belongs to it.';
create index channels_department_idx on channels (business_id, department_id);
create index channels_connection_idx on channels (business_id, connection_id, kind, address_normalized);
call private.protect('channels',
  reads => 'channels.read', inserts => 'channels.write', updates => 'channels.write', deletes => 'channels.write',
  insert_columns => array['connection_id', 'department_id', 'kind', 'name', 'address', 'provider', 'threading', 'settings', 'is_active'],
  update_columns => array['connection_id', 'department_id', 'name', 'threading', 'settings', 'is_active']);
call audit('channels');

create function tg_channels_normalize() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  v_country text;
  v_contact_kind text := case when new.kind in ('voice', 'sms') then 'phone' when new.kind = 'whatsapp' then 'whatsapp'
    when new.kind = 'email' then 'email' else 'social' end;
begin
  select d.country into v_country from private.business_directory d where d.business_id = new.business_id;
  select n.normalized into new.address_normalized from normalize_contact(v_contact_kind, new.address, v_country) n;
  if new.address_normalized is null and v_contact_kind = 'phone' and btrim(new.address) ~ '^[0-9]{3,8}$' then
    new.address_normalized := btrim(new.address);   -- a short code is a sender of one's own
  end if;
  if new.address_normalized is null then
    perform private.fail('22023', format('%s is not an address for a %s channel.', quote_literal(left(new.address, 64)), new.kind), 'address', 'invalid_address',
      case when v_contact_kind = 'email' then 'Send one address, like desk@example.com.' else 'Send the number with its country code, like +14155550199.' end);
  end if;
  if new.settings ? 'forward_to' and public.normalize_phone(new.settings ->> 'forward_to', v_country) is null then
    perform private.fail('22023', 'settings.forward_to is not a phone number.', 'settings.forward_to', 'invalid_phone', 'Send the number with its country code.');
  end if;
  return new;
end $$;
comment on function tg_channels_normalize() is 'Normalises the address of a channel; raises 22023 for one that cannot be.';
create trigger _100_normalize before insert or update of address, settings on channels for each row execute function tg_channels_normalize();

-- conversations --------------------------------------------------------------------------------------

create table conversations (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  channel_id uuid not null,
  customer_id uuid,
  peer text not null,
  subject text,
  status text not null default 'open',
  assigned_membership_id uuid,
  department_id uuid,
  shared_id uuid,
  last_message_at timestamptz,
  last_message_preview text,
  message_count integer not null default 0,
  unread_count integer not null default 0,
  snoozed_until timestamptz,
  service_window_until timestamptz,
  previous_conversation_id uuid,
  opened_at timestamptz not null default now(),
  metric_date date not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint conversations_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint conversations_channel_fkey foreign key (business_id, channel_id) references channels (business_id, id),
  constraint conversations_customer_fkey foreign key (business_id, customer_id) references customers (business_id, id) on delete set null (customer_id),
  constraint conversations_assigned_fkey foreign key (business_id, assigned_membership_id)
    references public.business_memberships (business_id, id) on delete set null (assigned_membership_id),
  constraint conversations_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete set null (department_id),
  constraint conversations_previous_fkey foreign key (business_id, previous_conversation_id) references conversations (business_id, id),
  constraint conversations_shared_id check (shared_id = id),
  constraint conversations_status check (status in ('open', 'pending', 'snoozed', 'resolved', 'closed')),
  constraint conversations_peer_length check (char_length(peer) between 1 and 320),
  constraint conversations_subject_length check (char_length(subject) <= 500),
  constraint conversations_snoozed_until check (status <> 'snoozed' or snoozed_until is not null),
  constraint conversations_counts check (message_count >= 0 and unread_count >= 0)
);
comment on table conversations is 'A thread with one outside address on one channel.';
comment on column conversations.peer is 'The outside address: E.164, short code, sender name, e-mail address or visitor id. @personal phone';
comment on column conversations.subject is '@personal free_text';
comment on column conversations.status is 'open, pending (we wait for them), snoozed (until snoozed_until), resolved, closed (a new message starts a new conversation).';
comment on column conversations.assigned_membership_id is 'Who answers; at first the member who looks after the customer.';
comment on column conversations.department_id is 'At first the department of the channel, else of the customer.';
comment on column conversations.shared_id is 'The id again, once an access control list named the record; else null. What policies compare.';
comment on column conversations.last_message_preview is 'First 140 characters of the last message. @personal free_text';
comment on column conversations.unread_count is 'Messages from outside since somebody last read: see mark_conversation_read().';
comment on column conversations.service_window_until is 'WhatsApp: until when free-form messages are allowed (24 hours after their last message).';
comment on column conversations.metric_date is 'Local day of opening in the time zone of the business.';
-- One open thread per channel and outside address, whatever arrives at once.
create unique index conversations_open_key on conversations (business_id, channel_id, peer) where status in ('open', 'pending', 'snoozed');
create index conversations_last_message_idx on conversations (business_id, last_message_at desc nulls last, id desc);
create index conversations_created_at_idx on conversations (business_id, created_at desc, id desc);
create index conversations_customer_idx on conversations (business_id, customer_id);
create index conversations_peer_idx on conversations (business_id, channel_id, peer, created_at desc);
-- What the policy looks at, so that counting reads the index alone.
create index conversations_reach_idx on conversations (business_id, department_id, assigned_membership_id, customer_id, shared_id);
create index conversations_assigned_idx on conversations (business_id, assigned_membership_id);
create index conversations_previous_idx on conversations (business_id, previous_conversation_id);
call private.protect('conversations', owners => array['assigned_membership_id'], about => 'customer_id',
  reads => 'conversations.read', updates => 'conversations.write',
  update_columns => array['subject', 'status', 'assigned_membership_id', 'department_id', 'snoozed_until']);
-- No insert: open_conversation(). No delete: threads are resolved and closed.
call track_status('conversations');
call audit('conversations', array['peer', 'subject', 'last_message_preview'], on_insert => false);
create trigger _040_inherit before insert on conversations for each row execute function tg_inherit_owner('assigned_membership_id');
create trigger _050_own before insert on conversations for each row execute function tg_own_record('conversations.write', 'assigned_membership_id');
create trigger _600_access_lists after delete on conversations
  referencing old table as old_rows for each statement execute function tg_forget_access_lists();
create trigger _100_metric_date before insert or update of opened_at on conversations for each row execute function tg_stamp_metric_date('opened_at');

-- messages -------------------------------------------------------------------------------------------

create table messages (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  conversation_id uuid not null,
  channel_id uuid not null,
  direction text not null,
  sender_kind text not null,
  sender_membership_id uuid,
  body text not null default '',
  media jsonb not null default '[]',
  location jsonb,
  provider_message_id text,
  in_reply_to_provider_id text,
  payload jsonb not null default '{}',
  segments integer,
  occurred_at timestamptz not null default now(),
  queued_at timestamptz,
  sending_at timestamptz,
  sent_at timestamptz,
  delivered_at timestamptz,
  read_at timestamptz,
  failed_at timestamptz,
  canceled_at timestamptz,
  status text not null generated always as (case
    when direction = 'inbound' then 'received'
    when read_at is not null then 'read'
    when delivered_at is not null then 'delivered'
    when failed_at is not null then 'failed'
    when canceled_at is not null then 'canceled'
    when sent_at is not null then 'sent'
    when sending_at is not null then 'sending'
    else 'queued' end) stored,
  error_code integer,
  is_retryable boolean,
  metric_date date not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint messages_provider_key unique (business_id, channel_id, provider_message_id),
  constraint messages_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint messages_conversation_fkey foreign key (business_id, conversation_id) references conversations (business_id, id),
  constraint messages_channel_fkey foreign key (business_id, channel_id) references channels (business_id, id),
  constraint messages_sender_fkey foreign key (business_id, sender_membership_id)
    references public.business_memberships (business_id, id) on delete set null (sender_membership_id),
  constraint messages_direction check (direction in ('inbound', 'outbound')),
  constraint messages_sender_kind check (sender_kind in ('customer', 'member', 'system', 'ai')),
  constraint messages_body_length check (char_length(body) <= 65536),
  constraint messages_media check (jsonb_typeof(media) = 'array' and jsonb_array_length(media) <= 20),
  constraint messages_location check (jsonb_typeof(location) = 'object'),
  constraint messages_provider_message_id_length check (char_length(provider_message_id) between 1 and 500),
  constraint messages_segments check (segments between 0 and 1000)
);
comment on table messages is 'One message of a conversation, in or out.';
comment on column messages.body is '@personal free_text';
comment on column messages.media is 'Attachments as the provider announced them: [{"url", "content_type"}]. Fetch them with the provider''s credentials, never publish the URL. @personal free_text';
comment on column messages.location is '{"latitude", "longitude", "label"} @personal address';
comment on column messages.provider_message_id is 'Id at the provider; a repeated delivery finds the same row.';
comment on column messages.payload is 'What the provider said beyond the columns. @personal free_text';
comment on column messages.occurred_at is 'When it was written or received, as the provider said.';
comment on column messages.status is 'Follows from which of the *_at columns are set, so late or repeated callbacks never turn it back: received (inbound); queued, sending, sent, delivered, read, failed, canceled.';
comment on column messages.error_code is 'The provider''s code, such as Twilio 30003.';
comment on column messages.is_retryable is 'For a failed message: whether sending it again can help.';
comment on column messages.metric_date is 'Local day of occurred_at in the time zone of the business.';
-- The thread, newest first; and the inbox of a business.
create index messages_conversation_idx on messages (business_id, conversation_id, occurred_at desc, id desc);
create index messages_created_at_idx on messages (business_id, created_at desc, id desc);
create index messages_sender_idx on messages (business_id, sender_membership_id);
call private.protect('messages', parent => array['conversations', 'conversation_id'], reads => 'messages.read');
-- No insert, update or delete: messages are recorded by functions and never edited.
create trigger _100_metric_date before insert or update of occurred_at on messages for each row execute function tg_stamp_metric_date('occurred_at');

create function tg_messages_conversation() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  update conversations c set
    message_count = c.message_count + n.messages,
    unread_count = c.unread_count + n.unread,
    last_message_at = greatest(c.last_message_at, n.last_at),
    last_message_preview = case when c.last_message_at is null or n.last_at >= c.last_message_at then left(n.last_body, 140) else c.last_message_preview end
  from (
    select r.business_id, r.conversation_id, count(*)::int as messages, count(*) filter (where r.direction = 'inbound')::int as unread,
      max(r.occurred_at) as last_at, (array_agg(r.body order by r.occurred_at desc, r.id desc))[1] as last_body
    from new_rows r group by 1, 2 order by 1, 2) n
  where c.business_id = n.business_id and c.id = n.conversation_id;
  return null;
end $$;
comment on function tg_messages_conversation() is 'Keeps counters and the last message of the conversation.';
create trigger _300_conversation after insert on messages
  referencing new table as new_rows for each statement execute function tg_messages_conversation();
