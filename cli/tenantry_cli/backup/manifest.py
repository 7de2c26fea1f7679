"""What an archive says about itself: written last, so that an unfinished one has none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from tenantry_cli.fleet.fleet import FleetError, Home
from tenantry_cli.fleet.rows import Digest, Partition, Table

#: Grows when an older program could not restore what a newer one wrote.
FORMAT = 1
_BLOCK = 1 << 20


class BackupError(FleetError):
    """A backup cannot be made, read or restored; the message says why and what to do instead."""


@dataclass(frozen=True)
class SavedTable:
    """One table of an archive: its stored columns, and what its rows are compared by."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: int
    checksum: str

    @property
    def member(self) -> str:
        return f"tables/{self.name}.copy.gz"

    @property
    def digest(self) -> Digest:
        return Digest(self.rows, self.checksum)

    def at(self, schema: str) -> Table:
        """The same columns of the table in a schema."""
        return Table(schema, self.name, self.columns, self.types)


@dataclass(frozen=True)
class Manifest:
    """What a tenant's archive holds. Times are UTC."""

    organization_id: UUID
    slug: str
    name: str
    taken_at: datetime
    home: Home
    epoch: int
    #: Newest file of supabase/migrations at the home.
    migration: str
    postgres: str
    businesses: tuple[UUID, ...]
    tables: tuple[SavedTable, ...]
    partitions: tuple[Partition, ...]
    #: SHA-256 of each other member of the archive, as it is stored.
    sha256: Mapping[str, str]

    def rows(self) -> int:
        return sum(one.rows for one in self.tables)

    def to_json(self) -> bytes:
        content = {"format": FORMAT, "kind": "tenant", **asdict(self)}
        return json.dumps(content, indent=1, default=_plain, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, text: bytes, path: Path) -> Manifest:
        """Raises BackupError for what is no manifest, or one of another format."""
        try:
            content: dict[str, Any] = json.loads(text)
            require_format(content, path)
            return cls(
                organization_id=UUID(content["organization_id"]),
                slug=content["slug"],
                name=content["name"],
                taken_at=datetime.fromisoformat(content["taken_at"]),
                home=Home(**content["home"]),
                epoch=int(content["epoch"]),
                migration=content["migration"],
                postgres=content["postgres"],
                businesses=tuple(UUID(one) for one in content["businesses"]),
                tables=tuple(
                    SavedTable(
                        one["name"],
                        tuple(one["columns"]),
                        tuple(one["types"]),
                        int(one["rows"]),
                        str(one["checksum"]),
                    )
                    for one in content["tables"]
                ),
                partitions=tuple(Partition(**one) for one in content["partitions"]),
                sha256=dict(content["sha256"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(
                f"{path}: manifest.json is damaged ({error}): take another backup"
            ) from error


def require_format(content: Mapping[str, Any], path: Path) -> None:
    """Raises BackupError unless this program reads that format."""
    found = content.get("format")
    if found != FORMAT:
        raise BackupError(
            f"{path} has format {found!r} and this program reads format {FORMAT}: restore it with "
            "the version of Tenantry that wrote it, then run `tenantry migrate up` of this one"
        )


def now() -> datetime:
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """A moment in a file name, in the order of time: 20261121T143000_123456Z."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S_%fZ")


def sha256_of(stream: BinaryIO) -> str:
    """SHA-256 of the rest of a stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return sha256_of(stream)


def names(items: Sequence[str]) -> str:
    """A list in a message, cut after a dozen."""
    return ", ".join(items[:12]) + (f" and {len(items) - 12} more" if len(items) > 12 else "")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")
