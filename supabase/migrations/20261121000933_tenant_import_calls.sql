select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Importing calls that are over; and importing from a program, with one request instead of a file.
 */
create function read_import_calls(batch import_batches, home private.business_directory, rows jsonb) returns setof import_rows
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_country text := coalesce((batch).options ->> 'country', (home).country);
begin
  return query
  with given as (
    select coalesce(d.line, e.n::integer) as line, e.value - 'line' as content, nullif(btrim(d.external_id), '') as external_id,
      nullif(btrim(d.direction), '') as direction, coalesce(nullif(btrim(d.peer), ''), (batch).options ->> 'peer', 'unknown') as peer,
      nullif(btrim(d.name), '') as name, nullif(btrim(d.started_at), '') as started_at, nullif(btrim(d.duration_seconds), '') as duration,
      nullif(btrim(d.status), '') as status, nullif(btrim(d.outcome), '') as outcome, nullif(d.notes, '') as notes
    from jsonb_array_elements(rows) with ordinality e(value, n)
    cross join lateral jsonb_to_record(e.value) d(line integer, external_id text, direction text, peer text, name text, started_at text,
      duration_seconds text, status text, outcome text, notes text)
  ), read as materialized (
    select g.*, p.peer as read_peer, p.identity, import_time(g.started_at, (home).timezone) as at,
      case when g.duration ~ '^[0-9]{1,6}$' and g.duration::integer <= 604800 then g.duration::integer end as seconds
    from given g
    cross join lateral read_import_peer('voice', g.peer, v_country) p
  ), complete as (
    select r.*, coalesce(r.status, case when r.seconds = 0 then 'no_answer' else 'completed' end) as read_status from read r
  )
  select (batch).business_id, (batch).id, r.line, 'id:' || r.external_id,
    left(encode(sha256(convert_to(r.content::text, 'UTF8')), 'hex'), 32), r.identity, null::text, r.read_peer,
    jsonb_strip_nulls(jsonb_build_object('direction', r.direction, 'name', r.name, 'at', r.at, 'seconds', r.seconds, 'status', r.read_status,
      'outcome', coalesce(r.outcome, call_outcome(r.read_status, r.direction, null, null)), 'notes', r.notes)),
    nullif(to_jsonb(array_remove(array[
      case when r.direction is null or r.direction not in ('inbound', 'outbound') then
        import_problem('direction', r.direction, case when r.direction is null then 'missing' else 'bad_choice' end,
          'This is not a direction.', 'Use inbound or outbound.') end,
      case when r.read_peer is null then
        import_problem('peer', r.peer, 'invalid_phone', format('This is not a valid phone number, read as of %s.', v_country),
          'Give it with its country code, like +14155550123; or anonymous, or unknown.') end,
      case when r.at is null then
        import_problem('started_at', r.started_at, case when r.started_at is null then 'missing' else 'bad_time' end,
          case when r.started_at is null then 'A call needs the time when it began.' else 'This is not a time.' end,
          'Use ISO 8601, such as 2026-03-31T14:05:00+02:00; without an offset it is local time of the business.') end,
      case when r.at not between '2000-01-01' and now() + interval '1 day' then
        import_problem('started_at', r.started_at, 'out_of_range', 'This is not a plausible time.', 'Give when the call began.') end,
      case when r.duration is not null and r.seconds is null then
        import_problem('duration_seconds', r.duration, 'bad_number', 'This is not a number of seconds up to 604800.', 'Use whole seconds, or h:mm:ss.') end,
      case when r.read_status not in ('completed', 'busy', 'no_answer', 'canceled', 'failed', 'voicemail') then
        import_problem('status', r.status, 'bad_choice', 'This is not a status in which a call ends.', 'Use completed, busy, no_answer, canceled, failed or voicemail.') end,
      case when r.outcome not in ('completed', 'voicemail', 'no_answer', 'busy', 'abandoned', 'transferred', 'do_not_call', 'spam', 'booked', 'error', 'unknown') then
        import_problem('outcome', r.outcome, 'bad_choice', 'This is not an outcome.',
          'Use completed, voicemail, no_answer, busy, abandoned, transferred, do_not_call, spam, booked, error or unknown.') end,
      case when char_length(r.external_id) > 200 then import_problem('external_id', r.external_id, 'too_long', 'At most 200 characters fit.', 'Use a shorter id.') end,
      case when char_length(r.notes) > 10000 then import_problem('notes', r.notes, 'too_long', 'At most 10000 characters fit.', 'Shorten them.') end
      ], null)), '[]'),
    null::jsonb, null::text, null::uuid, null::uuid, false, false
  from complete r;
