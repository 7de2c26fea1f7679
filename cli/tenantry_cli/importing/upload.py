"""Staging rows in small requests, checking them together, storing them all at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tenantry import Tenantry
from tenantry.errors import APIError, TenantryError
from tenantry_cli.importing.columns import Kind
from tenantry_cli.importing.connection import call
from tenantry_cli.importing.problems import BadRow, ImportRefused, shown

#: A request body may have 1 MB, and 500 rows are checked in a fraction of a second.
_CHUNK_BYTES = 700_000
_CHUNK_ROWS = 500

#: SQLSTATE: statement timeout; lock timeout, deadlock, and a unique key that somebody else took.
_TOO_SLOW = "57014"
_AGAIN = frozenset({"55P03", "40P01", "40001", "23505"})
_ATTEMPTS = 3

#: Rows of the first part of an import in parts.
_FIRST_PART = 500


@dataclass(frozen=True)
class Task:
    """What to import, where to, and how."""

    kind: Kind
    file_name: str
    rows: Sequence[dict[str, Any]]
    channel_id: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    in_parts: bool = False
    skip_bad: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an import did, or in a dry run would do. Counts are rows."""

    created: int = 0
    completed: int = 0
    already_there: int = 0
    is_stored: bool = False
    bad: tuple[BadRow, ...] = ()


def upload(
    client: Tenantry, task: Task, already_bad: Sequence[BadRow], advance: Callable[[int], None]
) -> Outcome:
    """Import the rows, unless one is bad (here or in `already_bad`) and bad ones are not skipped.

    Calls `advance` with the number of rows that were checked, and later stored. On any failure
    nothing is stored; of an import in parts, the parts that were stored before stay.
    Raises ImportRefused and the SDK's errors.
    """
    if not task.rows:
        return Outcome(bad=tuple(already_bad))
    with _staged(client, task) as batch_id:
        bad = list(already_bad)
        for chunk in chunks(task.rows):
            answer = call(client, "add_import_rows", batch_id=batch_id, rows=chunk)
            bad += _read_problems(answer)
            advance(len(chunk))
        checked = {"remaining": len(task.rows)}
        while checked["remaining"]:
            checked = call(client, "check_import", batch_id=batch_id)
            bad += _read_problems(checked)
        bad.sort()
        if task.dry_run or (bad and not task.skip_bad):
            return _outcome(checked, "create", "complete", bad=bad, is_stored=False)
        stored = _store(client, task, batch_id, advance)
        return _outcome(stored, "created", "completed", bad=bad, is_stored=True)


def chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows in groups that fit into a request. Raises ImportRefused for one that never fits."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        row_size = len(json.dumps(row, ensure_ascii=False).encode())
        if row_size > _CHUNK_BYTES:
            raise ImportRefused(f"line {row['line']} has more than {_CHUNK_BYTES} bytes: split it")
        if group and (size + row_size > _CHUNK_BYTES or len(group) == _CHUNK_ROWS):
            yield group
            group, size = [], 0
        group.append(row)
        size += row_size
    if group:
        yield group


@contextmanager
def _staged(client: Tenantry, task: Task) -> Iterator[str]:
    """A batch on the server, forgotten again unless it was committed."""
    arguments: dict[str, Any] = {
        "kind": str(task.kind),
        "row_count": len(task.rows),
        "file_name": task.file_name,
        "options": task.options,
        "in_parts": task.in_parts,
    }
    if task.channel_id is not None:
        arguments["channel_id"] = task.channel_id
    batch_id: str = call(client, "start_import", **arguments)["batch_id"]
    try:
        yield batch_id
    finally:
        # The server forgets a batch after a day anyway; what is committed is not touched.
        with suppress(TenantryError):
            call(client, "discard_import", batch_id=batch_id)


def _store(
    client: Tenantry, task: Task, batch_id: str, advance: Callable[[int], None]
) -> dict[str, Any]:
    """Commit at once, or in parts that are as large as the machine stores in a few seconds."""
    left = len(task.rows)
    size = _FIRST_PART if task.in_parts else None
    while True:
        started = time.monotonic()
        try:
            stored = _commit(client, task, batch_id, size)
        except APIError as error:
            if error.code != _TOO_SLOW or size == 1:
                raise
            if size is None:
                raise ImportRefused(
                    f"the database could not store {len(task.rows)} rows in the time it allows "
                    "for one transaction; none is stored. Store them --in-parts, or split the file"
                ) from error
            size = max(size // 4, 1)
            continue
        advance(left - stored["remaining"])
        left = stored["remaining"]
        if not left:
            return stored
        if size is not None:
            elapsed = time.monotonic() - started
            size = size * 2 if elapsed < 1 else max(size // 2, 1) if elapsed > 3 else size


def _commit(client: Tenantry, task: Task, batch_id: str, size: int | None) -> dict[str, Any]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            stored: dict[str, Any] = call(
                client, "commit_import", batch_id=batch_id, skip_bad=task.skip_bad, max_rows=size
            )
            return stored
        except APIError as error:
            # Somebody wrote about the same people in this moment.
            if error.code not in _AGAIN or attempt == _ATTEMPTS:
                raise
    raise AssertionError


def _outcome(
    counts: dict[str, Any], created: str, completed: str, *, bad: list[BadRow], is_stored: bool
) -> Outcome:
    return Outcome(
        counts[created], counts[completed], counts["already_there"], is_stored, tuple(bad)
    )


def _read_problems(answer: dict[str, Any]) -> list[BadRow]:
    return [
        BadRow(one["line"], one["field"], shown(one["value"]), one["problem"], one["remedy"])
        for one in answer["problems"]
    ]
