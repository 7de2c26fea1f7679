select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Importing messages and calls: history, not news. Their customers are found or made as for anything that
 * comes in, but nobody has to read them, no conversation is reopened and no text opts anybody out.
 */

-- How an SMS is cut (3GPP TS 23.038 and 23.040) --------------------------------------------------------------

create function sms_segments(body text) returns integer
language plpgsql immutable
set search_path from current
as $$
declare
  -- The default alphabet, 6.2.1, and its extension table, 6.2.1.1: an escape and a second septet.
  v_basic constant text := '@£$¥èéùìòÇ' || chr(10) || 'Øø' || chr(13) || 'ÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡'
    || 'ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà';
  v_extended constant text := chr(12) || '^{}\[~]|€';
  v_plain text := translate(body, v_extended, '');
  v_is_gsm boolean := translate(v_plain, v_basic, '') = '';
  -- Characters of two units: an escaped septet, or a surrogate pair (UCS-2 is sent as UTF-16).
  v_double integer := case when v_is_gsm then length(body) - length(v_plain) else regexp_count(body, '[\U00010000-\U0010FFFF]') end;
  v_units integer := length(body) + v_double;
  v_alone integer := case when v_is_gsm then 160 else 70 end;
  v_room integer := case when v_is_gsm then 153 else 67 end;   -- beside the header that joins the parts
  v_used integer := 0;
  v_segments integer := 1;
  v_size integer;
  v_letter text;
begin
  if v_units <= v_alone then
    return 1;
  end if;
  if v_double = 0 or v_units > 255 * v_room then
    return ceil(v_units::numeric / v_room);
  end if;
  -- A character of two units is never torn apart, so a part may have to leave its last unit empty.
  for v_letter in select * from regexp_split_to_table(body, '') loop
    v_size := case when case when v_is_gsm then position(v_letter in v_extended) > 0 else ascii(v_letter) > 65535 end then 2 else 1 end;
    if v_used + v_size > v_room then
      v_segments := v_segments + 1;
      v_used := 0;
    end if;
    v_used := v_used + v_size;
  end loop;
  return v_segments;
end $$;
comment on function sms_segments(text) is
  'In how many parts an SMS is sent: 160 characters of the GSM alphabet, or 153 in each of several; 70 or 67 when one character is outside it (3GPP TS 23.038).';

-- Whom a row is about ----------------------------------------------------------------------------------------

create function read_import_peer(channel_kind text, raw text, country text, out peer text, out identity text)
language plpgsql stable
set search_path from current
as $$
declare
  v_raw text := btrim(raw);
  v_is_phone boolean := contact_kind(channel_kind) in ('phone', 'whatsapp');
begin
  if lower(v_raw) = 'unknown' then   -- the file does not say: nobody becomes a customer by it
    peer := 'unknown';
    return;
  end if;
  if v_is_phone and private.is_anonymous_number(lower(v_raw)) then
    peer := 'anonymous';
    return;
  end if;
  select n.normalized into identity from normalize_contact(contact_kind(channel_kind), v_raw, country) n;
  if identity is not null then
    peer := identity;
  elsif v_is_phone and v_raw ~ '^[0-9]{2,8}$' then
    peer := v_raw;   -- a short code
  elsif channel_kind = 'voice' and lower(v_raw) in ('private', 'restricted', 'withheld', 'unavailable', 'blocked') then
    peer := 'anonymous';
  elsif channel_kind in ('sms', 'whatsapp') and v_raw ~ '^[A-Za-z0-9 ._&+-]{1,11}$' and v_raw ~ '[A-Za-z]' then
    peer := v_raw;   -- a name as sender, 3GPP TS 23.040, 9.1.2.5: at most 11 characters
  end if;
end $$;
comment on function read_import_peer(text, text, text) is
  'The outside party as conversations and calls name it, and the address by which it is a customer: null for short codes, sender names, withheld and unknown numbers. Both null when it is no address of such a channel.';

create function find_import_customers(batch import_batches, channel_kind text, last_line integer) returns void
language plpgsql security definer
set search_path from current
set enable_nestloop = off   -- see prepare_import()
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_kind text := contact_kind(find_import_customers.channel_kind);
  v_kinds text[] := case when v_kind in ('phone', 'whatsapp') then array['phone', 'whatsapp'] else array[v_kind] end;
