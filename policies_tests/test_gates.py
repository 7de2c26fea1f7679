"""Each gate finds nothing in the product, and finds what is planted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tenantry_cli.testing import Database

from .catalog import Connection
from .evidence import Evidence
from .gates import GATES, Gate, Plant, find

PLANTS = [
    pytest.param(gate, plant, id=f"{gate.name} {number}")
    for gate in GATES
    for number, plant in enumerate(gate.plants)
]


@pytest.fixture(scope="module")
def gated_database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture(scope="module")
def owner(gated_database: Database) -> Iterator[Connection]:
    with gated_database.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def superuser(gated_database: Database) -> Iterator[Connection | None]:
    """None on a server whose administrator is no superuser, as on hosted Supabase."""
    server = gated_database.server
    with server.administer(gated_database.name) as connection:
        row = connection.execute("select rolsuper from pg_roles where rolname = current_user")
        yield connection if row.fetchone() == (True,) else None
        connection.rollback()


@pytest.mark.parametrize("gate", [pytest.param(gate, id=gate.name) for gate in GATES])
def test_nothing_is_found(owner: Connection, gate: Gate, evidence: Evidence) -> None:
    try:
        found = find(owner, gate)
    finally:
        owner.rollback()
    evidence.gates[gate.name] += len(found - set(gate.allowed))
    assert found - set(gate.allowed) == set(), gate.reason
    stale = set(gate.allowed) - found
    assert not stale, f"exceptions that are not needed any more: {stale}"


@pytest.mark.parametrize(("gate", "plant"), PLANTS)
def test_what_is_planted_is_found(
    owner: Connection,
    superuser: Connection | None,
    gate: Gate,
    plant: Plant,
    evidence: Evidence,
) -> None:
    if plant.as_superuser and superuser is None:
        pytest.skip("this server gives nobody the rights to plant it")
    connection = superuser if plant.as_superuser else owner
    assert connection is not None
    try:
        before = find(connection, gate)
        connection.execute(plant.statements.encode())
        found = find(connection, gate)
    finally:
        connection.rollback()
    is_found = plant.finds in found - before
    evidence.planted[f"{gate.name}\t{'found' if is_found else 'missed'}"] += 1
    assert plant.finds not in before
    assert plant.finds in found, f"planted, not found; found instead: {sorted(found - before)}"


def test_every_gate_has_a_planted_violation() -> None:
    assert len({gate.name for gate in GATES}) == len(GATES)
    for gate in GATES:
        assert gate.plants, gate.name
        assert not any(plant.finds in gate.allowed for plant in gate.plants), gate.name


def test_what_is_created_starts_closed(owner: Connection) -> None:
    """Default privileges, tried: a new table and a new function are nobody's."""
    try:
        owner.execute("create table public.fresh (id int)")
        owner.execute("create function public.fresh() returns int language sql as 'select 1'")
        open_to = owner.execute(
            """
            select r, has_table_privilege(r, 'public.fresh',
              'select, insert, update, delete, truncate')
              or has_function_privilege(r, 'public.fresh()', 'execute')
            from unnest(array['anon', 'authenticated', 'service_role', 'integrator']) r
            """
        ).fetchall()
    finally:
        owner.rollback()
    assert {role for role, is_open in open_to if is_open} == set()


def test_a_broken_gate_is_no_gate(owner: Connection) -> None:
    """A query that cannot run must fail, not pass for having found nothing."""
    gate = Gate("broken", "", "select nothing from nowhere", ())
    with pytest.raises(psycopg.Error):
        find(owner, gate)
    owner.rollback()
