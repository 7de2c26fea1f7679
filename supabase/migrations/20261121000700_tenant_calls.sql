select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Calls and their transcripts.
 *
 * A provider reports a call in several callbacks that may repeat, overtake each other or get lost. The
 * row is a function of the set of them: moments take the earliest, the status only moves forward.
 */
create table calls (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  channel_id uuid,
  customer_id uuid,
  conversation_id uuid,
  direction text not null,
  peer text not null,
  from_address text not null,
  to_address text not null,
  provider text,
  provider_call_id text,
  status text not null default 'queued',
  status_sequence integer,
  started_at timestamptz not null default now(),
  answered_at timestamptz,
  ended_at timestamptz,
  duration_seconds integer,
  outcome text,
  answered_by text,
  caller_name text,
  handled_by_membership_id uuid,
  owner_membership_id uuid,
  department_id uuid,
  shared_id uuid,
  recording jsonb,
  legs jsonb not null default '{}',
  error_code integer,
  notes text,
  metric_date date not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint calls_provider_key unique (business_id, provider_call_id),
  constraint calls_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint calls_channel_fkey foreign key (business_id, channel_id) references channels (business_id, id),
  constraint calls_customer_fkey foreign key (business_id, customer_id) references customers (business_id, id) on delete set null (customer_id),
  constraint calls_conversation_fkey foreign key (business_id, conversation_id) references conversations (business_id, id) on delete set null (conversation_id),
  constraint calls_handled_by_fkey foreign key (business_id, handled_by_membership_id)
    references public.business_memberships (business_id, id) on delete set null (handled_by_membership_id),
  constraint calls_owner_fkey foreign key (business_id, owner_membership_id)
    references public.business_memberships (business_id, id) on delete set null (owner_membership_id),
  constraint calls_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete set null (department_id),
  constraint calls_shared_id check (shared_id = id),
  constraint calls_direction check (direction in ('inbound', 'outbound')),
  constraint calls_status check (status in ('queued', 'initiated', 'ringing', 'in_progress', 'completed', 'busy', 'no_answer', 'canceled', 'failed', 'voicemail')),
  constraint calls_outcome check (outcome in ('completed', 'voicemail', 'no_answer', 'busy', 'abandoned', 'transferred', 'do_not_call', 'spam', 'booked', 'error', 'unknown')),
  constraint calls_answered_by check (answered_by in ('human', 'machine', 'fax', 'unknown')),
  constraint calls_duration check (duration_seconds between 0 and 604800),
  constraint calls_addresses check (char_length(peer) >= 1 and char_length(peer) <= 320 and char_length(from_address) <= 320 and char_length(to_address) <= 320),
  constraint calls_provider_call_id_length check (char_length(provider_call_id) between 1 and 200),
  constraint calls_notes_length check (char_length(notes) <= 10000),
  constraint calls_started_at_sane check (started_at between '2000-01-01' and '2200-01-01')
);
comment on table calls is 'One phone call, in or out, with a party outside.';
comment on column calls.peer is 'The outside party: E.164, or what the network sent. @personal phone';
comment on column calls.from_address is '@personal phone';
comment on column calls.to_address is '@personal phone';
comment on column calls.provider_call_id is 'Id at the provider, such as Twilio''s CallSid; repeated callbacks find the same row.';
comment on column calls.status is 'Moves forward only: queued, initiated, ringing, in_progress, then one of completed, busy, no_answer, canceled, failed, voicemail.';
comment on column calls.status_sequence is 'The provider''s number of the last applied status event, where it numbers them.';
comment on column calls.duration_seconds is 'Seconds of conversation, never billed minutes.';
comment on column calls.outcome is 'What came of it, apart from the technical status; members may correct it.';
comment on column calls.caller_name is 'As the network announced it. @personal name';
comment on column calls.handled_by_membership_id is 'Who spoke.';
comment on column calls.owner_membership_id is 'Whose call it is: at first the member who looks after the customer. It is also theirs who spoke.';
comment on column calls.department_id is 'At first the department of the channel, else of the customer.';
comment on column calls.shared_id is 'The id again, once an access control list named the record; else null. What policies compare.';
comment on column calls.recording is '{"sid", "status", "duration_seconds", "url", "started_at"}; the URL needs the provider''s credentials. @personal free_text';
comment on column calls.legs is 'Legs the provider reported for this call, by their id: forwarding attempts and transfers. @personal phone';
comment on column calls.notes is '@personal free_text';
comment on column calls.metric_date is 'Local day of started_at in the time zone of the business.';
create index calls_started_at_idx on calls (business_id, started_at desc, id desc);
create index calls_created_at_idx on calls (business_id, created_at desc, id desc);
create index calls_customer_idx on calls (business_id, customer_id, started_at desc);
create index calls_channel_idx on calls (business_id, channel_id);
create index calls_conversation_idx on calls (business_id, conversation_id);
create index calls_owner_idx on calls (business_id, owner_membership_id);
-- What the policy looks at, so that counting reads the index alone.
create index calls_reach_idx on calls (business_id, department_id, owner_membership_id, handled_by_membership_id, customer_id, shared_id);
create index calls_handled_by_idx on calls (business_id, handled_by_membership_id);
call private.protect('calls', owners => array['owner_membership_id', 'handled_by_membership_id'], about => 'customer_id',
  reads => 'calls.read', updates => 'calls.write',
  update_columns => array['outcome', 'handled_by_membership_id', 'owner_membership_id', 'department_id', 'notes', 'conversation_id']);
