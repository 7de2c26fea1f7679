"""No program of an attacker tells the world with the other tenant from the world without it.

`pytest policies_tests/two_worlds --full-proof -s` tries thousands of programs, with another seed
each time, and every planted leak; the ordinary run a few hundred, always the same, and three leaks.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies_tests.oracle import Oracle
from policies_tests.people import ALPHA_ONE
from policies_tests.proof_record import record
from policies_tests.world import World
from tenantry_cli.testing import Database

from .functions import PUBLIC_NAMES, read_signatures
from .operations import Text
from .plants import PLANTS
from .programs import Step, programs
from .search import search, search_plant, sound
from .worlds import OTHER, Pair, attackers, comparable_rows, desert

QUICK_EXAMPLES = 300
FULL_EXAMPLES = 5_000
#: Within so many programs each planted leak must be found.
PLANT_EXAMPLES = 1_000
QUICK_PLANTS = (
    "function returns a row by id",
    "trigger asks other tenants' rows",
    "immutable helper",
)


@pytest.fixture(scope="module")
def pair(new_world: Callable[[], tuple[Database, World]]) -> Pair:
    inhabited, world = new_world()
    deserted, _ = new_world()
    desert(deserted, world)
    return Pair(world, inhabited, deserted)


def test_the_worlds_differ_in_the_other_tenant_alone(pair: Pair) -> None:
    inhabited = comparable_rows(pair.inhabited, pair.world.catalog)
    deserted = comparable_rows(pair.deserted, pair.world.catalog)
    for label, table in pair.world.specification.tables.items():
        if label not in inhabited:
            continue
        left, gone = deserted[label], inhabited[label].keys() - deserted[label].keys()
        assert left.keys() <= inhabited[label].keys(), label
        if table.scope == "business":
            theirs = {
                key
                for key, row in inhabited[label].items()
                if row[table.key or ""] == str(OTHER.id)
            }
            assert theirs <= gone, label
            assert all(row == inhabited[label][key] for key, row in left.items()), label
        if table.scope is None and table.through is None:
            assert not gone, label
    assert sum(map(len, inhabited.values())) > sum(map(len, deserted.values()))


def test_the_attackers_are_many_and_have_rights(pair: Pair) -> None:
    oracle, ours = Oracle(pair.world), attackers(pair.world)
    everything = frozenset(pair.world.specification.permissions)
    assert len(ours) > 30
    assert any(oracle.permissions_in(one, ALPHA_ONE) == everything for one in ours)
    assert not any(oracle.permissions_in(one, OTHER) for one in ours)


def test_no_program_tells_the_worlds_apart(
    pair: Pair, pytestconfig: pytest.Config, fuzz_seed: int
) -> None:
    is_full = pytestconfig.getoption("--full-proof")
    with sound(pair) as (both, owner):
        strategy = programs(pair.world, owner)
        found = search(both, strategy, FULL_EXAMPLES if is_full else QUICK_EXAMPLES, fuzz_seed)
    rate = f"{found.examples / found.seconds:.0f} a second"
    print(f"seed {fuzz_seed}: {found.examples} programs ({rate}), {found.statements} statements")
    record(
        "two_worlds",
        {
            "seed": fuzz_seed,
            "examples": found.examples,
            "statements": found.statements,
            "statements that succeeded": both.succeeded,
            "seconds": round(found.seconds, 1),
            "differences": int(found.difference is not None),
        },
    )
    assert found.difference is None, f"seed {fuzz_seed}\n{found.difference}"
    # What is always refused shows nothing of what it would show.
    assert both.succeeded > found.statements / 4
    kinds = {"read", "count", "order", "embed", "insert", "update", "delete", "call", "view"}
    assert kinds <= both.kinds


def test_slugs_of_organizations_are_the_one_public_name_space(pair: Pair) -> None:
    """The exception is needed: docs/security.md says that founding tells whether one is taken."""
    step = Step(
        pair.world.cast["stranger"],
        Text(
            "call",
            "select * from public.create_organization(name => 'New', slug =>"
            f" '{OTHER.organization.name}')",
        ),
    )
    with sound(pair) as (both, owner):
        assert {one.name for one in read_signatures(owner)} >= PUBLIC_NAMES
        difference = both.run([step])
    assert difference is not None
    assert difference.inhabited.head[0] == b"23505"
    assert not difference.deserted.is_error


def test_made_up_values_are_compared_by_their_order_of_appearance(pair: Pair) -> None:
    """Equal new ids in one world and different ones in the other are a difference."""
    here = f"current_database() = '{pair.inhabited.name}'"
    ids = "(select gen_random_uuid() as a, gen_random_uuid() as b offset 0) made"
    cases = {
        "select gen_random_uuid(), clock_timestamp()": False,
        f"select a, b, a from {ids}": False,
        f"select a, case when {here} then a else b end from {ids}": True,
        f"select case when {here} then '{ALPHA_ONE.id}' else gen_random_uuid() end": True,
        f"select case when {here} then '{ALPHA_ONE.id}' else '{OTHER.id}' end": True,
        f"select from generate_series(1, case when {here} then 2 else 3 end)": True,
        f"select 1 / case when {here} then 1 else 0 end": True,
    }
    stranger = pair.world.cast["stranger"]
    with sound(pair) as (both, _):
        for statement, is_different in cases.items():
            difference = both.run([Step(stranger, Text("read", statement))])
            assert (difference is not None) == is_different, statement


def test_planted_leaks_are_found(pair: Pair, pytestconfig: pytest.Config, fuzz_seed: int) -> None:
    is_full = pytestconfig.getoption("--full-proof")
    after: dict[str, int] = {}
    for plant in PLANTS:
        if is_full or plant.name in QUICK_PLANTS:
            found = search_plant(pair, plant, PLANT_EXAMPLES, fuzz_seed)
            print(f"{plant.name}: {found.examples} programs\n{found.difference}")
            if found.difference is not None:
                after[plant.name] = found.examples
    record("two_worlds", {"planted leaks found after": after})
    missed = {one.name for one in PLANTS if is_full or one.name in QUICK_PLANTS} - after.keys()
    assert not missed, f"seed {fuzz_seed}"
