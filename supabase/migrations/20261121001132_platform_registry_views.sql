/*
 * A tenant's own schema shows the registry too: PostgREST embeds within one schema only, and
 * `customers?select=*,businesses(name)` shall answer alike in every placement. The views read the copies that
 * the database holds, with the rights of whoever asks.
 */
create procedure private.create_registry_views(schema text)
language plpgsql
set search_path = ''
as $$
declare
  r record;
begin
  -- There the tables themselves are beside each other.
  if create_registry_views.schema = 'public' then return; end if;
  for r in
    select c.relname as name,
      string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
      and (c.relname = 'access_control_lists' or exists (select 1 from private.registry_tables t where t.table_name = 'public.' || c.relname))
      and has_column_privilege('authenticated', c.oid, a.attnum, 'select')
    group by c.oid, c.relname order by c.relname
  loop
    execute format('drop view if exists %I.%I', create_registry_views.schema, r.name);
    execute format('create view %I.%I with (security_invoker = true) as select %s from public.%I', create_registry_views.schema, r.name, r.columns, r.name);
    execute format('revoke all on %I.%I from public, anon, authenticated, service_role', create_registry_views.schema, r.name);
    execute format('grant select on %I.%I to authenticated, service_role', create_registry_views.schema, r.name);
    execute format('comment on view %I.%I is %L', create_registry_views.schema, r.name, 'The registry of this database, to be embedded with rows of this schema.');
  end loop;
end $$;
comment on procedure private.create_registry_views(text) is
  'Makes the views of the registry in the schema of a tenant; in public there is nothing to do. A migration that changes a column of the registry calls it again from a tenant file.';
