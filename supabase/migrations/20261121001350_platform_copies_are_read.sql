/*
 * Copies of the registry are read, never written.
 *
 * Another database than the main one holds copies of registry rows, and PostgREST serves them there too. What a
 * request changed in a copy would hold until the next copy arrives (rights that nobody gave), and what it added
 * would be known there alone (a role, a domain, an invitation that nobody can accept). So a database that has
 * received registry rows refuses to change them, to every role of the API and inside every function: the answer
 * 421 makes a gateway look again where the request belongs. The worker brings copies as the owner of the database.
 *
 * Kept at the home on purpose: access lists, and invitations of portal customers, which the worker takes to the
 * main database.
 */
create function private.tg_refuse_at_copy() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (select 1 from private.received_registries r join public.organizations o on o.id = r.organization_id)
     -- Only who logged in as the owner and chose no role: the worker, a restore, an operator.
     and not (current_setting('role') in ('none', 'postgres', 'supabase_admin') and session_user in ('postgres', 'supabase_admin')) then
    perform private.fail('PT421', 'This database holds a copy of members, rights and settings, which are changed in the main database alone.',
      null, 'not_main', 'Send the request to the main database.');
  end if;
  return new;
end $$;
comment on function private.tg_refuse_at_copy() is
  'Refuses changes of registry rows in a database that holds copies of them; in the main database it lets everything pass.';

do $$
declare
  v_table text;
begin
  foreach v_table in array
    -- What is copied, without auth.users, which belongs to the sign-in service; and what only the main database keeps.
    array(select r.table_name from private.registry_tables r where r.table_name not in ('auth.users', 'private.revoked_sessions') order by r.position)
    || array['public.business_domains', 'public.permission_templates', 'public.placement_databases', 'public.placement_moves',
             'public.fleet_jobs', 'private.api_key_secrets', 'private.provider_secrets', 'private.registry_places']
  loop
    -- Per statement: it comes before policies and row triggers, so that the answer depends on no row.
    execute format('create trigger _020_copy before insert or update or delete on %s for each statement execute function private.tg_refuse_at_copy()', v_table);
  end loop;
end $$;

-- Every database forgets ended sessions once their tokens have run out.
create trigger _020_copy before insert or update on private.revoked_sessions
  for each statement execute function private.tg_refuse_at_copy();
create trigger _020_copy before insert or update on public.invitations
  for each row when (new.customer_id is null) execute function private.tg_refuse_at_copy();
