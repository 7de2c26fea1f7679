select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Imports: many rows at once, all of them or none.
 *
 * A request is small and a file may be large, so rows are staged first: start_import(), then
 * add_import_rows() as often as it takes, each of which says at once which rows are bad and why.
 * check_import() adds what only the whole can tell (two rows with one phone number) and what is stored
 * already. commit_import() then does everything in one transaction. Until that moment no table of the business has changed, and
 * whoever breaks off leaves nothing but staged rows, which only functions can see.
 *
 * Rows are known again: by the id that they have in the file, else by their content. Importing a file
 * twice therefore adds nothing the second time.
 */
create table import_batches (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  kind text not null,
  channel_id uuid,
  file_name text,
  options jsonb not null default '{}',
  expected_rows integer not null,
  in_parts boolean not null,
  checked_line integer not null default 0,
  is_checked boolean not null default false,
  result jsonb not null default '{"created": 0, "completed": 0, "already_there": 0, "bad": 0}',
  committed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint import_batches_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint import_batches_channel_fkey foreign key (business_id, channel_id) references channels (business_id, id) on delete cascade,
  constraint import_batches_kind check (kind in ('customers', 'messages', 'calls')),
  constraint import_batches_file_name_length check (char_length(file_name) between 1 and 200),
  constraint import_batches_expected_rows check (expected_rows between 1 and 200000)
);
comment on table import_batches is 'One run of an import. Committed ones stay, as the record of who imported what and when.';
comment on column import_batches.options is 'How rows are read: source, country, peer, stage, keep_invalid_phones.';
comment on column import_batches.expected_rows is 'How many rows will be staged; commit refuses until all have arrived.';
comment on column import_batches.in_parts is 'False: all rows in one transaction.';
comment on column import_batches.checked_line is 'How far check_import() has come.';
comment on column import_batches.is_checked is 'Whether it has come to the end; nothing is committed before.';
comment on column import_batches.result is 'What was done so far: created, completed, already_there, bad.';
create index import_batches_channel_idx on import_batches (business_id, channel_id);
call private.protect('import_batches');
-- Only functions touch it: the guard is wanted for the fence, the grants of jobs are not.
revoke insert, update, delete on import_batches from service_role;

create table import_rows (
  business_id uuid not null,
  batch_id uuid not null,
  line integer not null,
  key text,
  fingerprint text not null,
  phone text,
  email text,
  peer text,
  data jsonb not null,
  problems jsonb,
  conflict jsonb,
  outcome text,
  customer_id uuid,
  conversation_id uuid,
  makes_customer boolean not null default false,
  makes_conversation boolean not null default false,
  primary key (business_id, batch_id, line),
  constraint import_rows_batch_fkey foreign key (business_id, batch_id) references import_batches (business_id, id) on delete cascade,
  constraint import_rows_line check (line > 0),
  constraint import_rows_outcome check (outcome in ('create', 'complete', 'already_there'))
);
comment on table import_rows is 'Rows on their way in, as read and checked. Gone when they are committed, discarded, or a day old.';
comment on column import_rows.line is 'Line in the file, 1 for the first.';
comment on column import_rows.key is 'By what the row is known again: its id in the file, else its content and how often that occurred before.';
comment on column import_rows.fingerprint is 'Hash of the content.';
comment on column import_rows.phone is 'Whom the row is about, E.164. @personal phone';
comment on column import_rows.email is 'Whom the row is about. @personal email';
comment on column import_rows.peer is 'The outside party of a message or call. @personal phone';
comment on column import_rows.data is 'The checked values. @personal free_text';
comment on column import_rows.problems is 'What is wrong with the row by itself; null for nothing. @personal free_text';
comment on column import_rows.conflict is 'What is wrong with it among the others and what is stored; null for nothing. @personal free_text';
comment on column import_rows.outcome is 'What commit will do: create, complete (an existing customer), or nothing because it is already_there.';
call private.protect('import_rows', guard => false);
-- No grants: only functions touch it.

create table customer_import_keys (
  business_id uuid not null,
  source text not null,
  key text not null,
  customer_id uuid not null,
  fingerprint text not null,
  primary key (business_id, source, key),
  constraint customer_import_keys_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint customer_import_keys_customer_fkey foreign key (business_id, customer_id) references customers (business_id, id) on delete cascade
);
comment on table customer_import_keys is 'Which row of which source became which customer. Messages and calls carry their own ids.';
create index customer_import_keys_customer_idx on customer_import_keys (business_id, customer_id);
call private.protect('customer_import_keys', guard => false);
-- No grants: only functions touch it.

