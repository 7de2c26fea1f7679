"""Searches for a program that tells the worlds apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from policies_tests.catalog import Connection
from tenantry_cli.testing import Database

from .observe import Both, Difference, WorldRun
from .plants import Plant
from .programs import Program, programs
from .worlds import Pair

#: Each connection writes metrics into one of so many slots, by its process id.
_METRIC_SLOTS = 16

#: Rows come, and are changed, in the order of the plan, which depends on the size of the table.
#: Postgres cannot hide that; here it shall not look like a difference.
_SAME_PLANS = "set enable_seqscan = off; set enable_bitmapscan = off"


@dataclass(frozen=True)
class Found:
    """What a search tried, and the (smallest) difference it came upon."""

    examples: int
    statements: int
    seconds: float
    difference: Difference | None


class _ToldApartError(AssertionError):
    pass


def search(both: Both, strategy: st.SearchStrategy[Program], examples: int, seed: int) -> Found:
    """Try up to `examples` programs, and reduce the first one that differs."""
    tried = [0]
    found: list[Difference] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @given(strategy)
    def run(program: Program) -> None:
        if found:  # hypothesis asks again
            raise _ToldApartError
        tried[0] += 1
        difference = both.run(program)
        if difference is not None:
            found.append(difference)
            raise _ToldApartError

    before, started = both.statements, time.monotonic()
    with suppress(_ToldApartError):
        run()
    seconds, statements = time.monotonic() - started, both.statements - before
    return Found(tried[0], statements, seconds, reduced(both, found[0]) if found else None)


def reduced(both: Both, difference: Difference) -> Difference:
    """The same difference from fewer steps: each step is left out that it does not need."""
    position = difference.position
    while position >= 0:
        shorter = [*difference.program[:position], *difference.program[position + 1 :]]
        shorter = shorter[: difference.position + 1]
        again = both.run(shorter) if shorter else None
        if again is not None:
            difference = again
        position = min(position, len(difference.program)) - 1
    return difference


def known_texts(pair: Pair) -> frozenset[bytes]:
    """Every value that is in the tables before a program runs: nothing of it is made up."""
    return frozenset(
        value.encode()
        for rows in pair.world.rows.values()
        for row in rows.values()
        for value in row.values()
        if value is not None
    ) | frozenset(str(one.user_id).encode() for one in pair.world.cast.users)


@contextmanager
def _connections(pair: Pair, login: str) -> Iterator[tuple[Connection, Connection]]:
    """A connection to each world, alike in what metrics take their slot from."""
    with ExitStack() as stack:

        def connect(database: Database) -> Connection:
            connection = stack.enter_context(closing(database.connect(login, autocommit=True)))
            connection.execute(_SAME_PLANS)
            return connection

        first, second = connect(pair.inhabited), connect(pair.deserted)
        while (first.info.backend_pid - second.info.backend_pid) % _METRIC_SLOTS:
            second.close()
            second = connect(pair.deserted)
        yield first, second


@contextmanager
def sound(pair: Pair) -> Iterator[tuple[Both, Connection]]:
    """The worlds as they are, entered as the API enters them; and the owner's connection."""
    with pair.inhabited.connect() as owner, _connections(pair, "authenticator") as ends:
        yield _both(pair, *ends), owner
        owner.rollback()


def _both(pair: Pair, first: Connection, second: Connection) -> Both:
    known = known_texts(pair)
    return Both(
        WorldRun(first, known, pair.inhabited.name.encode()),
        WorldRun(second, known, pair.deserted.name.encode()),
    )


@contextmanager
def planted(pair: Pair, plant: Plant) -> Iterator[tuple[Both, Connection]]:
    """The worlds with a leak in both, for as long as the block: nothing is committed."""
    with _connections(pair, "postgres") as ends:
        for connection in ends:
            connection.execute("begin")
            connection.execute(plant.statements.encode())
            connection.execute("savepoint program")
        both = _both(pair, *ends)
        both.start = both.finish = b"rollback to savepoint program"
        try:
            yield both, ends[0]
        finally:
            for connection in ends:
                connection.execute("rollback")


def search_plant(pair: Pair, plant: Plant, examples: int, seed: int) -> Found:
    """Look for a planted leak; the worlds are sound again afterwards."""
    with planted(pair, plant) as (both, owner):
        strategy = programs(pair.world, owner, plant.kinds)
        return search(both, strategy, examples, seed)
