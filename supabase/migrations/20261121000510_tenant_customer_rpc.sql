select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Customers by function: create with addresses in one step, find by address, search, and the rule by
 * which every incoming call and message finds its customer.
 */

/*
 * The auto-link rule, one for calls, messages, appointments and mail: normalise, lock the identity, look
 * it up, follow merges, else create a lead. N deliveries at once give one customer.
 */
create function lock_identity(business_id uuid, normalized text) returns void
language sql volatile
set search_path from current
as $$
  -- Shared first: lock_identities() keeps everybody out of the business with one lock.
  select pg_advisory_xact_lock_shared(hashtextextended('identities:' || lock_identity.business_id::text, 0));
  -- A number is one identity, whether it calls, texts or writes by WhatsApp.
  select pg_advisory_xact_lock(hashtextextended('identity:' || lock_identity.business_id::text || lock_identity.normalized, 0))
$$;
comment on function lock_identity(uuid, text) is 'Makes transactions about the same address of the same business wait for each other.';

create function lock_identities(business_id uuid) returns void
language sql volatile
set search_path from current
as $$
  select pg_advisory_xact_lock(hashtextextended('identities:' || lock_identities.business_id::text, 0))
$$;
comment on function lock_identities(uuid) is
  'Makes everything that finds or creates customers of the business wait: for imports, which would need a lock per address otherwise.';

create function customer_of_identity(business_id uuid, kind text, normalized text) returns uuid
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_customer uuid;
  v_next uuid;
begin
  select c.customer_id into v_customer from contact_points c
  where c.business_id = customer_of_identity.business_id and c.normalized = customer_of_identity.normalized
    and (c.kind = customer_of_identity.kind or (c.kind in ('phone', 'whatsapp') and customer_of_identity.kind in ('phone', 'whatsapp')))
  order by (c.kind = customer_of_identity.kind) desc limit 1;
  for i in 1 .. 20 loop   -- merged into another, which may have been merged since
    select c.merged_into_id into v_next from customers c where c.business_id = customer_of_identity.business_id and c.id = v_customer;
    exit when v_next is null;
    v_customer := v_next;
  end loop;
  return v_customer;
end $$;
comment on function customer_of_identity(uuid, text, text) is 'The customer who owns a normalised address, merges followed; null for none.';

create function link_customer(business_id uuid, kind text, peer text, country text, source text, name text default null)
returns uuid
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_normalized text;
  v_customer uuid;
begin
  select n.normalized into v_normalized from normalize_contact(link_customer.kind, link_customer.peer, link_customer.country) n;
  -- Short codes, alphanumeric senders, withheld numbers: nobody we could call back.
  if v_normalized is null or private.is_anonymous_number(v_normalized) then return null; end if;
  perform lock_identity(link_customer.business_id, v_normalized);
  -- Never the business itself: its own numbers are channels.
  if exists (select 1 from channels ch where ch.business_id = link_customer.business_id and ch.address_normalized = v_normalized) then
    return null;
  end if;
  v_customer := customer_of_identity(link_customer.business_id, link_customer.kind, v_normalized);
  if v_customer is null then
    -- With its primary address at once, so that the contact point has nothing to change.
    insert into customers (business_id, first_name, source, lifecycle_stage, primary_phone, primary_email)
    values (link_customer.business_id, left(nullif(btrim(link_customer.name), ''), 200), link_customer.source, 'lead',
      case when link_customer.kind in ('phone', 'whatsapp') and v_normalized like '+%' then v_normalized end,
      case link_customer.kind when 'email' then v_normalized end)
    returning id into v_customer;
  elsif exists (select 1 from contact_points p where p.business_id = link_customer.business_id
                and p.kind = link_customer.kind and p.normalized = v_normalized) then
    return v_customer;   -- the usual case: nothing to write, and no number to parse once more
  end if;
  insert into contact_points (business_id, customer_id, kind, raw)
  values (link_customer.business_id, v_customer, link_customer.kind, v_normalized)
  on conflict (business_id, kind, normalized) do nothing;
  return v_customer;
end $$;
comment on function link_customer(uuid, text, text, text, text, text) is
  'The customer behind an address, found or created. Null for addresses that belong to nobody: short codes, withheld numbers, the business''s own channels.';

create function create_customer(
  business_id uuid, first_name text default null, last_name text default null, kind text default 'person',
  phone text default null, email text default null, company_name text default null, title text default null,
  lifecycle_stage text default 'lead', source text default 'api', tags text[] default '{}',
  address_line text default null, city text default null, region text default null, postal_code text default null,
  country text default null, notes text default null, custom_fields jsonb default '{}', idempotency_key text default null)
