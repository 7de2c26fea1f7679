"""Gauges per tenant, as Prometheus reads them."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.fleet.opening import open_fleet
from tenantry_cli.operations.metrics import collect, make_server, render
from tenantry_cli.testing import Database

from .conftest import COPPERLINE, connect, scalar

ROW: dict[str, Any] = {
    "database": "shelf_1", "organization_slug": 'a"cme\\', "organization_id": "1-2",
    "isolation": "schema", "database_name": "shelf_1", "schema_name": "tenant_12",
    "state": "read_only", "migration_version": "20261121001240", "businesses": 1, "users": 3,
    "customers": 5, "conversations": 6, "messages": 7, "calls": 8, "size_bytes": 9_000_000_001,
    "is_size_estimated": False, "connections": 2,
}  # fmt: skip


def _samples(text: str) -> dict[tuple[str, str], float]:
    """(metric, its last label's value) -> value, for one tenant."""
    return {
        (sample.name, list(sample.labels.values())[-1]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_gauge_is_rendered() -> None:
    text = render([ROW], failed=["shelf_2"])
    values = _samples(text)
    assert values["tenantry_tenant_size_bytes", "tenant_12"] == 9_000_000_001
    assert values["tenantry_tenant_connections", "tenant_12"] == 2
    assert values["tenantry_tenant_users", "tenant_12"] == 3
    assert values["tenantry_tenant_migration_version", "tenant_12"] == 20261121001240
    assert {
        name: values["tenantry_tenant_rows", name]
        for name in ("customers", "conversations", "messages", "calls")
    } == {"customers": 5, "conversations": 6, "messages": 7, "calls": 8}
    states = {label: value for (name, label), value in values.items() if name.endswith("_state")}
    assert [name for name, value in states.items() if value == 1] == ["read_only"]
    assert len(states) == 7
    assert values["tenantry_database_up", "shelf_1"] == 1
    assert values["tenantry_database_up", "shelf_2"] == 0
    assert text.count("# HELP ") == text.count("# TYPE ") == 7
    assert text.endswith("\n")


def test_names_cannot_break_out_of_their_label() -> None:
    [family] = [
        one
        for one in text_string_to_metric_families(render([ROW]))
        if one.name == "tenantry_tenant_users"
    ]
    assert family.samples[0].labels == {
        "organization": 'a"cme\\', "organization_id": "1-2", "isolation": "schema",
        "database": "shelf_1", "schema": "tenant_12",
    }  # fmt: skip


def test_what_is_not_known_is_left_out() -> None:
    values = _samples(render([{**ROW, "connections": None, "migration_version": None}]))
    names = {name for name, _ in values}
    assert "tenantry_tenant_connections" not in names
    assert "tenantry_tenant_migration_version" not in names
    assert "tenantry_tenant_size_bytes" in names


def test_a_fleet_without_tenants_has_metrics_too(database: Database) -> None:
    visited, rows = collect(open_fleet(database.url()))
    assert rows == []
    assert visited.failed == {}
    assert "tenantry_tenant_rows" in render(rows)


@pytest.fixture
def address(fleet: Fleet) -> Iterator[str]:
    server = make_server(fleet, "127.0.0.1:0", keep_seconds=3600)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def _get(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
        return answer.headers["Content-Type"], answer.read().decode()


def test_they_are_served_and_kept_for_a_while(address: str, owner: Connection) -> None:
    kind, text = _get(f"{address}/metrics")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    rows = {
        sample.labels["organization"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("table") == "customers"
    }
    assert rows["bluebird"] == scalar(
        owner,
        "select customers from private.tenant_statistics() where organization_slug = 'bluebird'",
    )
    owner.execute("delete from public.customers where true")
    assert _get(f"{address}/metrics")[1] == text, "the tables are not read for every scrape"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _get(f"{address}/")


def test_a_database_that_is_gone_is_down(fleet: Fleet, owner: Connection) -> None:
    owner.execute(
        "update public.organization_placements set isolation = 'database',"
        " database_name = 'tenantry_gone' where organization_id = %s",
        (COPPERLINE,),
    )
    visited, rows = collect(fleet)
    values = _samples(render(rows, visited.failed))
    assert values["tenantry_database_up", "tenantry_gone"] == 0
    assert values["tenantry_database_up", owner.info.dbname] == 1
    assert {row["organization_slug"] for row in rows} == {"bluebird"}


def test_without_the_main_database_the_scrape_fails(story: Database) -> None:
    gone = open_fleet(Database(story.server, "tenantry_nowhere").url())
    server = make_server(gone, "127.0.0.1:0", keep_seconds=1)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            _get(f"http://127.0.0.1:{server.server_address[1]}/metrics")
        assert "tenantry_nowhere" not in caught.value.read().decode()
        caught.value.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "address", ["9187", ":9187", "localhost:", "localhost:x", "127.0.0.1:70000"]
)
def test_an_address_must_be_one(fleet: Fleet, address: str) -> None:
    with pytest.raises(TenantryError, match="use HOST:PORT"):
        make_server(fleet, address, keep_seconds=1)


def test_an_address_in_use_is_told(fleet: Fleet, address: str) -> None:
    with pytest.raises(TenantryError, match="in use"):
        make_server(fleet, address.removeprefix("http://"), keep_seconds=1)


def test_the_rows_of_the_database_are_what_is_rendered(story: Database) -> None:
    with connect(story) as connection:
        names = {
            one.name
            for one in connection.execute("select * from private.tenant_statistics()").description
            or ()
        }
    assert set(ROW) - {"database"} <= names
