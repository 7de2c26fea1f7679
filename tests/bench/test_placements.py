"""The benchmarks of placements run on tiny fleets and tell what they should. No time is judged."""

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import fleet_migrations, moves, placements, results
from bench.environment import SCALES, Environment, environment
from bench.homes import PLACEMENTS
from bench.placement_tables import migrations_table, moves_table, placements_tables
from bench.report import write_report


@pytest.fixture(scope="module")
def server() -> Iterator[Environment]:
    scale = dataclasses.replace(SCALES["quick"], tenants=(1, 2), move_rows=400)
    with environment(scale) as one:
        yield one


@pytest.fixture(scope="module")
def report(server: Environment) -> placements.Report:
    return placements.measure(server, lambda step: None)


@pytest.fixture(scope="module")
def cost(report: placements.Report) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.dumps(report.as_json()))
    return found


@pytest.fixture(scope="module")
def moved(server: Environment) -> list[moves.Moved]:
    return moves.measure(server, lambda move: None)


@pytest.mark.slow
def test_each_step_is_what_its_figures_say(report: placements.Report) -> None:
    """So many homes were made, all of them touched and served."""
    assert [step.tenants for step in report.steps] == [1, 2]
    for step in report.steps:
        databases = {"pooled": 1, "schema": 1, "database": step.tenants}
        for placement in PLACEMENTS:
            assert len(step.provision_ms[placement]) == 1
            of_its_own = 1 if placement == "pooled" else step.tenants
            assert step.serving[placement].processes == of_its_own
            assert len(step.backends[placement]) == databases[placement]
            for backend in step.backends[placement]:
                assert backend.anonymous_mb > step.idle.anonymous_mb, "nothing was touched"
        assert step.disk_mb["database"] > step.disk_mb["schema"]
        assert step.disk_mb["schema"] > step.tables_mb["schema"], "the catalog is not free"
        assert step.reload.reload_ms > 0
        for latency in step.latencies:
            assert set(latency.ratios) == {"schema", "database", "control"}
        has_routing = importlib.util.find_spec("tenantry_gateway.routing") is not None
        assert {latency.door for latency in step.latencies} == (
            {"PostgREST", "gateway"} if has_routing else {"PostgREST"}
        )


def test_a_moved_tenant_loses_nothing(moved: list[moves.Moved]) -> None:
    assert [(one.source, one.target) for one in moved] == [
        ("pooled", "schema"),
        ("schema", "database"),
        ("database", "pooled"),
    ]
    for one in moved:
        assert one.acknowledged > 0
        assert one.refused > 0, "nobody wrote while the home was frozen"
        assert one.lost == 0
        assert one.rows >= 400


@pytest.mark.skipif(
    importlib.util.find_spec("tenantry_cli.migrate.fleet") is None,
    reason="the command line does not migrate fleets",
)
def test_everybody_is_migrated(server: Environment) -> None:
    runs = fleet_migrations.measure(server, lambda run: None)
    # Main, template, one shelf; two schemas; two databases.
    assert {(run.places, run.failed) for run in runs} == {(7, 0)}
    assert [run.workers for run in runs] == [1, 2, 4]
    assert len(migrations_table([run.as_json() for run in runs]).rows) == 3


def test_the_report_keeps_other_sections(
    server: Environment, cost: dict[str, object], moved: list[moves.Moved], tmp_path: Path
) -> None:
    old = "# Performance\n\nHead.\n\n## Row security\n\nOld.\n\n## Moves\n\nOld moves.\n"
    (tmp_path / "performance.md").write_text(old, encoding="utf-8")
    found = {
        **results.describe(server),
        "load_average": {"before": 0.5, "after": 1.5},
        "placements": cost,
        "moves": {"moves": [one.as_json() for one in moved]},
        "fleet": {"runs": [fleet_migrations.Run(n, 7, 0, 4.0 / n).as_json() for n in (1, 2, 4)]},
    }
    document, figure = write_report(json.loads(json.dumps(found)), tmp_path)
    text = document.read_text(encoding="utf-8")
    assert text.startswith("# Performance\n\nHead.\n\n## Row security\n\nOld.\n")
    assert "Old moves" not in text
    for heading in ("## Moves", "## Placements", "## Migrations of a fleet"):
        assert text.count(heading) == 1
    tables = [*placements_tables(cost), moves_table(found["moves"]["moves"])]  # type: ignore[index]
    for table in tables:
        for row in table.rows:
            assert len(row) == len(table.heads)
            assert "| " + " | ".join(row) + " |" in text
    assert "{" not in text
    assert figure.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert f"(performance/{figure.name})" in text
    again = write_report(json.loads(json.dumps(found)), tmp_path)
    assert again[0].read_text(encoding="utf-8") == text