-- No insert: log_call() and providers. No delete: retention decides.
call track_status('calls');
call audit('calls', array['peer', 'from_address', 'to_address', 'caller_name', 'notes', 'recording', 'legs'], on_insert => false);
create trigger _040_inherit before insert on calls for each row execute function tg_inherit_owner('owner_membership_id');
create trigger _050_own before insert on calls for each row execute function tg_own_record('calls.write', 'owner_membership_id');
create trigger _600_access_lists after delete on calls
  referencing old table as old_rows for each statement execute function tg_forget_access_lists();
create trigger _100_metric_date before insert or update of started_at on calls for each row execute function tg_stamp_metric_date('started_at');

create table call_transcripts (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  call_id uuid not null,
  provider_transcript_id text,
  status text not null default 'completed',
  language text,
  segments jsonb not null default '[]',
  text text not null default '',
  summary text,
  sentiment text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint call_transcripts_provider_key unique (business_id, provider_transcript_id),
  constraint call_transcripts_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint call_transcripts_call_fkey foreign key (business_id, call_id) references calls (business_id, id) on delete cascade,
  constraint call_transcripts_status check (status in ('completed', 'failed')),
  constraint call_transcripts_segments check (jsonb_typeof(segments) = 'array'),
  constraint call_transcripts_sentiment check (sentiment in ('positive', 'neutral', 'negative')),
  constraint call_transcripts_text_length check (char_length(text) <= 1000000)
);
comment on table call_transcripts is 'What was said on a call: final transcripts only.';
comment on column call_transcripts.segments is '[{"speaker", "start", "end", "text"}], seconds from the start of the call. @personal free_text';
comment on column call_transcripts.text is 'The whole text. @personal free_text';
comment on column call_transcripts.summary is '@personal free_text';
create index call_transcripts_call_idx on call_transcripts (business_id, call_id);
call private.protect('call_transcripts', parent => array['calls', 'call_id'], reads => 'calls.read');

-- The history of a customer goes to whoever looks after the customer now; what was given to somebody else stays theirs.
create function tg_customers_reassigned() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  if new.owner_membership_id is distinct from old.owner_membership_id then
    update conversations c set assigned_membership_id = new.owner_membership_id
    where c.business_id = new.business_id and c.customer_id = new.id and c.status <> 'closed'
      and c.assigned_membership_id is not distinct from old.owner_membership_id;
    update calls c set owner_membership_id = new.owner_membership_id
    where c.business_id = new.business_id and c.customer_id = new.id and c.owner_membership_id is not distinct from old.owner_membership_id;
  end if;
  if new.department_id is distinct from old.department_id then
    update conversations c set department_id = new.department_id
    where c.business_id = new.business_id and c.customer_id = new.id and c.department_id is not distinct from old.department_id
      and not exists (select 1 from channels ch where ch.business_id = c.business_id and ch.id = c.channel_id and ch.department_id is not null);
    update calls c set department_id = new.department_id
    where c.business_id = new.business_id and c.customer_id = new.id and c.department_id is not distinct from old.department_id
      and not exists (select 1 from channels ch where ch.business_id = c.business_id and ch.id = c.channel_id and ch.department_id is not null);
  end if;
  return null;