begin
  with wanted as (
    select r.phone from import_rows r
    where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= find_import_customers.last_line
      and r.problems is null and r.conflict is null and r.outcome = 'create' and r.phone is not null
      -- Never the business itself: its own numbers are channels.
      and r.phone <> all (array(select ch.address_normalized from channels ch where ch.business_id = (batch).business_id))
    group by 1
  ), found as (
    select w.phone, (
      select p.customer_id from contact_points p
      where p.business_id = (batch).business_id and p.normalized = w.phone and p.kind = any (v_kinds)
      order by p.kind = v_kind desc limit 1) as customer_id
    from wanted w
  ), followed as (   -- merged customers are rare, and followed one by one
    select f.phone, f.customer_id is null as is_new, coalesce(
      case when (select c.merged_into_id from customers c where c.business_id = (batch).business_id and c.id = f.customer_id) is null then f.customer_id
        else customer_of_identity((batch).business_id, v_kind, f.phone) end,
      private.new_id()) as customer_id
    from found f
  )
  update import_rows r set customer_id = f.customer_id, makes_customer = f.is_new
  from followed f
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= find_import_customers.last_line
    and r.problems is null and r.conflict is null and r.outcome = 'create' and r.phone = f.phone;
end $$;
comment on function find_import_customers(import_batches, text, integer) is 'Notes the customer of each staged message or call: an existing one, or the id of one to be made.';

create function link_import_customers(batch import_batches, channel_kind text, last_line integer) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_kind text := contact_kind(link_import_customers.channel_kind);
begin
  -- commit_import() holds lock_identities(): who is not found here exists nowhere.
  perform find_import_customers(batch, link_import_customers.channel_kind, link_import_customers.last_line);

  insert into customers (business_id, id, first_name, source, lifecycle_stage, primary_phone, primary_email)
  select (batch).business_id, r.customer_id, (array_agg(left(r.data ->> 'name', 200) order by r.line) filter (where r.data ? 'name'))[1],
    coalesce((batch).options ->> 'source', 'import'), 'lead',
    case when v_kind in ('phone', 'whatsapp') then r.phone end, case when v_kind = 'email' then r.phone end
  from import_rows r
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= link_import_customers.last_line and r.makes_customer
  group by r.customer_id, r.phone
  order by min(r.line);

  execute $sql$
    insert into contact_points (business_id, customer_id, kind, raw)
    select distinct r.business_id, r.customer_id, $4, r.phone
    from import_rows r
    where r.business_id = $1 and r.batch_id = $2 and r.line <= $3 and r.customer_id is not null
      and (r.makes_customer or (
        select p.id from contact_points p where p.business_id = $1 and p.kind = $4 and p.normalized = r.phone) is null)
    order by r.phone
  $sql$ using (batch).business_id, (batch).id, link_import_customers.last_line, v_kind;
end $$;
comment on function link_import_customers(import_batches, text, integer) is 'Finds or creates the customers of staged messages or calls, all at once; the rule is that of link_customer().';

-- Messages -----------------------------------------------------------------------------------------------------

create function read_import_messages(batch import_batches, home private.business_directory, rows jsonb) returns setof import_rows
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_channel channels := channel_for((batch).business_id, (batch).channel_id);
  v_country text := coalesce((batch).options ->> 'country', (home).country);
