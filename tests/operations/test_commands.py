"""tenantry monitor and tenantry maintenance, as they are typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tenantry_cli.fleet.opening import open_fleet
from tenantry_cli.operations.places import databases_of
from tenantry_cli.project import find_project
from tenantry_cli.stack.database import Server, drop_database
from tenantry_cli.testing import Database

from .conftest import BLUEBIRD, COPPERLINE, Answer, connect, copy_of, scalar

Tenantry = Callable[..., Answer]

READS = [
    ("monitor", "sizes"),
    ("monitor", "connections"),
    ("monitor", "activity"),
    ("monitor", "activity", "--longer-than", "0"),
    ("monitor", "indexes"),
    ("monitor", "indexes", "--verdict", "unused"),
    ("monitor", "tables"),
    ("monitor", "queries"),
    ("monitor", "queries", "--by-tenant"),
    ("monitor", "tenants"),
    ("monitor", "tenants", "--growth"),
    ("monitor", "tenants", "--users-of", "bluebird"),
    ("monitor", "roles"),
    ("maintenance", "status"),
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_it_prints_a_table_or_json(
    tenantry: Tenantry, shared_story: Database, words: tuple[str, ...]
) -> None:
    pretty = tenantry(shared_story.url(), *words)
    assert pretty.status == 0, pretty.errors
    assert pretty.text.strip()
    answer = tenantry(shared_story.url(), *words, "-o", "json")
    assert answer.status == 0, answer.errors
    assert isinstance(answer.rows, list)
    wrong = tenantry(shared_story.url(), *words, "-o", "env")
    assert wrong.status == 1
    assert "--output must be pretty or json" in wrong.errors


def test_json_has_whole_values(tenantry: Tenantry, shared_story: Database) -> None:
    rows = tenantry(shared_story.url(), "monitor", "tenants", "-o", "json").rows
    assert {row["organization_slug"] for row in rows} == {"bluebird", "copperline"}
    assert all(isinstance(row["size_bytes"], int) for row in rows)
    assert rows[0]["organization_id"] == str(BLUEBIRD)
    pretty = tenantry(shared_story.url(), "monitor", "tenants").text
    assert "2 tenants: 3 businesses, " in pretty


def test_missing_statistics_are_told_beside_the_answer(
    tenantry: Tenantry, shared_story: Database
) -> None:
    answer = tenantry(shared_story.url(), "monitor", "queries", "-o", "json")
    assert (answer.status, answer.rows) == (0, [])
    assert "not all counted (not_loaded)" in answer.errors
    assert "shared_preload_libraries" in answer.errors


def test_statements_are_listed_where_they_are_counted(
    tenantry: Tenantry, counting_database: Callable[[], Database]
) -> None:
    answer = tenantry(counting_database().url(), "monitor", "queries", "-n", "3", "-o", "json")
    assert answer.status == 0
    assert answer.errors == ""
    assert len(answer.rows) == 3
    assert answer.rows[0]["total_ms"] >= answer.rows[1]["total_ms"]


def test_every_command_of_the_page_is_tried() -> None:
    page = (find_project().root / "docs" / "how-to" / "operations.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"tenantry (monitor [a-z]+|maintenance [a-z]+)", page))
    tried = {" ".join(words[:2]) for words in READS}
    elsewhere = {"monitor benchmark", "monitor metrics", "maintenance run", "maintenance schedule"}
    assert shown == tried | elsewhere
    options = {"--longer-than", "--growth", "--users-of", "--by-tenant", "--verdict"}
    assert options <= {word for words in READS for word in words}
    assert set(re.findall(r"`(--[a-z-]+) ?[^`]*`", page)) >= options


# The fleet --------------------------------------------------------------------------------------


@pytest.fixture
def shelf(told_database: Database, story: Database) -> Iterator[Database]:
    """A second database, where Copperline is at home."""
    one = copy_of(told_database)
    with connect(story) as main, connect(one) as there:
        for connection in (main, there):
            connection.execute(
                "update public.organization_placements set database_name ="
                " case organization_id when %s then %s else %s end",
                (COPPERLINE, one.name, story.name),
            )
    yield one
    drop_database(one.server, one.name)


def test_databases_are_listed_once(story: Database, shelf: Database) -> None:
    fleet = open_fleet(story.url())
    assert databases_of(fleet) == [story.name, shelf.name]
    with connect(story) as connection:
        connection.execute(
            "insert into public.placement_databases (name, kind) values (%s, 'shelf'),"
            " ('a_shelf', 'shelf'), ('a_template', 'template')",
            (shelf.name,),
        )
    # Nobody can connect to a template.
    assert databases_of(fleet) == [story.name, "a_shelf", shelf.name]


def test_every_database_tells_of_its_own(
    tenantry: Tenantry, story: Database, shelf: Database
) -> None:
    rows = tenantry(story.url(), "monitor", "tenants", "-o", "json").rows
    assert {(row["organization_slug"], row["database_name"]) for row in rows} == {
        ("bluebird", story.name),
        ("copperline", shelf.name),
    }
    [row] = tenantry(story.url(), "monitor", "tenants", "-d", shelf.name, "-o", "json").rows
    assert row["organization_slug"] == "copperline"
    wrong = tenantry(story.url(), "monitor", "tenants", "-d", "nowhere")
    assert wrong.status == 1
    assert f"no database nowhere in the fleet. There are: {story.name}, {shelf.name}" in " ".join(
        wrong.errors.split()
    )


def test_one_that_is_unreachable_does_not_hide_the_others(
    tenantry: Tenantry, story: Database
) -> None:
    with connect(story) as connection:
        connection.execute(
            "update public.organization_placements set database_name = 'tenantry_gone'"
            " where organization_id = %s",
            (COPPERLINE,),
        )
    for words in (
        ["monitor", "tenants", "-o", "json"],
        ["monitor", "indexes", "-o", "json"],
        ["monitor", "tables", "-o", "json"],
        ["maintenance", "status", "-o", "json"],
        ["maintenance", "run", "-o", "json"],
    ):
        answer = tenantry(story.url(), *words)
        assert answer.status == 1, words
        assert "tenantry_gone: " in answer.errors, words
        assert 'database "tenantry_gone" does not exist' in answer.errors
        assert answer.rows, words
    metrics = tenantry(story.url(), "monitor", "metrics")
    assert metrics.status == 1
    assert 'tenantry_database_up{database="tenantry_gone"} 0.0' in metrics.text


def test_one_without_migrations_is_told(
    tenantry: Tenantry, story: Database, shelf: Database
) -> None:
    with connect(shelf) as connection:
        connection.execute("drop function private.sp_analyze_query_performance()")
    answer = tenantry(story.url(), "monitor", "tables", "-o", "json")
    assert answer.status == 1
    assert "apply the pending migrations there" in answer.errors
    assert {row["database"] for row in answer.rows} == {story.name}


def test_without_the_main_database_nothing_works(tenantry: Tenantry, story: Database) -> None:
    url = Database(story.server, "tenantry_nowhere").url()
    for words in READS[:5]:
        answer = tenantry(url, *words)
        assert answer.status == 1
        assert "cannot reach the database" in answer.errors


def test_who_may_not_is_told_who_may(
    tenantry: Tenantry, story: Database, database_server: Server
) -> None:
    url = story.url("authenticator")
    for words in (("monitor", "tenants"), ("monitor", "sizes"), ("maintenance", "run")):
        answer = tenantry(url, *words)
        assert answer.status == 1
        assert "permission denied" in answer.errors
        assert "log in as the owner of the database" in " ".join(answer.errors.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("monitor", "indexes", "--verdict", "bad"), "--verdict bad: use one of"),
        (("monitor", "tenants", "--users-of", "nobody"), "no organization or schema nobody"),
        (("monitor", "benchmark", "-b", "nobody"), "no business 'nobody'"),
        (("monitor", "metrics", "--listen", "9187"), "use HOST:PORT"),
        (("maintenance", "schedule"), "say how: --pg-cron"),
        (("maintenance", "schedule", "--pg-cron"), "no pg_cron"),
        (("maintenance", "schedule", "--pg-cron", "--remove"), "no pg_cron"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else None,
)
def test_what_cannot_be_done_is_explained(
    tenantry: Tenantry, shared_story: Database, words: tuple[str, ...], told: str
) -> None:
    answer = tenantry(shared_story.url(), *words)
    assert answer.status == 1
    assert told in " ".join(answer.errors.split())


# Maintenance and benchmarks ---------------------------------------------------------------------


def test_maintenance_runs_in_every_database(
    tenantry: Tenantry, story: Database, shelf: Database
) -> None:
    first = tenantry(story.url(), "maintenance", "run", "-o", "json")
    assert first.status == 0, first.errors
    assert {row["database"] for row in first.rows} == {story.name, shelf.name}
    assert tenantry(story.url(), "maintenance", "run", "daily", "-d", shelf.name).status == 0
    status = tenantry(story.url(), "maintenance", "status", "-o", "json").rows
    assert {row["is_due"] for row in status if row["schedule"] != "minutely"} == {False}
    for name, runs in ((story.name, 1), (shelf.name, 2)):
        with connect(Database(story.server, name)) as connection:
            counted = scalar(
                connection,
                "select count(*) from private.maintenance_runs where task = 'vacuum_tables'",
            )
            assert counted == runs


def test_a_failed_task_is_status_one(tenantry: Tenantry, story: Database) -> None:
    with connect(story) as connection:
        connection.execute("drop function private.sample_capacity()")
    answer = tenantry(story.url(), "maintenance", "run", "daily", "-o", "json")
    assert answer.status == 1
    assert [row["task"] for row in answer.rows if row["error"]] == ["sample_capacity"]
    status = tenantry(story.url(), "maintenance", "status")
    assert "sample_capacity" in status.text


def test_another_runner_is_told(tenantry: Tenantry, story: Database) -> None:
    with connect(story) as other:
        other.execute("select pg_advisory_lock(hashtextextended('tenantry maintenance', 0))")
        answer = tenantry(story.url(), "maintenance", "run")
        assert answer.status == 0
        assert "another runner works there" in answer.errors


def test_benchmarks_are_compared(tenantry: Tenantry, story: Database) -> None:
    words = ("monitor", "benchmark", "--executions", "5", "-o", "json")
    first = tenantry(story.url(), *words)
    assert first.status == 0, first.errors
    with connect(story) as connection:
        connection.execute("update private.performance_benchmarks set p50_ms = 0")
    second = tenantry(story.url(), *words, "--compare")
    assert second.status == 1, "all are slower than nothing"
    assert "slower" in {row["verdict"] for row in json.loads(second.text)}
    third = tenantry(story.url(), *words, "--compare", "--slower", "1000")
    assert third.status == 0


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(psycopg.OperationalError):
        open_fleet("host=127.0.0.1 port=1 user=postgres").connect()