end $$;
comment on function tg_customers_reassigned() is 'Conversations and calls follow the owner and department of their customer, unless given to another.';
create trigger _600_reassigned after update of owner_membership_id, department_id on customers
  for each row when (new.owner_membership_id is distinct from old.owner_membership_id or new.department_id is distinct from old.department_id)
  execute function tg_customers_reassigned();

-- Applying events ---------------------------------------------------------------------------------------

create function call_status_rank(status text) returns integer
language sql immutable
begin atomic
  select case status when 'queued' then 0 when 'initiated' then 1 when 'ringing' then 2 when 'in_progress' then 3 else 4 end;
end;
comment on function call_status_rank(text) is 'How far along a call status is; 4 is final.';

create function call_outcome(status text, direction text, answered_by text, dial_status text) returns text
language sql immutable
begin atomic
  select case
    when dial_status = 'completed' then 'transferred'
    when status = 'voicemail' or (status = 'completed' and answered_by = 'machine') then 'voicemail'
    when status = 'completed' then 'completed'
    when status = 'busy' then 'busy'
    when status = 'no_answer' then 'no_answer'
    when status = 'canceled' then case direction when 'inbound' then 'abandoned' else 'no_answer' end
    when status = 'failed' then 'error' end;
end;
comment on function call_outcome(text, text, text, text) is 'The outcome a final status implies; null while the call is under way.';

create function call_by_provider_id(business_id uuid, provider_call_id text) returns calls
language plpgsql security definer
set search_path from current
as $$
declare
  v_call calls;
begin
  select * into v_call from calls c
  where c.business_id = call_by_provider_id.business_id and c.provider_call_id = call_by_provider_id.provider_call_id for update;
  if not found then
    -- Recordings, transcripts and legs can overtake the call: the event waits in the inbox and is tried again.
    perform private.fail('PT404', format('Call %s is not known yet.', left(coalesce(call_by_provider_id.provider_call_id, 'without id'), 64)), 'external_id', 'unknown_call',
      'It will be applied when the call arrives.');
  end if;
  return v_call;
end $$;
comment on function call_by_provider_id(uuid, text) is 'The call with this id at the provider, locked; raises PT404 when it is not known (yet).';

create function store_call_event(business_id uuid, channel channels, event jsonb) returns calls
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_call calls;
  v_status text := event ->> 'status';
  v_at timestamptz := least(coalesce((event ->> 'occurred_at')::timestamptz, now()), now() + interval '5 minutes');
  v_duration integer := (event ->> 'duration_seconds')::integer;
  v_direction text := event ->> 'direction';
  v_ours text := coalesce((channel).address_normalized, event ->> 'ours', '');
  v_peer text := coalesce(nullif(event ->> 'peer', ''), 'anonymous');
  v_country text;
  v_customer uuid;
