"""Runs statements as a persona, the way PostgREST does, and takes each back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from psycopg import pq, sql

from .catalog import Connection
from .cell import Cell
from .oracle import Expectation
from .people import Persona

_ERRORS = {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR}
#: Statements in flight at once: one wait for so many answers, and little enough to fit the sockets'
#: buffers both ways.
_BATCH = 40
_UNDO = b"rollback to savepoint cell"


@dataclass(frozen=True)
class Outcome:
    """What a statement gave."""

    sqlstate: str | None = None
    message: str = ""
    rows: int = 0
    keys: frozenset[tuple[str | None, ...]] = frozenset()

    def meets(self, expected: Expectation) -> bool:
        if expected.sqlstate is not None or self.sqlstate is not None:
            return self.sqlstate == expected.sqlstate
        if expected.keys is not None:
            return self.keys == expected.keys
        return expected.rows is None or self.rows == expected.rows

    def __str__(self) -> str:
        return f"{self.sqlstate} {self.message}" if self.sqlstate else f"{self.rows} rows"


@dataclass(frozen=True)
class Difference:
    """A cell whose outcome is not the expected one."""

    persona: str
    cell: Cell
    expected: Expectation
    got: Outcome

    def __str__(self) -> str:
        wanted = self.expected
        if wanted.sqlstate:
            text = wanted.sqlstate
        elif wanted.keys is not None:
            missing = sorted(wanted.keys - self.got.keys, key=str)[:3]
            excess = sorted(self.got.keys - wanted.keys, key=str)[:3]
            text = f"{len(wanted.keys)} rows; missing {missing}, too many {excess}"
        else:
            text = f"{wanted.rows} rows"
        return f"{self.persona} / {self.cell.label}: expected {text}, got {self.got}"


@contextmanager
def acting_as(connection: Connection, persona: Persona) -> Iterator[None]:
    """Inside the block, `connection` (in a transaction) acts as the persona; then all is undone."""
    connection.execute("savepoint persona")
    if persona.role != "integrator":  # which logs in as itself
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(persona.role)))
    connection.execute(
        "select set_config('request.jwt.claims', %s, true)", [json.dumps(persona.claims)]
    )
    connection.execute("savepoint cell")
    try:
        yield
    finally:
        connection.execute("rollback to savepoint persona; reset role")


def run_all(connection: Connection, statements: Sequence[bytes]) -> list[Outcome]:
    """Run each statement and undo it.

    Each has a Sync of its own, so that an error ends that statement and nothing else; undoing the
    one before shares it, since the server sends something at every Sync.
    """
    pgconn = connection.pgconn
    outcomes: list[Outcome] = []
    pgconn.enter_pipeline_mode()
    try:
        for start in range(0, len(statements), _BATCH):
            batch = statements[start : start + _BATCH]
            for statement in batch:
                pgconn.send_query_params(_UNDO, None)
                pgconn.send_query_params(statement, None)
                pgconn.pipeline_sync()
            pgconn.send_query_params(_UNDO, None)
            pgconn.pipeline_sync()
            outcomes += [_outcome(_answers(pgconn)[1]) for _ in batch]
            _answers(pgconn)
        return outcomes
    finally:
        pgconn.exit_pipeline_mode()


def run(connection: Connection, statement: bytes) -> Outcome:
    """Run one statement and undo it."""
    return run_all(connection, [statement])[0]


def _answers(pgconn: pq.abc.PGconn) -> list[pq.abc.PGresult]:
    """The results up to the next Sync; the first, of undoing, is well."""
    answers: list[pq.abc.PGresult] = []
    while True:
        result = pgconn.get_result()
        if result is None:
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            assert answers[0].status == pq.ExecStatus.COMMAND_OK
            return answers
        answers.append(result)


def _outcome(result: pq.abc.PGresult) -> Outcome:
    if result.status in _ERRORS:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"?"
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        return Outcome(sqlstate=state.decode(), message=message.decode())
    rows = result.command_tuples
    return Outcome(rows=result.ntuples if rows is None else rows, keys=frozenset(_tuples(result)))


def _tuples(result: pq.abc.PGresult) -> Iterator[tuple[str | None, ...]]:
    for row in range(result.ntuples):
        values = (result.get_value(row, column) for column in range(result.nfields))
        yield tuple(None if value is None else value.decode() for value in values)


def differences(
    connection: Connection,
    persona: Persona,
    cells: Iterable[Cell],
    counter: list[int] | None = None,
) -> Iterator[Difference]:
    """The cells that do not come out as predicted, one by one."""
    rest = iter(cells)
    with acting_as(connection, persona):
        while batch := list(islice(rest, _BATCH)):
            outcomes = run_all(connection, [cell.statement for cell in batch])
            for cell, got in zip(batch, outcomes, strict=True):
                expected = cell.predict(persona)
                if counter is not None:
                    counter[0] += 1
                if not got.meets(expected):
                    yield Difference(persona.name, cell, expected, got)
