select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Importing customers. A row whose number or address belongs to a customer completes that customer: what
 * is empty is filled in, nothing is overwritten. Everybody else is new.
 */
create function read_import_customers(batch import_batches, home private.business_directory, rows jsonb) returns setof import_rows
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_stage text := coalesce((batch).options ->> 'stage', 'customer');
  v_keeps_phones boolean := coalesce(((batch).options ->> 'keep_invalid_phones')::boolean, false);
begin
  return query
  with given as (
    select coalesce(d.line, e.n::integer) as line, e.value - 'line' as content, nullif(btrim(d.external_id), '') as external_id,
      nullif(btrim(d.kind), '') as kind, nullif(btrim(d.first_name), '') as first_name, nullif(btrim(d.last_name), '') as last_name,
      nullif(btrim(d.company_name), '') as company_name, nullif(btrim(d.title), '') as title, nullif(btrim(d.phone), '') as phone,
      nullif(btrim(d.email), '') as email, coalesce(nullif(btrim(d.lifecycle_stage), ''), v_stage) as lifecycle_stage,
      d.tags, nullif(btrim(d.address_line), '') as address_line, nullif(btrim(d.city), '') as city,
      nullif(btrim(d.region), '') as region, nullif(btrim(d.postal_code), '') as postal_code, nullif(btrim(d.country), '') as country,
      nullif(btrim(d.phone_country), '') as phone_country, nullif(d.notes, '') as notes, d.custom_fields
    from jsonb_array_elements(rows) with ordinality e(value, n)
    cross join lateral jsonb_to_record(e.value) d(line integer, external_id text, kind text, first_name text, last_name text, company_name text,
      title text, phone text, email text, lifecycle_stage text, tags jsonb, address_line text, city text, region text, postal_code text,
      country text, phone_country text, notes text, custom_fields jsonb)
  ), read as materialized (
    select g.*, p.normalized as phone_normalized, p.extension, m.normalized as email_normalized,
      coalesce(g.phone_country, g.country, (batch).options ->> 'country', (home).country) as read_country,
      case when v_keeps_phones and g.phone is not null and p.normalized is null
        then concat_ws(e'\n', g.notes, 'Unverified phone: ' || g.phone) else g.notes end as all_notes
    from given g
    cross join lateral normalize_contact('phone', g.phone, coalesce(g.phone_country, g.country, (batch).options ->> 'country', (home).country)) p
    cross join lateral normalize_contact('email', g.email, null) m
  )
  select (batch).business_id, (batch).id, r.line, 'id:' || r.external_id,
    left(encode(sha256(convert_to(r.content::text, 'UTF8')), 'hex'), 32),
    r.phone_normalized, r.email_normalized, null::text,
    jsonb_strip_nulls(jsonb_build_object(
      'kind', coalesce(r.kind, case when r.first_name is null and r.last_name is null and r.company_name is not null then 'organization' else 'person' end),
      'first_name', r.first_name, 'last_name', r.last_name, 'company_name', r.company_name, 'title', r.title,
      'lifecycle_stage', r.lifecycle_stage, 'tags', r.tags, 'address_line', r.address_line, 'city', r.city, 'region', r.region,
      'postal_code', r.postal_code, 'country', r.country, 'notes', r.all_notes, 'custom_fields', r.custom_fields, 'extension', r.extension)),
    nullif(to_jsonb(array_remove(array[
      case when coalesce(r.first_name, r.last_name, r.company_name, r.phone_normalized, r.email_normalized, case when v_keeps_phones then r.phone end) is null
          and r.phone is null and r.email is null then
        import_problem('first_name', '', 'empty', 'There is no name, company, phone number or e-mail address.', 'Give at least one of them, or remove the line.') end,
      case when r.phone is not null and r.phone_normalized is null and not v_keeps_phones then
        import_problem('phone', r.phone, 'invalid_phone', format('This is not a valid phone number, read as of %s.', r.read_country),
          'Correct it, best with its country code, like +14155550123; or keep such numbers as notes.') end,
      case when r.phone_country !~ '^[A-Z]{2}$' then
        import_problem('phone_country', r.phone_country, 'bad_country', 'This is not an ISO 3166-1 code.', 'Use two capital letters, such as US.') end,
      case when r.email is not null and r.email_normalized is null then
        import_problem('email', r.email, 'invalid_email', 'This is not a valid e-mail address.', 'Give one address, like ana@example.com, or leave it empty.') end,
      case when r.country !~ '^[A-Z]{2}$' then
        import_problem('country', r.country, 'bad_country', 'This is not a country we know.', 'Use its ISO 3166-1 code, such as CZ, or its English name.') end,
      case when r.kind not in ('person', 'organization') then
        import_problem('kind', r.kind, 'bad_choice', 'This is not a kind of customer.', 'Use person or organization.') end,
      case when r.lifecycle_stage not in ('lead', 'prospect', 'customer', 'former') then
        import_problem('lifecycle_stage', r.lifecycle_stage, 'bad_choice', 'This is not a stage.', 'Use lead, prospect, customer or former.') end,
      case when jsonb_typeof(r.tags) <> 'array' or jsonb_array_length(case jsonb_typeof(r.tags) when 'array' then r.tags else '[]' end) > 50 then
        import_problem('tags', r.tags::text, 'bad_tags', 'There may be up to 50 tags.', 'Give fewer.') end,
      case when jsonb_typeof(r.custom_fields) <> 'object' or octet_length(r.custom_fields::text) > 60000 then
        import_problem('custom_fields', left(r.custom_fields::text, 100), 'bad_custom_fields', 'Custom fields may have 60 kB.', 'Keep fewer columns.') end
      ] || array(
        select import_problem(v.field, v.value, 'too_long', format('This has %s characters; at most %s fit.', char_length(v.value), v.maximum), 'Shorten it.')
        from (values ('external_id', r.external_id, 200), ('first_name', r.first_name, 200), ('last_name', r.last_name, 200),
          ('company_name', r.company_name, 300), ('title', r.title, 200), ('address_line', r.address_line, 500), ('city', r.city, 200),
          ('region', r.region, 200), ('postal_code', r.postal_code, 40), ('notes', r.all_notes, 10000)) v(field, value, maximum)
        where char_length(v.value) > v.maximum), null)), '[]'),
    null::jsonb, null::text, null::uuid, null::uuid, false, false
  from read r;
