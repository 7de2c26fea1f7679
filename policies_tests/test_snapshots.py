"""The golden files in expected/ are what the migrations make. `--update-golden` rewrites them."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from .catalog import Connection
from .snapshots import SNAPSHOTS, snapshot

EXPECTED = Path(__file__).with_name("expected")

#: What each golden file must notice.
CHANGES = {
    "table_grants": "grant delete on public.calls to authenticated",
    "column_grants": "grant update (peer) on public.calls to authenticated",
    "functions": "alter function private.new_id() security definer",
    "schema_grants": "grant usage on schema private to anon",
    "policies": "alter policy customers_select on public.customers using (true)",
    "triggers": "alter table public.customers disable trigger _010_guard",
    "constraints": "alter table public.calls drop constraint calls_customer_fkey",
    "roles": "alter role integrator set statement_timeout = '1h'",
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_golden(catalog_connection: Connection, pytestconfig: pytest.Config, name: str) -> None:
    path = EXPECTED / f"{name}.txt"
    found = snapshot(catalog_connection, name)
    if pytestconfig.getoption("--update-golden"):
        EXPECTED.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
        return
    expected = path.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        expected.splitlines(), found.splitlines(), path.name, "the database", lineterm="", n=0
    )
    assert found == expected, "\n".join(difference)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_golden_notices_a_change(catalog_connection: Connection, name: str) -> None:
    before = snapshot(catalog_connection, name)
    with catalog_connection.transaction(force_rollback=True):
        catalog_connection.execute(CHANGES[name].encode())
        assert snapshot(catalog_connection, name) != before


def test_every_golden_file_belongs_to_a_snapshot() -> None:
    assert {path.stem for path in EXPECTED.glob("*.txt")} == set(SNAPSHOTS)
