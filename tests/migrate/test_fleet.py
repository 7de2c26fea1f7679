"""A hundred and twenty tenants migrated in one run, with failures among them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tenantry_cli.migrate import MigrationError
from tenantry_cli.migrate.fleet import FleetMigration
from tenantry_cli.migrate.locks import keep_migrations_away
from tenantry_cli.migrate.status import fleet_status
from tenantry_cli.stack.database import Server

from .small_fleet import CHANGE, CHANGE_VERSION, TAKE_BACK, SmallFleet, small_fleet

CHANGE_FILE = f"{CHANGE_VERSION}_tenant_change.sql"
BEFORE = "20260101000002"

Make = Callable[..., SmallFleet]


@pytest.fixture
def make(database_server: Server, tmp_path: Path) -> Iterator[Make]:
    """Call it for a fleet, small unless said otherwise."""
    contexts = []

    def create(*, shelves: int = 1, schemas_per_shelf: int = 3, databases: int = 2) -> SmallFleet:
        context = small_fleet(
            database_server,
            tmp_path / f"fleet{len(contexts)}",
            shelves=shelves,
            schemas_per_shelf=schemas_per_shelf,
            databases=databases,
        )
        contexts.append(context)
        return context.__enter__()

    yield create
    for context in contexts:
        context.__exit__(None, None, None)


class Counting:
    """Counts the statements that a fleet sends to each database."""

    def __init__(self, fleet: SmallFleet) -> None:
        self.sent: Counter[str] = Counter()
        self._fleet = fleet

    def connect(self, database: str) -> psycopg.Connection[Any]:
        counting = self

        class Connection(psycopg.Connection[Any]):
            def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
                counting.sent[database] += 1
                return super().execute(query, *arguments, **options)

        return Connection.connect(self._fleet.server.url(database))


def targets_of(fleet: SmallFleet) -> dict[str, tuple[str, str | None, int]]:
    with fleet.connect(fleet.main) as main:
        return {
            str(name): rest
            for name, *rest in main.execute(
                "select target, state, error, attempts from public.migration_targets"
                " where kind <> 'reference'"
            ).fetchall()
        }


def test_failures_stop_nobody_else_and_only_they_are_visited_again(make: Make) -> None:
    fleet = make(shelves=2, schemas_per_shelf=50, databases=20)
    fleet.add(CHANGE_FILE, CHANGE, TAKE_BACK)
    tenants = sorted(fleet.schemas)
    conflicting = [tenants[i] for i in (10, 20, 30, 60)]
    locked = tenants[70]
    (other_database, _) = sorted(fleet.databases)[7]
    for database, schema, _ in conflicting:
        with fleet.connect(database) as connection:
            connection.execute(
                sql.SQL("alter table {}.notes add column colour integer").format(
                    sql.Identifier(schema)
                )
            )
    with fleet.connect(other_database) as connection:
        connection.execute("alter table public.notes add column colour integer")

    with fleet.connect(locked[0]) as holder:
        holder.execute(
            sql.SQL("lock table {}.notes in access share mode").format(sql.Identifier(locked[1]))
        )
        report = fleet.migration().up()
        holder.rollback()
    failed = {one.target.name for one in report.failed}
    expected = {f"{database}/{schema}" for database, schema, _ in [*conflicting, locked]}
    assert failed == expected | {other_database}
    assert report.stopped is None
    # 120 tenants, two shelves, main and template.
    assert len(report.changed) == 124 - 6

    # Nothing is half applied: the table made earlier in the same file is gone with the rest.
    for name, columns in fleet.columns().items():
        assert ("labels.name" in columns) == (name not in failed), name
        assert ("notes.colour" in columns) == (
            name not in failed or name not in {f"{locked[0]}/{locked[1]}"}
        )
    rows = targets_of(fleet)
    assert {name for name, (state, *_) in rows.items() if state == "failed"} == failed
    assert 'column "colour"' in str(rows[other_database][1])
    assert "lock timeout" in str(rows[f"{locked[0]}/{locked[1]}"][1])

    for database, schema, _ in conflicting:
        with fleet.connect(database) as connection:
            connection.execute(
                sql.SQL("alter table {}.notes drop column colour").format(sql.Identifier(schema))
            )
    with fleet.connect(other_database) as connection:
        connection.execute("alter table public.notes drop column colour")
    again = fleet.migration().up()
    assert {one.target.name for one in again.changed} == failed
    assert again.failed == []
    assert {state for state, *_ in targets_of(fleet).values()} == {"current"}
    standings = fleet_status(fleet.migration())
    assert len(standings) == 124
    assert {one.drifted for one in standings} == {False}


def test_nothing_to_do_costs_one_query_per_database(make: Make) -> None:
    fleet = make(schemas_per_shelf=20)
    fleet.migration().up()
    fleet.migration().up()
    counting = Counting(fleet)
    idle = fleet.migration()
    idle.connect = counting.connect
    report = idle.up()
    assert report.changed == []
    assert {counting.sent[name] for name in fleet.names} == {1}


def test_a_failing_canary_protects_the_others(make: Make) -> None:
    fleet = make(schemas_per_shelf=3, databases=2)
    fleet.add(CHANGE_FILE, CHANGE)
    first = min(fleet.schemas, key=lambda one: (one[0], one[1]))
    with fleet.connect(first[0]) as connection:
        connection.execute(
            sql.SQL("alter table {}.notes add column colour integer").format(
                sql.Identifier(first[1])
            )
        )
    report = fleet.migration().up()
    assert report.stopped is not None
    assert "canary" in report.stopped
    done = {one.target.name for one in report.changed}
    # Template and main, the canaries with the shelf of one of them, and nobody else.
    assert len([one for one in report.outcomes if one.state == "behind"]) >= 3
    assert len(done) <= 4
    assert len([c for name, c in fleet.columns().items() if "labels.id" in c]) == len(done) - 1


def test_a_rollback_is_symmetrical_and_a_second_up_leads_back(make: Make) -> None:
    fleet = make()
    before = fleet.columns()
    fleet.add(CHANGE_FILE, CHANGE, TAKE_BACK)
    fleet.migration().up()
    after = fleet.columns()
    assert all("notes.colour" in columns for columns in after.values())
    report = fleet.migration().rollback(BEFORE)
    assert report.failed == []
    assert fleet.columns() == before
    assert {one.state for one in fleet_status(fleet.migration())} == {"behind"}
    fleet.migration().up()
    assert fleet.columns() == after


def test_one_tenant_alone(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE, TAKE_BACK)
    database, schema, tenant = fleet.schemas[1]
    report = fleet.migration().up(str(tenant))
    assert {one.target.name for one in report.changed} == {database, f"{database}/{schema}"}
    back = fleet.migration().rollback(BEFORE, str(tenant))
    assert {one.target.name for one in back.changed} == {f"{database}/{schema}"}
    assert "labels.id" in fleet.columns()[database]
    assert "labels.id" not in fleet.columns()[f"{database}/{schema}"]
    with pytest.raises(MigrationError, match="no place of its own"):
        fleet.migration().up("00000000-0000-4000-8000-000000000000")


def test_a_missing_rollback_refuses_before_anything_is_touched(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE)
    fleet.migration().up()
    after = fleet.columns()
    with pytest.raises(MigrationError, match=f"no rollback for {CHANGE_VERSION}"):
        fleet.migration().rollback(BEFORE)
    assert fleet.columns() == after


def test_a_dry_run_says_what_would_happen(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE, TAKE_BACK)
    before = fleet.columns()
    report = fleet.migration().up(dry_run=True)
    assert {one.files for one in report.outcomes} == {(f"{CHANGE_VERSION}_tenant_change",)}
    assert fleet.columns() == before


def test_moves_and_migrations_keep_away_from_each_other(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE)
    with fleet.connect(fleet.main) as mover:
        with (
            keep_migrations_away(mover),
            pytest.raises(MigrationError, match="being made or moved"),
        ):
            fleet.migration().up()
        running = fleet.migration()

        def refused(outcome: object) -> None:
            with (
                pytest.raises(MigrationError, match="is being migrated"),
                keep_migrations_away(mover),
            ):
                pass

        running.on_outcome = refused
        assert running.up().failed == []
        with keep_migrations_away(mover):
            pass


def test_drift_is_seen_whatever_the_schema_is_called(make: Make) -> None:
    fleet = make()
    fleet.migration().up()
    fleet.add(CHANGE_FILE, CHANGE)
    fleet.migration().up()
    database, schema, _ = fleet.schemas[0]
    with fleet.connect(database) as connection:
        connection.execute(
            sql.SQL("create index by_hand on {}.notes (body)").format(sql.Identifier(schema))
        )
    with fleet.connect(fleet.databases[0][0]) as connection:
        connection.execute("alter table public.notes enable row level security")
    drifted = {one.target.name for one in fleet_status(fleet.migration()) if one.drifted}
    assert drifted == {f"{database}/{schema}", fleet.databases[0][0]}


def test_an_index_built_concurrently_runs_outside_and_may_run_again(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE)
    fleet.add(
        "20260103000000_tenant_notes_index.sql",
        "-- tenantry: no transaction\n"
        "drop index concurrently if exists notes_body_idx;\n"
        "create index concurrently notes_body_idx on notes (body);",
    )
    report = fleet.migration().up()
    assert report.failed == []
    with fleet.connect(fleet.schemas[0][0]) as connection:
        found = connection.execute(
            "select count(*) from pg_indexes where indexname = 'notes_body_idx'"
        ).fetchone()
    assert found == (4,)
    with pytest.raises(MigrationError, match="concurrently"):
        fleet.add("20260104000000_tenant_bad.sql", "-- tenantry: no transaction\nselect 1;")


def test_code_that_is_too_old_is_refused(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, f"-- tenantry: compatible from {CHANGE_VERSION}\n{CHANGE}", TAKE_BACK)
    new = fleet.migration()
    new.up()
    old = fleet.migration()
    old.migrations = [one for one in fleet.migrations if one.version < CHANGE_VERSION]
    with pytest.raises(MigrationError, match=f"needs code that knows migration {CHANGE_VERSION}"):
        old.up()
    # The database before the change asks for nothing.
    new.rollback(BEFORE)
    assert old.up().failed == []


def test_status_is_plain_data(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE)
    standings = [one.as_json() for one in fleet_status(fleet.migration())]
    assert json.loads(json.dumps(standings)) == standings
    assert {one["state"] for one in standings} == {"behind"}
    assert {tuple(one["pending"]) for one in standings} == {(f"{CHANGE_VERSION}_tenant_change",)}
    assert {one["kind"] for one in standings} == {"main", "template", "shelf", "schema", "database"}


def test_a_place_that_cannot_be_reached_is_one_failure(make: Make) -> None:
    fleet = make()
    fleet.add(CHANGE_FILE, CHANGE)
    lost = fleet.databases[1][0]

    def connect(database: str) -> psycopg.Connection[Any]:
        if database == lost:
            raise psycopg.OperationalError("connection refused")
        return fleet.connect(database)

    run: FleetMigration = fleet.migration(canaries=0)
    run.connect = connect
    report = run.up()
    assert {one.target.name for one in report.failed} == {lost}
    standings = {one.target.name: one.state for one in fleet_status(run)}
    assert standings.pop(lost) == "unreachable"
    assert set(standings.values()) == {"current"}
