select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Whom a business serves, and by what address they are known.
 *
 * A contact point is a normalised phone number, e-mail address or handle; it belongs to one customer of
 * one business and is unique there. Calls and messages find their customer through it.
 */
create table customers (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  kind text not null default 'person',
  first_name text,
  last_name text,
  display_name text not null generated always as (
    coalesce(nullif(btrim(coalesce(first_name, '') || ' ' || coalesce(last_name, '')), ''), nullif(btrim(company_name), ''), primary_phone, primary_email, 'Unknown')) stored,
  company_name text,
  title text,
  primary_email text,
  primary_phone text,
  lifecycle_stage text not null default 'lead',
  owner_membership_id uuid,
  department_id uuid,
  shared_id uuid,
  source text,
  tags text[] not null default '{}',
  address_line text,
  city text,
  region text,
  postal_code text,
  country private.country_code,
  custom_fields jsonb not null default '{}',
  notes text,
  merged_into_id uuid,
  metric_date date not null,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint customers_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint customers_owner_fkey foreign key (business_id, owner_membership_id)
    references public.business_memberships (business_id, id) on delete set null (owner_membership_id),
  constraint customers_department_fkey foreign key (business_id, department_id)
    references public.departments (business_id, id) on delete set null (department_id),
  constraint customers_merged_into_fkey foreign key (business_id, merged_into_id) references customers (business_id, id),
  constraint customers_shared_id check (shared_id = id),
  constraint customers_kind check (kind in ('person', 'organization')),
  constraint customers_lifecycle_stage check (lifecycle_stage in ('lead', 'prospect', 'customer', 'former')),
  constraint customers_not_merged_into_itself check (merged_into_id <> id),
  constraint customers_first_name_length check (char_length(first_name) <= 200),
  constraint customers_last_name_length check (char_length(last_name) <= 200),
  constraint customers_company_name_length check (char_length(company_name) <= 300),
  constraint customers_title_length check (char_length(title) <= 200),
  constraint customers_source_length check (char_length(source) <= 100),
  constraint customers_tags check (cardinality(tags) <= 50 and array_position(tags, null) is null),
  constraint customers_address_length check (char_length(address_line) <= 500 and char_length(city) <= 200
    and char_length(region) <= 200 and char_length(postal_code) <= 40),
  constraint customers_custom_fields check (jsonb_typeof(custom_fields) = 'object' and pg_column_size(custom_fields) < 65536),
  constraint customers_notes_length check (char_length(notes) <= 10000)
);
comment on table customers is 'A person or organization that the business serves. Calls, conversations and messages belong to one.';
comment on column customers.first_name is '@personal name';
comment on column customers.last_name is '@personal name';
comment on column customers.display_name is 'What to show: the name, else the company, else the address, else Unknown. @personal name';
comment on column customers.company_name is 'Where the person works, or the name of the organization. @personal name';
comment on column customers.title is 'Job title. @personal name';
comment on column customers.primary_email is 'Kept from contact_points: the primary e-mail address. @personal email';
comment on column customers.primary_phone is 'Kept from contact_points: the primary phone number, E.164. @personal phone';
comment on column customers.lifecycle_stage is 'lead (we know an address), prospect, customer, former.';
comment on column customers.owner_membership_id is 'The member who looks after the customer: permissions of scope own reach the records that name one. Their calls and open conversations follow when it changes.';
comment on column customers.department_id is 'The department the customer belongs to, for permissions of scope department.';
comment on column customers.shared_id is 'The id again, once an access control list named the record; else null. What policies compare.';
comment on column customers.source is 'How the customer came to be: call, sms, whatsapp, import, api, or the product''s own word.';
comment on column customers.address_line is '@personal address';
comment on column customers.city is '@personal address';
comment on column customers.postal_code is '@personal address';
comment on column customers.custom_fields is 'Fields of the product built on top; an object, at most 64 kB. @personal free_text';
comment on column customers.notes is '@personal free_text';
comment on column customers.merged_into_id is 'Set when the customer was merged into another: follow it.';
comment on column customers.metric_date is 'Local day of creation in the time zone of the business; the day its metrics count for.';
comment on column customers.deleted_at is 'Set when the customer was removed; calls and messages stay.';