returns customers
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_creator(create_customer.business_id, 'customers.write');
  v_request jsonb;
  v_result jsonb;
  v_customer customers;
  v_owner uuid;
  v_kind text;
  v_raw text;
  v_normalized text;
begin
  v_request := jsonb_build_object('rpc', 'create_customer', 'args', jsonb_build_array(first_name, last_name, create_customer.kind, phone, email,
    company_name, title, lifecycle_stage, source, tags, address_line, city, region, postal_code, create_customer.country, notes, custom_fields));
  v_result := find_idempotent_result(create_customer.business_id, idempotency_key, v_request);
  if v_result is not null then
    select * into v_customer from customers c where c.business_id = create_customer.business_id and c.id = (v_result ->> 'id')::uuid;
    return v_customer;
  end if;
  if coalesce(btrim(first_name), btrim(last_name), btrim(company_name), btrim(phone), btrim(email), '') = '' then
    perform private.fail('22023', 'A customer needs a name, a company, a phone number or an e-mail address.', 'first_name', 'empty',
      'Send at least one of first_name, last_name, company_name, phone, email.');
  end if;
  if create_customer.kind not in ('person', 'organization') then
    perform private.fail('22023', 'kind must be person or organization.', 'kind', 'bad_choice', 'Send person or organization.');
  end if;
  if create_customer.lifecycle_stage not in ('lead', 'prospect', 'customer', 'former') then
    perform private.fail('22023', 'lifecycle_stage is not a known stage.', 'lifecycle_stage', 'bad_choice', 'Send lead, prospect, customer or former.');
  end if;
  perform private.check_country(create_customer.country);
  -- Identities first, in one order, so that two creations of the same person wait for each other.
  for v_kind, v_raw in
    select k, r from (values ('email', nullif(btrim(email), '')), ('phone', nullif(btrim(phone), ''))) v(k, r) where r is not null
  loop
    select n.normalized into v_normalized from normalize_contact(v_kind, v_raw, coalesce(create_customer.country, v_home.country)) n;
    if v_normalized is null then
      perform private.fail('22023', format('%s is not a valid %s.', v_kind, case v_kind when 'email' then 'e-mail address' else 'phone number' end),
        v_kind, 'invalid_' || v_kind,
        case v_kind when 'email' then 'Send one address, like ana@example.com.'
          else format('Send the number with its country code, like +14155550123, or a national number of %s.', coalesce(create_customer.country, v_home.country)) end);
    end if;
    perform lock_identity(create_customer.business_id, v_normalized);
    v_owner := customer_of_identity(create_customer.business_id, v_kind, v_normalized);
    if v_owner is not null then
      perform private.fail('23505', format('A customer with this %s exists.', v_kind), v_kind, 'exists',
        'Use the existing customer, or merge the two.',
        -- Whose it is only for those who reach it.
        jsonb_build_object('customer_id', case when private.is_trusted_caller()
          or may_access_record('customers', create_customer.business_id, v_owner, 'customers.read') then v_owner end));
    end if;
    if v_kind = 'phone' then phone := v_normalized; end if;
  end loop;
  insert into customers (business_id, first_name, last_name, kind, company_name, title, lifecycle_stage, source, tags,
    address_line, city, region, postal_code, country, notes, custom_fields)
  values (create_customer.business_id, nullif(btrim(first_name), ''), nullif(btrim(last_name), ''), create_customer.kind,
    nullif(btrim(company_name), ''), nullif(btrim(title), ''), create_customer.lifecycle_stage, create_customer.source,
    coalesce(create_customer.tags, '{}'), create_customer.address_line, create_customer.city, create_customer.region,
    create_customer.postal_code, create_customer.country, create_customer.notes, coalesce(create_customer.custom_fields, '{}'))
  returning * into v_customer;
  insert into contact_points (business_id, customer_id, kind, raw)
  select create_customer.business_id, v_customer.id, k, r
  from (values ('phone', nullif(btrim(phone), '')), ('email', nullif(btrim(email), ''))) v(k, r) where r is not null;
  select * into v_customer from customers c where c.business_id = v_customer.business_id and c.id = v_customer.id;
  perform keep_idempotent_result(create_customer.business_id, idempotency_key, v_request, jsonb_build_object('id', v_customer.id));
  return v_customer;