begin
  if coalesce(event ->> 'external_id', '') = '' then
    perform private.fail('22023', 'The call id is missing.', 'external_id', 'missing', 'Send the provider''s call id.');
  end if;
  -- A leg belongs to its parent: it is never a second call.
  if event ->> 'parent_external_id' is not null then
    v_call := call_by_provider_id(store_call_event.business_id, event ->> 'parent_external_id');
    update calls c set legs = c.legs || jsonb_build_object(event ->> 'external_id', jsonb_strip_nulls(jsonb_build_object(
        'to', event ->> 'peer', 'status', v_status, 'duration_seconds', v_duration, 'at', v_at)))
    where c.business_id = v_call.business_id and c.id = v_call.id
      -- Forward only, as for calls.
      and call_status_rank(coalesce(c.legs -> (event ->> 'external_id') ->> 'status', 'queued')) <= call_status_rank(v_status)
      and call_status_rank(coalesce(c.legs -> (event ->> 'external_id') ->> 'status', 'queued')) < 4
    returning * into v_call;
    return v_call;
  end if;

  select * into v_call from calls c where c.business_id = store_call_event.business_id and c.provider_call_id = event ->> 'external_id' for update;
  if not found then
    select d.country into v_country from private.business_directory d where d.business_id = store_call_event.business_id;
    v_customer := link_customer(store_call_event.business_id, 'phone', v_peer, v_country, 'call', event ->> 'caller_name');
    if v_customer is not null then
      v_peer := coalesce(public.normalize_phone(v_peer, v_country), v_peer);
    end if;
    insert into calls (business_id, channel_id, customer_id, direction, peer, from_address, to_address, provider, provider_call_id,
      status, status_sequence, started_at, caller_name)
    values (store_call_event.business_id, (channel).id, v_customer, v_direction, v_peer,
      case v_direction when 'inbound' then v_peer else v_ours end, case v_direction when 'inbound' then v_ours else v_peer end,
      (channel).provider, event ->> 'external_id', 'queued', null,
      -- A final event that comes first says how long ago it began.
      case when call_status_rank(v_status) = 4 then v_at - make_interval(secs => coalesce(v_duration, 0)) else v_at end,
      left(event ->> 'caller_name', 200))
    on conflict (business_id, provider_call_id) do nothing;
    select * into v_call from calls c where c.business_id = store_call_event.business_id and c.provider_call_id = event ->> 'external_id' for update;
  end if;

  update calls c set
    status = case
      when call_status_rank(c.status) = 4 or call_status_rank(v_status) < call_status_rank(c.status) then c.status
      when call_status_rank(v_status) = call_status_rank(c.status) then c.status
      else v_status end,
    status_sequence = greatest(c.status_sequence, (event ->> 'sequence')::integer),
    started_at = least(c.started_at, case when call_status_rank(v_status) = 4 then c.started_at else v_at end),
    answered_at = case
      when v_status = 'in_progress' then least(c.answered_at, v_at)
      when v_status = 'completed' and coalesce(v_duration, 0) > 0 then coalesce(c.answered_at, v_at - make_interval(secs => v_duration))
      else c.answered_at end,
    ended_at = case when call_status_rank(v_status) = 4 and call_status_rank(c.status) < 4 then v_at else c.ended_at end,
    duration_seconds = case when call_status_rank(v_status) = 4 then coalesce(v_duration, c.duration_seconds) else c.duration_seconds end,
    answered_by = coalesce(event ->> 'answered_by', c.answered_by),
    error_code = coalesce((event ->> 'error_code')::integer, c.error_code),
    caller_name = coalesce(c.caller_name, left(event ->> 'caller_name', 200)),
    -- What the provider says of the outcome beats what the status implies, and a member's word beats both.
    outcome = case when event ->> 'outcome' is not null and coalesce(c.outcome, 'completed') in ('completed', 'no_answer', 'transferred')
      then event ->> 'outcome'
      else coalesce(c.outcome, call_outcome(case when call_status_rank(c.status) = 4 then c.status else v_status end, c.direction,
        coalesce(event ->> 'answered_by', c.answered_by), event ->> 'dial_status')) end,
    legs = case when event ->> 'dial_status' is null then c.legs
      else c.legs || jsonb_build_object('dial', jsonb_build_object('status', event ->> 'dial_status', 'duration_seconds', (event ->> 'dial_seconds')::integer)) end
  where c.business_id = v_call.business_id and c.id = v_call.id
  returning * into v_call;
  return v_call;
end $$;
comment on function store_call_event(uuid, channels, jsonb) is
  'Applies one status event of a call: creates it with its customer, or moves it forward. Repetitions and late events change nothing that is final.';

