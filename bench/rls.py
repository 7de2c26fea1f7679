"""What row security costs: each query shape through PostgREST, against a role without it.

Every round sends the same request once as a member and once as each of the baseline roles, in
random order. The ratio of two baselines that are the same is the noise.
"""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from bench.client import Connection, time_batch
from bench.environment import Environment, PostgREST, postgrest
from bench.plans import Plan, record_plans
from bench.ratios import Ratio, ratio
from bench.shapes import PERSONAS, SHAPES, Persona, Sender, Shape, make_senders

GOAL = 1.10
_CONNECTIONS = 8
_FEWEST_ROUNDS = 3
#: A cell gets its time once, and again (so many times in all) while the noise is wider than this.
_MOST_TIMES = 2
_QUIET = 0.06
_WARM_SHARE = 0.2
_BATCH_SECONDS = 0.04


@dataclass(frozen=True)
class Cell:
    """One shape asked for by one persona over a number of connections; times per request."""

    shape: str
    persona: str
    connections: int
    rounds: int
    requests: int
    baseline_ms: float
    rls_ms: float
    #: Against a role without row security that has the same settings.
    overhead: Ratio
    #: Against one that plans as Postgres does by default.
    against_default: Ratio
    #: Two roles that are the same.
    noise: Ratio

    @property
    def verdict(self) -> str:
        return self.overhead.verdict(GOAL)


@dataclass(frozen=True)
class Report:
    """Everything this section measured."""

    postgrest: str
    cells: list[Cell]
    plans: list[Plan]


def measure(
    environment: Environment,
    database: str,
    *,
    shapes: Sequence[Shape] = SHAPES,
    personas: Sequence[Persona] = PERSONAS,
    on_cell: Callable[[Cell], None] = lambda cell: None,
) -> Report:
    """Measure all shapes for all personas on a loaded database. Reads come before writes."""
    seconds = environment.scale.latency_seconds
    cells: list[Cell] = []
    reads, writes = (
        [shape for shape in shapes if shape.writes == wanted] for wanted in (False, True)
    )
    plans = record_plans(environment, database, reads, personas)
    with postgrest(environment, database) as server, _no_garbage_collection():
        senders = {p: make_senders(environment, database, server, p) for p in personas}
        with _connections(server, 1) as (connection,):
            for persona in personas:
                for shape in reads:
                    _require_same_answers(connection, senders[persona], shape)
        for shape, count in _order(reads, writes):
            for persona in personas:
                with _connections(server, count) as connections:
                    cell = _measure_cell(connections, senders[persona], shape, persona, seconds)
                cells.append(cell)
                on_cell(cell)
    plans += record_plans(environment, database, writes, personas)
    return Report(server.version, cells, plans)


def _order(reads: Sequence[Shape], writes: Sequence[Shape]) -> list[tuple[Shape, int]]:
    """Shapes with numbers of connections: reads before the writes that change what they read."""
    order = [(shape, count) for count in (1, _CONNECTIONS) for shape in reads]
    for shape in writes:
        order += [(shape, 1)] + ([] if shape.heavy else [(shape, _CONNECTIONS)])
    return order


@contextmanager
def _connections(server: PostgREST, count: int) -> Iterator[list[Connection]]:
    """Fresh connections: PostgREST closes idle ones after half a minute."""
    connections = [Connection(server.port) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _require_same_answers(connection: Connection, senders: Sequence[Sender], shape: Shape) -> None:
    """A comparison means something only if all see the same rows."""
    answers = []
    for sender in senders:
        response = connection.fetch(sender.request(shape, 0))
        rows = json.loads(response.body.decode().replace(f'"{sender.alias}":', '"id":'))
        for row in rows:
            for value in row.values():
                if isinstance(value, list):  # an embed has no order unless one is asked for
                    value.sort(key=str)
        answers.append((rows, response.content_range))
    if not answers[0][0]:
        raise RuntimeError(f"{shape.name}: there are no rows to ask for")
    if any(answer != answers[0] for answer in answers):
        raise RuntimeError(f"{shape.name}: the roles do not see the same rows")


def _measure_cell(
    connections: Sequence[Connection],
    senders: Sequence[Sender],
    shape: Shape,
    persona: Persona,
    seconds: float,
) -> Cell:
    turns = random.Random(shape.name)
    one_round = (
        _RoundOfBatches(connections, senders, shape)
        if len(connections) > 1
        else _Round(connections[0], senders, shape)
    )
    turn, warm_until = 0, time.perf_counter() + seconds * _WARM_SHARE
    while time.perf_counter() < warm_until or turn < 2:
        one_round(turn, turns)
        turn += 1
    samples: list[list[float]] = []
    noise = Ratio(1, 0, np.inf)
    for _ in range(_MOST_TIMES):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(samples) < _FEWEST_ROUNDS:
            samples.append(one_round(turn, turns))
            turn += 1
        table = np.array(samples) * 1000
        rls, baseline, control, plain = table.T
        noise = ratio(control, baseline)
        if noise.high - noise.low < _QUIET:
            break
    return Cell(
        shape=shape.name,
        persona=persona.name,
        connections=len(connections),
        rounds=len(table),
        requests=len(table) * one_round.requests * len(senders),
        baseline_ms=float(np.median(table[:, 1:3])),
        rls_ms=float(np.median(rls)),
        overhead=ratio(rls, table[:, 1:3]),
        against_default=ratio(rls, plain),
        noise=noise,
    )


class _Round:
    """One request per variant, timed alone; seconds, in the order of the senders."""

    requests = 1

    def __init__(self, connection: Connection, senders: Sequence[Sender], shape: Shape) -> None:
        self._connection, self._senders, self._shape = connection, senders, shape

    def __call__(self, turn: int, chance: random.Random) -> list[float]:
        seconds = [0.0] * len(self._senders)
        requests = [sender.request(self._shape, turn) for sender in self._senders]
        for index in chance.sample(range(len(requests)), len(requests)):
            seconds[index] = self._connection.time(requests[index])
        return seconds


class _RoundOfBatches:
    """One batch of requests per variant over all connections; seconds per request."""

    def __init__(
        self, connections: Sequence[Connection], senders: Sequence[Sender], shape: Shape
    ) -> None:
        self._connections, self._senders, self._shape = connections, senders, shape
        self.requests = len(connections) * 2
        fastest = min(sum(self(turn, random.Random(turn))) for turn in range(2)) / len(senders)
        self.requests = max(len(connections) * 2, min(200, int(_BATCH_SECONDS / fastest)))

    def __call__(self, turn: int, chance: random.Random) -> list[float]:
        seconds = [0.0] * len(self._senders)
        for index in chance.sample(range(len(self._senders)), len(self._senders)):
            requests = [
                self._senders[index].request(self._shape, turn * self.requests + n)
                for n in range(self.requests)
            ]
            seconds[index] = time_batch(self._connections, requests) / self.requests
        return seconds


def as_json(report: Report) -> dict[str, object]:
    """The report as plain data."""
    data = asdict(report)
    for cell, plain in zip(report.cells, data["cells"], strict=True):
        plain["verdict"] = cell.verdict
    return data
