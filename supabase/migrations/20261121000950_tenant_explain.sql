select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Why may I, or why may I not? The verdict is not computed a second time: explain_access() runs as the caller
 * and lets the policies themselves decide. Only the words for it come from here.
 */
create function explain_rule("table" text, id uuid, verb text, is_allowed boolean)
returns table (rule text, permission text, scope text, explanation text)
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_subject uuid := private.current_user_id();
  v_person uuid := private.current_person_id();
  v_claims jsonb := private.current_claims();
  v_on private.table_permissions;
  v_key text;
  v_row jsonb;
  v_business uuid;
  v_record uuid;
  v_carried uuid[];
  v_membership public.business_memberships;
  v_home private.business_directory;
  v_needs_mfa boolean;
  v_rule record;
  v_what text;
begin
  -- Whoever calls this directly may send anything: only the API's own tables are looked into.
  if not exists (select 1 from pg_catalog.pg_class c where c.relname = explain_rule."table" and c.relkind in ('r', 'p')
                 and c.relnamespace = pg_catalog.to_regnamespace(quote_ident(current_schema())))
     or not exists (select 1 from private.table_permissions t where t.table_name = explain_rule."table") then
    return query select 'no_such_right', null::text, null::text, format('Nobody has %s through the API.', explain_rule.verb);
    return;
  end if;
  v_what := format('%s on %s', explain_rule.verb, explain_rule."table");
  select * into v_on from private.table_permissions t where t.table_name = explain_rule."table" and t.verb = explain_rule.verb;
  if v_on.permission_code is null and not explain_rule.is_allowed then
    return query select 'no_such_right', null::text, null::text, format('Nobody has %s through the API: it is changed by functions, or not at all.', v_what);
    return;
  end if;

  -- The row, if it is of a business that the caller has to do with; about others there is nothing to say.
  v_key := case explain_rule."table" when 'businesses' then 'id' when 'organizations' then 'id' else 'business_id' end;
  if explain_rule.verb = 'insert' then
    v_business := explain_rule.id;
  else
    execute format('select to_jsonb(t) from %I t where t.id = $1 limit 1', explain_rule."table") into v_row using explain_rule.id;
    v_business := (v_row ->> v_key)::uuid;
    v_record := (v_row ->> v_on.record_column)::uuid;
  end if;
  select m.* into v_membership from public.business_memberships m where m.business_id = v_business and m.user_id = v_person and m.status <> 'removed';
  if explain_rule."table" = 'organizations' or v_membership.id is null
     and not exists (select 1 from private.held_roles(array[v_person]) h where h.business_id = v_business) then
    -- The same words for a row elsewhere and for none.
    return query select case when explain_rule.is_allowed then 'open' else 'not_found' end, v_on.permission_code, null::text,
      case when explain_rule.is_allowed then 'The row is for everybody, or yours, or of an organization you belong to.'
        else 'There is no such row in a business or organization you belong to with that right.' end;
    return;
  end if;

  if not explain_rule.is_allowed then
    select * into v_home from private.business_directory d where d.business_id = v_business;
    v_needs_mfa := (select o.requires_mfa from public.organizations o where o.id = v_home.organization_id);
    return query
    select w.rule, v_on.permission_code, null::text, w.text from (values
      (1, not private.session_is_open(), 'session_closed', 'This session was ended, or is anonymous. Sign in again.'),
      (2, v_membership.status = 'suspended' and not exists (select 1 from private.held_roles(array[v_person]) h where h.business_id = v_business),
        'membership_suspended', 'Your membership is suspended. Ask an admin of the business.'),
      (3, not v_home.is_readable, 'business_suspended', 'The business or its organization is suspended.'),
      (4, (v_home.database_name, v_home.schema_name) is distinct from (current_database()::text, current_schema()::text)
          and v_on.permission_code is not null and exists (select 1 from private.record_permissions p where p.resource = v_on.resource),
        'not_home', 'The business lives elsewhere: read the registry again.'),
      (5, not v_home.is_writable and explain_rule.verb <> 'select', 'moving', 'The business is being moved and can only be read for a moment.'),
      (6, v_needs_mfa and v_claims ->> 'aal' is distinct from 'aal2' and v_subject = v_person,
        'second_factor_missing', 'The organization asks for a second factor, and this session has none.')) w(n, applies, rule, text)
    where w.applies order by w.n limit 1;
    if found then return; end if;
    if v_subject <> v_person and not exists (select 1 from public.api_keys k where k.id = v_subject and v_on.permission_code = any (k.scopes) and k.business_id = v_business) then
      return query select 'not_in_key_scopes', v_on.permission_code, null::text, format('The API key was not made for %s.', v_on.permission_code);
      return;
    end if;
  end if;

  -- In the order of decision: record denied, permission denied, record shared, permission given, roles.
  v_carried := record_keys_of(v_on.resource, v_business, v_record);
  select r.* into v_rule from private.record_rules(array[v_person]) r
  where r.business_id = v_business and r.permission = v_on.permission_code and r.resource_id = v_record and r.resource = v_on.resource
  order by r.effect desc limit 1;   -- deny before allow
  if v_rule.effect = 'deny' then
    return query select 'record_denied', v_on.permission_code, null::text, format('This record is denied to you by access list %s.', v_rule.id);
    return;
  end if;
  if exists (select 1 from public.user_permissions u where u.business_id = v_business and u.membership_id = v_membership.id
             and u.permission_code = v_on.permission_code and u.effect = 'deny' and coalesce(u.expires_at > now(), true)) then
    return query select 'permission_denied', v_on.permission_code, null::text, format('%s is denied to you personally.', v_on.permission_code);
    return;
  end if;
  if v_rule.effect = 'allow' then
    return query select 'record_shared', v_on.permission_code, 'records', format('This record is shared with you by access list %s.', v_rule.id);
    return;
  end if;
  select r.role_id, r.level, ro.code into v_rule from private.permission_rules(array[v_person]) r left join public.roles ro on ro.id = r.role_id
  where r.business_id = v_business and r.permission = v_on.permission_code
    and (r.is_whole or explain_rule.verb = 'insert' or v_carried && r.record_keys)
  order by r.role_id is not null, r.level desc, ro.rank desc limit 1;
  if found then
    return query select case when v_rule.role_id is null then 'permission_given' else 'role' end, v_on.permission_code,
      case v_rule.level when 3 then 'business' when 2 then 'department' else 'own' end,
      case when v_rule.role_id is null then format('%s is given to you personally.', v_on.permission_code)
        else format('Your role %s carries %s.', v_rule.code, v_on.permission_code) end;
    return;
  end if;
  if explain_rule.is_allowed then
    return query select 'open', v_on.permission_code, null::text, 'The row is yours, or for everybody.';
  elsif exists (select 1 from private.permission_rules(array[v_person]) r where r.business_id = v_business and r.permission = v_on.permission_code) then
    return query select 'out_of_scope', v_on.permission_code, null::text,
      format('You hold %s for some records, and this is none of them: it has another owner or department.', v_on.permission_code);
  else
    return query select 'no_role', v_on.permission_code, null::text, format('None of your roles carries %s.', v_on.permission_code);
  end if;
