-- What row security is compared with: two identical roles that skip it and inherit every grant and
-- setting of `authenticated`, so that the same request differs in nothing but the policies. The second
-- one is the control: what differs between the two is noise. A third one, bench_plain, leaves planning
-- to Postgres's default, as somebody who writes the filter by hand would.
do $$
declare
  setting text;
  baseline text;
begin
  foreach baseline in array array['bench_baseline', 'bench_control', 'bench_plain'] loop
    if to_regrole(baseline) is null then
      execute format('create role %I nologin inherit bypassrls in role authenticated', baseline);
      execute format('grant %I to authenticator', baseline);
    end if;
    -- PostgREST applies the settings of the role it becomes.
    for setting in
      select unnest(s.setconfig) from pg_db_role_setting s where s.setrole = 'authenticated'::regrole and s.setdatabase = 0
    loop
      continue when baseline = 'bench_plain' and setting like 'plan_cache_mode=%';
      execute format('alter role %I set %s = %L', baseline, split_part(setting, '=', 1), split_part(setting, '=', 2));
    end loop;
  end loop;
end $$;

-- The same search without the check, as an owner would write it.
do $$
declare
  checked text := pg_get_functiondef('public.search_customers(uuid, text, integer)'::regprocedure);
  unchecked text := regexp_replace(checked, ' := require_business\(search_customers\.business_id, ''customers\.read''\)', '');
begin
  if unchecked = checked then
    raise exception 'search_customers() checks its caller in another way now: change bench/sql/baseline.sql';
  end if;
  execute replace(unchecked, 'FUNCTION public.search_customers', 'FUNCTION bench.search_customers');
end $$;
grant execute on function bench.search_customers(uuid, text, integer) to authenticated;

-- The row guard asks less of members than of other roles when they update or delete, because their
-- policies asked already. The baseline must not pay for that question.
do $$
declare
  guard text := pg_get_functiondef('private.tg_guard()'::regprocedure);
begin
  execute replace(guard, $q$current_setting('role') <> 'authenticated'$q$,
    $q$current_setting('role') not in ('authenticated', 'bench_baseline', 'bench_control', 'bench_plain')$q$);
end $$;
