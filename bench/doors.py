"""Time per request in each placement, straight at PostgREST and through the gateway."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import numpy as np

from bench.client import Connection, Request
from bench.environment import PostgREST
from bench.homes import PLACEMENTS, Homes, Resident
from bench.ratios import Ratio, ratio
from tenantry_cli.project import find_project
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.process import last_lines, read_json, spawn
from tenantry_cli.stack.programs import find_postgrest

#: Tenants with a home of their own that get a PostgREST; the others would cost as much again.
SERVED_HOMES = 3
SHAPES = ("one customer by id", "page of 50 with phone numbers", "insert of one customer")
_FEWEST_ROUNDS = 9
#: Postgres settles on a plan at the sixth execution of a statement.
_WARM_UP = 6
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Latency:
    """One shape: medians, and ratios to the pooled placement in the same rounds."""

    door: str
    shape: str
    rounds: int
    median_ms: dict[str, float]
    #: By placement; `control` is pooled once more, so it shows what is noise.
    ratios: dict[str, Ratio]


@dataclass
class Door:
    """How the tenants of one placement are reached: each has a connection and its headers."""

    placement: str
    prefix: str
    residents: Sequence[Resident]
    connections: Sequence[Connection]
    headers: Sequence[dict[str, str]]
    _turn: int = field(default=0)

    def time(self, shape: str) -> float:
        """Seconds of one request of the tenant whose turn it is."""
        self._turn += 1
        number = self._turn % len(self.residents)
        request = _request(
            shape, self._turn, self.prefix, self.residents[number], self.headers[number]
        )
        return self.connections[number].time(request)


def postgrest_doors(homes: Homes, servers: dict[str, list[PostgREST]]) -> list[Door]:
    """One per placement. Of tenants with a home of their own, those that have a PostgREST."""
    doors = []
    for placement in PLACEMENTS:
        here = servers[placement]
        residents = homes.residents[placement]
        if placement != "pooled":
            residents = residents[: len(here)]
        kept = [Connection(one.port) for one in here]
        doors.append(
            Door(
                placement,
                "",
                residents,
                [kept[number % len(kept)] for number in range(len(residents))],
                [
                    {
                        "Authorization": f"Bearer {here[0].token('authenticated', one.owner)}",
                        "Accept-Profile": one.tenant.home.schema,
                        "Content-Profile": one.tenant.home.schema,
                    }
                    for one in residents
                ],
            )
        )
    return doors


@contextmanager
def gateway_doors(homes: Homes, main: PostgREST) -> Iterator[list[Door]]:
    """The same through a gateway that finds the homes; none where the gateway cannot route."""
    if importlib.util.find_spec("tenantry_gateway.routing") is None:
        yield []
        return
    port = free_port()
    nobody = "http://127.0.0.1:1"
    keys = {
        name: jwt.encode(
            {"role": name, "aud": "authenticated", "exp": int(time.time()) + 86_400},
            main.secret,
            "HS256",
        )
        for name in ("anon", "service_role")
    }
    publishable = "sb_publishable_of_the_benchmark"
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "POSTGREST_URL": f"http://127.0.0.1:{main.port}",
        "AUTH_URL": nobody,
        "FUNCTIONS_URL": nobody,
        "JWT_SECRET": main.secret,
        "ANON_KEY": keys["anon"],
        "SERVICE_ROLE_KEY": keys["service_role"],
        "PUBLISHABLE_KEY": publishable,
        "SECRET_KEY": "sb_secret_of_the_benchmark_0001",
        "PLACES_DATABASE_URL": homes.environment.server.url("postgres", "authenticator"),
        "POSTGREST_BIN": str(find_postgrest(find_project())),
        "BOOT_GATE": "off",  # the main database has no Auth server beside it
        "RATE": "0",
    }
    log = homes.environment.directory / "gateway.log"
    process = spawn(
        [sys.executable, "-m", "tenantry_gateway"],
        {**_own_environment(), **{f"GATEWAY_{name}": value for name, value in settings.items()}},
        homes.environment.directory,
        log,
    )
    try:
        _wait(port, process, log)
        doors = []
        for placement in PLACEMENTS:
            residents = homes.residents[placement]
            if placement != "pooled":
                residents = residents[:SERVED_HOMES]
            headers = [
                {
                    "apikey": publishable,
                    "Authorization": f"Bearer {main.token('authenticated', one.owner, 3600)}",
                    "X-Tenant": str(one.tenant.id),
                }
                for one in residents
            ]
            connection = Connection(port)
            doors.append(
                Door(placement, "/rest/v1", residents, [connection] * len(residents), headers)
            )
        yield doors
    finally:
        process.terminate()
        process.wait(10)


def measure_latencies(title: str, homes: Homes, doors: Sequence[Door]) -> list[Latency]:
    """Rounds of one request per placement in random order, and of the first one once more."""
    seconds = homes.environment.scale.latency_seconds
    variants = {**{door.placement: door for door in doors}, "control": doors[0]}
    chance = random.Random(title)
    found = []
    for shape in SHAPES:
        for door in doors:
            for _ in range(_WARM_UP * len(door.residents)):
                door.time(shape)
        samples: dict[str, list[float]] = {name: [] for name in variants}
        deadline = time.monotonic() + seconds * len(variants)
        while len(samples["control"]) < _FEWEST_ROUNDS or time.monotonic() < deadline:
            for name in chance.sample(list(variants), len(variants)):
                samples[name].append(variants[name].time(shape))
        arrays = {name: np.array(values) for name, values in samples.items()}
        found.append(
            Latency(
                title,
                shape,
                len(samples["control"]),
                {name: float(np.median(values)) * 1000 for name, values in arrays.items()},
                {
                    name: ratio(values, arrays["pooled"])
                    for name, values in arrays.items()
                    if name != "pooled"
                },
            )
        )
    for connection in {id(one): one for door in doors for one in door.connections}.values():
        connection.close()
    return found


def _own_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the gateway answers. Raises RuntimeError with what it wrote."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        health = asyncio.run(read_json(port, "/healthz"))
        if isinstance(health, dict) and health.get("status") != "starting":
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the gateway did not start:\n{last_lines(log)}")
        time.sleep(0.05)


def _request(
    shape: str, turn: int, prefix: str, resident: Resident, headers: dict[str, str]
) -> Request:
    business = f"business_id=eq.{resident.business}"
    if shape == SHAPES[0]:
        customer = resident.customers[turn % len(resident.customers)]
        path = f"{prefix}/customers?select=*&{business}&id=eq.{customer}"
        return Request.make("GET", path, headers)
    if shape == SHAPES[1]:
        select = "id,display_name,contact_points(kind,normalized,is_primary)"
        path = f"{prefix}/customers?select={select}&{business}&order=created_at.desc,id.desc"
        return Request.make("GET", f"{path}&limit=50", headers)
    body = {"business_id": resident.business, "first_name": "Bench", "last_name": f"No {turn}"}
    return Request.make(
        "POST",
        f"{prefix}/customers?select=id,display_name",
        {**headers, "Prefer": "return=representation"},
        body,
    )
