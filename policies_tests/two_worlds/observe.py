"""Runs a program in both worlds at once and compares everything the attacker gets to see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg import pq

from policies_tests.catalog import Connection
from policies_tests.people import Persona

from .programs import Program, Step
from .values import MADE

_FIELDS = (
    pq.DiagnosticField.SQLSTATE,
    pq.DiagnosticField.MESSAGE_PRIMARY,
    pq.DiagnosticField.MESSAGE_DETAIL,
    pq.DiagnosticField.MESSAGE_HINT,
    pq.DiagnosticField.SCHEMA_NAME,
    pq.DiagnosticField.TABLE_NAME,
    pq.DiagnosticField.COLUMN_NAME,
    pq.DiagnosticField.DATATYPE_NAME,
    pq.DiagnosticField.CONSTRAINT_NAME,
)
_ERRORS = {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR, pq.ExecStatus.BAD_RESPONSE}
_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
#: What the database makes up: ids, tokens, times, the random ends of slugs and keys.
_MADE_UP = re.compile(
    _UUID
    + rb"|\b[0-9a-f]{32,64}\b"
    + rb"|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d(?::?\d\d)?)?"
    + rb"|(?<=[-_])(?:[0-9a-f]{64}|[0-9a-f]{8}|[0-9a-f]{6})\b"
)
_ONE_UUID = re.compile(_UUID)
#: A set of ids: its order means nothing.
_UUIDS = re.compile(rb"\{" + _UUID + rb"(?:," + _UUID + rb")+\}")

Row = tuple[bytes, ...]


@dataclass(frozen=True)
class Answer:
    """What a statement gave: the fields of its error, or its tag and its rows."""

    head: Row
    rows: tuple[Row, ...] = ()
    is_error: bool = False

    def __str__(self) -> str:
        shown = [" | ".join(one.decode(errors="replace") for one in row) for row in self.rows[:8]]
        head = " | ".join(one.decode(errors="replace") for one in self.head if one)
        return "\n      ".join([head, *shown])


@dataclass(frozen=True)
class Difference:
    """The first step that tells the worlds apart."""

    program: Program
    position: int
    inhabited: Answer
    deserted: Answer

    def __str__(self) -> str:
        steps = [f"  {number}. {step}" for number, step in enumerate(self.program, 1)]
        return "\n".join(
            [
                "The worlds can be told apart:",
                *steps[: self.position + 1],
                f"  with the other tenant:    {self.inhabited}",
                f"  without the other tenant: {self.deserted}",
            ]
        )


@dataclass
class WorldRun:
    """One of the two databases while a program runs in it."""

    connection: Connection
    known: frozenset[bytes]
    database: bytes
    _who: Persona | None = None
    _undo: bytes = b""
    _prepared: dict[str, str] = field(default_factory=dict)
    _kept: int = 0
    _new: str | None = None
    _names: dict[bytes, bytes] = field(default_factory=dict)
    _last_made: bytes = b"00000000-0000-4000-8000-000000000000"

    def begin(self, start: bytes) -> None:
        self._who, self._undo = None, b""
        self._names, self._last_made = {}, b"00000000-0000-4000-8000-000000000000"
        # Plans are kept within a program alone, so that a failing one fails again.
        discard = b"deallocate all; " if self._kept else b""
        self._prepared, self._kept, self._new = {}, 0, None
        self.connection.pgconn.exec_(discard + start)

    def end(self, finish: bytes) -> None:
        self.connection.pgconn.exec_(finish)

    def send(self, step: Step) -> None:
        """Send a step, after undoing or keeping the one before."""
        parts = [self._undo]
        if step.persona is not self._who:
            self._who = step.persona
            claims = json.dumps(step.persona.claims).replace("'", "''")
            parts.append(
                f"reset role; set local role {step.persona.role};"
                f"select set_config('request.jwt.claims', '{claims}', true);".encode()
            )
        statement, self._new = step.text.statement, None
        if step.text.is_prepared:
            if statement not in self._prepared:
                self._kept += 1
                self._prepared[statement] = f"kept{self._kept}"
                self._new = statement
                parts.append(f"prepare kept{self._kept} as {statement};".encode())
            statement = f"execute {self._prepared[statement]}"
        body = statement.encode().replace(MADE.encode(), self._last_made)
        parts.append(b"savepoint step;" + body)
        self.connection.pgconn.send_query(b"".join(parts))

    def receive(self) -> Answer:
        """The answer to the last statement sent."""
        pgconn = self.connection.pgconn
        last: pq.abc.PGresult | None = None
        while (result := pgconn.get_result()) is not None:
            last = result
        assert last is not None
        if last.status in _ERRORS:
            self._undo = b"rollback to savepoint step;"
            if self._new is not None:  # perhaps refused before it was kept
                del self._prepared[self._new]
            return Answer(tuple(last.error_field(one) or b"" for one in _FIELDS), is_error=True)
        self._undo = b"release savepoint step;"
        columns = range(last.nfields)
        rows = tuple(
            tuple(_text(last.get_value(row, column)) for column in columns)
            for row in range(last.ntuples)
        )
        return Answer((last.command_status or b"",), rows)

    def note_made(self, answer: Answer) -> None:
        """Remember an id that the program has made, for the statements after."""
        for row in answer.rows:
            for value in row:
                if _ONE_UUID.fullmatch(value) and value not in self.known:
                    self._last_made = value

    def canonical(self, answer: Answer) -> Answer:
        """The answer with everything made up in its order of appearance, and its rows sorted."""
        whole = [tuple(map(_ordered, row)) for row in answer.rows]
        masked = sorted(whole, key=lambda row: [self._named(one, False) for one in row])
        rows = (tuple(self._named(one, True) for one in row) for row in masked)
        return Answer(tuple(self._named(one, True) for one in answer.head), tuple(sorted(rows)))

    def _named(self, value: bytes, is_kept: bool) -> bytes:
        def name(match: re.Match[bytes]) -> bytes:
            found = match[0]
            if found in self.known:
                return found
            if found not in self._names:
                if not is_kept:
                    return b"?"
                self._names[found] = b"<%d>" % len(self._names)
            return self._names[found]

        return _MADE_UP.sub(name, value.replace(self.database, b"<database>"))


def _ordered(value: bytes) -> bytes:
    if _UUIDS.fullmatch(value):
        return b"{" + b",".join(sorted(value[1:-1].split(b","))) + b"}"
    return value


def _text(value: bytes | None) -> bytes:
    return b"\\N" if value is None else value


@dataclass
class Both:
    """The pair of running worlds. `start` and `finish` enclose each program."""

    inhabited: WorldRun
    deserted: WorldRun
    start: bytes = b"begin"
    finish: bytes = b"rollback"
    statements: int = 0
    succeeded: int = 0
    #: Kinds of operations that have succeeded.
    kinds: set[str] = field(default_factory=set)

    def run(self, program: Program) -> Difference | None:
        """Run a program in both and undo it; the first difference."""
        for world in (self.inhabited, self.deserted):
            world.begin(self.start)
        try:
            return next(self._differences(program), None)
        finally:
            for world in (self.inhabited, self.deserted):
                world.end(self.finish)

    def _differences(self, program: Program) -> Iterator[Difference]:
        for position, step in enumerate(program):
            for _ in range(step.times):
                self.inhabited.send(step)
                if step.is_other:
                    self.inhabited.receive()
                    continue
                self.deserted.send(step)
                first, second = self.inhabited.receive(), self.deserted.receive()
                self.statements += 1
                if not first.is_error:
                    self.succeeded += 1
                    self.kinds.add(step.text.kind)
                if first == second or not step.is_seen:
                    continue
                shown, also = self.inhabited.canonical(first), self.deserted.canonical(second)
                if shown != also:
                    yield Difference(program, position, shown, also)
                self.inhabited.note_made(first)
                self.deserted.note_made(second)
