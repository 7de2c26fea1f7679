/*
 * The caller's own sessions and rights, and the second factor of an organization.
 */
create function public.my_permissions()
returns table (business_id uuid, permission text, scope text, expires_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_subject uuid := private.current_user_id();
begin
  return query
  select b.id, a.permission,
    case g.level when 3 then 'business' when 2 then 'department' when 1 then 'own' else 'records' end, g.expires_at
  from private.user_access a
  cross join lateral unnest((private.my_access(a.permission, a.home_database, a.home_schema)).business_ids) as b(id)
  left join private.granted_permissions(array[private.current_person_id()]) g on g.business_id = b.id and g.permission = a.permission
  where a.user_id = v_subject
  order by 1, 2;
end $$;
comment on function public.my_permissions() is
  'What the caller may do now, per business: scope business (all records), department, own, or records (single ones shared through an access control list). expires_at: when it, or a part of it, runs out.';

create function public.my_sessions()
returns table (id uuid, created_at timestamptz, refreshed_at timestamptz, user_agent text, ip text, aal text, is_current boolean)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_user uuid := private.require_user();
begin
  return query
  select s.id, s.created_at, s.refreshed_at at time zone 'UTC', s.user_agent, host(s.ip), coalesce(s.aal::text, 'aal1'),
    coalesce(s.id::text = private.current_claims() ->> 'session_id', false)
  from auth.sessions s
  where s.user_id = v_user and not exists (select 1 from private.revoked_sessions r where r.session_id = s.id)
  order by s.created_at desc;
end $$;
comment on function public.my_sessions() is 'The caller''s open sessions, newest first.';

create function private.end_sessions(session_ids uuid[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_ended integer;
begin
  -- Its access tokens first, for they outlive the row; then the row, and the refresh tokens with it.
  insert into private.revoked_sessions (session_id, user_id)
  select s.id, s.user_id from auth.sessions s where s.id = any (session_ids) on conflict do nothing;
  delete from auth.sessions s where s.id = any (session_ids);
  get diagnostics v_ended = row_count;
  return v_ended;
end $$;
comment on function private.end_sessions(uuid[]) is 'Ends sessions: refresh tokens are gone, access tokens reach nothing from the next statement on.';

create function public.revoke_session(session_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_user uuid := private.require_user();
begin
  if not exists (select 1 from auth.sessions s where s.id = revoke_session.session_id and s.user_id = v_user) then
    perform private.fail('PT404', 'You have no such session.', 'session_id', 'not_found', 'List your sessions with my_sessions.');
  end if;
  perform private.end_sessions(array[revoke_session.session_id]);
end $$;
comment on function public.revoke_session(uuid) is 'Ends one of the caller''s sessions, at once: its tokens reach nothing any more.';

create function public.revoke_other_sessions() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_user uuid := private.require_user();
begin
  return private.end_sessions(array(
    select s.id from auth.sessions s where s.user_id = v_user
      and s.id::text is distinct from private.current_claims() ->> 'session_id'));
end $$;
comment on function public.revoke_other_sessions() is 'Ends all of the caller''s sessions but this one; returns how many.';

create function public.set_mfa_requirement(organization_id uuid, required boolean) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.require_organization(set_mfa_requirement.organization_id, 'organization.owner');
  if set_mfa_requirement.required is null then
    perform private.fail('22023', 'required must be true or false.', 'required', 'missing', 'Send true or false.');
  end if;
  -- Who asks for a second factor must have one, or they would lock themselves out.
  if set_mfa_requirement.required and not private.is_trusted_caller() and private.current_claims() ->> 'aal' is distinct from 'aal2' then
    perform private.fail('42501', 'This needs a session with a second factor.', 'required', 'second_factor_missing', 'Enrol a factor, verify it, and try again.');
  end if;
  update public.organizations o set requires_mfa = set_mfa_requirement.required
  where o.id = set_mfa_requirement.organization_id and o.requires_mfa is distinct from set_mfa_requirement.required;
end $$;
comment on function public.set_mfa_requirement(uuid, boolean) is
  'Opens an organization and its businesses only to sessions with a second factor (aal2), from the next statement on, or to all again. For owners of the organization.';

grant execute on function public.my_permissions(), public.my_sessions(), public.revoke_session(uuid), public.revoke_other_sessions(),
  public.set_mfa_requirement(uuid, boolean) to authenticated, service_role;