create function store_call_recording(business_id uuid, event jsonb) returns calls
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_call calls := call_by_provider_id(store_call_recording.business_id, event ->> 'external_id');
begin
  update calls c set recording = coalesce(c.recording, '{}') || jsonb_strip_nulls(jsonb_build_object(
      'sid', event ->> 'recording_sid', 'status', event ->> 'status', 'duration_seconds', (event ->> 'duration_seconds')::integer,
      'url', event ->> 'url', 'started_at', event ->> 'started_at', 'error_code', (event ->> 'error_code')::integer))
  where c.business_id = v_call.business_id and c.id = v_call.id
    -- "in progress" that comes after "completed" says nothing new.
    and not (coalesce(c.recording ->> 'status', '') in ('completed', 'absent', 'failed') and event ->> 'status' = 'in_progress')
  returning * into v_call;
  return v_call;
end $$;
comment on function store_call_recording(uuid, jsonb) is 'Notes the recording of a call.';

create function store_call_transcript(business_id uuid, event jsonb) returns call_transcripts
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_call calls := call_by_provider_id(store_call_transcript.business_id, event ->> 'external_id');
  v_transcript call_transcripts;
begin
  insert into call_transcripts as t (business_id, call_id, provider_transcript_id, status, text, segments)
  values (v_call.business_id, v_call.id, event ->> 'transcript_id', coalesce(event ->> 'status', 'completed'), coalesce(event ->> 'text', ''),
    coalesce(nullif(event -> 'segments', 'null'), '[]'))
  on conflict (business_id, provider_transcript_id) do update set status = excluded.status, text = excluded.text, segments = excluded.segments
    where t.status <> 'completed'
  returning * into v_transcript;
  return v_transcript;
end $$;
comment on function store_call_transcript(uuid, jsonb) is 'Stores the final transcript of a call once.';

-- For members ----------------------------------------------------------------------------------------------

create function log_call(business_id uuid, direction text, peer text, channel_id uuid default null, provider_call_id text default null,
  status text default 'completed', started_at timestamptz default null, answered_at timestamptz default null, ended_at timestamptz default null,
  duration_seconds integer default null, outcome text default null, transcript jsonb default null, notes text default null,
  idempotency_key text default null)
returns calls
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_creator(log_call.business_id, 'calls.write');
  v_request jsonb := jsonb_build_object('rpc', 'log_call', 'args', jsonb_build_array(direction, peer, log_call.channel_id, log_call.provider_call_id,
    log_call.status, log_call.started_at, log_call.answered_at, log_call.ended_at, log_call.duration_seconds, log_call.outcome, transcript, log_call.notes));
  v_result jsonb;
  v_channel channels;
  v_peer text;
  v_started timestamptz := coalesce(log_call.started_at, log_call.ended_at - make_interval(secs => coalesce(log_call.duration_seconds, 0)), now());
  v_call calls;
