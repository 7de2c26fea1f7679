/*
 * State machines as data. A status column names its machine ('calls.status'); the legal changes are
 * rows of status_transitions; one trigger refuses every other change, for every role, and says which
 * changes would be legal.
 */
create table public.status_transitions (
  machine text not null,
  from_status text not null,
  to_status text not null,
  permission text,
  primary key (machine, from_status, to_status),
  constraint status_transitions_move check (from_status <> to_status)
);
comment on table public.status_transitions is
  'The legal changes of every status column: machine, from, to, and the extra permission a change needs, if any. The same for all businesses.';
comment on column public.status_transitions.machine is 'Table and column, such as calls.status.';
comment on column public.status_transitions.permission is 'Permission the caller must hold beyond the table''s own; null for none.';

alter table public.status_transitions enable row level security;
alter table public.status_transitions force row level security;
revoke all on public.status_transitions from public, anon, authenticated, service_role;
-- The same rules for everybody, and no secret: clients draw their buttons from them.
create policy status_transitions_select on public.status_transitions for select to authenticated using (true);
grant select (machine, from_status, to_status, permission) on public.status_transitions to authenticated;
grant select on public.status_transitions to service_role;

create procedure private.add_transitions(machine text, paths text[])
language plpgsql
set search_path = ''
as $$
declare
  path text;
  parts text[];
  back boolean;
begin
  -- 'open>pending' one way, 'open<>pending' both ways, 'a/b>c' from several, 'a>b/c' to several.
  foreach path in array paths loop
    back := path like '%<>%';
    parts := string_to_array(replace(path, '<>', '>'), '>');
    for i in 1 .. cardinality(parts) - 1 loop
      insert into public.status_transitions (machine, from_status, to_status)
      select add_transitions.machine, f, t
      from unnest(string_to_array(parts[i], '/')) f, unnest(string_to_array(parts[i + 1], '/')) t
      union
      select add_transitions.machine, t, f
      from unnest(string_to_array(parts[i], '/')) f, unnest(string_to_array(parts[i + 1], '/')) t where back
      on conflict do nothing;
    end loop;
  end loop;
end $$;
comment on procedure private.add_transitions(text, text[]) is
  'Writes legal changes from their short form: a>b>c is two steps, a<>b both ways, a/b>c from either.';

create function private.tg_status() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_machine text := tg_table_name || '.' || tg_argv[0];
  v_old text := to_jsonb(old) ->> tg_argv[0];
  v_new text := to_jsonb(new) ->> tg_argv[0];
  v_permission text;
begin
  select t.permission into v_permission from public.status_transitions t
  where t.machine = v_machine and t.from_status = v_old and t.to_status = v_new;
  if not found then
    perform private.fail('PT409', format('%s cannot go from %s to %s.', v_machine, v_old, v_new), tg_argv[0], 'illegal_transition',
      coalesce('Legal from here: ' || (select string_agg(t.to_status, ', ' order by t.to_status)
        from public.status_transitions t where t.machine = v_machine and t.from_status = v_old) || '.',
        format('%s is final.', v_old)));
  end if;
  if v_permission is not null then
    perform private.require((to_jsonb(new) ->> 'business_id')::uuid, v_permission);
  end if;
  return new;
end $$;
comment on function private.tg_status() is
  'Refuses a status change that status_transitions does not list, for every role. Argument: the column.';

create procedure private.guard_status(target regclass, column_name text)
language plpgsql
set search_path = ''
as $$
begin
  execute format(
    'create trigger _200_status before update of %I on %s for each row when (old.%I is distinct from new.%I) execute function private.tg_status(%L)',
    column_name, target, column_name, column_name, column_name);
end $$;
comment on procedure private.guard_status(regclass, text) is 'Binds a status column to its state machine.';

call private.add_transitions('organization_placements.state', array[
  'provisioning>active', 'provisioning>failed>provisioning', 'active<>moving', 'active<>read_only', 'active<>archived',
  'active/read_only/archived>provisioning']);   -- a restore closes a home, and opens it after everything was compared
call private.add_transitions('placement_moves.state', array[
  'planned>copying>verifying>cutover>done', 'planned/copying/verifying>rolled_back']);
call private.add_transitions('fleet_jobs.state', array['queued>running>done/failed', 'running>queued', 'queued>failed']);
call private.add_transitions('subscriptions.status', array[
  'trialing>active/canceled', 'active<>past_due', 'active>canceled', 'past_due>canceled', 'canceled>active']);
call private.add_transitions('invitations.status', array['pending>accepted/revoked/expired', 'expired>pending']);
call private.add_transitions('business_memberships.status', array[
  'active<>suspended', 'active>removed', 'suspended>removed', 'removed>active']);
call private.add_transitions('conversations.status', array[
  'open<>pending', 'open<>snoozed', 'pending<>snoozed', 'open/pending/snoozed>resolved', 'resolved>open/closed']);
-- Forward jumps are legal, because providers skip steps and callbacks get lost; nothing goes back.
call private.add_transitions('calls.status', array[
  'queued>initiated/ringing/in_progress/completed/busy/no_answer/canceled/failed/voicemail',
  'initiated>ringing/in_progress/completed/busy/no_answer/canceled/failed/voicemail',
  'ringing>in_progress/completed/busy/no_answer/canceled/failed/voicemail',
  'in_progress>completed/failed/voicemail']);
call private.add_transitions('webhook_events.status', array[
  'received>processing/processed/failed/ignored', 'processing>processed/failed', 'failed>processing/processed/ignored']);
