"""What is saved comes back, from each placement into each, with its policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry_cli.backup.archive import Archive
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.restoring import restore_tenant
from tenantry_cli.backup.saving import archive_tenant
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.stack.database import drop_database

from .conftest import OWNER, STRANGER, customers, drop_tenant, place

PLACEMENTS = ("pooled", "schema", "database")


@pytest.mark.parametrize("source", PLACEMENTS)
def test_from_each_placement_into_each(fleet: Fleet, directory: Path, source: str) -> None:
    place(fleet, "bluebird", source)
    seen = customers(fleet, "bluebird", OWNER)
    assert seen > 0
    path = archive_tenant(fleet, "bluebird", directory)
    assert path.stat().st_mode & 0o777 == 0o600
    with Archive(path) as archive:
        archive.check()
        tables = {one.name: one.digest for one in archive.manifest.tables}
    for target in PLACEMENTS:
        drop_tenant(fleet, "bluebird")
        restored = restore_tenant(fleet, path, directory=directory, isolation=target)
        assert restored.home.isolation == target
        assert customers(fleet, "bluebird", OWNER) == seen
        assert customers(fleet, "bluebird", STRANGER) == 0
        assert customers(fleet, "copperline", STRANGER) > 0
        again = archive_tenant(fleet, "bluebird", directory)
        with Archive(again) as archive:
            assert {one.name: one.digest for one in archive.manifest.tables} == tables


@pytest.mark.parametrize("source", ["schema", "database"])
def test_a_home_that_was_lost_comes_back(fleet: Fleet, directory: Path, source: str) -> None:
    place(fleet, "bluebird", source)
    seen = customers(fleet, "bluebird", OWNER)
    path = archive_tenant(fleet, "bluebird", directory)
    home = fleet.tenant("bluebird").home
    if source == "schema":
        with fleet.session(home.database) as shelf:
            shelf.execute(f'drop schema "{home.schema}" cascade')  # type: ignore[arg-type]
    else:
        fleet.close()
        drop_database(fleet.server, home.database)
    restored = restore_tenant(fleet, path, directory=directory, replace=True)
    assert restored.saved_first is None
    assert fleet.tenant("bluebird").home == home
    assert customers(fleet, "bluebird", OWNER) == seen


def test_a_tenant_that_exists_is_replaced_only_when_asked(fleet: Fleet, directory: Path) -> None:
    path = archive_tenant(fleet, "bluebird", directory)
    seen = customers(fleet, "bluebird", OWNER)
    epoch = fleet.tenant("bluebird").epoch
    with fleet.session() as main:
        main.execute(
            "insert into public.customers (business_id, first_name) "
            "values ('c0000000-0000-4000-8000-000000000001', 'Later')"
        )
    assert customers(fleet, "bluebird", OWNER) == seen + 1
    with pytest.raises(BackupError, match="--replace"):
        restore_tenant(fleet, path, directory=directory)
    assert customers(fleet, "bluebird", OWNER) == seen + 1
    restored = restore_tenant(fleet, path, directory=directory, replace=True)
    assert customers(fleet, "bluebird", OWNER) == seen
    assert fleet.tenant("bluebird").epoch > epoch
    assert restored.saved_first is not None
    # What was replaced can be had back.
    restore_tenant(fleet, restored.saved_first, directory=directory, replace=True)
    assert customers(fleet, "bluebird", OWNER) == seen + 1