end $$;
comment on function read_import_calls(import_batches, private.business_directory, jsonb) is 'Reads and checks rows of calls, each by itself.';

create function resolve_import_calls(batch import_batches, after_line integer, last_line integer) returns void
language plpgsql security definer
set search_path from current
set enable_nestloop = off   -- see prepare_import()
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_source text := coalesce((batch).options ->> 'source', 'import');
begin
  with good as (
    select r.line, r.key, r.peer, r.data, c.id as known_id, c.direction as known_direction, c.peer as known_peer
    from import_rows r
    left join lateral (
      select k.id, k.direction, k.peer from calls k
      where k.business_id = (batch).business_id and k.provider_call_id = import_provider_id(r.key, v_source) limit 1) c on true
    where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.problems is null and r.conflict is null
      and r.line > resolve_import_calls.after_line and r.line <= resolve_import_calls.last_line
  )
  update import_rows r set
    conflict = case
      when (g.known_direction, g.known_peer) <> (g.data ->> 'direction', g.peer) then
        import_problem('external_id', substr(g.key, 4), 'changed', 'A call with this id is stored, with another party or direction.', 'Correct the id.') end,
    outcome = case when g.known_id is not null then 'already_there' else 'create' end
  from good g
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line = g.line;
end $$;
comment on function resolve_import_calls(import_batches, integer, integer) is 'Finds which staged calls are stored already, and what speaks against importing others.';

create function apply_import_calls(batch import_batches, last_line integer) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_channel channels;
  v_source text := coalesce((batch).options ->> 'source', 'import');
begin
  if (batch).channel_id is not null then
    v_channel := channel_for((batch).business_id, (batch).channel_id);
  end if;
  perform link_import_customers(batch, 'voice', apply_import_calls.last_line);
  insert into calls (business_id, channel_id, customer_id, direction, peer, from_address, to_address, provider, provider_call_id, status,
    started_at, answered_at, ended_at, duration_seconds, outcome, notes, caller_name)
  select r.business_id, v_channel.id, r.customer_id, d.direction, r.peer,
    case d.direction when 'inbound' then r.peer else coalesce(v_channel.address_normalized, '') end,
    case d.direction when 'inbound' then coalesce(v_channel.address_normalized, '') else r.peer end,
    v_channel.provider, import_provider_id(r.key, v_source), d.status, d.at,
    case when d.status = 'completed' and d.seconds is distinct from 0 then d.at end,
    d.at + make_interval(secs => coalesce(d.seconds, 0)), d.seconds, d.outcome, d.notes, left(d.name, 200)
  from import_rows r
  cross join lateral jsonb_to_record(r.data) d(direction text, name text, at timestamptz, seconds integer, status text, outcome text, notes text)
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= apply_import_calls.last_line
    and r.problems is null and r.conflict is null and r.outcome = 'create'
  order by d.at, r.line;
end $$;
comment on function apply_import_calls(import_batches, integer) is 'Stores the staged calls up to a line, with their customers.';

-- In one request ---------------------------------------------------------------------------------------------

create function import_at_once(business_id uuid, kind text, rows jsonb, channel_id uuid, options jsonb, skip_bad boolean) returns jsonb
language plpgsql security definer
set search_path from current
as $$
declare
  v_batch uuid;
  v_problems jsonb;
  v_check jsonb;
