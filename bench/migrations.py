"""How long a fleet takes to migrate with 1, 2 and 4 workers.

    python -m bench.migrations [--shelves 2] [--schemas 50] [--databases 20]

Makes a fleet of small places on a throw-away Postgres, applies one ALTER TABLE to all of them with
each number of workers (another column each time, in alternating order) and prints the medians and
their ratios to one worker.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.migrate.small_fleet import SmallFleet, small_fleet

from tenantry_cli.testing import throwaway_server

WORKERS = (1, 2, 4)


def measure(fleet: SmallFleet, rounds: int) -> dict[int, list[float]]:
    """Seconds per run, by number of workers."""
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    version = 20260201000000
    for number in range(rounds):
        for workers in WORKERS if number % 2 == 0 else reversed(WORKERS):
            version += 1
            fleet.add(
                f"{version}_tenant_column.sql", f"alter table notes add column c{version} text;"
            )
            report = fleet.migration(workers=workers, lock_timeout="10s").up()
            assert not report.failed, report.failed
            seconds[workers].append(report.seconds)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shelves", type=int, default=2)
    parser.add_argument("--schemas", type=int, default=50, help="on each shelf")
    parser.add_argument("--databases", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        throwaway_server() as server,
        tempfile.TemporaryDirectory() as directory,
        small_fleet(
            server,
            Path(directory),
            shelves=options.shelves,
            schemas_per_shelf=options.schemas,
            databases=options.databases,
        ) as fleet,
    ):
        seconds = measure(fleet, options.rounds)
    medians = {workers: statistics.median(found) for workers, found in seconds.items()}
    tenants = options.shelves * options.schemas + options.databases
    print(f"{tenants} tenants, medians of {options.rounds} runs:")
    for workers, median in medians.items():
        print(f"  {workers} workers: {median:6.2f} s, {medians[1] / median:.2f} times as fast as 1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