begin
  v_result := find_idempotent_result(log_call.business_id, idempotency_key, v_request);
  if v_result is not null then
    select * into v_call from calls c where c.business_id = log_call.business_id and c.id = (v_result ->> 'id')::uuid;
    return v_call;
  end if;
  if log_call.direction is null or log_call.direction not in ('inbound', 'outbound') then
    perform private.fail('22023', 'direction must be inbound or outbound.', 'direction', 'bad_choice', 'Send inbound or outbound.');
  end if;
  if log_call.status is null or not exists (select 1 from public.status_transitions t where t.machine = 'calls.status' and log_call.status in (t.from_status, t.to_status)) then
    perform private.fail('22023', 'status is not a status of calls.', 'status', 'bad_choice',
      'Send queued, initiated, ringing, in_progress, completed, busy, no_answer, canceled, failed or voicemail.');
  end if;
  if log_call.outcome is not null and log_call.outcome not in ('completed', 'voicemail', 'no_answer', 'busy', 'abandoned', 'transferred', 'do_not_call', 'spam', 'booked', 'error', 'unknown') then
    perform private.fail('22023', 'outcome is not one we know.', 'outcome', 'bad_choice',
      'Send completed, voicemail, no_answer, busy, abandoned, transferred, do_not_call, spam, booked, error or unknown.');
  end if;
  if log_call.duration_seconds < 0 or log_call.duration_seconds > 604800 then
    perform private.fail('22023', 'duration_seconds must be between 0 and 604800.', 'duration_seconds', 'out_of_range', 'Send whole seconds.');
  end if;
  if v_started not between '2000-01-01' and now() + interval '1 day' then
    perform private.fail('22023', 'started_at is not a plausible time.', 'started_at', 'out_of_range', 'Send an ISO 8601 time that is not in the future.');
  end if;
  if transcript is not null and jsonb_typeof(transcript) not in ('array', 'string') then
    perform private.fail('22023', 'transcript must be a text or a list of segments.', 'transcript', 'bad_type', 'Send [{"speaker", "start", "end", "text"}].');
  end if;
  v_peer := public.normalize_phone(log_call.peer, v_home.country);
  if v_peer is null then
    perform private.fail('22023', format('%s is not a valid phone number.', quote_literal(left(coalesce(log_call.peer, ''), 64))), 'peer', 'invalid_phone',
      format('Send the number with its country code, like +14155550123, or a national number of %s.', v_home.country));
  end if;
  if log_call.channel_id is not null then
    v_channel := channel_for(log_call.business_id, log_call.channel_id);
  else   -- the only voice channel, if there is just one
    select * into v_channel from channels ch where ch.business_id = log_call.business_id and ch.kind = 'voice' and ch.is_active
      and not exists (select 1 from channels o where o.business_id = ch.business_id and o.kind = 'voice' and o.is_active and o.id <> ch.id);
  end if;
  if log_call.provider_call_id is not null then
    perform private.check_length(log_call.provider_call_id, 'provider_call_id', 1, 200);
    select * into v_call from calls c where c.business_id = log_call.business_id and c.provider_call_id = log_call.provider_call_id;
    if found then return v_call; end if;
  end if;
  insert into calls (business_id, channel_id, customer_id, direction, peer, from_address, to_address, provider, provider_call_id, status,
    started_at, answered_at, ended_at, duration_seconds, outcome, notes, handled_by_membership_id)
  values (log_call.business_id, v_channel.id, link_customer(log_call.business_id, 'phone', v_peer, v_home.country, 'call'), log_call.direction, v_peer,
    case log_call.direction when 'inbound' then v_peer else coalesce(v_channel.address_normalized, '') end,
    case log_call.direction when 'inbound' then coalesce(v_channel.address_normalized, '') else v_peer end,
    v_channel.provider, log_call.provider_call_id, log_call.status, v_started,
    coalesce(log_call.answered_at, case when log_call.status = 'completed' and coalesce(log_call.duration_seconds, 0) > 0 then v_started end),
    coalesce(log_call.ended_at, case when call_status_rank(log_call.status) = 4 then v_started + make_interval(secs => coalesce(log_call.duration_seconds, 0)) end),
    log_call.duration_seconds, coalesce(log_call.outcome, call_outcome(log_call.status, log_call.direction, null, null)), log_call.notes,
    my_membership_id(log_call.business_id))
  on conflict (business_id, provider_call_id) do nothing
  returning * into v_call;
  if v_call.id is null then
    select * into v_call from calls c where c.business_id = log_call.business_id and c.provider_call_id = log_call.provider_call_id;
    return v_call;
  end if;
  if transcript is not null then
    insert into call_transcripts (business_id, call_id, segments, text)
    values (v_call.business_id, v_call.id, case when jsonb_typeof(transcript) = 'array' then transcript else '[]' end,
      case when jsonb_typeof(transcript) = 'array' then coalesce((select string_agg(coalesce(s ->> 'text', ''), ' ') from jsonb_array_elements(transcript) s), '')
           else transcript #>> '{}' end);
  end if;
  perform keep_idempotent_result(log_call.business_id, idempotency_key, v_request, jsonb_build_object('id', v_call.id));
  return v_call;
end $$;
comment on function log_call(uuid, text, text, uuid, text, text, timestamptz, timestamptz, timestamptz, integer, text, jsonb, text, text) is
  'Logs a call; its customer is found by number or created. Needs calls.write. The same provider_call_id again returns the first row. Errors: 22023 with the field, PT404 channel.';
grant execute on function log_call(uuid, text, text, uuid, text, text, timestamptz, timestamptz, timestamptz, integer, text, jsonb, text, text)
  to authenticated, service_role;