end $$;
comment on function explain_rule(text, uuid, text, boolean) is
  'The rule behind a verdict of explain_access(), for the caller alone: about rows of businesses the caller does not belong to it says the same as about none.';

create function may_insert("table" text, business_id uuid) returns boolean
language plpgsql stable security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_on private.table_permissions;
begin
  select * into v_on from private.table_permissions t where t.table_name = may_insert."table" and t.verb = 'insert';
  -- A part of a record can be added where the record is reached, so somewhere in the business is enough.
  if v_on.permission_code is null then return false; end if;
  if v_on.resource = v_on.table_name then return may_create(may_insert.business_id, v_on.permission_code); end if;
  return may_insert.business_id = any (my_business_ids(v_on.permission_code));
end $$;
comment on function may_insert(text, uuid) is 'True when the caller may add rows to a table for a business living here.';

-- Runs as the caller, so that the policies decide and nothing is decided twice.
create function explain_access("table" text, id uuid, verb text)
returns table (allowed boolean, rule text, permission text, scope text, explanation text)
language plpgsql stable
set search_path from current
as $$
#variable_conflict use_column
declare
  v_verb text := case explain_access.verb when 'read' then 'select' when 'write' then 'update' when 'create' then 'insert' else explain_access.verb end;
  v_relation oid;
  v_condition text;
  v_allowed boolean := false;
begin
  -- A name is only ever compared with the catalog; what is executed comes from there.
  select c.oid into v_relation from pg_catalog.pg_class c
  where c.relname = explain_access."table" and c.relnamespace = pg_catalog.to_regnamespace(quote_ident(current_schema())) and c.relkind in ('r', 'p')
    and exists (select 1 from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'id' and a.attnum > 0);
  if v_relation is null then
    raise exception using errcode = '22023', message = 'table is not one with rows of their own id.', detail = '{"field": "table", "reason": "unknown_table"}',
      hint = 'For example: customers.';
  end if;
  if v_verb is null or v_verb not in ('select', 'insert', 'update', 'delete') then
    raise exception using errcode = '22023', message = 'verb must be select, insert, update or delete.', detail = '{"field": "verb", "reason": "bad_choice"}',
      hint = 'Send one of them.';
  end if;
  if v_verb = 'insert' then
    v_allowed := has_any_column_privilege(v_relation, 'insert') and may_insert(explain_access."table", explain_access.id);
  elsif has_any_column_privilege(v_relation, 'select') then
    -- As Postgres does: some permissive policy, and every restrictive one.
    select '(' || string_agg(pg_get_expr(p.polqual, p.polrelid), ' or ') filter (where p.polpermissive) || ')'
      || coalesce(' and ' || string_agg('(' || pg_get_expr(p.polqual, p.polrelid) || ')', ' and ') filter (where not p.polpermissive), '') into v_condition
    from pg_catalog.pg_policy p
    where p.polrelid = v_relation and p.polcmd = case v_verb when 'select' then 'r' when 'update' then 'w' else 'd' end::"char";
    if v_condition is not null and (v_verb = 'select' or v_verb = 'update' and has_any_column_privilege(v_relation, 'update')
        or v_verb = 'delete' and has_table_privilege(v_relation, 'delete')) then
      execute format('select exists (select 1 from %s where id = $1 and (%s))', v_relation::regclass, v_condition) into v_allowed using explain_access.id;
    end if;
  end if;
  return query select v_allowed, r.rule, r.permission, r.scope, r.explanation
    from explain_rule(explain_access."table", explain_access.id, v_verb, v_allowed) r;
end $$;
comment on function explain_access(text, uuid, text) is
  'Whether the caller may select, update or delete the row with this id (or insert rows for the business with this id), and which rule says so. The verdict comes from the policies themselves. A row of a business one does not belong to is not told from none.';

grant execute on function explain_access(text, uuid, text), explain_rule(text, uuid, text, boolean), may_insert(text, uuid) to authenticated;