end $$;
comment on function read_import_customers(import_batches, private.business_directory, jsonb) is 'Reads and checks rows of customers, each by itself.';

create function resolve_import_customers(batch import_batches, after_line integer, last_line integer) returns void
language plpgsql security definer
set search_path from current
set enable_nestloop = off   -- see prepare_import()
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_source text := coalesce((batch).options ->> 'source', 'import');
  v_own_addresses text[] := array(select ch.address_normalized from channels ch where ch.business_id = (batch).business_id);
begin
  with good as (
    select r.line, r.key, r.fingerprint, r.phone, r.email, k.customer_id as known_id, k.fingerprint as known_fingerprint
    from import_rows r
    left join lateral (
      select i.customer_id, i.fingerprint from customer_import_keys i
      where i.business_id = (batch).business_id and i.source = v_source and i.key = r.key limit 1) k on true
    where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.problems is null and r.conflict is null
      and r.line > resolve_import_customers.after_line and r.line <= resolve_import_customers.last_line
  ), found as (
    select g.*,
      case when g.known_id is null and g.phone is not null then (
        select p.customer_id from contact_points p
        where p.business_id = (batch).business_id and p.normalized = g.phone and p.kind in ('phone', 'whatsapp') order by p.kind limit 1) end as by_phone,
      case when g.known_id is null and g.email is not null then (
        select p.customer_id from contact_points p
        where p.business_id = (batch).business_id and p.normalized = g.email and p.kind = 'email') end as by_email
    from good g
  ), followed as (   -- merged customers are rare, and followed one by one
    select f.*,
      case when (select c.merged_into_id from customers c where c.business_id = (batch).business_id and c.id = f.by_phone) is null then f.by_phone
        else customer_of_identity((batch).business_id, 'phone', f.phone) end as phone_id,
      case when (select c.merged_into_id from customers c where c.business_id = (batch).business_id and c.id = f.by_email) is null then f.by_email
        else customer_of_identity((batch).business_id, 'email', f.email) end as email_id
    from found f
  ), matched as (
    select f.*, coalesce(f.known_id, f.phone_id, f.email_id) as match_id,
      min(f.line) over (partition by coalesce(f.known_id, f.phone_id, f.email_id)) as match_line,
      case when f.phone_id is not null then 'phone' else 'email' end as field, case when f.phone_id is not null then f.phone else f.email end as value
    from followed f
  ), judged as (
    select m.*, case
      when m.known_id is not null and m.known_fingerprint <> m.fingerprint then
        import_problem('external_id', substr(m.key, 4), 'changed', 'This id was imported before with other content.',
          'Change the customer instead; or give another source name if the file is from another system.')
      when m.known_id is not null then null
      when m.phone = any (v_own_addresses) then import_problem('phone', m.phone, 'own_address', 'This is a number of the business itself.', 'Leave it out.')
      when m.email = any (v_own_addresses) then import_problem('email', m.email, 'own_address', 'This is an address of the business itself.', 'Leave it out.')
      when m.match_id is null then null
      when m.phone_id <> m.email_id then
        import_problem('email', m.email, 'two_customers', 'The phone number and the e-mail address belong to two different customers.', 'Merge the two customers, or correct the line.')
      when (select c.deleted_at from customers c where c.business_id = (batch).business_id and c.id = m.match_id) is not null then
        import_problem(m.field, m.value, 'removed', 'This belongs to a customer who was removed.', 'Restore the customer, or leave the line out.')
      when least(m.match_line, e.line) < m.line then
        import_problem(m.field, m.value, 'duplicate', format('Line %s is about the same customer, who exists.', least(m.match_line, e.line)), 'Keep one of the two lines.')
      when m.key like 'id:%' and exists (
        select 1 from customer_import_keys o
        where o.business_id = (batch).business_id and o.customer_id = m.match_id and o.source = v_source and o.key like 'id:%') then
        import_problem(m.field, m.value, 'duplicate', 'This belongs to a customer who was imported under another id.', 'Merge the two in the other system, or leave the line out.')
      end as problem
    from matched m
    left join (   -- lines before these, which were resolved before
      select r.customer_id, min(r.line) as line from import_rows r
      where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= resolve_import_customers.after_line
        and r.problems is null and r.conflict is null and r.outcome <> 'create'
      group by 1) e on e.customer_id = m.match_id
  )
  update import_rows r set
    conflict = j.problem,
    outcome = case when j.known_id is not null then 'already_there' when j.match_id is not null then 'complete' else 'create' end,
    customer_id = coalesce(j.match_id, private.new_id())
  from judged j
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line = j.line;
end $$;
comment on function resolve_import_customers(import_batches, integer, integer) is 'Finds for each staged row of some lines its customer, and what speaks against importing it.';