-- Bounds ---------------------------------------------------------------------------------------------------

create function import_bound(kind text) returns integer
language sql immutable
begin atomic
  -- What fits into the 8 seconds that a statement of a member may take, with room for a machine that is busy
  -- or slow: a customer with phone and e-mail takes 1.2 ms, a message 0.27, a call 0.19, and 1.3 more where
  -- it makes its customer (measured, one core of 2026).
  select case kind when 'customers' then 2500 when 'messages' then 10000 when 'calls' then 10000 end;
end;
comment on function import_bound(text) is 'How many rows one transaction takes.';

create function import_problem(field text, value text, reason text, message text, remedy text) returns jsonb
language sql immutable
begin atomic
  select jsonb_build_object('field', field, 'value', case when char_length(value) > 60 then left(value, 59) || '…' else coalesce(value, '') end,
    'reason', reason, 'problem', message, 'remedy', remedy);
end;
comment on function import_problem(text, text, text, text, text) is 'What is wrong with one value of a row: field, value (shortened), reason, problem, remedy.';

create function import_time(value text, timezone text) returns timestamptz
language plpgsql stable
set search_path from current
as $$
begin
  if value !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?( ?(Z|[+-][0-9]{2}(:?[0-9]{2})?))?)?$' then
    return null;
  end if;
  if value ~ '[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' then
    return value::timestamptz;
  end if;
  return value::timestamp at time zone import_time.timezone;
exception when data_exception then   -- February 30, +99:00
  return null;
end $$;
comment on function import_time(text, text) is 'A moment from ISO 8601; without an offset it is local time of the zone. Null when it is none.';

-- Batches --------------------------------------------------------------------------------------------------

create function import_permission(business_id uuid, batch_id uuid) returns text
language sql stable
set search_path from current
as $$
  select coalesce((
    select b.kind || '.write' from import_batches b
    where b.business_id = import_permission.business_id and b.id = import_permission.batch_id
      and b.created_by is not distinct from private.current_user_id()), 'business.read')
$$;
comment on function import_permission(uuid, uuid) is 'The permission that a batch of the caller needs.';

create function own_import(business_id uuid, batch_id uuid) returns import_batches
language plpgsql security definer
set search_path from current
as $$
declare
  v_batch import_batches;
begin
  select * into v_batch from import_batches b
  where b.business_id = own_import.business_id and b.id = own_import.batch_id
    and b.created_by is not distinct from private.current_user_id() for no key update;
  if not found then
    perform private.fail('PT404', 'There is no such import of yours.', 'batch_id', 'not_found', 'Start a new import.');
  end if;
  return v_batch;
end $$;
comment on function own_import(uuid, uuid) is 'A batch of the caller, locked; raises PT404 otherwise.';

create function start_import(business_id uuid, kind text, row_count integer, channel_id uuid default null, file_name text default null,
  options jsonb default '{}', in_parts boolean default false)
returns jsonb
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_whole_business(start_import.business_id,
    case when start_import.kind in ('customers', 'messages', 'calls') then start_import.kind || '.write' else 'business.read' end);
  v_bound integer := import_bound(start_import.kind);
  v_channel channels;
  v_id uuid;
