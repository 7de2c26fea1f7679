"""Damaged, unfinished and foreign archives are refused, with what is wrong and what to do."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantry_cli.backup.archive import MANIFEST, Archive
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.restoring import restore_tenant
from tenantry_cli.backup.retention import list_backups
from tenantry_cli.backup.saving import archive_tenant
from tenantry_cli.fleet.fleet import Fleet

from .conftest import OWNER, customers, drop_tenant

CUSTOMERS = "tables/customers.copy.gz"


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write an archive anew with changed members; None leaves one out."""
    with tarfile.open(path) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            changed = change(name, content)
            if changed is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(changed)
                archive.addfile(entry, io.BytesIO(changed))


def in_manifest(**changes: object) -> Callable[[str, bytes], bytes]:
    return lambda name, content: (
        json.dumps(json.loads(content) | changes).encode() if name == MANIFEST else content
    )


def flipped(name: str, content: bytes) -> bytes:
    if name != CUSTOMERS:
        return content
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def fewer_rows(name: str, content: bytes) -> bytes:
    if name != CUSTOMERS:
        return content
    return gzip.compress(b"".join(gzip.decompress(content).splitlines(keepends=True)[1:]))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bit": (lambda path: rewrite(path, flipped), CUSTOMERS),
    "a row": (lambda path: rewrite(path, fewer_rows), CUSTOMERS),
    "a member": (lambda path: rewrite(path, lambda n, c: None if n == CUSTOMERS else c), CUSTOMERS),
    "the end": (lambda path: path.write_bytes(path.read_bytes()[:-20_000]), "cut off"),
    "the second half": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "cut off",
    ),
    "another format": (lambda path: rewrite(path, in_manifest(format=99)), "migrate up"),
    "no manifest": (lambda path: rewrite(path, lambda n, c: c if n != MANIFEST else b"[]"), "dam"),
}


def test_what_is_damaged_is_refused_before_anything_is_touched(
    fleet: Fleet, directory: Path
) -> None:
    whole = archive_tenant(fleet, "bluebird", directory).read_bytes()
    seen = customers(fleet, "bluebird", OWNER)
    for name, (damage, told) in FAULTS.items():
        path = directory / "damaged.tar"
        path.write_bytes(whole)
        damage(path)
        with pytest.raises(BackupError, match=told):
            restore_tenant(fleet, path, directory=directory, replace=True)
        assert fleet.tenant("bluebird").state == "active", name
        assert customers(fleet, "bluebird", OWNER) == seen, name


def test_rows_that_are_not_those_of_the_manifest_are_found(fleet: Fleet, directory: Path) -> None:
    """Somebody who changed the checksums of members too has still other rows than were saved."""
    path = archive_tenant(fleet, "bluebird", directory)
    with Archive(path) as archive:
        tables = json.loads(archive.manifest.to_json())["tables"]
    for one in tables:
        if one["name"] == "customers":
            one["checksum"] = str(int(one["checksum"]) + 1)
    rewrite(path, in_manifest(tables=tables))
    drop_tenant(fleet, "bluebird")
    with pytest.raises(BackupError, match="customers differs from the archive"):
        restore_tenant(fleet, path, directory=directory)
    assert fleet.tenant("bluebird").state == "failed"
    assert customers(fleet, "bluebird", OWNER) == 0


def test_other_columns_are_refused_with_the_remedy(fleet: Fleet, directory: Path) -> None:
    path = archive_tenant(fleet, "bluebird", directory)
    drop_tenant(fleet, "bluebird")
    with fleet.session() as main:
        main.execute("alter table public.calls rename column notes to remarks")
    with pytest.raises(BackupError, match=r"(?s)calls.*restore it with the checkout"):
        restore_tenant(fleet, path, directory=directory)
    assert fleet.tenant("bluebird").state == "failed"


def test_a_newer_fleet_takes_an_older_archive(fleet: Fleet, directory: Path) -> None:
    """More columns than the archive has are no fault, as long as they have a default."""
    path = archive_tenant(fleet, "bluebird", directory)
    with fleet.session() as main:
        main.execute("alter table public.calls add column mood text not null default 'calm'")
    restored = restore_tenant(fleet, path, directory=directory, replace=True)
    assert restored.rows > 0


def test_an_interrupted_backup_is_none(
    fleet: Fleet, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenantry_cli.backup.archive.Writer.finish", killed)
    with pytest.raises(KeyboardInterrupt):
        archive_tenant(fleet, "bluebird", directory)
    assert list_backups(directory) == []
    assert not list(directory.rglob("*.tar*"))


def test_an_interrupted_restore_is_repeated(
    fleet: Fleet, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive_tenant(fleet, "bluebird", directory)
    seen = customers(fleet, "bluebird", OWNER)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    for step in ("Restore._compare", "erase_again", "Restore._open"):
        with monkeypatch.context() as patched:
            patched.setattr(f"tenantry_cli.backup.restoring.{step}", killed)
            with pytest.raises(KeyboardInterrupt):
                restore_tenant(fleet, path, directory=directory, replace=True)
        assert fleet.tenant("bluebird").state == "provisioning", step
        assert customers(fleet, "bluebird", OWNER) == 0, step
    restore_tenant(fleet, path, directory=directory)
    assert fleet.tenant("bluebird").state == "active"
    assert customers(fleet, "bluebird", OWNER) == seen
