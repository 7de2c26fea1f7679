"""Moving a tenant through all placements while somebody writes to it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise

import psycopg
from psycopg import sql

from bench.environment import Environment
from bench.homes import Homes, Resident, as_owner, new_homes, open_home
from tenantry_cli.fleet.fleet import Fleet
from tenantry_cli.fleet.mover import clean_moves, move_tenant

ROUTE = ("pooled", "schema", "database", "pooled")
_BEFORE_SECONDS = 0.5
_RETRY_SECONDS = 0.005


@dataclass(frozen=True)
class Moved:
    """One move."""

    source: str
    target: str
    rows: int
    #: From the first step to the last, and from freezing the old home to opening the new one.
    whole_ms: float
    write_pause_ms: float
    #: Writes that were answered as done meanwhile, and those of them that are not at the new home.
    acknowledged: int
    lost: int
    refused: int
    #: Between two acknowledged writes of the same writer.
    longest_gap_ms: float

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.whole_ms * 1000

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return {**asdict(self), "rows_per_second": self.rows_per_second}


def measure(environment: Environment, on_move: Callable[[Moved], None]) -> list[Moved]:
    """Move one tenant there and back again."""
    moves = []
    with new_homes(environment, "bench_moves", per_shelf=20) as homes:
        homes.add(ROUTE[0], environment.scale.move_rows)
        resident = homes.residents[ROUTE[0]][0]
        for source, target in pairwise(ROUTE):
            moves.append(_move(homes, resident, source, target))
            on_move(moves[-1])
    return moves


def _move(homes: Homes, resident: Resident, source: str, target: str) -> Moved:
    fleet = homes.fleet
    writer = _Writer(homes, resident)
    writer.start()
    try:
        time.sleep(_BEFORE_SECONDS)
        started = time.perf_counter()
        move = move_tenant(fleet, resident.tenant.id, target)
        whole_ms = (time.perf_counter() - started) * 1000
        time.sleep(_BEFORE_SECONDS)
    finally:
        writer.ending.set()
        writer.join()
    if writer.failure:
        raise writer.failure
    assert move.write_pause_ms is not None
    clean_moves(fleet, now=True)
    lost = {str(one) for one in writer.acknowledged} - _names_at_home(fleet, resident)
    return Moved(
        source,
        target,
        sum(move.row_counts.values()),
        whole_ms,
        move.write_pause_ms,
        len(writer.acknowledged),
        len(lost),
        writer.refused,
        writer.longest_gap_seconds * 1000,
    )


def _names_at_home(fleet: Fleet, resident: Resident) -> set[str]:
    home = fleet.tenant(resident.tenant.id).home
    query = sql.SQL("select first_name from {}.customers where business_id = %s").format(
        sql.Identifier(home.schema)
    )
    with fleet.connect(home.database) as connection:
        return {row["first_name"] for row in connection.execute(query, (resident.business,))}


class _Writer(threading.Thread):
    """The owner adds customers, one after the other, wherever the registry says their home is."""

    def __init__(self, homes: Homes, resident: Resident) -> None:
        super().__init__(daemon=True)
        self._homes, self._resident = homes, resident
        self.ending = threading.Event()
        self.acknowledged: list[uuid.UUID] = []
        self.refused = 0
        self.longest_gap_seconds = 0.0
        self.failure: Exception | None = None

    def run(self) -> None:
        # A fleet of its own: connections are not shared between threads.
        origin = self._homes.fleet
        fleet = Fleet(origin.server, origin.main, origin.migrations, prefix=origin.prefix)
        try:
            last = time.perf_counter()
            while not self.ending.is_set():
                tenant = fleet.tenant(self._resident.tenant.id)
                with open_home(self._homes.environment, tenant) as connection:
                    try:
                        while not self.ending.is_set():
                            name = uuid.uuid4()
                            with as_owner(connection, self._resident, tenant):
                                connection.execute(
                                    "select create_customer(business_id => %s, first_name => %s)",
                                    (self._resident.business, str(name)),
                                )
                            now = time.perf_counter()
                            self.longest_gap_seconds = max(self.longest_gap_seconds, now - last)
                            self.acknowledged.append(name)
                            last = now
                    except psycopg.Error as error:
                        if not _is_refusal(error):
                            raise
                        self.refused += 1
                time.sleep(_RETRY_SECONDS)
        except Exception as error:  # told to the thread that waits for this one
            self.failure = error
        finally:
            fleet.close()


def _is_refusal(error: psycopg.Error) -> bool:
    """What a home says that is being left, or was left."""
    return error.sqlstate in ("42501", "PT404", "PT409")
