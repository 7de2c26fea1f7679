"""How long requests wait while the PostgREST of a schema reads the catalog of its shelf again."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from dataclasses import dataclass

import numpy as np

from bench.client import Connection, Request, RequestFailed
from bench.environment import Environment, PostgREST
from bench.homes import Resident

_ROUNDS = 3
_PAUSE_SECONDS = 0.5
#: What takes longer is given up, and counts as that long.
_LONGEST_SECONDS = 300.0
#: After so long it has shown what it is like.
_ENOUGH_SECONDS = 60.0


@dataclass(frozen=True)
class Reload:
    """Milliseconds; of several reloads the median time and the worst request."""

    reload_ms: float
    worst_embed_ms: float
    worst_point_ms: float
    #: The same over the pauses between the reloads: what the machine does by itself.
    quiet_embed_ms: float
    quiet_point_ms: float
    #: Requests that got an error; they were sent again, and waited until that was answered.
    refused: int


class _Asker(threading.Thread):
    """Sends the same request again and again, and notes when each began and how long it took."""

    def __init__(self, server: PostgREST, request: Request) -> None:
        super().__init__(daemon=True)
        self._connection, self._request = Connection(server.port, _LONGEST_SECONDS), request
        self.ending = threading.Event()
        self.answers: list[tuple[float, float]] = []
        self.refused = 0

    def run(self) -> None:
        while not self.ending.is_set():
            began = time.perf_counter()
            self.refused += _ask(self._connection, self._request)
            self.answers.append((began, time.perf_counter() - began))
            time.sleep(0.002)
        self._connection.close()

    def worst_ms(self, since: float, until: float) -> float:
        """Of the requests that began or were under way then."""
        return 1000 * max(
            (took for began, took in self.answers if began < until and began + took > since),
            default=0.0,
        )


def measure_reload(
    environment: Environment, database: str, server: PostgREST, resident: Resident
) -> Reload:
    """Reload a few times under a light load of one tenant's requests."""
    schema = resident.tenant.home.schema
    headers = {
        "Authorization": f"Bearer {server.token('authenticated', resident.owner)}",
        "Accept-Profile": schema,
    }
    business = f"business_id=eq.{resident.business}"
    embed = Request.make(
        "GET", f"/customers?select=id,contact_points(id)&{business}&limit=20", headers
    )
    point = Request.make(
        "GET", f"/customers?select=id&{business}&id=eq.{resident.customers[0]}", headers
    )
    askers = [_Asker(server, embed), _Asker(server, point)]
    connection = Connection(server.port, _LONGEST_SECONDS)
    started = time.perf_counter()
    for asker in askers:
        asker.start()
    took, windows, quiet = [], [], []
    try:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            time.sleep(_PAUSE_SECONDS)
            quiet.append((began, time.perf_counter()))
            began = time.perf_counter()
            took.append(_reload(environment, database, server, headers))
            # Relationships are worked out when they are asked for: one that is asked now has waited
            # for that.
            _ask(connection, embed)
            windows.append((began, time.perf_counter()))
            if time.perf_counter() - started > _ENOUGH_SECONDS:
                break
    finally:
        for asker in askers:
            asker.ending.set()
        for asker in askers:
            asker.join()
        connection.close()

    def worst(asker: _Asker, spans: list[tuple[float, float]]) -> float:
        return max(asker.worst_ms(*span) for span in spans)

    return Reload(
        float(np.median(took)) * 1000,
        worst(askers[0], windows),
        worst(askers[1], windows),
        worst(askers[0], quiet),
        worst(askers[1], quiet),
        sum(asker.refused for asker in askers),
    )


def _ask(connection: Connection, request: Request) -> int:
    """Send until it succeeds or is given up; returns how often it was refused."""
    deadline = time.perf_counter() + _LONGEST_SECONDS
    refused = 0
    while True:
        try:
            connection.time(request)
            return refused
        except RequestFailed:
            refused += 1
            if time.perf_counter() > deadline:
                return refused
            time.sleep(0.02)
        except TimeoutError:
            return refused + 1


def _reload(
    environment: Environment, database: str, server: PostgREST, headers: dict[str, str]
) -> float:
    """Seconds until PostgREST knows a function that it did not know before."""
    name = f"bench_news_{secrets.token_hex(4)}"
    with environment.administer(database) as owner:
        owner.execute(
            f"create function public.{name}() returns integer language sql return 1;"
            f" grant execute on function public.{name}() to authenticated".encode()
        )
    question = Request.make("GET", f"/rpc/{name}", {**headers, "Accept-Profile": "public"})
    connection = Connection(server.port, _LONGEST_SECONDS)
    started = time.perf_counter()
    os.kill(server.pid, signal.SIGUSR1)
    try:
        while time.perf_counter() - started < _LONGEST_SECONDS:
            connection.send(question)
            while not connection.receive():
                pass
            if connection.response().status == 200:
                return time.perf_counter() - started
            time.sleep(0.005)
        raise RuntimeError(f"PostgREST does not know {name} after {_LONGEST_SECONDS:g} seconds")
    finally:
        connection.close()
