"""What the choice of a replica costs: `python -m tests.replica.compare [seconds]`.

The same read through one gateway, from the primary without a preference, from the replica, and from
the replica with rights that may be two seconds old. Everything runs on this machine, so a second
server's power does not show: the ratios say what the gateway's work costs.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Any

from tests.replica.conftest import Pair, gateways, running_pair
from tests.replica.test_reads import from_replica

ROUNDS = 5
READERS = 8


async def rate(user: Any, target: str, headers: dict[str, str], seconds: float) -> float:
    """Reads per second of some readers at once."""
    ends = time.monotonic() + seconds
    done = 0

    async def read_on() -> None:
        nonlocal done
        while time.monotonic() < ends:
            answer = await user.call("GET", target, headers=headers)
            assert answer.status == 200
            assert answer.source == ("replica" if headers else None)
            done += 1

    started = time.monotonic()
    await asyncio.gather(*(read_on() for _ in range(READERS)))
    return done / (time.monotonic() - started)


async def compare(pair: Pair, seconds: float) -> None:
    prefer = {"X-Read-Preference": "replica"}
    async with gateways(pair) as start:
        exact, relaxed = await start(rate=0), await start(rate=0, replica_rights_seconds=2.0)
        ana = exact.user()
        again = relaxed.user(ana.id)
        cases = {
            "without a preference": (ana, {}),
            "from the replica": (ana, prefer),
            "from the replica, rights 2 s old": (again, prefer),
        }
        for name, target in (
            ("one row", f"/rest/v1/profiles?user_id=eq.{ana.id}"),
            ("all permissions", "/rest/v1/permissions?select=*"),
        ):
            for user in (ana, again):
                await from_replica(user, target)
            rates: dict[str, list[float]] = {case: [] for case in cases}
            for _ in range(ROUNDS):
                for case, (user, headers) in cases.items():
                    rates[case].append(await rate(user, target, headers, seconds))
            base = rates["without a preference"]
            for case, found in rates.items():
                ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
                print(f"{name}: {case}: {ratio:.2f}")


if __name__ == "__main__":
    with running_pair() as both:
        asyncio.run(compare(both, float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
