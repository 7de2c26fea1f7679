select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * The access functions of one place. Each captures its own schema, so it answers only for businesses
 * whose home is this schema of this database: a copy of the tables anywhere else is inert.
 */

create function my_business_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path from current
as $$
begin
  return coalesce((private.my_access(my_business_ids.permission, current_database(), current_schema())).business_ids, '{}');
end $$;
comment on function my_business_ids(text) is
  'Businesses living here in which the caller holds the permission, for all records or for some.';

-- Those below are about records that have owners: asked by their policies (private.protect()) and by functions.
create function my_limited_business_ids(permission text) returns uuid[]
language plpgsql stable security definer parallel safe
set search_path from current
as $$
declare
  v private.user_access := private.my_access(my_limited_business_ids.permission, current_database(), current_schema());
begin
  if v.limited_business_ids is null then return '{}'; end if;
  return array(select b from unnest(v.business_ids) b where b = any (v.limited_business_ids));
end $$;
comment on function my_limited_business_ids(text) is 'Businesses living here where the caller''s permission reaches some records: those that carry what my_reach() says.';

create function my_reach(permission text) returns private.user_access
language plpgsql stable security definer parallel safe
set search_path from current
as $$
begin
  return private.my_access(my_reach.permission, current_database(), current_schema());
end $$;
comment on function my_reach(text) is
  'How far the caller''s permission reaches here, in this session: businesses, and where it is limited, what a record must carry (its owner, department, customer or own id) and which records are denied. What private.reaches() compares a record with.';

create function my_membership_id(business_id uuid) returns uuid
language plpgsql stable security definer
set search_path from current
as $$
begin
  return (select m.id from public.business_memberships m
    where m.business_id = my_membership_id.business_id and m.user_id = private.current_person_id() and m.status = 'active');
end $$;
comment on function my_membership_id(uuid) is 'The membership of the caller, or of the person behind the API key, in a business; null without one.';

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

create function require_whole_business(business_id uuid, permission text) returns private.business_directory
language plpgsql stable security definer
set search_path from current
as $$
declare
  home private.business_directory := require_business(require_whole_business.business_id, require_whole_business.permission);
begin
  if not private.is_trusted_caller() and require_whole_business.business_id = any (my_limited_business_ids(require_whole_business.permission)) then
    perform private.fail('42501', format('You hold %s for some records only.', require_whole_business.permission), 'business_id', 'scope_too_narrow',
      'Ask somebody whose role reaches all records of the business.',
      jsonb_build_object('permission', require_whole_business.permission));
  end if;
  return home;
end $$;
comment on function require_whole_business(uuid, text) is
  'First statement of definer functions that work on many records at once: as require_business(), and the permission must reach all records.';

create function may_create(business_id uuid, permission text) returns boolean
language plpgsql stable security definer
set search_path from current
as $$
declare
  v private.user_access := private.my_access(may_create.permission, current_database(), current_schema());
begin
  return coalesce(may_create.business_id = any (v.business_ids)
    and ((may_create.business_id = any (v.limited_business_ids)) is not true
      or array[may_create.business_id, my_membership_id(may_create.business_id)] && v.record_keys), false);
end $$;
comment on function may_create(uuid, text) is
  'True when the caller''s permission reaches records of their own in the business: whoever has only single records shared with them makes no new ones.';
grant execute on function may_create(uuid, text) to authenticated, service_role;

create function require_creator(business_id uuid, permission text) returns private.business_directory
language plpgsql stable security definer
set search_path from current
as $$
declare
  home private.business_directory := require_business(require_creator.business_id, require_creator.permission);
begin
  if not private.is_trusted_caller() and not may_create(require_creator.business_id, require_creator.permission) then
    perform private.fail('42501', format('You hold %s for single records only.', require_creator.permission), 'business_id', 'scope_too_narrow',
      'Ask an admin of the business for a role that includes it.', jsonb_build_object('permission', require_creator.permission));
  end if;
  return home;
end $$;
comment on function require_creator(uuid, text) is
  'First statement of definer functions that make a record: as require_business(), and the permission must reach a record of one''s own.';

grant execute on function my_business_ids(text), my_limited_business_ids(text), my_reach(text)
  to authenticated, service_role;

-- Single records ---------------------------------------------------------------------------------

create function record_keys_of(resource text, business_id uuid, record_id uuid) returns uuid[]
language plpgsql stable security definer
set search_path from current
as $$
declare
  v_owners uuid[];   -- null until the record is found
  v_department uuid;
  v_about uuid;
