"""Every table, view and function, every operation, every persona, own and other tenants."""

from __future__ import annotations

import time
from itertools import chain

import pytest

from .calls import Calls
from .catalog import Connection
from .conftest import Stage
from .evidence import Evidence
from .people import ALPHA_ONE, BETA_ONE, TELLING, make_cast
from .probe import Difference, acting_as, differences, run_all
from .specification import load_specification

PERSONAS = [one.name for one in make_cast(load_specification()).personas]


def report(found: list[Difference]) -> str:
    return "\n".join(["", *map(str, found[:20]), f"{len(found)} differences"])


def try_cells(stage: Stage, name: str, evidence: Evidence) -> None:
    """Every cell of the stage for one persona."""
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    counter = [0]
    started = time.monotonic()
    cells = chain(*stage.cells_of(persona).values())
    for label, of_label in stage.cells_of(persona).items():
        evidence.by_cell[f"{label}\t{name}"] += len(of_label)
    found = list(differences(connection, persona, cells, counter))
    connection.rollback()
    evidence.note_cells(stage.world.site.placement, counter[0], time.monotonic() - started)
    assert not found, report(found)
    assert counter[0] > 1000


@pytest.mark.parametrize("name", PERSONAS)
def test_matrix(stage: Stage, name: str, evidence: Evidence) -> None:
    try_cells(stage, name, evidence)


def test_the_matrix_covers_everything(stage: Stage) -> None:
    relations = stage.world.catalog.relations
    public = {
        label
        for label, one in stage.world.specification.functions.items()
        if one.schema == "public"
    }
    asked = {f"public.{name}" for name in Calls.ABOUT_USERS}
    assert set(stage.cells) == set(stage.service_cells) == set(relations) | (public - asked)
    for relation in stage.world.catalog.tables:
        operations = {cell.operation.split()[0] for cell in stage.cells[relation.label]}
        assert {"read", "insert", "update", "delete", "truncate"} <= operations, relation.label


def test_every_view_has_rows_of_two_tenants(stage: Stage) -> None:
    for label, counts in stage.world.views.items():
        # It asks the caller's permissions itself, and the owner of the database is nobody.
        if label != "public.business_dashboard_data":
            assert len(counts) >= 2, label


def test_every_table_has_rows_that_somebody_could_see(stage: Stage) -> None:
    """An empty result proves nothing when there is nothing to find."""
    for table in stage.world.specification.tables.values():
        assert stage.world.rows[table.label], table.label
        if table.scope == "business" and table.schema == "public":
            for business in (ALPHA_ONE, BETA_ONE):
                assert stage.world.sample(table.label, business)


def test_telling_personas_exist(stage: Stage) -> None:
    assert len(stage.world.cast.choose(TELLING)) == len(TELLING)


def test_a_foreign_row_and_no_row_give_the_same_error(stage: Stage) -> None:
    """References to another tenant's row and to nothing differ in nothing a client can read."""
    connection: Connection = stage.connection("authenticator")
    compared = 0
    for name, cells in (("owner", stage.cells), ("service_role", stage.service_cells)):
        with acting_as(connection, stage.world.cast[name]):
            for cell in chain(*cells.values()):
                if not cell.operation.endswith("of beta-one") or " with " not in cell.operation:
                    continue
                target = _foreign_id(cell.statement, stage)
                nothing = cell.statement.replace(target, b"00000000-0000-4000-8000-00000000dead")
                foreign, unknown = run_all(connection, [cell.statement, nothing])
                assert (foreign.sqlstate, foreign.message) == (unknown.sqlstate, unknown.message)
                compared += foreign.sqlstate == "23503"
    connection.rollback()
    assert compared > 20


def _foreign_id(statement: bytes, stage: Stage) -> bytes:
    """The id of beta-one's row in the statement."""
    ids = {
        str(row["id"]).encode()
        for table, rows in stage.world.rows.items()
        for row in rows.values()
        if row.get("business_id") == str(BETA_ONE.id) and row.get("id")
    }
    return next(one for one in ids if one in statement)