begin
  if v_bound is null then
    perform private.fail('22023', 'kind is not one we can import.', 'kind', 'bad_choice', 'Send customers, messages or calls.');
  end if;
  if row_count is null or row_count < 1 or row_count > 200000 then
    perform private.fail('22023', 'row_count must be between 1 and 200000.', 'row_count', 'out_of_range', 'Split the file.');
  end if;
  if row_count > v_bound and start_import.in_parts is not true then
    perform private.fail('22023', format('One transaction imports at most %s %s; these are %s.', v_bound, start_import.kind, row_count),
      'row_count', 'too_many_rows', 'Import in parts, each of which is stored as a whole, or split the file.',
      jsonb_build_object('limit', v_bound));
  end if;
  if jsonb_typeof(coalesce(options, '{}')) <> 'object'
     or options - array['source', 'country', 'peer', 'stage', 'keep_invalid_phones'] <> '{}' then
    perform private.fail('22023', 'options has members that we do not know.', 'options', 'bad_option',
      'Use source, country, peer, stage and keep_invalid_phones.');
  end if;
  if jsonb_typeof(options -> 'keep_invalid_phones') <> 'boolean' then
    perform private.fail('22023', 'keep_invalid_phones must be true or false.', 'keep_invalid_phones', 'bad_type', 'Send true or false.');
  end if;
  if coalesce(options ->> 'source', 'import') !~ '^[a-z0-9][a-z0-9_.-]{0,39}$' then
    perform private.fail('22023', 'source must be a short name.', 'source', 'bad_source', 'Use up to 40 of a-z, 0-9, dot, dash and underscore.');
  end if;
  if coalesce(options ->> 'country', 'US') !~ '^[A-Z]{2}$' then
    perform private.fail('22023', 'country must be an ISO 3166-1 code.', 'country', 'bad_country', 'For example: US.');
  end if;
  if coalesce(options ->> 'stage', 'customer') not in ('lead', 'prospect', 'customer', 'former') then
    perform private.fail('22023', 'stage is not a known stage.', 'stage', 'bad_choice', 'Send lead, prospect, customer or former.');
  end if;
  if start_import.channel_id is not null then
    v_channel := channel_for(start_import.business_id, start_import.channel_id);
  end if;
  if start_import.kind = 'messages' and (v_channel.id is null or v_channel.kind = 'voice')
     or start_import.kind = 'calls' and v_channel.kind <> 'voice' then
    perform private.fail('22023', case start_import.kind when 'calls' then 'Calls need a voice channel.' else 'Messages need a channel for messages.' end,
      'channel_id', 'wrong_channel', 'List the channels of the business.');
  end if;
  if options ? 'peer' and (read_import_peer(coalesce(v_channel.kind, 'voice'), options ->> 'peer', coalesce(options ->> 'country', v_home.country))).peer is null then
    perform private.fail('22023', 'peer is not an address for this channel.', 'peer', 'invalid_address', 'Send a phone number with its country code, or unknown.');
  end if;
  -- What was broken off yesterday or earlier goes now.
  delete from import_batches b
  where b.business_id = start_import.business_id and b.committed_at is null and b.created_at < now() - interval '1 day';
  insert into import_batches (business_id, kind, channel_id, file_name, options, expected_rows, in_parts)
  values (start_import.business_id, start_import.kind, start_import.channel_id, nullif(left(btrim(start_import.file_name), 200), ''),
    coalesce(options, '{}'), row_count, start_import.in_parts is true)
  returning id into v_id;
  return jsonb_build_object('batch_id', v_id);
end $$;
comment on function start_import(uuid, text, integer, uuid, text, jsonb, boolean) is
  'Begins an import of customers, messages or calls: returns {"batch_id"}. Needs customers.write, messages.write or calls.write. row_count is how many rows will be added. More than one transaction can take is refused (too_many_rows, details.limit) unless in_parts. options: source (name of the system the file is from; ids are unique in it), country (of numbers without a country code), peer (of rows without one), stage (of new customers), keep_invalid_phones.';

create function add_import_rows(business_id uuid, batch_id uuid, rows jsonb) returns jsonb
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_whole_business(add_import_rows.business_id, import_permission(add_import_rows.business_id, add_import_rows.batch_id));
  v_batch import_batches := own_import(add_import_rows.business_id, add_import_rows.batch_id);
  v_result jsonb;
begin
  if v_batch.committed_at is not null or v_batch.result <> '{"created": 0, "completed": 0, "already_there": 0, "bad": 0}' then
    perform private.fail('PT409', 'This import is committed.', 'batch_id', 'committed', 'Start a new import.');
  end if;
  if jsonb_typeof(rows) is distinct from 'array' or exists (
    select 1 from jsonb_array_elements(rows) e
    where jsonb_typeof(e) <> 'object' or coalesce(e ->> 'line', '1') !~ '^[1-9][0-9]{0,8}$') then
    perform private.fail('22023', 'rows must be a list of objects.', 'rows', 'bad_type', 'Send [{"line": 2, ...}, ...]; line is the line in the file.');
  end if;
  insert into import_rows (business_id, batch_id, line, key, fingerprint, phone, email, peer, data, problems)
  select v_batch.business_id, v_batch.id, r.line, r.key, r.fingerprint, r.phone, r.email, r.peer, r.data, r.problems
  from read_import_rows(v_batch, v_home, rows) r
  on conflict (business_id, batch_id, line) do nothing;   -- the same rows sent again
  update import_batches b set checked_line = 0, is_checked = false
  where b.business_id = v_batch.business_id and b.id = v_batch.id and b.checked_line > 0;
  if (select count(*) from import_rows r where r.business_id = v_batch.business_id and r.batch_id = v_batch.id) > v_batch.expected_rows then
    perform private.fail('22023', 'More rows than were announced.', 'rows', 'too_many_rows', 'Start a new import with the right row_count.');
  end if;
  select jsonb_build_object('problems', coalesce(jsonb_agg(p.problem || jsonb_build_object('line', r.line) order by r.line), '[]')) into v_result
  from import_rows r
  cross join lateral jsonb_array_elements(r.problems) p(problem)
  where r.business_id = v_batch.business_id and r.batch_id = v_batch.id
    and r.line = any (array(select coalesce((e.value ->> 'line')::integer, e.n::integer) from jsonb_array_elements(rows) with ordinality e(value, n)));
  return v_result;
