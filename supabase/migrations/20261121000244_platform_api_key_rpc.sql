/*
 * Making, revoking and recognising API keys.
 */
create function public.create_api_key(
  business_id uuid, name text, scopes text[], expires_at timestamptz default null, allowed_addresses text[] default null)
returns table (api_key_id uuid, key text, prefix text, valid_until timestamptz)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_user uuid := private.require_user();
  v_key text := 'tnk_' || private.new_token();
  v_row public.api_keys;
  v_membership uuid;
  v_bad text;
  v_addresses cidr[];
begin
  perform private.require(create_api_key.business_id, 'api_keys.write');
  perform private.check_length(create_api_key.name, 'name', 1, 200);
  if coalesce(cardinality(create_api_key.scopes), 0) = 0 then
    perform private.fail('22023', 'scopes must name at least one permission.', 'scopes', 'empty', 'A key without scopes could do nothing; name what it is for.');
  end if;
  select s.code into v_bad from unnest(create_api_key.scopes) s(code)
  left join public.permissions p on p.code = s.code and p.for_api_keys where p.code is null limit 1;
  if found then
    perform private.fail('22023', format('%s is not a permission that a key can have.', coalesce(quote_literal(left(v_bad, 64)), 'null')), 'scopes', 'bad_scope',
      'Use some of: ' || (select string_agg(p.code, ', ' order by p.code) from public.permissions p where p.for_api_keys) || '.');
  end if;
  select s.code into v_bad from unnest(create_api_key.scopes) s(code)
  where not (create_api_key.business_id = any (private.my_business_ids(s.code))) limit 1;
  if found then
    perform private.fail('42501', format('You do not hold %s yourself.', v_bad), 'scopes', 'permission_missing', 'Leave it out.', jsonb_build_object('permission', v_bad));
  end if;
  if create_api_key.expires_at <= now() then
    perform private.fail('22023', 'expires_at must be in the future.', 'expires_at', 'out_of_range', 'Send a later time, or null for no end.');
  end if;
  begin
    v_addresses := nullif(create_api_key.allowed_addresses, '{}')::cidr[];
    if array_position(v_addresses, null) is not null then raise invalid_text_representation; end if;
  exception when invalid_text_representation then
    perform private.fail('22023', 'allowed_addresses must be networks.', 'allowed_addresses', 'bad_address', 'For example: 203.0.113.0/24 or 2001:db8::/32, without host bits.');
  end;
  perform private.lock_business(create_api_key.business_id);
  select m.id into v_membership from public.business_memberships m
  where m.business_id = create_api_key.business_id and m.user_id = v_user and m.status = 'active';
  if v_membership is null then
    perform private.fail('PT409', 'A key acts as a member, and you are none of this business.', 'business_id', 'not_a_member',
      'Join the business first: owners and admins of its organization can invite themselves.');
  end if;
  insert into public.api_keys (business_id, membership_id, name, prefix, scopes, allowed_addresses, expires_at)
  values (create_api_key.business_id, v_membership, btrim(create_api_key.name), left(v_key, 12),
    array(select distinct s from unnest(create_api_key.scopes) s order by 1), v_addresses, create_api_key.expires_at)
  returning * into v_row;
  insert into private.api_key_secrets (business_id, api_key_id, key_hash) values (v_row.business_id, v_row.id, private.token_hash(v_key));
  return query select v_row.id, v_key, v_row.prefix, v_row.expires_at;
end $$;
comment on function public.create_api_key(uuid, text, text[], timestamptz, text[]) is
  'Makes an API key that acts as the caller, narrowed to its scopes. The key is returned once and never again. Needs api_keys.write and each of the scopes. Errors: 22023, 42501, PT409 when the caller is no member.';

create function public.revoke_api_key(business_id uuid, api_key_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  -- Whoever made a key may always end it.
  if not exists (
    select 1 from public.api_keys k join public.business_memberships m on (m.business_id, m.id) = (k.business_id, k.membership_id)
    where k.business_id = revoke_api_key.business_id and k.id = revoke_api_key.api_key_id
      and m.user_id = private.current_user_id() and m.status = 'active' and private.session_is_open()) then
    perform private.require(revoke_api_key.business_id, 'api_keys.write');
  end if;
  update public.api_keys k set revoked_at = now()
  where k.business_id = revoke_api_key.business_id and k.id = revoke_api_key.api_key_id and k.revoked_at is null;
  if not found then
    perform private.fail('PT404', 'There is no such key, or it was revoked.', 'api_key_id', 'not_found', 'List the API keys of the business.');
  end if;
end $$;
comment on function public.revoke_api_key(uuid, uuid) is 'Ends an API key: it can do nothing from the next statement on. Needs api_keys.write, or to have made it.';

create function public.authenticate_api_key(key_hash text)
returns table (api_key_id uuid, business_id uuid, expires_at timestamptz, allowed_addresses text[])
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_key public.api_keys;
begin
  if authenticate_api_key.key_hash is null or authenticate_api_key.key_hash !~ '^[0-9a-f]{64}$' then return; end if;
  select k.* into v_key from private.api_key_secrets s
  join public.api_keys k on (k.business_id, k.id) = (s.business_id, s.api_key_id)
  join public.business_memberships m on (m.business_id, m.id) = (k.business_id, k.membership_id) and m.status = 'active'
  where s.key_hash = decode(authenticate_api_key.key_hash, 'hex')
    and k.revoked_at is null and coalesce(k.expires_at > now(), true);
  if not found then return; end if;
  -- One write a minute, and none that waits for another.
  if coalesce(v_key.last_used_at < now() - interval '1 minute', true) then
    update public.api_keys k set last_used_at = date_trunc('minute', now())
    where k.business_id = v_key.business_id and k.id in (
      select o.id from public.api_keys o where o.business_id = v_key.business_id and o.id = v_key.id for no key update skip locked);
  end if;
  return query select v_key.id, v_key.business_id, v_key.expires_at, v_key.allowed_addresses::text[];
end $$;
comment on function public.authenticate_api_key(text) is
  'For the gateway: the key with this SHA-256 (64 lower-case hexadecimal digits of the key''s UTF-8 bytes), while it is valid. No row otherwise. Notes the use.';

grant execute on function public.create_api_key(uuid, text, text[], timestamptz, text[]), public.revoke_api_key(uuid, uuid) to authenticated, service_role;
grant execute on function public.authenticate_api_key(text) to service_role;
