/*
 * Connections to providers, and the audit of the registry.
 *
 * A connection is one account at a provider (a Twilio account). Webhooks name it by its unguessable id in
 * the URL; the business follows from the connection, never from the body. The secret is written once and
 * read only by the webhook role.
 */
create table public.provider_connections (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default gen_random_uuid(),
  provider text not null,
  account_ref text not null,
  name text not null,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint provider_connections_account_key unique (business_id, provider, account_ref),
  constraint provider_connections_provider check (provider in ('twilio')),
  constraint provider_connections_account_ref_length check (char_length(account_ref) between 1 and 200),
  constraint provider_connections_name_length check (char_length(name) between 1 and 200)
);
comment on table public.provider_connections is 'Accounts of the business at communication providers. The secret is kept apart and cannot be read back.';
comment on column public.provider_connections.id is 'Random (version 4): it is part of the webhook URL and must not be guessable.';
comment on column public.provider_connections.account_ref is 'The account''s id at the provider, such as Twilio''s AccountSid. A webhook that names another account is refused.';
-- Webhooks know only the id.
create unique index provider_connections_id_key on public.provider_connections (id);
call private.protect('public.provider_connections', registry => true, reads => 'integrations.read',
  updates => 'integrations.write', update_columns => array['name', 'is_active'],
  deletes => 'integrations.write');
-- No insert: connect_provider(), because a connection comes with its secret.

create table private.provider_secrets (
  business_id uuid not null,
  connection_id uuid not null,
  position integer not null,
  secret text not null,
  created_at timestamptz not null default now(),
  primary key (business_id, connection_id, position),
  constraint provider_secrets_connection_fkey foreign key (business_id, connection_id)
    references public.provider_connections (business_id, id) on delete cascade,
  constraint provider_secrets_position check (position in (1, 2)),
  constraint provider_secrets_length check (char_length(secret) between 8 and 500)
);
comment on table private.provider_secrets is
  'Signing secrets of provider connections: the current one and, during a rotation, the one before. No API role reads it; the webhook role gets them through webhook_connection().';
alter table private.provider_secrets enable row level security;
alter table private.provider_secrets force row level security;

create function public.connect_provider(business_id uuid, provider text, account_ref text, secret text, name text default null)
returns public.provider_connections
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_connection public.provider_connections;
begin
  perform private.require(connect_provider.business_id, 'integrations.write');
  if connect_provider.provider is distinct from 'twilio' then
    perform private.fail('22023', 'provider is not one we know.', 'provider', 'unknown_provider', 'Use: twilio.');
  end if;
  if connect_provider.account_ref is null or connect_provider.account_ref !~ '^AC[0-9a-fA-F]{32}$' then
    perform private.fail('22023', 'account_ref is not a Twilio account SID.', 'account_ref', 'bad_account_ref',
      'Copy the Account SID from the Twilio console: AC and 32 hexadecimal digits.');
  end if;
  perform private.check_length(connect_provider.secret, 'secret', 8, 500);
  insert into public.provider_connections as c (business_id, provider, account_ref, name)
  values (connect_provider.business_id, connect_provider.provider, connect_provider.account_ref,
          coalesce(nullif(btrim(connect_provider.name), ''), initcap(connect_provider.provider)))
  on conflict (business_id, provider, account_ref)
    do update set is_active = true, name = coalesce(nullif(btrim(connect_provider.name), ''), c.name)
  returning * into v_connection;
  -- Rotation: the old secret stays valid beside the new one until the next rotation.
  delete from private.provider_secrets s
  where s.business_id = v_connection.business_id and s.connection_id = v_connection.id and s.position = 2
    and not exists (select 1 from private.provider_secrets o where o.business_id = s.business_id
                    and o.connection_id = s.connection_id and o.secret = connect_provider.secret);
  update private.provider_secrets s set position = 2
  where s.business_id = v_connection.business_id and s.connection_id = v_connection.id and s.position = 1
    and s.secret <> connect_provider.secret
    and not exists (select 1 from private.provider_secrets o where o.business_id = s.business_id
                    and o.connection_id = s.connection_id and o.position = 2);
  insert into private.provider_secrets (business_id, connection_id, position, secret)
  values (v_connection.business_id, v_connection.id, 1, connect_provider.secret)
  on conflict (business_id, connection_id, position) do nothing;
  return v_connection;
