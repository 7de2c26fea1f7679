/*
 * API keys: a member's rights, narrowed to a list of permissions, for a machine.
 *
 * The gateway exchanges a key for a short token whose subject is the key. What the key may do is looked up
 * per statement as for people, so revoking it, removing the member or taking a permission from them holds
 * at once, whatever the gateway remembers.
 */
create table public.api_keys (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default gen_random_uuid(),
  membership_id uuid not null,
  name text not null,
  prefix text not null,
  scopes text[] not null,
  allowed_addresses cidr[],
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint api_keys_id_key unique (id),
  constraint api_keys_membership_fkey foreign key (business_id, membership_id)
    references public.business_memberships (business_id, id) on delete cascade,
  constraint api_keys_name_length check (char_length(name) between 1 and 200),
  constraint api_keys_scopes check (cardinality(scopes) > 0 and array_position(scopes, null) is null),
  constraint api_keys_allowed_addresses check (cardinality(allowed_addresses) > 0 and array_position(allowed_addresses, null) is null)
);
comment on table public.api_keys is 'Keys for machines. Each acts as the member who made it, narrowed to its scopes. The key itself is shown once.';
comment on column public.api_keys.id is 'Random (version 4). The subject of the tokens that the gateway makes for the key, and the actor in the audit log.';
comment on column public.api_keys.prefix is 'The beginning of the key, to recognise it by.';
comment on column public.api_keys.scopes is 'Permission codes, never empty. What the member does not hold, the key does not either.';
comment on column public.api_keys.allowed_addresses is 'Networks it may be used from; null for any. Never changes: make a new key instead.';
comment on column public.api_keys.last_used_at is 'Time of the last use, to the minute.';
create index api_keys_membership_idx on public.api_keys (business_id, membership_id);
call private.protect('public.api_keys', registry => true, reads => 'api_keys.read');

create table private.api_key_secrets (
  business_id uuid not null,
  api_key_id uuid not null,
  key_hash bytea not null,
  primary key (business_id, api_key_id),
  constraint api_key_secrets_key_hash_key unique (key_hash),
  constraint api_key_secrets_api_key_fkey foreign key (business_id, api_key_id) references public.api_keys (business_id, id) on delete cascade
);
comment on table private.api_key_secrets is 'SHA-256 of each API key. Apart from api_keys, so that members can select all of those.';
alter table private.api_key_secrets enable row level security;
alter table private.api_key_secrets force row level security;

-- A key that was revoked stays revoked, and what it may do is never widened afterwards.
create function private.tg_api_keys_final() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if (new.membership_id, new.scopes, new.allowed_addresses, new.prefix) is distinct from (old.membership_id, old.scopes, old.allowed_addresses, old.prefix)
     or old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at
     or new.expires_at is distinct from old.expires_at and coalesce(new.expires_at > old.expires_at, new.expires_at is null) then
    perform private.fail('42501', 'What an API key may do never grows after it was made.', 'api_key_id', 'immutable', 'Make a new key and revoke this one.');
  end if;
  return new;
end $$;
comment on function private.tg_api_keys_final() is 'Keeps member, scopes, addresses and revocation of an API key as they are, for every role.';
create trigger _100_final before update on public.api_keys for each row execute function private.tg_api_keys_final();

create function private.current_person_id() returns uuid
language plpgsql stable security definer set search_path = ''
as $$
declare
  v_subject uuid := private.current_user_id();
begin
  return coalesce((
    select m.user_id from public.api_keys k join public.business_memberships m on (m.business_id, m.id) = (k.business_id, k.membership_id)
    where k.id = v_subject), v_subject);
end $$;
comment on function private.current_person_id() is 'The user of this request, or the member whose API key it carries.';
