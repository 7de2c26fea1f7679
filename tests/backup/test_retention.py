"""Which backups are kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tenantry_cli.backup.archive import REGISTRY, Writer
from tenantry_cli.backup.manifest import BackupError, Manifest, stamp
from tenantry_cli.backup.retention import PrunePlan, list_backups, plan_prune, prune
from tenantry_cli.backup.saving import tenant_directory
from tenantry_cli.fleet.fleet import Home

TODAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
HERE, GONE = uuid4(), uuid4()


def archive(directory: Path, tenant: UUID, taken_at: datetime) -> Path:
    path = tenant_directory(directory, tenant) / f"{stamp(taken_at)}.tar"
    with Writer(path) as writer:
        writer.add(REGISTRY, [b"{}"])
        writer.finish(
            Manifest(
                tenant, "one", "One", taken_at, Home("pooled", "postgres", "public"), 1, "1", "18",
                (), (), (), writer.sha256,
            )
        )  # fmt: skip
    return path


def fleet(directory: Path, tenants: list[UUID], taken_at: datetime, missing: list[str]) -> Path:
    path = directory / "fleet" / stamp(taken_at)
    path.mkdir(parents=True)
    rows = [
        {"organization_id": str(one), "slug": "one", "file": "x", "sha256": ""} for one in tenants
    ]
    content = {
        "format": 1, "main": "postgres", "prefix": "t", "taken_at": taken_at.isoformat(),
        "main_sha256": "", "main_rows": {}, "tenants": rows, "missing": missing, "shelves": [],
        "cluster": {},
    }  # fmt: skip
    (path / "fleet.json").write_text(json.dumps(content))
    return path


def plan(directory: Path, daily: int = 0, weekly: int = 0, monthly: int = 0) -> PrunePlan:
    return plan_prune(directory, [HERE], daily=daily, weekly=weekly, monthly=monthly)


def kept(found: PrunePlan) -> set[Path]:
    return {one.path for one in found.keep}


def test_days_weeks_and_months(tmp_path: Path) -> None:
    paths = {n: archive(tmp_path, HERE, TODAY - timedelta(days=n)) for n in range(100)}
    earlier = archive(tmp_path, HERE, TODAY - timedelta(hours=3))
    days = kept(plan(tmp_path, daily=7))
    assert days == {paths[n] for n in range(7)}
    assert earlier not in days
    # Saturday 21 November; weeks end on Sundays, of months the newest backup counts.
    assert kept(plan(tmp_path, weekly=3)) == {paths[0], paths[6], paths[13]}
    assert kept(plan(tmp_path, monthly=3)) == {paths[0], paths[21], paths[52]}


def test_the_newest_of_a_tenant_that_exists_stays(tmp_path: Path) -> None:
    old = archive(tmp_path, HERE, TODAY - timedelta(days=900))
    for n in range(3):
        fleet(tmp_path, [GONE], TODAY - timedelta(days=n), [])
    found = plan(tmp_path, daily=1)
    assert old in kept(found)
    newest = fleet(tmp_path, [HERE], TODAY + timedelta(days=1), [])
    older = fleet(tmp_path, [HERE], TODAY - timedelta(days=90), [])
    found = plan(tmp_path, daily=1)
    assert newest in kept(found)
    assert older not in kept(found)


def test_damaged_ones_do_not_count(tmp_path: Path) -> None:
    whole = archive(tmp_path, HERE, TODAY - timedelta(days=9))
    for n in range(3):
        damaged = archive(tmp_path, HERE, TODAY - timedelta(days=n))
        damaged.write_bytes(damaged.read_bytes()[:300])
    assert whole in kept(plan(tmp_path, daily=1))


def test_a_fleet_that_lacks_a_tenant_does_not_stand_for_a_whole_one(tmp_path: Path) -> None:
    whole = fleet(tmp_path, [HERE, GONE], TODAY - timedelta(days=2), [])
    fleet(tmp_path, [GONE], TODAY - timedelta(days=1), ["one: unreachable"])
    assert whole in kept(plan(tmp_path, daily=1))


def test_what_is_removed_is_what_was_planned(tmp_path: Path) -> None:
    for n in range(4):
        archive(tmp_path, HERE, TODAY - timedelta(days=n))
        fleet(tmp_path, [HERE], TODAY - timedelta(days=n), [])
    found = plan(tmp_path, daily=2)
    prune(found)
    assert {one.path for one in list_backups(tmp_path)} == kept(found)
    assert len(found.remove) == 4


def test_keeping_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="at least one"):
        plan(tmp_path)