end $$;
comment on function public.connect_provider(uuid, text, text, text, text) is
  'Connects the business to an account at a provider (twilio: account SID and auth token), or rotates the secret of a connection; the secret before stays valid beside the new one. Needs integrations.write. The secret cannot be read back.';
grant execute on function public.connect_provider(uuid, text, text, text, text) to authenticated, service_role;

-- The events of a connection are kept where its business lives, and refer to it.
create function private.tg_connections_elsewhere() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (select 1 from private.business_directory d where d.business_id = old.business_id and d.database_name <> current_database())
     and exists (select 1 from public.businesses b where b.id = old.business_id) then
    perform private.fail('PT409', 'A connection whose events are kept in another database stays.', 'id', 'in_use', 'Set is_active to false instead.');
  end if;
  return old;
end $$;
comment on function private.tg_connections_elsewhere() is 'Keeps connections of businesses that live in another database, where the foreign key of their events cannot reach.';
create trigger _300_elsewhere before delete on public.provider_connections
  for each row execute function private.tg_connections_elsewhere();

-- Definer because: the webhook role may read exactly this and nothing else.
create function public.webhook_connection(connection_id uuid)
returns table (business_id uuid, provider text, account_ref text, secrets text[], is_active boolean,
  database_name text, schema_name text, state text, epoch integer)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select c.business_id, c.provider, c.account_ref,
    array(select s.secret from private.provider_secrets s
          where s.business_id = c.business_id and s.connection_id = c.id order by s.position),
    c.is_active and d.is_readable, p.database_name, p.schema_name, p.state, p.epoch
  from public.provider_connections c
  join private.business_directory d on d.business_id = c.business_id
  join public.organization_placements p on p.organization_id = d.organization_id
  where c.id = webhook_connection.connection_id;
end $$;
comment on function public.webhook_connection(uuid) is
  'What a webhook needs to verify a delivery, and where to store it: account and signing secrets of a connection, and the home of its business. Asked in the main database. No row for an unknown id. For the role integrator only.';
grant execute on function public.webhook_connection(uuid) to integrator;

-- Definer because: the webhook role may not read the registry.
create function public.webhook_homes() returns table (database_name text, schema_name text)
language sql stable security definer set search_path = ''
as $$
  -- This place always: somebody has to notice here what rights have run out.
  select current_database()::text, 'public'
  union
  select d.database_name, d.schema_name from private.business_directory d
  where d.is_writable and exists (select 1 from public.provider_connections c where c.business_id = d.business_id)
$$;
comment on function public.webhook_homes() is
  'Where deliveries may wait to be applied again: the homes of businesses with a connection that take writes now, so none that is being moved. Asked in the main database. For the role integrator only.';
grant execute on function public.webhook_homes() to integrator;

-- The registry of the pooled database is audited with the same trigger as tenant tables.
call public.audit('public.businesses', business_column => 'id');
call public.audit('public.business_memberships');
call public.audit('public.membership_roles');
call public.audit('public.invitations', array['email_normalized']);
call public.audit('public.provider_connections');
-- Whatever changes rights.
call public.audit('public.roles');
call public.audit('public.role_permissions', business_column => 'role_id');
call public.audit('public.role_hierarchies');
call public.audit('public.permission_templates');
call public.audit('public.departments');
call public.audit('public.department_roles');
call public.audit('public.user_permissions', array['reason']);
call public.audit('public.access_control_lists');
call public.audit('public.api_keys');
call public.audit('public.business_domains', array['verification_token']);
