"""What the matrix proves of statements holds for requests, on connections that tenants share.

Each probe is sent as two tenants in turn, many times over the same pool: a plan, a setting or a
temporary object that one leaves behind would show in the answers to the other.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import pytest

from policies_tests.conftest import Stage
from policies_tests.people import ALPHA, BETA
from policies_tests.proof_record import record
from policies_tests.two_worlds.plants import PLANTS
from policies_tests.world import World
from tenantry_cli.testing import Database

from .canaries import canaries
from .client import Answer, Caller, Tally, fault, run_probes
from .probes import Probe, Probes
from .server import Api, serve

#: Postgres may keep one plan for all callers from the sixth execution on.
OFTEN = 20
#: They take turns with the owner of the other tenant.
QUICK_PERSONAS = ("owner", "stranger")
FULL_PERSONAS = (
    "owner", "stranger", "anon", "no subject", "malformed subject", "viewer", "customer",
    "removed owner", "suspended owner", "organization admin", "sibling owner",
)  # fmt: skip


Round = tuple[Probe, tuple[Caller, Caller], int]


@pytest.fixture(scope="module")
def probes(stage: Stage) -> list[Probe]:
    return Probes(stage).all()


@pytest.fixture(scope="module", params=[1, 10], ids=lambda size: f"pool of {size}")
def api(stage: Stage, request: pytest.FixtureRequest) -> Iterator[tuple[Api, int]]:
    with serve(stage.database, request.param) as running:
        yield running, request.param


def _callers(stage: Stage, name: str) -> tuple[Caller, Caller]:
    """A persona, and the owner of the other tenant."""
    cast = stage.world.cast
    theirs, ours = canaries(stage.world, BETA), canaries(stage.world, ALPHA)
    assert len(theirs) > 20
    assert len(ours) > 20
    return Caller(cast[name], tuple(theirs)), Caller(cast["other owner"], tuple(ours))


def _quick(stage: Stage, probes: list[Probe], pool: int) -> Iterator[Round]:
    """Each probe once; each table and view often, on the one connection that all share."""
    name = QUICK_PERSONAS[0] if pool == 1 else QUICK_PERSONAS[1]
    callers = _callers(stage, name)
    for probe in probes:
        yield probe, callers, OFTEN if pool == 1 and probe.is_plain else 1


def _full(stage: Stage, probes: list[Probe]) -> Iterator[Round]:
    for name in FULL_PERSONAS:
        callers = _callers(stage, name)
        for probe in probes:
            yield probe, callers, OFTEN if name in QUICK_PERSONAS else 2


@pytest.mark.slow
def test_requests_give_what_the_oracle_says(
    stage: Stage, probes: list[Probe], api: tuple[Api, int], pytestconfig: pytest.Config
) -> None:
    is_full = pytestconfig.getoption("--full-proof")
    running, pool = api
    tally, started = Tally(), time.monotonic()
    rounds = _full(stage, probes) if is_full else _quick(stage, probes, pool)
    asyncio.run(run_probes(running, rounds, tally))
    seconds = time.monotonic() - started
    print(f"pool of {pool}: {tally.requests} requests, {tally.requests / seconds:.0f} a second")
    record(
        "http_repeat",
        {
            "seed": "none: every probe is sent",
            f"pool of {pool}": {
                "probes": len(probes),
                "requests": tally.requests,
                "requests a second": round(tally.requests / seconds),
                "answers by status": dict(sorted(tally.statuses.items())),
                "server errors": tally.server_errors,
                "canary hits": tally.canary_hits,
                "wrong answers": len(tally.problems),
            },
        },
    )
    shown = "\n".join(dict.fromkeys(tally.problems))
    assert not tally.problems, f"{len(tally.problems)} problems\n{shown[:6000]}"
    assert {200, 201, 204, 403} <= tally.statuses.keys()


@pytest.mark.parametrize("name", ["policies true", "immutable helper"])
def test_planted_leaks_show(
    stage: Stage,
    probes: list[Probe],
    new_world: Callable[[], tuple[Database, World]],
    name: str,
) -> None:
    """The second one shows on a connection that another tenant has used several times."""
    database, _ = new_world()
    plant = next(one for one in PLANTS if one.name == name)
    with database.connect() as connection:
        connection.execute(plant.statements.encode())
    callers = _callers(stage, "owner")
    plain = [one for one in probes if one.is_plain and one.path.startswith("/calls")]
    tally = Tally()
    with serve(database, 1) as running:
        asyncio.run(run_probes(running, ((one, callers, OFTEN) for one in plain), tally))
    assert tally.canary_hits
    assert any("too many" in one for one in tally.problems)


def test_faults_are_noticed(stage: Stage, probes: list[Probe]) -> None:
    """Wrong codes, states, counts, rows and embedded rows."""
    owner = stage.world.cast["owner"]
    read = next(one for one in probes if one.label == "read customers")
    counted = next(one for one in probes if one.label == "count customers")
    refused = next(one for one in probes if one.label == "insert into beta-one, customers")
    sound = json.dumps(
        [
            dict(zip(("business_id", "id"), key, strict=True))
            for key in sorted(read.predict(owner).keys or (), key=str)
        ]
    )
    body = '{"code": "42501"}'
    cases = [
        (read, Answer(200, "", "", sound), False),
        (read, Answer(200, "", "", "[]"), True),
        (read, Answer(403, "", "", body), True),
        (counted, Answer(200, "", "0-0/1", sound), True),
        (refused, Answer(403, "", "", body), False),
        (refused, Answer(401, "", "", body), True),
        (refused, Answer(201, "", "*/1", ""), True),
        (refused, Answer(409, "", "", '{"code": "23505"}'), True),
        (refused, Answer(502, "", "", "no JSON"), True),
    ]
    for probe, answer, is_wrong in cases:
        assert (fault(probe, owner, answer) is not None) == is_wrong, (probe.label, answer)