end $$;
comment on function add_import_rows(uuid, uuid, jsonb) is
  'Adds rows to an import and checks each by itself; nothing is stored in the business yet. rows: [{"line": 2, "first_name": "Ana", ...}]. Returns {"problems": [{"line", "field", "value", "reason", "problem", "remedy"}]}. Sending the same lines again changes nothing.';

create function read_import_rows(batch import_batches, home private.business_directory, rows jsonb) returns setof import_rows
language plpgsql stable security definer
set search_path from current
as $$
begin
  case (batch).kind
    when 'customers' then return query select * from read_import_customers(batch, home, rows);
    when 'messages' then return query select * from read_import_messages(batch, home, rows);
    when 'calls' then return query select * from read_import_calls(batch, home, rows);
  end case;
end $$;
comment on function read_import_rows(import_batches, private.business_directory, jsonb) is 'Rows as they are staged: values cleaned, addresses normalised, problems noted.';

-- The planner cannot know how many rows were staged a moment ago, and a plan made while a table was empty may
-- live as long as its session. So what joins staged rows with each other or with stored ones stands in
-- functions of its own that update import_rows alone: planned at each call, without nested loops (but for
-- single rows by index). Statements that fire triggers are given by EXECUTE, which plans them afresh and
-- leaves the triggers their own plans.
create function prepare_import(batch import_batches) returns void
language plpgsql security definer
set search_path from current
set enable_nestloop = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  -- Without an id a row is known by its content, and by how many equal ones stand before it.
  update import_rows r set key = k.key
  from (select i.line, 'row:' || i.fingerprint || ':' || row_number() over (partition by i.fingerprint order by i.line) as key
        from import_rows i where i.business_id = (batch).business_id and i.batch_id = (batch).id and i.key is null) k
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line = k.line;

  with good as (
    select r.line, r.key, r.phone, r.email, min(r.line) over (partition by r.key) as key_line,
      case when r.phone is not null and (batch).kind = 'customers' then min(r.line) over (partition by r.phone) end as phone_line,
      case when r.email is not null and (batch).kind = 'customers' then min(r.line) over (partition by r.email) end as email_line
    from import_rows r
    where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.problems is null
  )
  update import_rows r set conflict = case
    when g.key_line < g.line then import_problem('external_id', substr(g.key, 4), 'duplicate', format('Line %s has the same id.', g.key_line), 'Keep one of the two lines.')
    when g.phone_line < g.line then import_problem('phone', g.phone, 'duplicate', format('Line %s has the same phone number, and a number belongs to one customer.', g.phone_line),
      'Keep one of the two lines, or leave the number out of one.')
    else import_problem('email', g.email, 'duplicate', format('Line %s has the same e-mail address, and an address belongs to one customer.', g.email_line),
      'Keep one of the two lines, or leave the address out of one.') end
  from good g
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line = g.line
    and least(g.key_line, g.phone_line, g.email_line) < g.line;
end $$;
comment on function prepare_import(import_batches) is 'Gives each staged row the key by which it is known again, and notes rows that repeat another.';

create function resolve_import(batch import_batches, after_line integer, last_line integer) returns void
language plpgsql security definer
set search_path from current
as $$
begin
  case (batch).kind
    when 'customers' then perform resolve_import_customers(batch, after_line, last_line);
    when 'messages' then perform resolve_import_messages(batch, after_line, last_line);
    when 'calls' then perform resolve_import_calls(batch, after_line, last_line);
  end case;
end $$;
comment on function resolve_import(import_batches, integer, integer) is 'Decides for the staged rows of some lines what commit will do, and notes conflicts with what is stored.';

