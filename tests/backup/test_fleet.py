"""A whole fleet is saved, and comes back on a second, empty server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry_cli.backup.dump import rows_in_dump
from tenantry_cli.backup.fleet_restoring import restore_fleet
from tenantry_cli.backup.fleet_saving import FLEET, MAIN, backup_fleet, check_fleet
from tenantry_cli.backup.log import fleet_log, write_log
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.retention import list_backups
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.stack.database import Server
from tenantry_cli.testing import throwaway_server

from .conftest import OWNER, STAFF, STRANGER, customers, place
from .test_taken_away import customer_with_calls, erase, traces


@pytest.fixture(scope="module")
def second_server() -> Iterator[Server]:
    with throwaway_server(os.environ.get("TENANTRY_TEST_POSTGRES_BIN")) as server:
        yield server


def on(server: Server, fleet: Fleet) -> Fleet:
    """The same fleet, by name, on another server."""
    return replace(fleet, server=server, _open={})


@pytest.mark.slow
def test_into_a_second_server(fleet: Fleet, directory: Path, second_server: Server) -> None:
    place(fleet, "bluebird", "schema")
    place(fleet, "copperline", "database")
    seen = customers(fleet, "bluebird", OWNER), customers(fleet, "copperline", STRANGER)
    customer = customer_with_calls(fleet)
    saved, manifest = backup_fleet(fleet, directory)
    assert manifest.is_whole
    check_fleet(saved)
    assert {one.slug for one in manifest.tenants} == {"bluebird", "copperline"}
    # After the backup: somebody is erased, somebody removed, and the log is written once more.
    erase(fleet, customer)
    with fleet.session() as main:
        main.execute(
            "update public.business_memberships set status = 'removed' where user_id = %s", (STAFF,)
        )
    write_log(directory, fleet_log(fleet)[0])

    there = on(second_server, fleet)
    try:
        restored = restore_fleet(there, saved)
        assert restored.failed == []
        assert sorted(restored.tenants) == ["bluebird", "copperline"]
        assert restored.erased_again == 1
        assert restored.revoked_again > 0
        assert [one.home for one in there.tenants()] == [one.home for one in fleet.tenants()]
        # Members read through the policies there, others do not.
        assert customers(there, "bluebird", OWNER) == seen[0] - 1
        assert customers(there, "copperline", STRANGER) == seen[1]
        assert customers(there, "bluebird", STRANGER) == 0
        assert customers(there, "copperline", OWNER) == 0
        assert customers(there, "bluebird", STAFF) == 0
        assert set(traces(there, customer).values()) == {0}
        with pytest.raises(BackupError, match="empty server"):
            restore_fleet(there, saved)
    finally:
        there.close()


def test_the_dump_has_the_registry_and_no_rows_of_tenants(fleet: Fleet, directory: Path) -> None:
    saved, manifest = backup_fleet(fleet, directory)
    rows = rows_in_dump(saved / MAIN)
    assert rows["public.business_memberships"] > 0
    assert rows["auth.users"] == 5
    assert "public.customers" not in rows
    assert "public.customers" not in manifest.main_rows
    for path in saved.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_what_cannot_be_reached_is_told_and_the_others_are_saved(
    fleet: Fleet, directory: Path
) -> None:
    place(fleet, "copperline", "database")
    home = fleet.tenant("copperline").home.database
    fleet.close()
    with fleet.server.administer(autocommit=True) as connection:
        connection.execute(f'alter database "{home}" with allow_connections false')  # type: ignore[arg-type]
    saved, manifest = backup_fleet(fleet, directory)
    assert not manifest.is_whole
    assert any(one.startswith("copperline: ") for one in manifest.missing)
    assert [one.slug for one in manifest.tenants] == ["bluebird"]
    check_fleet(saved)
    (listed,) = list_backups(directory)
    assert listed.problem is not None


def test_an_interrupted_one_is_none(
    fleet: Fleet, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenantry_cli.backup.fleet_saving.dump_main", killed)
    with pytest.raises(KeyboardInterrupt):
        backup_fleet(fleet, directory)
    (left,) = (directory / "fleet").iterdir()
    assert list_backups(directory) == []
    with pytest.raises(BackupError, match="no finished backup"):
        check_fleet(left)


@pytest.mark.parametrize("name", [MAIN, "tenant"])
def test_a_damaged_file_is_named(fleet: Fleet, directory: Path, name: str) -> None:
    saved, manifest = backup_fleet(fleet, directory)
    path = saved / (manifest.tenants[0].file if name == "tenant" else name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BackupError, match=path.name):
        check_fleet(saved)


def test_a_dump_without_its_rows_is_no_backup(
    fleet: Fleet, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a role under row security dumps: everything succeeds, and nothing is in the file."""
    from tenantry_cli.backup import dump

    run = dump._run

    def under_row_security(server: Server, program: str, options: list[str], output: int) -> None:
        run(server, program, [*options, "--schema-only"], output)

    monkeypatch.setattr(dump, "_run", under_row_security)
    with pytest.raises(BackupError, match="rows in the dump"):
        backup_fleet(fleet, directory)
    assert not list(directory.rglob(FLEET))


def test_policies_that_a_dump_lacks_keep_a_fleet_closed(
    fleet: Fleet, directory: Path, second_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, _ = backup_fleet(fleet, directory)
    from tenantry_cli.backup import dump

    run = dump._run

    def without_policies(
        server: Server, program: str, options: list[str], output: int, user: str = "postgres"
    ) -> None:
        wrong = ["--no-privileges"] if program == "pg_restore" else []
        run(server, program, [*wrong, *options], output, user)

    monkeypatch.setattr(dump, "_run", without_policies)
    there = on(second_server, fleet)
    with pytest.raises(BackupError, match="not protected as it was shipped"):
        restore_fleet(there, saved)
    with second_server.administer(autocommit=True) as connection:
        names = {row[0] for row in connection.execute("select datname from pg_database")}
    assert fleet.main not in names, "nothing is served under its name"
    assert f"{fleet.main}_restoring" in names