begin
  if jsonb_typeof(rows) is distinct from 'array' then
    perform private.fail('22023', 'rows must be a list of objects.', 'rows', 'bad_type', 'Send [{...}, ...].');
  end if;
  v_batch := (start_import(import_at_once.business_id, import_at_once.kind, jsonb_array_length(rows), channel_id => import_at_once.channel_id,
    options => import_at_once.options) ->> 'batch_id')::uuid;
  v_problems := add_import_rows(import_at_once.business_id, v_batch, rows) -> 'problems';
  loop
    v_check := check_import(import_at_once.business_id, v_batch);
    v_problems := v_problems || (v_check -> 'problems');
    exit when v_check ->> 'remaining' = '0';
  end loop;
  return commit_import(import_at_once.business_id, v_batch, import_at_once.skip_bad) - 'remaining' || jsonb_build_object('problems', v_problems);
end $$;
comment on function import_at_once(uuid, text, jsonb, uuid, jsonb, boolean) is 'Stages, checks and commits in one transaction.';

create function import_customers(business_id uuid, rows jsonb, options jsonb default '{}', skip_bad boolean default false) returns jsonb
language plpgsql security definer
set search_path from current
as $$
begin
  perform require_whole_business(import_customers.business_id, 'customers.write');
  return import_at_once(import_customers.business_id, 'customers', rows, null, options, skip_bad);
end $$;
comment on function import_customers(uuid, jsonb, jsonb, boolean) is
  'Imports customers in one request: all or nothing, or all good ones with skip_bad. rows: [{"external_id", "first_name", "last_name", "company_name", "title", "phone", "phone_country", "email", "lifecycle_stage", "tags", "address_line", "city", "region", "postal_code", "country", "notes", "custom_fields", "kind"}]. Returns {"created", "completed", "already_there", "bad", "problems"}. Needs customers.write. A row whose number or address belongs to a customer completes that customer. Importing the same again changes nothing. options: see start_import().';

create function import_messages(business_id uuid, channel_id uuid, rows jsonb, options jsonb default '{}', skip_bad boolean default false) returns jsonb
language plpgsql security definer
set search_path from current
as $$
begin
  perform require_whole_business(import_messages.business_id, 'messages.write');
  return import_at_once(import_messages.business_id, 'messages', rows, import_messages.channel_id, options, skip_bad);
end $$;
comment on function import_messages(uuid, uuid, jsonb, jsonb, boolean) is
  'Imports past messages of a channel in one request: all or nothing, or all good ones with skip_bad. rows: [{"external_id", "direction", "peer", "name", "body", "sent_at", "status", "label"}]. Returns {"created", "completed", "already_there", "bad", "problems"}. Needs messages.write. Customers are found by peer or created; nothing becomes unread, nobody is opted out. Importing the same again changes nothing. options: see start_import().';

create function import_calls(business_id uuid, rows jsonb, channel_id uuid default null, options jsonb default '{}', skip_bad boolean default false) returns jsonb
language plpgsql security definer
set search_path from current
as $$
begin
  perform require_whole_business(import_calls.business_id, 'calls.write');
  return import_at_once(import_calls.business_id, 'calls', rows, import_calls.channel_id, options, skip_bad);
end $$;
comment on function import_calls(uuid, jsonb, uuid, jsonb, boolean) is
  'Imports past calls in one request: all or nothing, or all good ones with skip_bad. rows: [{"external_id", "direction", "peer", "name", "started_at", "duration_seconds", "status", "outcome", "notes"}]. Returns {"created", "completed", "already_there", "bad", "problems"}. Needs calls.write. Customers are found by peer or created. Importing the same again changes nothing. options: see start_import().';

grant execute on function import_customers(uuid, jsonb, jsonb, boolean), import_messages(uuid, uuid, jsonb, jsonb, boolean),
  import_calls(uuid, jsonb, uuid, jsonb, boolean)
  to authenticated, service_role;
