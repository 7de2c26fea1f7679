  lock table {table} in access exclusive mode;
  select count(*) into v_count from {table} where {column} is not null;
  if v_count > 0 then
    if to_regnamespace(v_place) is null then
      execute format('create schema %I', v_place);
      execute format('comment on schema %I is %L', v_place, format('Rows of %s, saved %s by the rollback of {label}', current_schema(), now()));
    end if;
    execute format('create table %I.%I as select {columns} from {table} where {column} is not null', v_place, '{name}');
    execute format('alter table %I.%I enable row level security', v_place, '{name}');
    execute format('revoke all on %I.%I from public, anon, authenticated, service_role', v_place, '{name}');
    execute format('comment on table %I.%I is %L', v_place, '{name}', format('%s rows of %s.{plain}, of its column {column}', v_count,
      (select quote_ident(n.nspname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = '{table}'::regclass)));
  end if;
