"""Every order in which the statements of two transactions can follow each other.

Gates are put between the statements of the functions: a transaction waits there on an advisory lock
until the conductor lets it pass. So an order is played statement by statement, without chance and
without sleeping. Where a lock of the product makes one wait for the other, the order continues with
the other.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from threading import Barrier

import psycopg

from tenantry_cli.testing import Database

from .crew import RETRIED, Call, Outcome, Session, attempt, enter, open_session
from .race import Trial
from .scenery import Scenery

#: What comes before a statement of the outermost block, as the migrations are indented.
_BEFORE_A_STATEMENT = re.compile(
    r"((?:\A|;[^\n]*\n)(?: *--[^\n]*\n)*)  "
    # A gate sets FOUND, so none stands before a question about it.
    r"(?=(?:perform|update|insert|delete|if|select|return)\b)(?!if (?:not )?found\b)"
)
_MOST_GATES = 30

_GATE = """
create schema gates;
grant usage on schema gates to public;
-- Passes a gate that is open. The transaction and its next gate are settings of the transaction.
create function gates.pass() returns void language plpgsql security definer as $$
declare
  v_transaction int := nullif(current_setting('gates.transaction', true), '')::int;
  v_gate int := coalesce(nullif(current_setting('gates.number', true), ''), '0')::int;
begin
  if v_transaction is null then return; end if;
  perform set_config('gates.number', (v_gate + 1)::text, true);
  perform pg_advisory_xact_lock_shared(v_transaction, v_gate);
end $$;
grant execute on function gates.pass() to public;
"""


def put_gates(session: Session, functions: Iterable[str]) -> None:
    """Puts a gate before each statement of these functions (schema.name, not overloaded)."""
    session.execute(_GATE.encode())
    for function in functions:
        row = session.execute(
            "select pg_get_functiondef(%s::regproc) as text", [function]
        ).fetchone()
        assert row is not None
        head, begin, body = str(row["text"]).partition("\nbegin\n")
        gated, found = _BEFORE_A_STATEMENT.subn(r"\1  perform gates.pass();\n  ", body)
        assert begin, function
        assert found, f"{function} has no statement to stop at"
        session.execute((head + begin + gated).encode())


@dataclass
class Played:
    """What the orders gave. `violations` name the order: 0011 is the first, then the second."""

    orders: int = 0
    waits: int = 0
    violations: list[str] = field(default_factory=list)


class Conductor:
    """Two players with gates of their own; a third session opens gates and looks who waits."""

    def __init__(self, database: Database) -> None:
        self._session = open_session(database, "postgres")
        self._players = [open_session(database, "authenticator") for _ in range(2)]
        self._threads = ThreadPoolExecutor(2)

    def close(self) -> None:
        self._threads.shutdown()
        for session in (self._session, *self._players):
            session.close()

    def play(self, calls: list[Call], order: str) -> tuple[list[Outcome], int]:
        """Plays the two calls in this order; returns outcomes and how often one had to wait."""
        for player in (0, 1):
            self._lock("pg_advisory_lock", player)
        outcomes, barrier = [Outcome(), Outcome()], Barrier(2)
        futures = [
            self._threads.submit(self._perform, player, calls[player], outcomes[player], barrier)
            for player in (0, 1)
        ]
        at, waits = [0, 0], 0
        for player in (0, 1):
            waits += self._settle(player, futures[player], at[player]) == "other"
        for character in order:
            player = int(character)
            if self._settle(player, futures[player], at[player]) == "gate":
                self._open(player, at[player])
                at[player] += 1
                waits += self._settle(player, futures[player], at[player]) == "other"
        for player in (0, 1):
            for gate in range(at[player], _MOST_GATES):
                self._open(player, gate)
        for future in futures:
            future.result(30)
        return outcomes, waits

    def _perform(self, player: int, call: Call, outcome: Outcome, barrier: Barrier) -> None:
        ((statement, parameters),) = call.steps
        session = self._players[player]
        try:
            with session.transaction():
                enter(session, call.user_id)
                session.execute(
                    "select set_config('gates.transaction', %s, true)", [str(player + 1)]
                )
                barrier.wait(30)
                session.execute(statement.encode(), parameters)
                session.execute("select gates.pass()")  # before the commit
        except psycopg.Error as error:
            if error.sqlstate not in RETRIED:
                outcome.errors.append(str(error.sqlstate))
            else:
                attempt(session, call.user_id, call.steps[0], outcome, None)

    def _lock(self, function: str, player: int) -> None:
        self._session.execute(
            f"select {function}(%s, n) from generate_series(0, %s) n".encode(),
            [player + 1, _MOST_GATES - 1],
        )

    def _open(self, player: int, gate: int) -> None:
        self._session.execute("select pg_advisory_unlock(%s, %s)", [player + 1, gate])

    def _settle(self, player: int, future: Future[None], gate: int) -> str:
        """Waits until the player stands: at its `gate`, behind the `other`, or `done`."""
        pid = self._players[player].info.backend_pid
        deadline = time.monotonic() + 20
        seen = ""
        while time.monotonic() < deadline:
            if future.done():
                return "done"
            rows = self._session.execute(
                "select locktype, objid::int as gate, objsubid from pg_locks"
                " where pid = %s and not granted",
                [pid],
            ).fetchall()
            stands = ""
            for row in rows:
                # Advisory locks of two integers are ours; the product's are of one bigint.
                is_gate = row["locktype"] == "advisory" and row["objsubid"] == 2
                if is_gate and row["gate"] == gate:
                    return "gate"
                if not is_gate:
                    stands = "other"
            if stands and stands == seen:
                return stands  # twice in a row: it does wait
            seen = stands
            time.sleep(0.0005)
        raise TimeoutError(f"player {player} reached neither gate {gate} nor an end")


def orders(first: int, second: int, most: int, seed: int) -> Iterator[str]:
    """All orders of so many steps each, or a sample of `most` that the seed decides."""
    total = first + second
    every = list(combinations(range(total), second))
    if len(every) > most:
        every = random.Random(seed).sample(every, most)
    for places in every:
        yield "".join("1" if at in places else "0" for at in range(total))


def play_orders(
    database: Database,
    prepare: Callable[[Scenery], Trial],
    steps: tuple[int, int],
    most: int,
    *,
    find_one: bool = False,
) -> Played:
    """Plays `most` orders of the first and the last call, or until `find_one` violation is seen."""
    played = Played()
    scenery, conductor = Scenery(database), Conductor(database)
    try:
        for order in orders(*steps, most, seed=41):
            trial = prepare(scenery)
            outcomes, waits = conductor.play([trial.calls[0], trial.calls[-1]], order)
            played.orders += 1
            played.waits += waits
            if (what := trial.violation(outcomes)) is not None:
                played.violations.append(f"{order}: {what}")
                if find_one:
                    break
    finally:
        conductor.close()
        scenery.close()
    return played
