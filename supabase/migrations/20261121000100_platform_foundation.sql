/*
 * The ground everything stands on: who may reach what by default (nobody), how the caller is read,
 * how errors are raised, how ids are made.
 *
 * Schemas: `public` holds what the API serves, `private` holds helpers, caches, secrets and queues
 * and is never served. A business of an organization in the schema placement has its tables in
 * `tenant_<id>`, made by the same files whose names say `_tenant_`.
 */
create schema private;
comment on schema private is
  'Helpers, trigger functions, caches, secrets and queues. Never exposed by the API.';

-- Nothing is granted by default -------------------------------------------------------------------

-- Functions are executable by everybody unless this is said globally: the per-schema form of the
-- statement does not take away what the global default gives (PostgreSQL, ALTER DEFAULT PRIVILEGES).
alter default privileges revoke execute on functions from public;
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;
alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
revoke create on schema public from public;
-- A temporary table or function could shadow what a definer function means.
do $$ begin
  execute format('revoke temporary on database %I from public', current_database());
exception when insufficient_privilege then
  raise notice 'temporary tables stay allowed: only the owner of the database may revoke that';
end $$;

grant usage on schema private to authenticated, service_role;

-- Webhooks come in through this role: it may execute the three functions of the webhook inbox and
-- nothing else. It gets a login and a password from the operator, never here.
do $$ begin
  create role integrator nologin noinherit;
exception when duplicate_object then null;   -- roles belong to the cluster, not to this database
end $$;
grant usage on schema public, private to integrator;
alter role integrator set statement_timeout = '8s';
alter role integrator set lock_timeout = '4s';
alter role integrator set idle_in_transaction_session_timeout = '10s';

