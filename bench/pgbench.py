"""Postgres's own load generator: cheap enough that the database is what is measured."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.environment import Environment

_PERCENTILES = (50, 95, 99)
_FEW_TRANSACTIONS = 10


class PgbenchFailed(RuntimeError):
    """pgbench or one of its statements failed; the message is its own."""


@dataclass(frozen=True)
class Load:
    """What a run achieved."""

    transactions_per_second: float
    #: Milliseconds, by percentile; empty unless asked for.
    latency_ms: Mapping[str, float]


def run(
    environment: Environment,
    database: str,
    script: str,
    *,
    clients: int,
    user: str = "postgres",
    with_latency: bool = False,
) -> Load:
    """Run `script` (pgbench's language) on `clients` connections for as long as the scale says.

    Raises PgbenchFailed when any statement fails.
    """
    server = environment.server
    directory = environment.directory / "pgbench"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    file = directory / "script.sql"
    file.write_text(script)
    command = [_program(environment), "--no-vacuum", "--protocol=prepared", f"--file={file}"]
    command += [f"--client={clients}", f"--jobs={min(clients, 2)}"]
    seconds = environment.scale.throughput_seconds
    command += [f"--time={seconds}" if seconds else f"--transactions={_FEW_TRANSACTIONS}"]
    command += ["--log", f"--log-prefix={directory}/log"] if with_latency else []
    command += [f"--host={server.host}", f"--port={server.port}", f"--username={user}", database]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PGPASSWORD": server.passwords[user]},
    )
    rate = re.search(r"^tps = ([\d.]+)", result.stdout, re.MULTILINE)
    if result.returncode != 0 or rate is None:
        raise PgbenchFailed(result.stderr.strip()[-2000:] or result.stdout)
    return Load(float(rate[1]), _latency(directory) if with_latency else {})


def _program(environment: Environment) -> str:
    beside = environment.programs / "pgbench"
    program = str(beside) if beside.exists() else shutil.which("pgbench")
    if program is None:
        raise PgbenchFailed(
            f"there is no pgbench in {environment.programs} nor on PATH: it comes with Postgres"
        )
    return program


def _latency(directory: Path) -> dict[str, float]:
    # client, transaction, microseconds, script, time: PostgreSQL documentation, pgbench --log
    micros = [
        int(line.split()[2])
        for log in directory.glob("log.*")
        for line in log.read_text().splitlines()
    ]
    values = np.percentile(micros, _PERCENTILES) / 1000
    return {f"p{p}": float(v) for p, v in zip(_PERCENTILES, values, strict=True)}