-- The list, newest first, and its keyset pages.
create index customers_created_at_idx on customers (business_id, created_at desc, id desc);
create index customers_search_idx on customers using gin (business_id,
  private.customer_document(first_name, last_name, company_name, primary_email, primary_phone, city, notes)) with (fastupdate = off);
-- What the policy looks at, so that counting reads the index alone. Without the id it is small: most rows look alike.
create index customers_reach_idx on customers (business_id, department_id, owner_membership_id, shared_id);
create index customers_owner_idx on customers (business_id, owner_membership_id);
create index customers_merged_into_idx on customers (business_id, merged_into_id) where merged_into_id is not null;
create index customers_primary_phone_idx on customers (business_id, primary_phone);
create index customers_primary_email_idx on customers (business_id, primary_email);

call private.protect('customers', owners => array['owner_membership_id'],
  reads => 'customers.read', inserts => 'customers.write', updates => 'customers.write', deletes => 'customers.delete',
  insert_columns => array['kind', 'first_name', 'last_name', 'company_name', 'title', 'lifecycle_stage', 'owner_membership_id', 'department_id', 'source',
    'tags', 'address_line', 'city', 'region', 'postal_code', 'country', 'custom_fields', 'notes'],
  update_columns => array['kind', 'first_name', 'last_name', 'company_name', 'title', 'lifecycle_stage', 'owner_membership_id', 'department_id', 'source',
    'tags', 'address_line', 'city', 'region', 'postal_code', 'country', 'custom_fields', 'notes', 'deleted_at']);
call audit('customers', array['first_name', 'last_name', 'display_name', 'company_name', 'title', 'primary_email', 'primary_phone',
  'address_line', 'city', 'postal_code', 'custom_fields', 'notes']);

-- Local day --------------------------------------------------------------------------------------------

create function tg_stamp_metric_date() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  -- Argument: the column whose moment counts.
  v_at timestamptz := (to_jsonb(new) ->> tg_argv[0])::timestamptz;
begin
  select (v_at at time zone d.timezone)::date into new.metric_date
  from private.business_directory d where d.business_id = new.business_id;
  return new;
end $$;
comment on function tg_stamp_metric_date() is 'Stamps the local day of a moment in the time zone of the business. Argument: the column of the moment.';
create trigger _100_metric_date before insert on customers for each row execute function tg_stamp_metric_date('created_at');
create trigger _050_own before insert on customers for each row execute function tg_own_record('customers.write', 'owner_membership_id');
create trigger _600_access_lists after delete on customers
  referencing old table as old_rows for each statement execute function tg_forget_access_lists();

-- The plan's bound on customers -----------------------------------------------------------------------

create table customer_counts (
  business_id uuid primary key,
  customers bigint not null default 0,
  constraint customer_counts_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint customer_counts_not_negative check (customers >= 0)
);
comment on table customer_counts is 'Customers per business, kept only where the plan bounds them. The row is the lock that makes the bound exact.';
call private.protect('customer_counts', guard => false);

-- One statement at a time per bounded business: two that would both be the last cannot both pass.
create function tg_customers_limit() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  v record;
  v_used bigint;
  v_limit bigint;
begin
  for v in
    select d.organization_id, n.business_id, sum(n.change) as change from (
      select business_id, 1 as change from new_rows where tg_op = 'INSERT') n
    join private.business_directory d on d.business_id = n.business_id
    group by 1, 2 order by 1, 2
  loop
    v_limit := private.plan_limit(v.organization_id, 'customers');
    if v_limit is not null then   -- the bound is the organization's, and its businesses may fill it at once
      perform pg_advisory_xact_lock(hashtextextended('customers:' || v.organization_id::text, 0));
    end if;
    if v_limit is null then   -- not bounded, not counted: counted afresh when a bound comes
      delete from customer_counts c where c.business_id = v.business_id;
      continue;
    end if;
    update customer_counts c set customers = c.customers + v.change where c.business_id = v.business_id;
    if not found then
      insert into customer_counts (business_id, customers)
      select v.business_id, count(*) from customers c where c.business_id = v.business_id
      on conflict (business_id) do update set customers = customer_counts.customers + v.change;
    end if;
    insert into customer_counts (business_id, customers)
    select d.business_id, (select count(*) from customers c where c.business_id = d.business_id) from private.business_directory d
    where d.organization_id = v.organization_id and d.database_name = current_database() and d.schema_name = current_schema()
      and not exists (select 1 from customer_counts c where c.business_id = d.business_id)
    order by d.business_id on conflict do nothing;
    select sum(c.customers) into v_used from customer_counts c
    join private.business_directory d on d.business_id = c.business_id where d.organization_id = v.organization_id;
    perform private.enforce_plan_limit(v.organization_id, 'customers', v_used, v_limit);
  end loop;
  return null;