-- One row would be enough to hold a pooled connection, so the API roles are bounded too.
do $$ begin
  alter role authenticated set lock_timeout = '2s';
  alter role authenticated set idle_in_transaction_session_timeout = '10s';
  -- Under a policy a custom plan looks cheaper than it is, so every request would be planned again, which costs
  -- four times the policy itself (measured: point lookup 1.39 of the owner's time, 1.08 with generic plans).
  -- Every index here begins with business_id, so plans do not depend on the values.
  alter role authenticated set plan_cache_mode = 'force_generic_plan';
exception when insufficient_privilege then
  raise notice 'the API roles keep their own timeouts: another role administers them here';
end $$;

-- Extensions: only those that hosted Supabase and the embedded server both have -------------------
create extension if not exists pg_trgm with schema extensions;
create extension if not exists btree_gin with schema extensions;
create extension if not exists btree_gist with schema extensions;
create extension if not exists unaccent with schema extensions;
grant usage on schema extensions to authenticated, service_role, integrator;

-- Names are found with and without their accents. A configuration of our own, because to_tsvector() with
-- a fixed configuration may stand in generated columns, and unaccent() may not.
create text search configuration private.names (copy = pg_catalog.simple);
alter text search configuration private.names
  alter mapping for asciiword, asciihword, hword_asciipart, hword, hword_part, word with extensions.unaccent, pg_catalog.simple;
comment on text search configuration private.names is 'Words without accents and without stemming: for names and addresses.';

-- Platform plane, because Postgres checks EXECUTE on a function in an index as the role that writes.
create function private.customer_document(first_name text, last_name text, company_name text, primary_email text, primary_phone text, city text, notes text)
returns tsvector
language sql immutable parallel safe
begin atomic
  select pg_catalog.setweight(pg_catalog.to_tsvector('private.names', pg_catalog.concat_ws(' ', first_name, last_name, company_name)), 'A')
    || pg_catalog.setweight(pg_catalog.to_tsvector('private.names', pg_catalog.concat_ws(' ', primary_email, primary_phone)), 'B')
    || pg_catalog.setweight(pg_catalog.to_tsvector('private.names', pg_catalog.concat_ws(' ', city, notes)), 'C');
end;
comment on function private.customer_document(text, text, text, text, text, text, text) is 'What search_customers() looks in: names first, then addresses, then city and notes.';
grant execute on function private.customer_document(text, text, text, text, text, text, text) to authenticated, service_role;

-- The caller --------------------------------------------------------------------------------------

-- Called for each written row, so counted in microseconds: plpgsql, because `language sql` costs four times as
-- much before Postgres 18. private.my_access() and private.my_rights have the same expression instead of the call.
create function private.current_user_id() returns uuid
language plpgsql stable parallel safe
set search_path = ''
as $$
begin
  -- A malformed subject is nobody: a cast alone would raise.
  return substring(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub'
    from '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$')::uuid;
end $$;
comment on function private.current_user_id() is
  'The user of this request, from the verified token. Null without a token or with a malformed subject. Never raises on a bad subject.';

create function private.current_claims() returns jsonb
language sql stable parallel safe
begin atomic
  select coalesce(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb, '{}'::jsonb);
end;
comment on function private.current_claims() is 'All claims of the verified token; an empty object without one.';

create function private.is_trusted_caller() returns boolean
language sql stable parallel safe
begin atomic
  -- `role` is what SET ROLE chose and stays so inside definer functions; 'none' means a direct login.
  select pg_catalog.current_setting('role') in ('service_role', 'postgres', 'supabase_admin')
      or (pg_catalog.current_setting('role') = 'none' and session_user in ('postgres', 'supabase_admin'));
end;
comment on function private.is_trusted_caller() is
  'True for service_role and for the owner of the database: jobs, migrations, restores. False for members, visitors and webhooks.';

create function private.current_request_id() returns text
language sql stable parallel safe
begin atomic
  select left(nullif(pg_catalog.current_setting('request.headers', true), '')::json ->> 'x-request-id', 128);
end;
comment on function private.current_request_id() is 'The id the gateway gave to this request; null outside one.';

-- Errors ------------------------------------------------------------------------------------------

create function private.fail(
  errcode text, message text, field text default null, reason text default null,
  hint text default null, more jsonb default '{}'
) returns void
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = fail.errcode,
    message = fail.message,
    detail = (jsonb_strip_nulls(jsonb_build_object('field', fail.field, 'reason', fail.reason)) || fail.more)::text,
    hint = coalesce(fail.hint, '');
end $$;
comment on function private.fail(text, text, text, text, text, jsonb) is
  'Raises an error in the one form that clients read: a sentence, a JSON detail with field and reason, a remedy as hint. Codes: 22023 bad value, 42501 no right, PT404 not found, 23505 exists, PT409 conflict, PT402 plan limit.';

create function private.check_length(value text, field text, minimum integer, maximum integer) returns void
language plpgsql immutable
set search_path = ''
as $$
begin
  if value is null or char_length(btrim(value)) < minimum or char_length(value) > maximum then
    perform private.fail('22023', format('%s must have %s to %s characters.', field, minimum, maximum),
      field, 'bad_length', format('Send %s with %s to %s characters.', field, minimum, maximum));
  end if;
end $$;
comment on function private.check_length(text, text, integer, integer) is
  'Refuses a text argument that is missing, blank or outside the bounds, in characters.';

create function private.check_country(country text) returns void
language plpgsql immutable
set search_path = ''
as $$
begin
  if country !~ '^[A-Z]{2}$' then
    perform private.fail('22023', 'country must be an ISO 3166-1 code.', 'country', 'bad_country', 'For example: US.');
  end if;
end $$;
comment on function private.check_country(text) is 'Refuses a country that is not two upper-case letters; null passes.';

create function private.check_slug(slug text) returns void
language plpgsql immutable
set search_path = ''
as $$
begin
  perform slug::private.slug;
exception when check_violation then
  perform private.fail('22023', 'slug must be lower-case letters, digits and single hyphens.', 'slug', 'bad_slug', 'For example: bluebird-dental.');
end $$;
comment on function private.check_slug(text) is 'Refuses a slug that the domain private.slug refuses, with a remedy; null passes.';

-- Ids ---------------------------------------------------------------------------------------------

-- Version 7 (RFC 9562, 5.7): new rows land together at the end of the index. Postgres 18 has it built in.
do $$
begin
  if current_setting('server_version_num')::int >= 180000 then
    create function private.new_id() returns uuid language sql volatile parallel safe
    begin atomic
      select pg_catalog.uuidv7();
    end;
  else
    create function private.new_id() returns uuid language sql volatile parallel safe
    begin atomic
      select pg_catalog.encode(
        pg_catalog.set_bit(pg_catalog.set_bit(
          overlay(pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
            placing substring(pg_catalog.int8send((extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint) from 3)
            from 1 for 6),
          52, 1), 53, 1), 'hex')::uuid;
    end;
  end if;
end $$;
comment on function private.new_id() is 'A time-ordered uuid (version 7, RFC 9562).';
grant execute on function private.new_id(), private.current_user_id() to authenticated, service_role;

create function private.new_token() returns text
language sql volatile
begin atomic
  -- 244 random bits; URL-safe as it is.
  select replace(pg_catalog.gen_random_uuid()::text || pg_catalog.gen_random_uuid()::text, '-', '');
end;
comment on function private.new_token() is 'A secret of 244 random bits in 64 hexadecimal digits. Store only private.token_hash() of it.';

create function private.token_hash(token text) returns bytea
language sql immutable parallel safe
begin atomic
  select pg_catalog.sha256(pg_catalog.convert_to(token, 'UTF8'));
end;
comment on function private.token_hash(text) is 'What is stored of a secret token: SHA-256 of its UTF-8 bytes.';

-- Shared domains: platform plane only, so that a tenant schema and the pooled tables have one type ----
create domain private.country_code as text check (value ~ '^[A-Z]{2}$');
comment on domain private.country_code is 'ISO 3166-1 alpha-2, upper case.';
create domain private.currency_code as text check (value ~ '^[A-Z]{3}$');
comment on domain private.currency_code is 'ISO 4217 alphabetic code, upper case.';
create domain private.slug as text check (value ~ '^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$' and value !~ '--');
comment on domain private.slug is 'A DNS label (RFC 1123): lower-case letters, digits, single hyphens, 1 to 63 characters.';
create domain private.email_address as text check (char_length(value) between 3 and 254);
comment on domain private.email_address is 'An e-mail address, at most 254 characters (RFC 5321, 4.5.3.1).';

create function private.slugify(name text) returns text
language sql stable
set search_path = ''
as $$
  select nullif(left(trim(both '-' from regexp_replace(lower(extensions.unaccent(coalesce(slugify.name, ''))), '[^a-z0-9]+', '-', 'g')), 48), '')
$$;
comment on function private.slugify(text) is 'A slug made from a name: accents dropped, other characters become single hyphens; null when nothing is left.';

create function private.is_timezone(name text) returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
  -- Only names of the tz database: abbreviations and POSIX rules would shift with the season.
  return name is not null and (name = 'UTC' or name ~ '^[A-Za-z_]+/[A-Za-z_+0-9/-]+$')
    and pg_catalog.timezone(name, pg_catalog.now()) is not null;
exception when others then
  return false;
end $$;
comment on function private.is_timezone(text) is 'True for a name of the IANA tz database, such as Europe/Berlin.';

create function private.is_anonymous_number(address text) returns boolean
language sql immutable parallel safe
begin atomic
  -- What Twilio sends for a withheld caller: +266696687 spells ANONYMOUS, +7378742833 RESTRICTED,
  -- +2562533 BLOCKED, +8656696 UNKNOWN, +86282452253 UNAVAILABLE (Twilio, Voice, "caller ID").
  select coalesce(address in ('+266696687', '+7378742833', '+2562533', '+8656696', '+86282452253', 'anonymous'), true);
end;
comment on function private.is_anonymous_number(text) is 'True for the numbers by which a provider says that the caller withheld theirs. Nobody may become a customer by one.';
-- The check on businesses.timezone runs as the member who changes it.
grant execute on function private.is_timezone(text) to authenticated, service_role;
