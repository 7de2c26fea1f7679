"""Workers who start at the same moment, each on a connection of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tenantry_cli.testing import Database

Row = dict[str, Any]
Session = psycopg.Connection[Row]

#: Deadlock, serialization failure: nothing of the transaction stays, and a caller tries again.
RETRIED = frozenset({"40P01", "40001"})
_MOST_WORKERS = 16
_MOST_RETRIES = 50


@dataclass(frozen=True)
class Call:
    """Statements with parameters, each a transaction of its own, as one user or one login."""

    steps: tuple[tuple[str, tuple[object, ...]], ...]
    user_id: UUID | None = None
    login: str = "authenticator"


def call(statement: str, *parameters: object, login: str = "postgres") -> Call:
    """One statement of a login that is no user: an operator, the webhook role."""
    return Call(((statement, parameters),), None, login)


@dataclass
class Outcome:
    """What a worker got: rows of the last step, SQLSTATEs of refused steps, retried deadlocks."""

    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    retries: int = 0

    @property
    def is_done(self) -> bool:
        return not self.errors


def enter(connection: Session, user_id: UUID | None) -> None:
    """Makes the open transaction one of this user, as PostgREST does."""
    if user_id is not None:
        claims = {"sub": str(user_id), "role": "authenticated", "aud": "authenticated"}
        connection.execute(
            "select set_config('role', 'authenticated', true),"
            " set_config('request.jwt.claims', %s, true)",
            [json.dumps(claims)],
        )


def open_session(database: Database, login: str) -> Session:
    return psycopg.connect(database.url(login), autocommit=True, row_factory=dict_row)


class Crew:
    """At most 16 threads with connections that stay open from trial to trial."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(_MOST_WORKERS)
        self._sessions: dict[tuple[int, str], Session] = {}

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Everybody's first statement starts when everybody is ready."""
        barrier = Barrier(len(calls))
        sessions = [self._session(number, one.login) for number, one in enumerate(calls)]
        return list(self._threads.map(_work, sessions, calls, [barrier] * len(calls)))

    def close(self) -> None:
        self._threads.shutdown()
        for session in self._sessions.values():
            session.close()

    def _session(self, number: int, login: str) -> Session:
        if (number, login) not in self._sessions:
            self._sessions[number, login] = open_session(self._database, login)
        return self._sessions[number, login]


def _work(session: Session, call: Call, barrier: Barrier) -> Outcome:
    outcome = Outcome()
    for number, step in enumerate(call.steps):
        attempt(session, call.user_id, step, outcome, barrier if number == 0 else None)
    return outcome


def attempt(
    session: Session,
    user_id: UUID | None,
    step: tuple[str, tuple[object, ...]],
    outcome: Outcome,
    barrier: Barrier | None,
) -> None:
    statement, parameters = step
    while True:
        try:
            with session.transaction():
                enter(session, user_id)
                if barrier is not None:
                    barrier.wait(30)
                    barrier = None
                cursor = session.execute(statement.encode(), parameters)
                outcome.rows = cursor.fetchall() if cursor.description else []
            return
        except psycopg.Error as error:
            if error.sqlstate in RETRIED and outcome.retries < _MOST_RETRIES:
                outcome.retries += 1
                continue
            outcome.errors.append(error.sqlstate or type(error).__name__)
            return