end $$;
comment on function tg_customers_limit() is 'Counts new customers against the plan of the organization; raises PT402 beyond its bound.';
create trigger _700_limit after insert on customers
  referencing new table as new_rows for each statement execute function tg_customers_limit();

create function tg_customers_uncount() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  update customer_counts c set customers = greatest(c.customers - o.n, 0)
  from (select business_id, count(*) as n from old_rows group by 1) o where c.business_id = o.business_id;
  return null;
end $$;
create trigger _700_limit_delete after delete on customers
  referencing old table as old_rows for each statement execute function tg_customers_uncount();

-- contact_points ---------------------------------------------------------------------------------------

create table contact_points (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  customer_id uuid not null,
  kind text not null,
  raw text not null,
  normalized text not null,
  extension text,
  is_primary boolean not null default false,
  verified_at timestamptz,
  opted_out_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  created_by uuid,
  updated_by uuid,
  primary key (business_id, id),
  constraint contact_points_normalized_key unique (business_id, kind, normalized),
  constraint contact_points_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint contact_points_customer_fkey foreign key (business_id, customer_id) references customers (business_id, id) on delete cascade,
  constraint contact_points_kind check (kind in ('phone', 'email', 'whatsapp', 'social')),
  constraint contact_points_raw_length check (char_length(raw) between 1 and 320),
  constraint contact_points_phone_is_e164 check (kind <> 'phone' or normalized ~ '^\+[1-9][0-9]{4,16}$'),
  constraint contact_points_extension check (extension ~ '^[0-9]{1,20}$')
);
comment on table contact_points is 'The addresses a customer is known by: normalised phone numbers, e-mail addresses, handles. Each belongs to one customer of the business.';
comment on column contact_points.raw is 'As it was given. @personal phone';
comment on column contact_points.normalized is 'E.164 for phone and WhatsApp numbers (as libphonenumber has it), lower-cased address for e-mail, the provider''s id for others. @personal phone';
comment on column contact_points.extension is 'Extension behind the number, digits. @personal phone';
comment on column contact_points.is_primary is 'The one shown with the customer; at most one per kind.';
comment on column contact_points.opted_out_at is 'Since when this address must not be written to: the person replied STOP or the provider said so.';
create index contact_points_customer_idx on contact_points (business_id, customer_id);
-- A WhatsApp number and a phone number are the same person: looked up together.
create index contact_points_any_kind_idx on contact_points (business_id, normalized);
-- Parts of a number or address, for search_customers().
create index contact_points_search_idx on contact_points using gin (business_id, normalized gin_trgm_ops) with (fastupdate = off);
create unique index contact_points_primary_key on contact_points (business_id, customer_id, kind) where is_primary;

call private.protect('contact_points', parent => array['customers', 'customer_id'],
  reads => 'customers.read', inserts => 'customers.write', updates => 'customers.write', deletes => 'customers.write',
  insert_columns => array['customer_id', 'kind', 'raw', 'is_primary'], update_columns => array['raw', 'is_primary', 'verified_at', 'opted_out_at']);
call audit('contact_points', array['raw', 'normalized', 'extension']);

create function normalize_contact(kind text, raw text, country text) returns table (normalized text, extension text)
language plpgsql stable
set search_path from current
as $$
begin
  if kind in ('phone', 'whatsapp') then
    select p.e164, p.extension into normalized, extension from private.parse_phone(raw, country) p where p.is_valid;
    if normalized is null and kind = 'whatsapp' and btrim(raw) ~ '^[A-Z]{2}\.[A-Za-z0-9.]{1,128}$' then
      normalized := btrim(raw);   -- a business-scoped user id: WhatsApp users with a username show no number
    end if;
  elsif kind = 'email' then
    normalized := public.normalize_email(raw);
  else
    normalized := nullif(lower(btrim(normalize(raw, nfc))), '');
  end if;
  return next;
