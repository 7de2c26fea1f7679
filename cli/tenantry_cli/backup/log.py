"""The log that outlives every database: who was erased, which rights were taken away.

It lies beside the archives as `erasures.jsonl`, one JSON object per line. Lines are only ever
added; the file is replaced as a whole, so it is never half written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from tenantry_cli.backup.archive import private_file, sync_directory
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.fleet.fleet import Connection, Fleet, exists

FILE = "erasures.jsonl"


@dataclass(frozen=True)
class Erasure:
    """A row that was erased for good. `at` is text as Postgres prints it, in UTC."""

    business_id: UUID
    table: str
    row_id: UUID
    at: str


@dataclass(frozen=True)
class Revocation:
    """A right that was taken away, or given again: see private.revocations."""

    id: UUID
    table: str
    #: The primary key, as sorted pairs.
    key: tuple[tuple[str, str], ...]
    outcome: str
    at: str


@dataclass
class Log:
    """What is known from everywhere that was asked."""

    erasures: dict[tuple[UUID, str, UUID], Erasure] = field(default_factory=dict)
    revocations: dict[UUID, Revocation] = field(default_factory=dict)

    def add(self, *others: Log) -> Log:
        for one in others:
            self.erasures = {**one.erasures, **self.erasures}
            self.revocations = {**one.revocations, **self.revocations}
        return self

    def put(self, entry: Erasure | Revocation) -> None:
        if isinstance(entry, Erasure):
            self.erasures.setdefault((entry.business_id, entry.table, entry.row_id), entry)
        else:
            self.revocations.setdefault(entry.id, entry)

    def erased(self, businesses: Iterable[UUID]) -> list[Erasure]:
        wanted = set(businesses)
        return [one for one in self.erasures.values() if one.business_id in wanted]

    def outcomes(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], str]:
        """What became of each row in the end, by table and key."""
        found = {}
        for one in sorted(self.revocations.values(), key=lambda one: (one.at, one.id)):
            found[one.table, one.key] = one.outcome
        return found


def key_of(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in row.items()))


def read_log(path: Path) -> Log:
    """The log in a file; empty where there is none. Raises BackupError for a damaged one."""
    log = Log()
    if not path.exists():
        return log
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            log.put(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise BackupError(
                f"{path}, line {number} is damaged ({error}): who was erased would come back. "
                "Repair the line or fetch the file from another copy of the backups"
            ) from error
    return log


def write_log(directory: Path, log: Log) -> Path:
    """Add what the log beside the archives lacks; returns the file."""
    path = directory / FILE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory):
        whole = read_log(path).add(log)
        unfinished = path.with_name(path.name + ".partial")
        with private_file(unfinished) as file:
            entries: list[Erasure | Revocation] = [*whole.erasures.values()]
            for one in [*entries, *whole.revocations.values()]:
                file.write(json.dumps(_line(one), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        sync_directory(directory)
    return path


def logs_beside(archive: Path) -> Log:
    """The logs in the directory of an archive and in those above it, up to that of all backups."""
    log = Log()
    for directory in list(archive.resolve().parents)[:3]:
        log.add(read_log(directory / FILE))
    return log


def fleet_log(fleet: Fleet) -> tuple[Log, list[str]]:
    """What all reachable databases of a fleet know, and which could not be asked."""
    log, unreachable = Log(), []
    with fleet.session() as main:
        # One that was dropped knows nothing any more; that is no reason to restore nothing.
        places = [name for name in [fleet.main, *fleet.places()] if exists(main, name)]
    for database in places:
        try:
            with fleet.session(database) as place:
                log.add(place_log(place))
        except psycopg.Error as error:
            unreachable.append(f"{database}: {str(error).strip()}")
    return log, unreachable


def place_log(place: Connection) -> Log:
    """What one database knows: in its pooled tables, in the schemas of tenants, in its registry."""
    log = Log()
    with place.transaction():
        place.execute("set local timezone = 'UTC'")
        for (schema,) in _schemas(place):
            rows = place.execute(
                sql.SQL(
                    "select business_id, resource, resource_id, erased_at::text as at from {}"
                ).format(sql.Identifier(schema, "erasures"))
            )
            for row in rows:
                log.put(Erasure(row["business_id"], row["resource"], row["resource_id"], row["at"]))
        for row in place.execute(
            "select id, resource, row_key, outcome, revoked_at::text as at from private.revocations"
        ):
            log.put(
                Revocation(
                    row["id"], row["resource"], key_of(row["row_key"]), row["outcome"], row["at"]
                )
            )
    return log


def _schemas(place: Connection) -> Sequence[tuple[str]]:
    rows = place.execute(
        "select n.nspname::text as name from pg_class c join pg_namespace n "
        "on n.oid = c.relnamespace where c.relname = 'erasures' and c.relkind = 'r' "
        r"and (n.nspname = 'public' or n.nspname like 'tenant\_%')"
    ).fetchall()
    return [(row["name"],) for row in rows]


def _line(entry: Erasure | Revocation) -> dict[str, Any]:
    if isinstance(entry, Erasure):
        return {
            "kind": "erasure",
            "business_id": str(entry.business_id),
            "table": entry.table,
            "row_id": str(entry.row_id),
            "at": entry.at,
        }
    return {
        "kind": "revocation",
        "id": str(entry.id),
        "table": entry.table,
        "key": dict(entry.key),
        "outcome": entry.outcome,
        "at": entry.at,
    }


def _entry(line: Mapping[str, Any]) -> Erasure | Revocation:
    if line["kind"] == "erasure":
        return Erasure(
            UUID(line["business_id"]), str(line["table"]), UUID(line["row_id"]), str(line["at"])
        )
    if line["kind"] == "revocation":
        return Revocation(
            UUID(line["id"]),
            str(line["table"]),
            key_of(line["key"]),
            str(line["outcome"]),
            str(line["at"]),
        )
    raise ValueError(f"kind {line['kind']!r} is unknown")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
