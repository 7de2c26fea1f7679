/*
 * Host names of a business, and for whom each is. A host narrows what a request may reach; it never widens it.
 */
create table public.business_domains (
  business_id uuid not null references public.businesses on delete cascade,
  id uuid not null default private.new_id(),
  host text not null,
  audience text not null,
  verification_token text not null,
  verified_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint business_domains_host_per_business_key unique (business_id, host),
  -- No BETWEEN beside AND: a dump prints it otherwise, and the gateway compares prints.
  constraint business_domains_host check (char_length(host) >= 4 and char_length(host) <= 253
    and host ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$'),
  constraint business_domains_audience check (audience in ('public', 'clients', 'staff', 'admin', 'api'))
);
comment on table public.business_domains is 'Host names of a business and their audience: public, clients (the portal), staff, admin, api.';
comment on column public.business_domains.host is 'Lower case, without port (RFC 1123). Several businesses may claim a host; one can verify it.';
comment on column public.business_domains.verification_token is 'To be published as TXT record _tenantry.<host>, to show that the host is one''s own.';
comment on column public.business_domains.verified_at is 'Set by the operator''s check of the TXT record; a host counts from then on.';
-- A claim says nothing to others; only the verified owner of a host has it alone.
create unique index business_domains_verified_key on public.business_domains (host) where verified_at is not null;
call private.protect('public.business_domains', registry => true, reads => 'business.write');

create function public.add_domain(business_id uuid, host text, audience text) returns public.business_domains
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_host text := lower(btrim(coalesce(add_domain.host, ''), ' .'));
  v_domain public.business_domains;
begin
  perform private.require(add_domain.business_id, 'business.write');
  if char_length(v_host) not between 4 and 253 or v_host !~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$' then
    perform private.fail('22023', 'host is not a host name.', 'host', 'bad_host', 'For example: clients.bluebird.example, without https:// and port; internationalized names in their xn-- form.');
  end if;
  if add_domain.audience is null or add_domain.audience not in ('public', 'clients', 'staff', 'admin', 'api') then
    perform private.fail('22023', 'audience is not one we know.', 'audience', 'bad_choice', 'Send public, clients, staff, admin or api.');
  end if;
  insert into public.business_domains (business_id, host, audience, verification_token)
  values (add_domain.business_id, v_host, add_domain.audience, private.new_token())
  on conflict (business_id, host) do nothing returning * into v_domain;
  if v_domain.id is null then
    perform private.fail('23505', 'This business has this host already.', 'host', 'taken', 'Remove it first to change its audience.');
  end if;
  return v_domain;
end $$;
comment on function public.add_domain(uuid, text, text) is
  'Claims a host name for a business. It counts once the operator has seen verification_token as TXT record _tenantry.<host>. Needs business.write.';

create function public.remove_domain(business_id uuid, domain_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.require(remove_domain.business_id, 'business.write');
  delete from public.business_domains d where d.business_id = remove_domain.business_id and d.id = remove_domain.domain_id;
  if not found then
    perform private.fail('PT404', 'This business has no such domain.', 'domain_id', 'not_found', 'List the domains of the business.');
  end if;
end $$;
comment on function public.remove_domain(uuid, uuid) is 'Gives a host name up. Needs business.write.';

create function public.verify_domain(business_id uuid, domain_id uuid) returns public.business_domains
language plpgsql security definer set search_path = ''
as $$
declare
  v_domain public.business_domains;
begin
  begin
    update public.business_domains d set verified_at = coalesce(d.verified_at, now())
    where d.business_id = verify_domain.business_id and d.id = verify_domain.domain_id returning * into v_domain;
  exception when unique_violation then
    perform private.fail('23505', 'Another business has verified this host.', 'domain_id', 'taken', 'Ask the operator.');
  end;
  if v_domain.id is null then
    perform private.fail('PT404', 'This business has no such domain.', 'domain_id', 'not_found', 'List the domains of the business.');
  end if;
  return v_domain;
end $$;
comment on function public.verify_domain(uuid, uuid) is 'For the operator, after the TXT record was seen: the host is the business''s alone.';

grant execute on function public.add_domain(uuid, text, text), public.remove_domain(uuid, uuid) to authenticated, service_role;
grant execute on function public.verify_domain(uuid, uuid) to service_role;