begin
  case record_keys_of.resource
    when 'customers' then
      select array[c.owner_membership_id], c.department_id into v_owners, v_department
      from customers c where c.business_id = record_keys_of.business_id and c.id = record_keys_of.record_id;
    when 'conversations' then
      select array[c.assigned_membership_id], c.department_id, c.customer_id into v_owners, v_department, v_about
      from conversations c where c.business_id = record_keys_of.business_id and c.id = record_keys_of.record_id;
    when 'calls' then
      select array[c.owner_membership_id, c.handled_by_membership_id], c.department_id, c.customer_id into v_owners, v_department, v_about
      from calls c where c.business_id = record_keys_of.business_id and c.id = record_keys_of.record_id;
    else return null;
  end case;
  if v_owners is null then return null; end if;
  return v_owners || array[record_keys_of.business_id, record_keys_of.record_id, v_department, v_about,
    case when coalesce(v_department, v_owners[1], v_owners[2]) is null then private.pool_key(record_keys_of.business_id) end];
end $$;
comment on function record_keys_of(text, uuid, uuid) is
  'What a record carries that can be among somebody''s record keys: business, own id, owners, department, customer, pool. Null for no such record.';

create function may_access_record(resource text, business_id uuid, record_id uuid, permission text) returns boolean
language plpgsql stable security definer
set search_path from current
as $$
begin
  return private.reaches(my_reach(may_access_record.permission), may_access_record.business_id,
    record_keys_of(may_access_record.resource, may_access_record.business_id, may_access_record.record_id), may_access_record.record_id);
end $$;
comment on function may_access_record(text, uuid, uuid, text) is
  'True when the caller''s permission reaches one record (customers, conversations, calls) of a business living here: what the policies of these tables say, for their parts and for functions.';
grant execute on function may_access_record(text, uuid, uuid, text) to authenticated, service_role;

create function require_record(resource text, business_id uuid, record_id uuid, permission text, field text) returns void
language plpgsql stable security definer
set search_path from current
as $$
begin
  if not private.is_trusted_caller()
     and not may_access_record(require_record.resource, require_record.business_id, require_record.record_id, require_record.permission) then
    -- As if it did not exist: whoever may not reach a record need not know of it.
    perform private.fail('PT404', format('There is no such record among the %s you may reach.', require_record.resource), require_record.field, 'not_found',
      format('Check %s, or ask somebody who reaches it to share it.', require_record.field));
  end if;
end $$;
comment on function require_record(text, uuid, uuid, text, text) is
  'For definer functions about one record, after require_business(): raises PT404 unless the caller''s permission reaches it.';

-- A record that a limited member creates is theirs, so that they can go on with it.
create function tg_own_record() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  -- Arguments: the permission to write, then the column of the owner. An array as a query's parameter is dear.
  v_permission text := tg_argv[0];
  v_column text := tg_argv[1];
  v_membership uuid;
begin
  if new.department_id is not null or private.is_trusted_caller()
     or exists (select 1 from private.my_rights r
                where r.permission = v_permission and r.home_schema = current_schema() and r.is_whole and new.business_id = any (r.business_ids))
     or to_jsonb(new) ->> v_column is not null or new.business_id <> all (my_limited_business_ids(v_permission))
     or new.business_id = any ((my_reach(v_permission)).record_keys) then
    return new;
  end if;
  v_membership := my_membership_id(new.business_id);
  if v_membership is not null then
    new := jsonb_populate_record(new, jsonb_build_object(v_column, v_membership));
  end if;
  return new;
end $$;
comment on function tg_own_record() is
  'Gives a record without owner and department to the member who creates it, when their permission does not reach all records. Arguments: permission, owner column.';

-- What happens with a customer belongs to whoever looks after the customer, and to the department that answers
-- the channel, until somebody says otherwise.
create function tg_inherit_owner() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  v_owner uuid;
  v_department uuid;
begin
  -- Argument: the column of the owner.
  if new.customer_id is null and new.channel_id is null then return new; end if;
  select c.owner_membership_id, coalesce(ch.department_id, c.department_id) into v_owner, v_department
  from (values (1)) one
  left join customers c on c.business_id = new.business_id and c.id = new.customer_id
  left join channels ch on ch.business_id = new.business_id and ch.id = new.channel_id;
  if v_owner is not null and to_jsonb(new) ->> tg_argv[0] is null then
    new := jsonb_populate_record(new, jsonb_build_object(tg_argv[0], v_owner));
  end if;
  new.department_id := coalesce(new.department_id, v_department);
  return new;
end $$;
comment on function tg_inherit_owner() is 'Gives a new conversation or call the owner of its customer and the department of its channel, else of its customer. Argument: the owner column.';

create function tg_forget_access_lists() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  delete from public.access_control_lists a using old_rows o
  where a.business_id = o.business_id and a.resource = tg_table_name and a.resource_id = o.id;
  return null;
end $$;
comment on function tg_forget_access_lists() is 'An access control list goes with its record.';

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
