/*
 * Webhooks of organizations that live elsewhere: the main database knows every connection and its home, the home
 * takes the delivery. The role integrator asks here and stores there.
 */
drop function public.webhook_connection(uuid);

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