end $$;
comment on function normalize_contact(text, text, text) is 'The normalised form of an address, null when it is none. Numbers without a country code are read as of the given country.';

create function tg_contact_points_normalize() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  v_country text;
begin
  select d.country into v_country from private.business_directory d where d.business_id = new.business_id;
  select n.normalized, n.extension into new.normalized, new.extension from normalize_contact(new.kind, new.raw, v_country) n;
  if new.normalized is null then
    perform private.fail('22023', format('%s is not a valid %s.', quote_literal(left(new.raw, 64)),
        case new.kind when 'email' then 'e-mail address' when 'phone' then 'phone number' else new.kind || ' address' end),
      new.kind, 'invalid_' || new.kind,
      case new.kind when 'email' then 'Send one address, like ana@example.com.'
        else format('Send the number with its country code, like +14155550123, or a national number of %s.', v_country) end);
  end if;
  -- The first of its kind is the primary one.
  if tg_op = 'INSERT' and not new.is_primary and not exists (
    select 1 from contact_points c where c.business_id = new.business_id and c.customer_id = new.customer_id and c.kind = new.kind and c.is_primary) then
    new.is_primary := true;
  elsif new.is_primary then
    update contact_points c set is_primary = false
    where c.business_id = new.business_id and c.customer_id = new.customer_id and c.kind = new.kind and c.is_primary and c.id <> new.id;
  end if;
  return new;
end $$;
comment on function tg_contact_points_normalize() is 'Normalises an address with the country of the business and keeps one primary per kind. Raises 22023 for an address that is none.';
create trigger _100_normalize_insert before insert on contact_points for each row execute function tg_contact_points_normalize();
create trigger _100_normalize_update before update of raw, is_primary on contact_points
  for each row when (new.raw is distinct from old.raw or (new.is_primary and not old.is_primary)) execute function tg_contact_points_normalize();

create function keep_primary_addresses(business_ids uuid[], customer_ids uuid[]) returns void
language sql security definer
set search_path from current
as $$
  update customers c set primary_phone = n.phone, primary_email = n.email
  from (
    select k.business_id, k.customer_id,
      (select p.normalized from contact_points p where p.business_id = k.business_id and p.customer_id = k.customer_id and p.kind in ('phone', 'whatsapp')
       and p.normalized like '+%' order by p.kind, p.is_primary desc, p.created_at limit 1) as phone,
      (select p.normalized from contact_points p where p.business_id = k.business_id and p.customer_id = k.customer_id and p.kind = 'email'
       order by p.is_primary desc, p.created_at limit 1) as email
    from (select distinct * from unnest(business_ids, customer_ids)) k(business_id, customer_id)) n
  where c.business_id = n.business_id and c.id = n.customer_id
    and (c.primary_phone, c.primary_email) is distinct from (n.phone, n.email)
$$;
comment on function keep_primary_addresses(uuid[], uuid[]) is 'Sets the primary phone and e-mail shown with these customers, where they changed.';

create function tg_contact_points_primary() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  -- Three statements: one that names a transition table the event does not have would not parse.
  if tg_op = 'INSERT' then
    perform keep_primary_addresses(array_agg(n.business_id), array_agg(n.customer_id)) from new_rows n;
  elsif tg_op = 'DELETE' then
    perform keep_primary_addresses(array_agg(o.business_id), array_agg(o.customer_id)) from old_rows o;
  else
    perform keep_primary_addresses(array_agg(r.business_id), array_agg(r.customer_id))
    from (select * from new_rows union all select * from old_rows) r;
  end if;
  return null;
end $$;
comment on function tg_contact_points_primary() is 'Keeps the primary phone and e-mail shown with the customer.';
create trigger _300_primary_insert after insert on contact_points
  referencing new table as new_rows for each statement execute function tg_contact_points_primary();
create trigger _300_primary_update after update on contact_points
  referencing old table as old_rows new table as new_rows for each statement execute function tg_contact_points_primary();
create trigger _300_primary_delete after delete on contact_points
  referencing old table as old_rows for each statement execute function tg_contact_points_primary();
