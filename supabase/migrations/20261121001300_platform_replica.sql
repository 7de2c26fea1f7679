/*
 * What lets a streaming replica answer reads without ever showing a caller less than the primary would:
 * the primary says how far it has written and which version of their rights callers have; the replica
 * refuses, within the transaction of the read itself, what it has not replayed. A gateway asks the one
 * and tells the other, so neither its memory nor its clock is trusted for more than saving a round trip.
 */

-- A replica holds the very same tuples at the very same places, so the places and writers of a principal's
-- rows are equal on both exactly when the rows are. No value is read and nothing has to be kept for it.
create function private.rights_version(principal uuid) returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select left(encode(sha256(convert_to(coalesce(string_agg(r.place, ' ' order by r.place collate "C"), ''), 'UTF8')), 'hex'), 32)
    from (
      select 'b' || a.ctid::text || a.xmin::text from private.user_access a where a.user_id = rights_version.principal
      union all
      select 'o' || a.ctid::text || a.xmin::text from private.user_organization_access a where a.user_id = rights_version.principal
    ) r(place));
end $$;
comment on function private.rights_version(uuid) is
  'Changes with every change of what a principal (a user or an API key) may do; equal on a primary and its streaming replicas exactly when their rights are.';

create function public.wal_position(principals uuid[] default '{}') returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  -- The insert position: with synchronous_commit off, an acknowledged commit may not be written yet.
  v_position pg_lsn := pg_catalog.pg_current_wal_insert_lsn();
  -- At the start of a page it lies after the page's header (24 or 40 bytes), where no record ends:
  -- an idle server's replica would never seem to have replayed it.
  v_into_page numeric := (v_position - '0/0'::pg_lsn) % current_setting('wal_block_size')::integer;
begin
  if v_into_page <= 40 then v_position := v_position - v_into_page; end if;
  return jsonb_build_object(
    'system', (select s.system_identifier::text from pg_catalog.pg_control_system() s),
    'position', v_position,
    'rights', (select coalesce(jsonb_object_agg(p.id, private.rights_version(p.id)), '{}') from unnest(wal_position.principals) p(id)));
end $$;
comment on function public.wal_position(uuid[]) is
  'For gateways, on the primary alone (elsewhere 55000): the server''s system identifier, a WAL position after every commit that was acknowledged before the call, and the rights_version() of each principal.';
grant execute on function public.wal_position(uuid[]) to service_role;

create function public.replay_position() returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'system', (select s.system_identifier::text from pg_catalog.pg_control_system() s),
    'position', case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() end);
end $$;
comment on function public.replay_position() is
  'For gateways, on a replica: the server''s system identifier and the WAL position up to which it has replayed; null on a server that is no replica.';
grant execute on function public.replay_position() to service_role;

create function private.require_replay() returns void
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_position pg_lsn := case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() end;
begin
  -- Null-safe: without the header, or on a server that is no replica, nothing is read.
  -- In a stricter isolation the snapshot of the read is older than this look at the position.
  if (v_position >= (v_headers ->> 'x-read-after')::pg_lsn and current_setting('transaction_isolation') = 'read committed') is not true then
    perform private.fail('PT425', 'This replica has not replayed what the read must see.', null, 'replica_behind', 'Ask the primary.');
  end if;
  if private.current_claims() ->> 'role' = 'authenticated'
     and private.rights_version(private.current_user_id()) is distinct from v_headers ->> 'x-rights-version' then
    perform private.fail('PT425', 'The rights of the caller are others on this replica.', null, 'rights_differ', 'Ask the primary.');
  end if;
end $$;
comment on function private.require_replay() is
  'The db-pre-request of a PostgREST on a streaming replica: raises PT425 unless the replica has replayed the WAL position in the header X-Read-After and shows the caller the rights of X-Rights-Version. Both come from the gateway.';
grant execute on function private.require_replay() to authenticated, service_role;