begin
  return query
  with given as (
    select coalesce(d.line, e.n::integer) as line, e.value - 'line' as content, nullif(btrim(d.external_id), '') as external_id,
      coalesce(nullif(btrim(d.direction), ''), 'inbound') as direction,
      coalesce(nullif(btrim(d.peer), ''), (batch).options ->> 'peer', 'unknown') as peer, nullif(btrim(d.name), '') as name,
      coalesce(d.body, '') as body, nullif(btrim(d.sent_at), '') as sent_at, nullif(btrim(d.status), '') as status, nullif(d.label, '') as label
    from jsonb_array_elements(rows) with ordinality e(value, n)
    cross join lateral jsonb_to_record(e.value) d(line integer, external_id text, direction text, peer text, name text, body text, sent_at text,
      status text, label text)
  ), read as materialized (
    select g.*, p.peer as read_peer, p.identity,
      case when g.sent_at is not null then import_time(g.sent_at, (home).timezone) end as at,
      case when v_channel.kind = 'sms' then sms_segments(g.body) end as segments
    from given g
    cross join lateral read_import_peer(v_channel.kind, g.peer, v_country) p
  )
  select (batch).business_id, (batch).id, r.line, 'id:' || r.external_id,
    left(encode(sha256(convert_to(r.content::text, 'UTF8')), 'hex'), 32), r.identity, null::text, r.read_peer,
    jsonb_strip_nulls(jsonb_build_object('direction', r.direction, 'name', r.name, 'body', r.body, 'at', r.at,
      'status', case r.direction when 'outbound' then coalesce(r.status, 'sent') end, 'label', r.label, 'segments', r.segments)),
    nullif(to_jsonb(array_remove(array[
      case when r.body = '' then import_problem('body', '', 'empty', 'There is no text.', 'Give the text, or remove the line.') end,
      case when char_length(r.body) > 65536 or r.segments > 255 then
        import_problem('body', r.body, 'too_long', case when v_channel.kind = 'sms' then 'No SMS is this long: 255 parts are the most.' else 'At most 65536 characters fit.' end,
          'Split it over several lines.') end,
      case when r.direction not in ('inbound', 'outbound') then
        import_problem('direction', r.direction, 'bad_choice', 'This is not a direction.', 'Use inbound or outbound.') end,
      case when r.read_peer is null then
        import_problem('peer', r.peer, 'invalid_address', format('This is not an address for a channel of kind %s.', v_channel.kind),
          case v_channel.kind when 'email' then 'Give one address, like ana@example.com.' else 'Give the number with its country code, like +14155550123, a short code, or unknown.' end) end,
      case when char_length(r.read_peer) > 320 then import_problem('peer', r.peer, 'too_long', 'At most 320 characters fit.', 'Shorten it.') end,
      case when r.sent_at is not null and r.at is null then
        import_problem('sent_at', r.sent_at, 'bad_time', 'This is not a time.', 'Use ISO 8601, such as 2026-03-31T14:05:00+02:00; without an offset it is local time of the business.') end,
      case when r.at not between '1990-01-01' and now() + interval '1 day' then
        import_problem('sent_at', r.sent_at, 'out_of_range', 'This is not a plausible time.', 'Give when it was sent.') end,
      case when r.direction = 'inbound' and r.status <> 'received' or r.direction = 'outbound'
          and r.status not in ('queued', 'sending', 'sent', 'delivered', 'read', 'failed', 'canceled') then
        import_problem('status', r.status, 'bad_choice', format('This is not a status of %s messages.', r.direction),
          case r.direction when 'inbound' then 'Leave it empty, or use received.' else 'Use queued, sending, sent, delivered, read, failed or canceled.' end) end,
      case when char_length(r.external_id) > 400 then import_problem('external_id', r.external_id, 'too_long', 'At most 400 characters fit.', 'Use a shorter id.') end,
      case when char_length(r.label) > 1000 then import_problem('label', r.label, 'too_long', 'At most 1000 characters fit.', 'Shorten it.') end
      ], null)), '[]'),
    null::jsonb, null::text, null::uuid, null::uuid, false, false
  from read r;
end $$;
comment on function read_import_messages(import_batches, private.business_directory, jsonb) is 'Reads and checks rows of messages, each by itself.';

-- The id under which a row is stored: the provider's where the file has it, so that later callbacks find the message.
create function import_provider_id(key text, source text) returns text
language sql immutable
begin atomic
  select case when key like 'id:%' then substr(key, 4) else 'import:' || source || ':' || substr(key, 5) end;
end;
comment on function import_provider_id(text, text) is 'provider_message_id or provider_call_id of an imported row.';

create function resolve_import_messages(batch import_batches, after_line integer, last_line integer) returns void
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
    select r.line, r.key, r.peer, r.data, m.id as known_id, m.direction, m.body
    from import_rows r
    left join lateral (
      select k.id, k.direction, k.body from messages k
      where k.business_id = (batch).business_id and k.channel_id = (batch).channel_id and k.provider_message_id = import_provider_id(r.key, v_source) limit 1) m on true
    where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.problems is null and r.conflict is null
      and r.line > resolve_import_messages.after_line and r.line <= resolve_import_messages.last_line
  )
  update import_rows r set
    conflict = case
      when g.direction <> g.data ->> 'direction' or g.body <> g.data ->> 'body' then
        import_problem('external_id', substr(g.key, 4), 'changed', 'A message with this id is stored, with other content.', 'Correct the id; messages are never changed.') end,
    outcome = case when g.known_id is not null then 'already_there' else 'create' end
  from good g
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line = g.line;
end $$;
comment on function resolve_import_messages(import_batches, integer, integer) is 'Finds which staged messages are stored already, and what speaks against importing others.';

