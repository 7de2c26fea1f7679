"""Every section runs on little data and has the right shape. Nothing here judges a time."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import ingest, metrics, results, rls, triggers
from bench.data import load_rows
from bench.environment import SCALES, Environment, environment
from bench.report import write_report
from bench.shapes import PERSONAS, SHAPES

SHAPE_NAMES = ("page", "search", "embed_messages", "update_one", "insert_one")


@pytest.fixture(scope="module")
def server() -> Iterator[Environment]:
    with environment(SCALES["quick"]) as one:
        yield one


@pytest.fixture(scope="module")
def row_security(server: Environment) -> dict[str, object]:
    database = server.clone("bench_rls")
    rows = load_rows(server, database)
    report = rls.measure(
        server,
        database,
        shapes=[shape for shape in SHAPES if shape.name in SHAPE_NAMES],
        personas=[persona for persona in PERSONAS if persona.name in ("large", "many")],
    )
    assert len(report.cells) == 2 * 2 * len(SHAPE_NAMES), "two callers, two numbers of connections"
    for cell in report.cells:
        assert cell.requests >= 9
        assert 0 < cell.overhead.low <= cell.overhead.high
        assert 0 < cell.noise.low <= cell.noise.high
    return {"rows": rows, **rls.as_json(report)}


@pytest.mark.slow
def test_data_has_the_promised_size(row_security: dict[str, object]) -> None:
    rows = row_security["rows"]
    assert isinstance(rows, dict)
    scale = SCALES["quick"]
    assert rows["customers"] == pytest.approx(scale.customers, rel=0.01)
    assert rows["messages"] == pytest.approx(scale.messages, rel=0.01)
    assert rows["calls"] == scale.calls


def test_only_members_are_checked_by_policies(row_security: dict[str, object]) -> None:
    plans = row_security["plans"]
    assert isinstance(plans, list)
    for plan in plans:
        if plan["shape"] in ("page", "embed_messages", "update_one"):
            assert ("user_access" in plan["text"]) == (plan["variant"] == "rls"), plan


def test_report_says_what_was_found(
    server: Environment, row_security: dict[str, object], tmp_path: Path
) -> None:
    found_metrics = metrics.measure(server, lambda rates: None, clients=(2,))
    assert found_metrics.drift == {"slots": 0, "one_slot": 0}
    found_ingest = ingest.measure(server, lambda rates: None, clients=(2,))
    assert set(found_ingest.broken.values()) == {0}
    found = {
        **results.describe(server),
        "load_average": {"before": 0.5, "after": 1.5},
        "rls": row_security,
        "metrics": {
            "rates": [rates.as_json() for rates in found_metrics.rates],
            "drift": found_metrics.drift,
        },
        "ingest": {
            "rates": [rates.as_json() for rates in found_ingest.rates],
            "latencies": [vars(latency) for latency in found_ingest.latencies],
            "broken": found_ingest.broken,
        },
        "triggers": {
            "rates": [rates.as_json() for rates in triggers.measure(server, lambda rates: None)]
        },
    }
    written = write_report(json.loads(json.dumps(found)), tmp_path)
    document = written[0].read_text(encoding="utf-8")
    for heading in ("## Row security", "## Daily metrics", "## Auto-link", "## Row triggers"):
        assert heading in document
    assert "user_access_pkey" in document  # the plans are shown
    assert "{" not in document.replace("{}", "")
    for plot in written[1:]:
        assert plot.read_text(encoding="utf-8").rstrip().endswith("</svg>")
        assert f"(performance/{plot.name})" in document
