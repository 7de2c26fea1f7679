"""Tasks run when they are due, once, and what they do is done."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection
from tenantry_cli.fleet.opening import open_fleet
from tenantry_cli.operations.maintenance import (
    SCHEDULES,
    maintenance_status,
    run_due_maintenance,
    run_maintenance,
)
from tenantry_cli.operations.scheduling import schedule_with_pg_cron, unschedule_with_pg_cron
from tenantry_cli.operations.upkeep import TASKS
from tenantry_cli.testing import Database

from .conftest import BLUEBIRD, DENTAL, connect, make_tenant_schema, scalar

_UPKEEP = frozenset({"vacuum_tables", "reindex_indexes", "analyze_tables", "analyze_database"})


def _run(connection: Connection, *schedules: str, only_due: bool = True) -> dict[str, Any]:
    rows = run_maintenance(connection, schedules or SCHEDULES, only_due=only_due)
    assert rows is not None
    return {row["task"]: row for row in rows}


def _due(connection: Connection) -> set[str]:
    return {row["task"] for row in maintenance_status(connection) if row["is_due"]}


def _age(connection: Connection, task: str, interval: str) -> None:
    connection.execute(
        "update private.maintenance_runs set started_at = started_at - %s::interval,"
        " finished_at = finished_at - %s::interval where task = %s",
        (interval, interval, task),
    )


def test_everything_is_due_once(owner: Connection) -> None:
    tasks = {row["task"] for row in maintenance_status(owner)}
    assert tasks > _UPKEEP
    assert set(TASKS) == _UPKEEP
    done = _run(owner, "daily", "weekly", "monthly")
    assert set(done) == tasks - {"sample_query_statistics"}
    assert {name: row["error"] for name, row in done.items() if row["error"]} == {}
    assert _run(owner, "daily", "weekly", "monthly") == {}
    assert {row["task"] for row in maintenance_status(owner) if row["last_success_at"]} == set(done)
    again = _run(owner, "weekly", only_due=False)
    assert set(again) == {"reindex_indexes", "analyze_tables", "expire_invitations"}


def test_the_runner_and_the_database_share_the_tasks(owner: Connection) -> None:
    rows = owner.execute("select private.run_due_tasks() as done").fetchall()
    assert {row["done"]["task"] for row in rows} & _UPKEEP == set()
    assert _due(owner) - {"sample_query_statistics"} == _UPKEEP


@pytest.mark.parametrize(
    ("task", "ago", "is_due"),
    [
        ("report_connections", "0 seconds", False),
        ("report_connections", "1 day", True),
        ("report_connections", "9 days", True),
        ("expire_invitations", "1 week", True),
        ("report_capacity", "32 days", True),
        ("sample_query_statistics", "1 minute", True),
    ],
)
def test_what_was_missed_is_made_up_for_once(
    owner: Connection, task: str, ago: str, is_due: bool
) -> None:
    _run(owner)
    _age(owner, task, ago)
    assert (task in _due(owner)) is is_due
    _run(owner)
    assert task not in _due(owner) - {"sample_query_statistics"}, "not once per day that was missed"


def test_a_week_begins_on_monday_and_a_month_on_the_first(owner: Connection) -> None:
    _run(owner)
    for task, unit in (("expire_invitations", "week"), ("report_capacity", "month")):
        for shift, is_due in (("0 seconds", False), ("-1 second", True)):
            owner.execute(
                f"update private.maintenance_runs set finished_at = now(), started_at ="
                f" date_trunc('{unit}', now() at time zone 'UTC') at time zone 'UTC'"
                f" + interval '{shift}' where task = %s",
                (task,),
            )
            assert (task in _due(owner)) is is_due, (task, shift)


def test_a_failure_is_recorded_and_keeps_nothing_else_from_running(owner: Connection) -> None:
    owner.execute("alter function private.expire_invitations() rename to gone")
    done = _run(owner)
    assert "expire_invitations() does not exist" in done["expire_invitations"]["error"]
    assert "(42883)" in done["expire_invitations"]["error"]
    assert [name for name, row in done.items() if row["error"]] == ["expire_invitations"]
    assert len(done) == len(maintenance_status(owner))
    assert "expire_invitations" not in _due(owner), "not again at once"
    _age(owner, "expire_invitations", "61 minutes")
    assert "expire_invitations" in _due(owner)
    owner.execute("alter function private.gone() rename to expire_invitations")
    assert _run(owner, "weekly")["expire_invitations"]["error"] is None
    [row] = [one for one in maintenance_status(owner) if one["task"] == "expire_invitations"]
    assert row["error"] is None


def test_a_failure_takes_its_changes_back(owner: Connection) -> None:
    _invite(owner)
    owner.execute(
        "create function private.break() returns trigger language plpgsql as"
        " $$ begin raise 'broken'; end $$"
    )
    owner.execute(
        "create trigger _999_break after delete on private.invitation_tokens"
        " for each statement execute function private.break()"
    )
    assert "broken" in _run(owner, "weekly")["expire_invitations"]["error"]
    assert scalar(owner, "select count(*) from public.invitations where status = 'expired'") == 0


def test_two_runners_never_run_together(owner: Connection, story: Database) -> None:
    with connect(story) as other:
        other.execute("select pg_advisory_lock(hashtextextended('tenantry maintenance', 0))")
        assert run_maintenance(owner, SCHEDULES, only_due=True) is None
        assert owner.execute("select private.run_due_tasks()").fetchall() == []
        assert run_due_maintenance(open_fleet(story.url())).found == {story.name: None}
        # A session that is closed here ends a moment later there.
        other.execute("select pg_advisory_unlock(hashtextextended('tenantry maintenance', 0))")
    assert _run(owner)


def test_a_task_runs_once_however_many_runners_there_are(story: Database) -> None:
    fleet = open_fleet(story.url())
    threads = [threading.Thread(target=run_due_maintenance, args=(fleet,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(story) as connection:
        rows = connection.execute(
            "select task, count(*) as runs from private.maintenance_runs group by task"
        ).fetchall()
        assert {row["task"] for row in rows} == {
            row["task"] for row in maintenance_status(connection)
        }
        assert [row["task"] for row in rows if row["runs"] > 1] == []


def test_the_lock_goes_with_its_runner(owner: Connection, story: Database) -> None:
    _run(owner)
    with connect(story) as other:
        assert run_maintenance(other, SCHEDULES, only_due=False)


def test_a_disabled_task_rests(owner: Connection) -> None:
    owner.execute("update private.maintenance_tasks set is_enabled = false")
    owner.execute(
        "update private.maintenance_tasks set is_enabled = true where task = 'report_connections'"
    )
    assert set(_run(owner)) == {"report_connections"}
    assert _run(owner, "weekly", only_due=False) == {}


def test_a_task_of_a_newer_version_is_told(owner: Connection) -> None:
    owner.execute(
        "insert into private.maintenance_tasks (task, schedule, runs_in, description)"
        " values ('defragment', 'daily', 'runner', 'Not known yet')"
    )
    assert "update it" in _run(owner, "daily")["defragment"]["error"]


def test_minutely_runs_leave_one_row(owner: Connection) -> None:
    for _ in range(3):
        owner.execute("select private.run_maintenance_task('sample_query_statistics')")
        owner.execute("select private.run_maintenance_task('report_connections')")
    counted = "select count(*) from private.maintenance_runs where task = %s"
    assert scalar(owner, counted, "sample_query_statistics") == 1
    assert scalar(owner, counted, "report_connections") == 3


@pytest.mark.parametrize("task", ["nothing", "vacuum_tables", None])
def test_what_the_database_cannot_run_is_refused(owner: Connection, task: str | None) -> None:
    with pytest.raises(psycopg.Error) as caught:
        owner.execute("select private.run_maintenance_task(%s)", (task,))
    assert caught.value.sqlstate == "22023"
    assert "tenantry maintenance run" in str(caught.value.diag.message_hint)


def test_a_wrong_schedule_or_connection_is_refused(owner: Connection, story: Database) -> None:
    with pytest.raises(TenantryError, match="no schedule yearly"):
        run_maintenance(owner, ["yearly"], only_due=True)
    with connect(story) as other:
        other.autocommit = False
        with pytest.raises(TenantryError, match="commits each statement"):
            run_maintenance(other, SCHEDULES, only_due=True)


# What the tasks do ------------------------------------------------------------------------------


def _invite(connection: Connection) -> None:
    """One invitation that ran out and one that did not."""
    for name, until in (("late", "-1 day"), ("open", "1 day")):
        connection.execute(
            "with made as (insert into public.invitations (business_id, email_normalized, role_id,"
            " expires_at) select %s, %s, id, now() + %s::interval from public.roles"
            " where code = 'viewer' and business_id is null returning business_id, id)"
            " insert into private.invitation_tokens"
            " select business_id, id, sha256(%s::bytea) from made",
            (DENTAL, f"{name}@invited.example", until, name.encode()),
        )


def test_invitations_that_ran_out_are_closed(owner: Connection) -> None:
    _invite(owner)
    done = _run(owner, "weekly")["expire_invitations"]["result"]
    assert done == {"expired": 1, "tokens_deleted": 1}
    states = owner.execute(
        "select split_part(i.email_normalized, '@', 1) as name, i.status, t.token_hash is not null"
        " as has_token from public.invitations i left join private.invitation_tokens t"
        " on t.invitation_id = i.id where i.email_normalized like '%@invited.example' order by 1"
    ).fetchall()
    assert [tuple(row.values()) for row in states] == [
        ("late", "expired", False),
        ("open", "pending", True),
    ]


def test_old_idempotency_keys_go_in_every_place(owner: Connection) -> None:
    name = make_tenant_schema(owner, BLUEBIRD)
    for schema in ("public", name):
        for key, age in (("old", "8 days"), ("new", "6 days")):
            owner.execute(
                f"insert into {schema}.idempotency_keys (business_id, key, request_hash, result,"
                f" created_at) values (%s, %s, '', '{{}}', now() - %s::interval)".encode(),
                (DENTAL, key, age),
            )
    done = _run(owner, "daily")["delete_expired_idempotency_keys"]["result"]
    assert done == {"deleted": 2}
    for schema in ("public", name):
        assert scalar(owner, f"select array_agg(key) from {schema}.idempotency_keys") == ["new"]


def test_audit_partitions_are_made_in_every_place(owner: Connection) -> None:
    name = make_tenant_schema(owner, BLUEBIRD)
    last = scalar(
        owner,
        "select max(relname) from pg_class where relnamespace = %s::regnamespace"
        " and relname ~ '^audit_logs_\\d{4}_\\d\\d$'",
        name,
    )
    for schema in ("public", name):
        owner.execute(f"drop table {schema}.{last}".encode())
    assert _run(owner, "daily")["create_audit_partitions"]["result"] == {"created": 2}
    for schema in ("public", name):
        assert scalar(owner, "select to_regclass(%s) is not null", f"{schema}.{last}")


def test_access_that_ran_out_is_refreshed(owner: Connection) -> None:
    owner.execute(
        "update private.user_access set expires_at = now() - interval '1 minute' where user_id ="
        " (select id from auth.users where email = 'viewer@bluebird.example')"
    )
    assert _run(owner, "daily")["refresh_expired_access"]["result"] == {"refreshed": 1}
    assert scalar(owner, "select count(*) from private.user_access where expires_at < now()") == 0


def test_reports_have_what_they_are_about(owner: Connection) -> None:
    _run(owner)
    done = _run(owner, "monthly", "daily", only_due=False)
    tenants = done["report_capacity"]["result"]["tenants"]
    assert {one["organization_slug"] for one in tenants} == {"bluebird", "copperline"}
    databases = done["report_connections"]["result"]["databases"]
    assert owner.info.dbname in {one["database_name"] for one in databases}
    assert done["review_slow_queries"]["result"]["state"] == "not_loaded"
    assert done["report_long_queries"]["result"]["transactions"] == []
    assert done["sample_capacity"]["result"] == {"tenants": 2}


# pg_cron ----------------------------------------------------------------------------------------


def test_without_pg_cron_it_is_refused(owner: Connection) -> None:
    for attempt in (schedule_with_pg_cron, unschedule_with_pg_cron):
        with pytest.raises(TenantryError, match=r"tenantry maintenance run.* every minute"):
            attempt(owner)


# What pg_cron 1.6 offers to whoever schedules (https://github.com/citusdata/pg_cron#readme),
# without the background worker: the test runs what is due itself.
_PG_CRON = """
create schema cron;
create table cron.job (
  jobid bigint generated always as identity primary key, schedule text not null,
  command text not null, database text not null default current_database(),
  username text not null default current_user, active boolean not null default true, jobname text,
  unique (jobname, username)
);
create function cron.schedule(job_name text, schedule text, command text) returns bigint
language sql as $$
  insert into cron.job as j (jobname, schedule, command) values ($1, $2, $3)
  on conflict (jobname, username) do update
    set schedule = excluded.schedule, command = excluded.command
  returning j.jobid