end $$;
comment on function create_customer(uuid, text, text, text, text, text, text, text, text, text, text[], text, text, text, text, text, text, jsonb, text) is
  'Creates a customer with phone number and e-mail address in one step. Needs customers.write. A number without country code is read as of country, else of the business. Errors: 22023 (field, remedy), 23505 with details.customer_id when the address belongs to somebody, PT402 plan limit, PT409 idempotency key used otherwise.';

create function find_customer(business_id uuid, phone text default null, email text default null) returns customers
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_business(find_customer.business_id, 'customers.read');
  v_customer customers;
  v_id uuid;
  v_normalized text;
begin
  if phone is not null then
    select n.normalized into v_normalized from normalize_contact('phone', phone, v_home.country) n;
    v_id := customer_of_identity(find_customer.business_id, 'phone', v_normalized);
  end if;
  if v_id is null and email is not null then
    select n.normalized into v_normalized from normalize_contact('email', email, v_home.country) n;
    v_id := customer_of_identity(find_customer.business_id, 'email', v_normalized);
  end if;
  if v_id is null or not (private.is_trusted_caller() or may_access_record('customers', find_customer.business_id, v_id, 'customers.read')) then
    return null;
  end if;
  select * into v_customer from customers c where c.business_id = find_customer.business_id and c.id = v_id;
  return v_customer;
end $$;
comment on function find_customer(uuid, text, text) is 'The customer who owns a phone number (any way of writing it) or an e-mail address; null for none. Needs customers.read.';

-- Definer because: under row security neither full-text nor trigram operators may use their index; here
-- the permission is checked first and one business is bound.
-- Planned for each query: half of it falls away when it is known whether a name or a number is looked for.
create function search_customers(business_id uuid, query text, max_results integer default 20) returns setof customers
language plpgsql stable security definer
set search_path from current
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_business(search_customers.business_id, 'customers.read');
  v_limit integer := least(greatest(coalesce(max_results, 20), 1), 200);
  v_is_limited boolean := not private.is_trusted_caller() and search_customers.business_id = any (my_limited_business_ids('customers.read'));
  v_query tsquery;
  v_part text := replace(replace(replace(lower(btrim(coalesce(query, ''))), '\', '\\'), '%', '\%'), '_', '\_');
  v_digits text := regexp_replace(coalesce(query, ''), '[^0-9]', '', 'g');
begin
  if char_length(btrim(coalesce(query, ''))) < 2 then
    perform private.fail('22023', 'query must have at least two characters.', 'query', 'too_short', 'Type more.');
  end if;
  -- Every word is a prefix: "ana mil" finds Ana Miller. Quoted as data: a word cannot become an operator.
  select to_tsquery('private.names', string_agg(quote_literal(replace(t.word, '\', '')) || ':*', ' & ')) into v_query
  from (select distinct lexeme as word from unnest(to_tsvector('private.names', left(query, 200)))) t;
  return query
  with hits as (
    -- Of a word that thousands share any 500 are ranked: the order among those tells nothing anyway.
    select f.id, 1.0 + ts_rank(private.customer_document(f.first_name, f.last_name, f.company_name, f.primary_email, f.primary_phone, f.city, f.notes), v_query) as rank
    from (
      select c.* from customers c
      where v_query is not null and c.business_id = search_customers.business_id
        and private.customer_document(c.first_name, c.last_name, c.company_name, c.primary_email, c.primary_phone, c.city, c.notes) @@ v_query
      limit 500) f
    union all
    select p.customer_id, case when p.normalized in (v_part, '+' || v_digits) then 3.0 else 1.5 end
    from contact_points p
    where p.business_id = search_customers.business_id
      and ((char_length(v_digits) >= 4 and query !~ '[A-Za-z@]' and p.normalized like '%' || v_digits || '%')
        or (char_length(v_part) >= 3 and query ~ '[@.]' and p.normalized like '%' || v_part || '%'))
  ), best as (
    select h.id, max(h.rank) as rank from hits h group by h.id
  )
  select c.* from best b join customers c on c.business_id = search_customers.business_id and c.id = b.id
  where c.deleted_at is null and c.merged_into_id is null
    and (not v_is_limited or may_access_record('customers', c.business_id, c.id, 'customers.read'))
  order by b.rank desc, c.created_at desc, c.id desc
  limit v_limit;
end $$;
comment on function search_customers(uuid, text, integer) is
  'Customers by the beginning of words of name, company, city or notes, or by part of a number or address, best first; at most 200. Needs customers.read.';

grant execute on function
  create_customer(uuid, text, text, text, text, text, text, text, text, text, text[], text, text, text, text, text, text, jsonb, text),
  find_customer(uuid, text, text), search_customers(uuid, text, integer)
  to authenticated, service_role;
