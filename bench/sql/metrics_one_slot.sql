-- The product's triggers with one slot instead of sixteen: what the slots are for.
do $$
declare
  ours text := pg_get_functiondef('tg_calls_metrics()'::regprocedure);
  one_slot text := replace(ours, 'pg_backend_pid() % 16', '0');
begin
  if one_slot = ours then
    raise exception 'tg_calls_metrics() chooses its slot in another way now: change bench/sql/metrics_one_slot.sql';
  end if;
  execute one_slot;
end $$;