$$;
create function cron.unschedule(job_id bigint) returns boolean language sql as $$
  with gone as (delete from cron.job j where j.jobid = $1 returning 1) select count(*) = 1 from gone
$$;
grant usage on schema cron to postgres;
grant select, insert, update, delete on cron.job to postgres;
insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
select 4294900000, 'pg_cron', 10, 'cron'::regnamespace, false, '1.6';
"""


def test_with_pg_cron_the_registered_job_does_what_is_due(
    owner: Connection, story: Database
) -> None:
    with story.server.administer(story.name, autocommit=True) as superuser:
        superuser.execute(_PG_CRON.encode())
    job = schedule_with_pg_cron(owner)
    assert schedule_with_pg_cron(owner) == job  # again: still one
    row = owner.execute("select * from cron.job where jobid = %s", (job,)).fetchone()
    assert row
    assert (row["schedule"], row["database"], row["username"]) == (
        "* * * * *", story.name, "postgres",
    )  # fmt: skip

    in_the_database = _due(owner) - _UPKEEP
    assert in_the_database
    with story.connect(autocommit=True) as worker:  # as pg_cron: a session of that user
        worker.execute(row["command"].encode())
    assert _due(owner) == _UPKEEP  # vacuum and reindex need the runner

    assert unschedule_with_pg_cron(owner)
    assert not unschedule_with_pg_cron(owner)
    assert owner.execute("select * from cron.job").fetchall() == []
