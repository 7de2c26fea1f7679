"""Migrating all tenants of a fleet, by the number of places worked on at once."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.environment import Environment
from bench.homes import PLACEMENTS, Homes, new_homes
from tenantry_cli.fleet.names import template_name
from tenantry_cli.migrate import Migration

WORKERS = (1, 2, 4)
_RUNNER = "tenantry_cli.migrate.fleet"
_ROWS = 20


@dataclass(frozen=True)
class Run:
    """One migration of everybody: a column and an index of a tenant table."""

    workers: int
    #: Databases and schemas that were changed.
    places: int
    failed: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def measure(environment: Environment, on_run: Callable[[Run], None]) -> list[Run]:
    """Migrate a fleet with the most tenants of the scale, several times, one file each time.

    Raises RuntimeError where the command line has no migrations of fleets.
    """
    if importlib.util.find_spec(_RUNNER) is None:
        raise RuntimeError(f"there is no {_RUNNER}: migrations of fleets cannot be measured")
    count = max(environment.scale.tenants)
    runs = []
    with new_homes(environment, "bench_migrations", per_shelf=20) as homes:
        for _ in range(count):
            for placement in PLACEMENTS:
                homes.add(placement, _ROWS)
        homes.fleet.close()
        files = list(homes.fleet.migrations)
        for turn in range(environment.scale.rounds):
            for workers in WORKERS:
                files.append(_file(turn, workers))
                runs.append(_migrate(homes, files, workers))
                on_run(runs[-1])
    return runs


def _file(turn: int, workers: int) -> Migration:
    column = f"bench_{turn}_{workers}"
    return Migration(
        f"2999010100{turn:02}{workers:02}",
        f"tenant_{column}",
        (
            f"alter table customers add column {column} text",
            f"create index customers_{column}_idx on customers (business_id, {column})",
        ),
    )


def _migrate(homes: Homes, files: list[Migration], workers: int) -> Run:
    runner: Any = importlib.import_module(_RUNNER)
    fleet = homes.fleet
    report = runner.FleetMigration(
        fleet.server.connect,
        fleet.main,
        files,
        template=template_name(fleet.prefix),
        options=runner.Options(workers=workers),
    ).up()
    return Run(workers, len(report.changed), len(report.failed), report.seconds)