create function apply_import_customers(batch import_batches, last_line integer) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_source text := coalesce((batch).options ->> 'source', 'import');
begin
  insert into customers (business_id, id, kind, first_name, last_name, company_name, title, lifecycle_stage, source, tags, address_line, city, region,
    postal_code, country, custom_fields, notes, primary_phone, primary_email)
  select r.business_id, r.customer_id, d.kind, d.first_name, d.last_name, d.company_name, d.title, d.lifecycle_stage, v_source,
    array(select t from jsonb_array_elements_text(coalesce(d.tags, '[]')) t), d.address_line, d.city, d.region, d.postal_code, d.country,
    coalesce(d.custom_fields, '{}'), d.notes, r.phone, r.email
  from import_rows r
  cross join lateral jsonb_to_record(r.data) d(kind text, first_name text, last_name text, company_name text, title text, lifecycle_stage text,
    tags jsonb, address_line text, city text, region text, postal_code text, country text, custom_fields jsonb, notes text)
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= apply_import_customers.last_line
    and r.problems is null and r.conflict is null and r.outcome = 'create'
  order by r.line;

  execute $sql$
    update customers c set
      first_name = coalesce(c.first_name, d.first_name), last_name = coalesce(c.last_name, d.last_name),
      company_name = coalesce(c.company_name, d.company_name), title = coalesce(c.title, d.title),
      lifecycle_stage = case c.lifecycle_stage when 'lead' then d.lifecycle_stage else c.lifecycle_stage end,
      tags = (c.tags || array(select t from jsonb_array_elements_text(coalesce(d.tags, '[]')) t where t <> all (c.tags)))[1:50],
      address_line = coalesce(c.address_line, d.address_line), city = coalesce(c.city, d.city), region = coalesce(c.region, d.region),
      postal_code = coalesce(c.postal_code, d.postal_code), country = coalesce(c.country, d.country),
      custom_fields = case when pg_column_size(c.custom_fields) + coalesce(pg_column_size(d.custom_fields), 0) < 65000
        then coalesce(d.custom_fields, '{}') || c.custom_fields else c.custom_fields end,
      notes = case when c.notes is null then d.notes
        when d.notes is null or position(d.notes in c.notes) > 0 or char_length(c.notes) + char_length(d.notes) >= 10000 then c.notes
        else c.notes || e'\n' || d.notes end
    from import_rows r
    cross join lateral jsonb_to_record(r.data) d(first_name text, last_name text, company_name text, title text, lifecycle_stage text, tags jsonb,
      address_line text, city text, region text, postal_code text, country text, custom_fields jsonb, notes text)
    where r.business_id = $1 and r.batch_id = $2 and r.line <= $3 and r.problems is null and r.conflict is null and r.outcome = 'complete'
      and c.business_id = $1 and c.id = r.customer_id
  $sql$ using (batch).business_id, (batch).id, last_line;

  -- Both kinds in one statement and in one order: two writers of the same addresses wait, and do not deadlock.
  execute $sql$
    insert into contact_points (business_id, customer_id, kind, raw)
    select r.business_id, r.customer_id, a.kind, a.raw
    from import_rows r
    cross join lateral (values ('phone', r.phone, r.phone || coalesce(' ext. ' || (r.data ->> 'extension'), '')), ('email', r.email, r.email)) a(kind, normalized, raw)
    where r.business_id = $1 and r.batch_id = $2 and r.line <= $3 and r.problems is null and r.conflict is null
      and r.outcome in ('create', 'complete') and a.normalized is not null
      and (r.outcome = 'create' or (
        select p.id from contact_points p where p.business_id = $1 and p.kind = a.kind and p.normalized = a.normalized) is null)
    order by a.kind, a.normalized
  $sql$ using (batch).business_id, (batch).id, last_line;

  insert into customer_import_keys (business_id, source, key, customer_id, fingerprint)
  select r.business_id, v_source, r.key, r.customer_id, r.fingerprint
  from import_rows r
  where r.business_id = (batch).business_id and r.batch_id = (batch).id and r.line <= apply_import_customers.last_line
    and r.problems is null and r.conflict is null and r.outcome in ('create', 'complete')
  order by r.key;
end $$;
comment on function apply_import_customers(import_batches, integer) is 'Stores the staged customers up to a line.';
