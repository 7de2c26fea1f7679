"""The commands, the worker's jobs, and archives that are restored for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tenantry_cli.backup.fleet_saving import backup_fleet
from tenantry_cli.backup.jobs import run_backup_job
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.saving import archive_tenant
from tenantry_cli.backup.verify import verify
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.main import app

from .conftest import OWNER, customers, place


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def databases(fleet: Fleet) -> set[str]:
    with fleet.session() as main:
        return {row["datname"] for row in main.execute("select datname from pg_database")}


def test_saving_listing_verifying_restoring_and_pruning(fleet: Fleet, directory: Path) -> None:
    # A superuser's URL: the same password for all roles is that of the test server's postgres.
    where = ("--server", fleet.server.url(fleet.main), "--prefix", fleet.prefix)
    here = ("--directory", directory)
    assert run("backup", *where, *here)[0] == 1
    status, output = run("backup", "--tenant", "bluebird", *where, *here)
    assert status == 0, output
    status, output = run("backup", "list", *here, "-o", "json")
    (listed,) = json.loads(output)
    assert listed["tenants"] == ["bluebird"]
    status, output = run("backup", "verify", listed["path"])
    assert (status, output.split()[0]) == (0, "whole:"), output

    status, output = run("restore", listed["path"], *where, *here, "--yes")
    assert status == 1
    assert "--replace" in output
    status, output = run("restore", listed["path"], *where, *here, "--replace")
    assert status == 1
    assert "nothing was done" in output
    epoch = fleet.tenant("bluebird").epoch
    status, output = run("restore", listed["path"], *where, *here, "--replace", "--yes")
    assert status == 0, output
    assert "bluebird is back" in output
    assert fleet.tenant("bluebird").epoch == epoch + 1

    status, output = run("backup", "--all", *where, *here)
    assert status == 0, output
    status, output = run("backup", "prune", "--keep-daily", 1, *where, *here, "--yes")
    assert status == 0, output
    assert output.count("remove: ") == 1  # of two archives of one day, the newer one stays
    assert len(json.loads(run("backup", "list", *here, "-o", "json")[1])) == 2


def test_what_is_missing_makes_the_command_fail(fleet: Fleet, directory: Path) -> None:
    place(fleet, "copperline", "database")
    home = fleet.tenant("copperline").home.database
    fleet.close()
    with fleet.server.administer(autocommit=True) as connection:
        connection.execute(f'alter database "{home}" with allow_connections false')  # type: ignore[arg-type]
    where = ("--server", fleet.server.url(fleet.main), "--prefix", fleet.prefix)
    status, output = run("backup", "--all", *where, "--directory", directory)
    assert status == 1
    assert "copperline" in output
    (listed,) = json.loads(run("backup", "list", "--directory", directory, "-o", "json")[1])
    assert listed["tenants"] == ["bluebird"]


def test_jobs(fleet: Fleet, directory: Path) -> None:
    seen = customers(fleet, "bluebird", OWNER)
    steps: list[float] = []
    made = run_backup_job(
        fleet, "backup", {"tenant": "bluebird"}, lambda step, done: steps.append(done),
        directory=directory,
    )  # fmt: skip
    assert steps == sorted(steps)
    result = run_backup_job(
        fleet, "restore", {"archive": made["archive"], "replace": True}, directory=directory
    )
    assert json.loads(json.dumps(result))["saved_first"]
    assert customers(fleet, "bluebird", OWNER) == seen
    assert run_backup_job(fleet, "backup", {}, directory=directory)["tenants"] == 2
    for kind, arguments in (
        ("restore", {"archive": "../../etc/passwd"}),
        ("restore", {}),
        ("drop", {}),
    ):
        with pytest.raises(BackupError):
            run_backup_job(fleet, kind, arguments, directory=directory)


def test_in_depth(fleet: Fleet, directory: Path) -> None:
    place(fleet, "bluebird", "schema")
    path = archive_tenant(fleet, "bluebird", directory)
    before = databases(fleet)
    assert verify(path, fleet, deep=True).rows > 0
    saved, _ = backup_fleet(fleet, directory)
    assert verify(saved, fleet, deep=True).archives == 2
    assert databases(fleet) == before
    assert customers(fleet, "bluebird", OWNER) > 0