create function find_import_threads(batch import_batches, channel channels, last_line integer) returns void
language plpgsql security definer
set search_path from current
set enable_nestloop = off   -- see prepare_import()
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  -- The thread of each peer, by the rule of thread_for(); but history reopens nothing.
  with peers as (
    select distinct r.peer from import_rows r
    where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= find_import_threads.last_line
      and r.problems is null and r.conflict is null and r.outcome = 'create'
  ), threads as (
    select p.peer, t.is_usable is not true as is_new, case when t.is_usable then t.id else private.new_id() end as id
    from peers p
    left join lateral (
      select c.id, c.status in ('open', 'pending', 'snoozed') or (c.status = 'resolved' and (channel).threading = 'single') as is_usable
      from conversations c
      where c.business_id = (channel).business_id and c.channel_id = (channel).id and c.peer = p.peer
      order by c.status in ('open', 'pending', 'snoozed') desc, c.created_at desc limit 1) t on true
  )
  update import_rows r set conversation_id = t.id, makes_conversation = t.is_new
  from threads t
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= find_import_threads.last_line
    and r.problems is null and r.conflict is null and r.outcome = 'create' and r.peer = t.peer;
end $$;
comment on function find_import_threads(import_batches, channels, integer) is 'Notes the conversation of each staged message: an existing one, or the id of one to be made.';

create function apply_import_messages(batch import_batches, last_line integer) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_channel channels := channel_for((batch).business_id, (batch).channel_id);
  v_source text := coalesce((batch).options ->> 'source', 'import');
begin
  perform link_import_customers(batch, v_channel.kind, apply_import_messages.last_line);

  perform find_import_threads(batch, v_channel, apply_import_messages.last_line);

  execute $sql$
    insert into conversations (business_id, id, channel_id, customer_id, peer, previous_conversation_id, opened_at)
    select $1, n.id, $4, n.customer_id, n.peer, (
        select c.id from conversations c
        where c.business_id = $1 and c.channel_id = $4 and c.peer = n.peer order by c.created_at desc limit 1), n.opened_at
    from (
      select r.conversation_id as id, r.peer, r.customer_id, min(coalesce((r.data ->> 'at')::timestamptz, $5)) as opened_at
      from import_rows r
      where r.business_id = $1 and r.batch_id = $2 and r.line <= $3 and r.makes_conversation
      group by 1, 2, 3) n
    order by n.peer
  $sql$ using (batch).business_id, (batch).id, apply_import_messages.last_line, v_channel.id, (batch).created_at;

  insert into messages (business_id, conversation_id, channel_id, direction, sender_kind, body, provider_message_id, payload, segments, occurred_at,
    queued_at, sending_at, sent_at, delivered_at, read_at, failed_at, canceled_at)
  select v_channel.business_id, r.conversation_id, v_channel.id, d.direction, case d.direction when 'inbound' then 'customer' else 'member' end, d.body,
    import_provider_id(r.key, v_source), jsonb_strip_nulls(jsonb_build_object('label', d.label, 'profile_name', d.name)), d.segments, a.at,
    case when d.status = 'queued' then a.at end, case when d.status = 'sending' then a.at end,
    case when d.status in ('sent', 'delivered', 'read') then a.at end, case when d.status in ('delivered', 'read') then a.at end,
    case when d.status = 'read' then a.at end, case when d.status = 'failed' then a.at end, case when d.status = 'canceled' then a.at end
  from import_rows r
  cross join lateral jsonb_to_record(r.data) d(direction text, body text, name text, status text, label text, segments integer, at timestamptz)
  -- Rows without a time keep the order of the file.
  cross join lateral (select coalesce(d.at, (batch).created_at + r.line * interval '1 microsecond') as at) a
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= apply_import_messages.last_line and r.conversation_id is not null
  order by a.at, r.line;

  -- The triggers counted them as news.
  execute $sql$
    update conversations c set
      customer_id = coalesce(c.customer_id, n.customer_id),
      unread_count = greatest(c.unread_count - n.inbound, 0),
      service_window_until = case when $4 then greatest(c.service_window_until, n.last_inbound + interval '24 hours') else c.service_window_until end
    from (
      select r.conversation_id, r.customer_id, count(*) filter (where r.data ->> 'direction' = 'inbound')::integer as inbound,
        max(coalesce((r.data ->> 'at')::timestamptz, $5)) filter (where r.data ->> 'direction' = 'inbound') as last_inbound
      from import_rows r
      where r.business_id = $1 and r.batch_id = $2 and r.line <= $3 and r.conversation_id is not null
      group by 1, 2) n
    where c.business_id = $1 and c.id = n.conversation_id
  $sql$ using (batch).business_id, (batch).id, apply_import_messages.last_line, v_channel.kind = 'whatsapp', (batch).created_at;
end $$;
comment on function apply_import_messages(import_batches, integer) is 'Stores the staged messages up to a line, with their customers and conversations.';
