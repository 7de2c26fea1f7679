select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Sharing single records, and inviting customers into the portal: both name records of this place.
 */
create function share_record(
  business_id uuid, resource text, resource_id uuid, verbs text[], membership_id uuid default null, role text default null,
  department_id uuid default null, effect text default 'allow', expires_at timestamptz default null)
returns public.access_control_lists
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_business(share_record.business_id, 'records.share');
  v_role public.roles;
  v_row public.access_control_lists;
  v_permission text;
  v_rank integer;
begin
  if share_record.resource is null or not exists (select 1 from private.record_permissions p where p.resource = share_record.resource) then
    perform private.fail('22023', 'resource is not a kind of record that can be shared.', 'resource', 'bad_choice',
      'Send ' || (select string_agg(distinct p.resource, ', ' order by p.resource) from private.record_permissions p) || '.');
  end if;
  if coalesce(cardinality(share_record.verbs), 0) = 0 or exists (
    select 1 from unnest(share_record.verbs) v
    where not exists (select 1 from private.record_permissions p where p.resource = share_record.resource and p.verb = v)) then
    perform private.fail('22023', format('verbs must name what to share of %s.', share_record.resource), 'verbs', 'bad_choice',
      'Send some of ' || (select string_agg(distinct p.verb, ', ' order by p.verb) from private.record_permissions p where p.resource = share_record.resource) || '.');
  end if;
  if num_nonnulls(share_record.membership_id, share_record.role, share_record.department_id) <> 1 then
    perform private.fail('22023', 'Name one of membership_id, role and department_id.', 'membership_id', 'bad_grantee', 'A record is shared with one of them at a time.');
  end if;
  if share_record.effect is null or share_record.effect not in ('allow', 'deny') then
    perform private.fail('22023', 'effect must be allow or deny.', 'effect', 'bad_choice', 'Send allow or deny.');
  end if;
  if share_record.expires_at <= now() then
    perform private.fail('22023', 'expires_at must be in the future.', 'expires_at', 'out_of_range', 'Send a later time, or null for no end.');
  end if;
  perform private.lock_business(share_record.business_id);
  if share_record.membership_id is not null then
    v_rank := private.target_rank(share_record.business_id, (private.member_of(share_record.business_id, share_record.membership_id)).id);
  elsif share_record.role is not null then
    v_role := private.role_of(share_record.business_id, share_record.role);
    v_rank := v_role.rank;
  else
    perform private.check_department(share_record.business_id, share_record.department_id);
    v_rank := (select max(private.target_rank(r.business_id, r.membership_id)) from public.department_roles r
      where r.business_id = share_record.business_id and r.department_id = share_record.department_id);
  end if;
  if record_keys_of(share_record.resource, share_record.business_id, share_record.resource_id) is null then
    perform private.fail('PT404', format('There is no such record among the %s you may reach.', share_record.resource), 'resource_id', 'not_found',
      'Check resource_id, or ask somebody who reaches it to share it.');
  end if;
  -- Nobody passes on, or takes, what they do not have on this very record.
  for v_permission in
    select p.permission_code from private.record_permissions p where p.resource = share_record.resource and p.verb = any (share_record.verbs) order by 1
  loop
    perform require_record(share_record.resource, share_record.business_id, share_record.resource_id, v_permission, 'resource_id');
  end loop;
  if share_record.effect = 'deny' then
    perform private.require(share_record.business_id, 'members.write');
    perform private.require_rank(share_record.business_id, coalesce(v_rank, -1), true,
      case when share_record.membership_id is not null then 'membership_id' when share_record.role is not null then 'role' else 'department_id' end);
  end if;
  insert into public.access_control_lists as a (business_id, resource, resource_id, membership_id, role_id, department_id, verbs, effect, expires_at, granted_by)
  values (share_record.business_id, share_record.resource, share_record.resource_id, share_record.membership_id, v_role.id, share_record.department_id,
    array(select distinct v from unnest(share_record.verbs) v order by 1), share_record.effect, share_record.expires_at, private.current_user_id())
  on conflict on constraint access_control_lists_key do update set verbs = excluded.verbs, expires_at = excluded.expires_at, granted_by = excluded.granted_by
  returning * into v_row;
  return v_row;
end $$;
comment on function share_record(uuid, text, uuid, text[], uuid, text, uuid, text, timestamptz) is
  'Shares one record, and its parts, with a member, the holders of a role, or the people of a department; or denies it to them (effect deny, needs members.write and a higher rank). Needs records.share and what is shared on that record. Sharing again replaces verbs and end. Errors: 22023, PT404, PT409 (the home is being moved).';

create function unshare_record(business_id uuid, share_id uuid) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_row public.access_control_lists;
begin
  perform require_business(unshare_record.business_id, 'records.share');
  select * into v_row from public.access_control_lists a
  where a.business_id = unshare_record.business_id and a.id = unshare_record.share_id
    and (a.granted_by = private.current_user_id() and a.effect = 'allow' or private.is_trusted_caller()
      or a.business_id = any (private.my_business_ids('members.write')));
  if not found then
    perform private.fail('PT404', 'There is no such share that you may end.', 'share_id', 'not_found', 'List access_control_lists of the business.');
  end if;
  delete from public.access_control_lists a where a.business_id = v_row.business_id and a.id = v_row.id;
end $$;
comment on function unshare_record(uuid, uuid) is 'Ends a share or a denial of a record. Needs records.share, and members.write unless one made the share.';

create function invite_portal_customer(business_id uuid, customer_id uuid, email text)
returns table (invitation_id uuid, token text, expires_at timestamptz)
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_business(invite_portal_customer.business_id, 'members.write');
  v_role uuid := (select r.id from public.roles r where r.business_id is null and r.code = 'customer');
begin
  perform private.require_may_grant(invite_portal_customer.business_id, v_role, 'business_id');
  if not exists (select 1 from customers c where c.business_id = invite_portal_customer.business_id and c.id = invite_portal_customer.customer_id
                 and c.deleted_at is null and c.merged_into_id is null) then
    perform private.fail('PT404', 'There is no such customer in this business.', 'customer_id', 'not_found', 'Check customer_id.');
  end if;
  return query select i.invitation_id, i.token, i.expires_at
    from private.invite(invite_portal_customer.business_id, invite_portal_customer.email, v_role, null, invite_portal_customer.customer_id) i;
end $$;
comment on function invite_portal_customer(uuid, uuid, text) is
  'Invites a customer into the portal, where they see what is about them and nothing else: their conversations and messages. Takes no seat. Returns the token once. Needs members.write.';

grant execute on function share_record(uuid, text, uuid, text[], uuid, text, uuid, text, timestamptz), unshare_record(uuid, uuid),
  invite_portal_customer(uuid, uuid, text) to authenticated, service_role;