create function enforce_import_limit(batch import_batches) returns void
language plpgsql security definer
set search_path from current
as $$
declare
  v_organization uuid := (select d.organization_id from private.business_directory d where d.business_id = (batch).business_id);
  v_limit bigint := private.plan_limit(v_organization, 'customers');
  v_used bigint;
  v_new bigint;
begin
  if (batch).kind <> 'customers' or v_limit is null then return; end if;
  select count(*) into v_new from import_rows r
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.problems is null and r.conflict is null and r.outcome = 'create';
  select count(*) into v_used from customers c
  where c.business_id = any (array(select d.business_id from private.business_directory d
    where d.organization_id = v_organization and d.database_name = current_database() and d.schema_name = current_schema()));
  if v_new > 0 and v_used + v_new > v_limit then
    perform private.fail('PT402', format('The plan of this organization allows %s customers: there are %s, and these would be %s more.', v_limit, v_used, v_new),
      'customers', 'plan_limit', 'Remove some or choose a larger plan.', jsonb_build_object('limit', v_limit, 'used', v_used));
  end if;
end $$;
comment on function enforce_import_limit(import_batches) is 'Raises PT402 before anything is stored when all rows together would pass the plan''s bound on customers.';

create function check_import(business_id uuid, batch_id uuid) returns jsonb
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_whole_business(check_import.business_id, import_permission(check_import.business_id, check_import.batch_id));
  v_batch import_batches := own_import(check_import.business_id, check_import.batch_id);
  v_after integer := case when v_batch.is_checked then 0 else v_batch.checked_line end;
  v_last integer;
  v_left bigint;
  v_problems jsonb;
  v_counts jsonb;
begin
  if v_batch.committed_at is not null then
    perform private.fail('PT409', 'This import is committed.', 'batch_id', 'committed', 'Start a new import.');
  end if;
  if v_after = 0 then
    perform prepare_import(v_batch);
  end if;
  -- So many lines fit into one statement on a slow machine, too.
  select max(r.line) into v_last from (
    select i.line from import_rows i where i.business_id = v_batch.business_id and i.batch_id = v_batch.id and i.line > v_after
    order by i.line limit 5000) r;
  perform resolve_import(v_batch, v_after, v_last);
  select count(*) into v_left from import_rows r where r.business_id = v_batch.business_id and r.batch_id = v_batch.id and r.line > v_last;
  update import_batches b set checked_line = coalesce(v_last, v_after), is_checked = v_left = 0
  where b.business_id = v_batch.business_id and b.id = v_batch.id;
  select coalesce(jsonb_agg(r.conflict || jsonb_build_object('line', r.line) order by r.line), '[]') into v_problems
  from import_rows r
  where r.business_id = v_batch.business_id and r.batch_id = v_batch.id and r.line > v_after and r.line <= v_last
    and r.problems is null and r.conflict is not null;
  if v_left = 0 then
    perform enforce_import_limit(v_batch);
    select jsonb_build_object(
      'bad', count(*) filter (where r.problems is not null or r.conflict is not null),
      'create', count(*) filter (where r.problems is null and r.conflict is null and r.outcome = 'create'),
      'complete', count(*) filter (where r.problems is null and r.conflict is null and r.outcome = 'complete'),
      'already_there', count(*) filter (where r.problems is null and r.conflict is null and r.outcome = 'already_there')) into v_counts
    from import_rows r where r.business_id = v_batch.business_id and r.batch_id = v_batch.id;
  end if;
  return coalesce(v_counts, '{}') || jsonb_build_object('problems', v_problems, 'remaining', v_left);
end $$;
comment on function check_import(uuid, uuid) is
  'Checks the next 5000 rows of an import against each other and what is stored; call again until remaining is 0. Returns {"problems", "remaining"}, at the end also what committing would do: {"create", "complete", "already_there", "bad"}. Changes nothing in the business. Errors: PT402 when all rows together pass the plan''s bound.';

create function commit_import(business_id uuid, batch_id uuid, skip_bad boolean default false, max_rows integer default null) returns jsonb
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_whole_business(commit_import.business_id, import_permission(commit_import.business_id, commit_import.batch_id));
  v_batch import_batches := own_import(commit_import.business_id, commit_import.batch_id);
  v_bad bigint;
  v_last integer;
  v_left bigint;
