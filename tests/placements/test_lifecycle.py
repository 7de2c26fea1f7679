"""From the first day of a tenant to its last, in each placement; and the commands that do it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from tenantry_cli.backup.archive import Archive
from tenantry_cli.fleet import lifecycle
from tenantry_cli.fleet.fleet import Fleet, FleetError
from tenantry_cli.fleet.jobs import save_before_drop
from tenantry_cli.fleet.mover import move_tenant
from tenantry_cli.fleet.provision import ISOLATIONS, NewTenant, create_tenant
from tenantry_cli.main import app

from .conftest import OWNER, Place

NAMES = "select first_name from customers"


def new_tenant(fleet: Fleet, isolation: str, slug: str) -> Place:
    tenant = create_tenant(
        fleet,
        NewTenant(slug.title(), "owner@bluebird.example", slug=slug, isolation=isolation),
    )
    place = Place(fleet, tenant)
    business = place.value(
        OWNER, "select id from public.businesses where organization_id = %s", tenant.id
    )
    place.all(OWNER, "select create_customer(business_id => %s, first_name => 'Ada')", business)
    return place


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_tenant_is_suspended_archived_and_opened_again(fleet: Fleet, isolation: str) -> None:
    slug = f"life-{isolation}"
    place = new_tenant(fleet, isolation, slug)
    business = place.value(OWNER, "select business_id from customers where first_name = 'Ada'")
    mine = "select count(*) from customers where business_id = %s"
    for close in (lifecycle.suspend, lifecycle.archive):
        assert place.value(OWNER, mine, business) == 1
        close(fleet, slug)
        assert place.value(OWNER, mine, business) == 0
        with pytest.raises(psycopg.Error):
            place.all(
                OWNER, "insert into customers (business_id, first_name) values (%s, 'x')", business
            )
        lifecycle.resume(fleet, slug)
    assert place.value(OWNER, mine, business) == 1
    place.close()


def test_a_suspended_tenant_stays_so_when_it_moves(fleet: Fleet) -> None:
    new_tenant(fleet, "pooled", "asleep").close()
    lifecycle.suspend(fleet, "asleep")
    move_tenant(fleet, "asleep", "schema")
    place = Place(fleet, fleet.tenant("asleep"))
    assert place.all(OWNER, "select 1 from customers where first_name = 'Ada'") == []
    lifecycle.resume(fleet, "asleep")
    assert len(place.all(OWNER, "select 1 from customers where first_name = 'Ada'")) == 1
    place.close()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_dropped_tenant_is_saved_first_and_gone_everywhere(
    fleet: Fleet, tmp_path: Path, isolation: str
) -> None:
    slug = f"last-{isolation}"
    new_tenant(fleet, isolation, slug).close()
    # An old home, still in its grace period, goes as well.
    other = "pooled" if isolation != "pooled" else "schema"
    move_tenant(fleet, slug, other)
    move_tenant(fleet, slug, isolation)
    tenant = fleet.tenant(slug)
    plan = lifecycle.plan_drop(fleet, slug)
    assert plan.rows > 0
    assert slug in plan.lines()[0]

    def fail(_: object) -> str:
        raise FleetError("no space left on device")

    with pytest.raises(FleetError, match="no space left"):
        lifecycle.drop(fleet, slug, fail)
    assert fleet.tenant(slug).state == "active"

    saved = lifecycle.drop(fleet, slug, save_before_drop(fleet, tmp_path))

    archive = Archive(Path(saved))
    assert archive.manifest.slug == slug
    assert {one.name: one.rows for one in archive.manifest.tables}["customers"] == 1
    archive.close()
    with pytest.raises(FleetError, match="there is no tenant"):
        fleet.tenant(slug)
    with fleet.connect() as main:
        left = main.execute(
            "select (select count(*) from public.customers where business_id not in "
            "(select id from public.businesses)) as rows, (select count(*) from pg_database "
            "where datname like %s) as databases",
            (f"%{tenant.id.hex}",),
        ).fetchone()
        assert left == {"rows": 0, "databases": 0}
        for row in main.execute(
            "select name from public.placement_databases where kind = 'shelf'"
        ).fetchall():
            with fleet.connect(row["name"]) as shelf:
                found = shelf.execute(
                    "select to_regnamespace(%s) as schema, (select count(*) from "
                    "public.organizations where id = %s) as copies",
                    (f"tenant_{tenant.id.hex}", tenant.id),
                ).fetchone()
            assert found == {"schema": None, "copies": 0}


@pytest.fixture
def tenantry(fleet: Fleet) -> Callable[..., tuple[int, str]]:
    def run(*words: str, answer: str = "") -> tuple[int, str]:
        url = fleet.server.url(fleet.main)
        result = CliRunner().invoke(
            app, [*words, "--database-url", url], input=answer, env={"COLUMNS": "200"}
        )
        return result.exit_code, result.output

    return run


def test_the_commands(fleet: Fleet, tenantry: Callable[..., tuple[int, str]]) -> None:
    status, text = tenantry(
        "tenant", "create", "Gulp Cafe", "--owner", "owner@bluebird.example", "--slug", "gulp"
    )
    assert status == 0, text
    assert "pooled, " in text
    status, text = tenantry("tenant", "list", "-o", "json")
    assert status == 0
    assert "gulp" in [one["slug"] for one in json.loads(text)]
    status, text = tenantry("tenant", "show", "gulp")
    assert (status, "Gulp Cafe (gulp): pooled" in text) == (0, True)
    status, text = tenantry("tenant", "suspend", "gulp")
    assert (status, "suspended" in text) == (0, True)
    assert tenantry("tenant", "resume", "gulp")[0] == 0
    status, text = tenantry("tenant", "move", "gulp", "--to", "cloud")
    assert (status, "choose pooled, schema, database" in text) == (1, True)
    status, text = tenantry("tenant", "show", "nobody")
    assert (status, "there is no tenant 'nobody'" in text) == (1, True)
    status, text = tenantry("tenant", "drop", "gulp")
    assert (status, "nothing was removed" in text) == (1, True)
    assert fleet.tenant("gulp").state == "active"
    status, text = tenantry("fleet", "reconcile")
    assert (status, "copies are up to date, 0 failed" in text) == (0, True)
    assert tenantry("fleet", "clean")[0] == 0
