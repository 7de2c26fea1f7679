-- Rows that would be lost are kept in a schema of their own: `tenantry migrate saved` lists them.
do $save$
declare
  v_base constant text := base_place;
  v_place text := v_base;
  v_number integer := 1;
  v_table regclass;
  v_name text;
  v_columns text;
  v_count bigint;
begin
  while to_regnamespace(v_place) is not null loop
    v_number := v_number + 1;
    v_place := v_base || '_' || v_number;
  end loop;
  foreach v_table in array array[
    table_list
  ]::regclass[] loop
    execute format('lock table %s in access exclusive mode', v_table);
    execute format('select count(*) from %s', v_table) into v_count;
    continue when v_count = 0;
    if to_regnamespace(v_place) is null then
      execute format('create schema %I', v_place);
      execute format('comment on schema %I is %L', v_place, format('Rows of %s, saved %s by the rollback of migration_label', current_schema(), now()));
    end if;
    -- Of domains the type beneath: the copy must not hold what is dropped later.
    select c.relname, string_agg(case t.typtype when 'd' then format('%1$I::%2$s as %1$I', a.attname, format_type(t.typbasetype, t.typtypmod))
      else quote_ident(a.attname) end, ', ' order by a.attnum) into v_name, v_columns
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    join pg_type t on t.oid = a.atttypid where c.oid = v_table group by c.relname;
    execute format('create table %I.%I as select %s from %s', v_place, v_name, v_columns, v_table);
    execute format('alter table %I.%I enable row level security', v_place, v_name);
    execute format('revoke all on %I.%I from public, anon, authenticated, service_role', v_place, v_name);
    execute format('comment on table %I.%I is %L', v_place, v_name, format('%s rows of %s.%I', v_count,
      (select quote_ident(n.nspname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = v_table), v_name));
  end loop;column_part
end $save$;