begin
  if v_batch.committed_at is not null then   -- the answer got lost: say it again
    return v_batch.result || '{"remaining": 0}';
  end if;
  if max_rows is not null and (max_rows < 1 or not v_batch.in_parts) then
    perform private.fail('22023', 'max_rows is for imports in parts, and at least 1.', 'max_rows', 'out_of_range', 'Leave it out, or start the import with in_parts.');
  end if;
  if not v_batch.is_checked then
    perform private.fail('PT409', 'This import is not checked yet.', 'batch_id', 'unchecked', 'Call check_import until remaining is 0.');
  end if;
  -- One lock instead of one for each address: nobody else finds or creates customers of this business meanwhile.
  perform lock_identities(v_batch.business_id);
  select max(r.line) into v_last from (
    select i.line from import_rows i where i.business_id = v_batch.business_id and i.batch_id = v_batch.id
    order by i.line limit commit_import.max_rows) r;
  -- What the rows say about each other is known since the check; what is stored may have changed.
  perform resolve_import(v_batch, 0, v_last);
  select count(*) filter (where r.problems is not null or r.conflict is not null), count(*) into v_bad, v_left
  from import_rows r where r.business_id = v_batch.business_id and r.batch_id = v_batch.id;
  if v_left + (select sum(value::integer) from jsonb_each_text(v_batch.result)) <> v_batch.expected_rows then
    perform private.fail('PT409', format('%s of %s rows have arrived.', v_left, v_batch.expected_rows), 'rows', 'incomplete', 'Add the other rows first.');
  end if;
  if v_bad > 0 and not coalesce(skip_bad, false) then
    perform private.fail('22023', format('%s of %s rows cannot be imported; nothing was.', v_bad, v_left), 'rows', 'bad_rows',
      'Correct them, or import the others with skip_bad.', jsonb_build_object('bad', v_bad, 'problems', (
        select jsonb_agg(p.problem order by p.line) from (
          select r.line, coalesce(r.problems -> 0, r.conflict) || jsonb_build_object('line', r.line) as problem from import_rows r
          where r.business_id = v_batch.business_id and r.batch_id = v_batch.id and (r.problems is not null or r.conflict is not null)
          order by r.line limit 100) p)));
  end if;
  case v_batch.kind
    when 'customers' then perform apply_import_customers(v_batch, v_last);
    when 'messages' then perform apply_import_messages(v_batch, v_last);
    when 'calls' then perform apply_import_calls(v_batch, v_last);
  end case;
  with gone as (
    delete from import_rows r where r.business_id = v_batch.business_id and r.batch_id = v_batch.id and r.line <= v_last
    returning r.outcome, r.problems is not null or r.conflict is not null as is_bad
  ), done as (
    select count(*) as lines, count(*) filter (where is_bad) as bad, count(*) filter (where not is_bad and outcome = 'create') as created,
      count(*) filter (where not is_bad and outcome = 'complete') as completed, count(*) filter (where not is_bad and outcome = 'already_there') as already_there
    from gone
  )
  update import_batches b set
    result = jsonb_build_object('created', (b.result ->> 'created')::bigint + d.created, 'completed', (b.result ->> 'completed')::bigint + d.completed,
      'already_there', (b.result ->> 'already_there')::bigint + d.already_there, 'bad', (b.result ->> 'bad')::bigint + d.bad),
    committed_at = case when d.lines = v_left then now() end
  from done d
  where b.business_id = v_batch.business_id and b.id = v_batch.id
  returning b.result || jsonb_build_object('remaining', v_left - d.lines) into v_batch.result;
  return v_batch.result;
end $$;
comment on function commit_import(uuid, uuid, boolean, integer) is
  'Stores all rows of an import in one transaction: {"created", "completed", "already_there", "bad", "remaining"}. Refused while any row is bad (22023 bad_rows), unless skip_bad. Of an import in parts it stores the next max_rows rows, as a whole; call again until remaining is 0. Repeating it after a lost answer does no harm. Errors: PT402 plan limit, PT409 rows missing.';

create function discard_import(business_id uuid, batch_id uuid) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_whole_business(discard_import.business_id, import_permission(discard_import.business_id, discard_import.batch_id));
begin
  delete from import_batches b
  where b.business_id = discard_import.business_id and b.id = discard_import.batch_id
    and b.created_by is not distinct from private.current_user_id() and b.committed_at is null;
end $$;
comment on function discard_import(uuid, uuid) is 'Forgets the staged rows of an import that is not committed. What is committed stays.';

grant execute on function
  start_import(uuid, text, integer, uuid, text, jsonb, boolean), add_import_rows(uuid, uuid, jsonb), check_import(uuid, uuid),
  commit_import(uuid, uuid, boolean, integer), discard_import(uuid, uuid)
  to authenticated, service_role;
