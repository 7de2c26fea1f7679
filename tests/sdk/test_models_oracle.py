"""A second opinion on the models: `supabase gen types`, which shares nothing with our generator."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from sdk_models.catalog import Relation, read_catalog
from sdk_models.naming import pascal

CLI = Path(__file__).parents[2] / "node_modules" / ".bin" / "supabase"

#: Columns of views that the CLI does not know to be never null, and why they are not.
ARGUED = {
    # count(*), coalesce(..., 0)
    "customer_summary": {"call_count", "conversation_count", "message_count"},
    # grouped: a group has a row, and its sum of values that are not null is not null
    "daily_metrics": {
        "business_id", "metric_date", "metric", "dimension", "dimension_id", "value",
    },
    "performance_metrics": {"value"},
    "business_dashboard_data": {
        "customer_count", "new_customers_today", "new_customers_30_days", "calls_today",
        "calls_30_days", "calls_answered_30_days", "calls_missed_today", "call_seconds_30_days",
        "messages_today", "messages_30_days", "open_conversations", "unread_messages",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def ours(module_database) -> tuple[Relation, ...]:
    with psycopg.connect(module_database.url()) as connection:
        return read_catalog(connection).relations


@pytest.fixture(scope="module")
def theirs(module_database, tmp_path_factory) -> dict[str, dict[str, bool]]:
    """Class name -> column -> may be null, as the CLI says."""
    if not CLI.exists():
        pytest.skip("the Supabase CLI is not installed: npm ci")
    run = subprocess.run(
        [CLI, "gen", "types", "--lang=python", "--schema", "public",
         f"--remote={module_database.url()}"],
        capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "SUPABASE_TELEMETRY_DISABLED": "1"},
        cwd=tmp_path_factory.mktemp("cli"),
    )  # fmt: skip
    # Remarks about the connection stand before the code.
    code = run.stdout[run.stdout.index("from __future__") :]
    models = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef) and ast.unparse(node.bases[0]) == "BaseModel":
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
            models[node.name] = {
                ast.literal_eval(f.value.keywords[0].value): "Optional" in ast.unparse(f.annotation)
                for f in fields
                if isinstance(f.value, ast.Call)
            }
    return models


def test_both_know_the_same_columns(ours, theirs) -> None:
    assert len(ours) > 25
    for relation in ours:
        known = theirs[f"Public{pascal(relation.name)}"]
        missing = {c.name for c in relation.columns} - known.keys()
        assert not missing, relation.name


def test_both_know_what_can_be_null(ours, theirs) -> None:
    surer = {}
    for relation in ours:
        known = theirs[f"Public{pascal(relation.name)}"]
        for column in relation.columns:
            assert known[column.name] or not column.nullable, (relation.name, column.name)
        found = {c.name for c in relation.columns if not c.nullable and known[c.name]}
        if found:
            surer[relation.name] = found
    assert surer == ARGUED
