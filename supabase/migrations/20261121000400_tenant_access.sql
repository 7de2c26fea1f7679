select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * The access functions of one place. Each captures its own schema, so it answers only for businesses
 * whose home is this schema of this database: a copy of the tables anywhere else is inert.
 */

-- Definer because: reads the access cache. plpgsql and not `language sql`: see private.my_business_ids.
create function my_business_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path from current
as $$
begin
  return coalesce((
    select a.business_ids from private.user_access a
    where a.user_id = private.current_user_id() and a.permission = my_business_ids.permission
      and a.home_database = current_database() and a.home_schema = current_schema()), '{}');
end $$;
comment on function my_business_ids(text) is
  'Businesses living here in which the caller holds the permission. Every policy asks this once per statement.';

create function require_business(business_id uuid, permission text) returns private.business_directory
language plpgsql stable security definer
set search_path from current
as $$
declare
  home private.business_directory;
begin
  if not private.is_trusted_caller()
     and require_business.business_id = any (my_business_ids(require_business.permission)) is not true then   -- null-safe
    perform private.fail('42501', format('You do not hold %s in this business.', require_business.permission),
      'business_id', 'permission_missing', 'Check business_id, or ask an admin of the business for a role that includes it.',
      jsonb_build_object('permission', require_business.permission));
  end if;
  select * into home from private.business_directory d
  where d.business_id = require_business.business_id and d.database_name = current_database() and d.schema_name = current_schema();
  if not found then
    perform private.fail('PT404', 'There is no such business here.', 'business_id', 'not_found', 'Check business_id.');
  end if;
  return home;
end $$;
comment on function require_business(uuid, text) is
  'First statement of every definer function about a business living here: raises 42501 unless the caller holds the permission. Returns its directory entry.';

grant execute on function my_business_ids(text) to authenticated, service_role;

-- Idempotent writes ------------------------------------------------------------------------------

create table idempotency_keys (
  business_id uuid not null,
  key text not null,
  request_hash bytea not null,
  result jsonb not null,
  created_at timestamptz not null default now(),
  primary key (business_id, key),
  constraint idempotency_keys_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint idempotency_keys_key_length check (char_length(key) between 1 and 255)
);
comment on table idempotency_keys is
  'First results of writes that carried an idempotency key. The same key with the same request returns the first result; with another request it is refused.';
call private.protect('idempotency_keys', guard => false);
-- No grants: only functions touch it.

create function find_idempotent_result(business_id uuid, key text, request jsonb) returns jsonb
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_found idempotency_keys;
begin
  if find_idempotent_result.key is null then return null; end if;
  perform private.check_length(find_idempotent_result.key, 'idempotency_key', 1, 255);
  -- Two deliveries of the same key at once: the second waits here and then finds the first result.
  perform pg_advisory_xact_lock(hashtextextended('idempotency:' || find_idempotent_result.business_id::text || find_idempotent_result.key, 0));
  select * into v_found from idempotency_keys k
  where k.business_id = find_idempotent_result.business_id and k.key = find_idempotent_result.key;
  if not found then return null; end if;
  if v_found.request_hash <> sha256(convert_to(find_idempotent_result.request::text, 'UTF8')) then
    perform private.fail('PT409', 'This idempotency key was used with another request.', 'idempotency_key', 'idempotency_conflict',
      'Use a new key for a new request.');
  end if;
  return v_found.result;
end $$;
comment on function find_idempotent_result(uuid, text, jsonb) is 'The stored result of this key; null for a new one. Raises PT409 when the key belongs to another request.';

create function keep_idempotent_result(business_id uuid, key text, request jsonb, result jsonb) returns void
language plpgsql security definer
set search_path from current
as $$
begin
  if keep_idempotent_result.key is null then return; end if;
  insert into idempotency_keys (business_id, key, request_hash, result)
  values (keep_idempotent_result.business_id, keep_idempotent_result.key,
          sha256(convert_to(keep_idempotent_result.request::text, 'UTF8')), keep_idempotent_result.result);
end $$;
comment on function keep_idempotent_result(uuid, text, jsonb, jsonb) is 'Stores the result of a write for its idempotency key.';
