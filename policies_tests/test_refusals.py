"""Who may not add a row is told which field and what to do, and nothing about the business."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import sql

from .conftest import Stage
from .people import ALPHA_ONE, BETA_ONE, GUARDED_ONE, UNKNOWN, Business
from .probe import acting_as
from .rows import FACTORIES
from .specification import Table, load_specification

#: Every table of tenants that members insert into.
TABLES = [
    table
    for table in load_specification().tables.values()
    if table.plane == "tenant" and table.rule("insert") != "nobody"
]
#: In the business without the right, of another business, out of it, without a second factor.
REFUSED = (
    ("viewer", ALPHA_ONE),
    ("other owner", ALPHA_ONE),
    ("stranger", ALPHA_ONE),
    ("removed owner", ALPHA_ONE),
    ("suspended owner", ALPHA_ONE),
    ("guarded aal1", GUARDED_ONE),
)


def _refusal(stage: Stage, name: str, table: Table, business: Business) -> psycopg.Error:
    """The error of the persona's insert into the business."""
    operation = f"insert into {business.name}"
    (cell,) = (one for one in stage.cells[table.label] if one.operation == operation)
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    with acting_as(connection, persona), pytest.raises(psycopg.Error) as refused:
        connection.execute(cell.statement)
    connection.rollback()
    return refused.value


def _told(error: psycopg.Error) -> tuple[str | None, ...]:
    told = error.diag
    return error.sqlstate, told.message_primary, told.message_detail, told.message_hint


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize(("name", "business"), REFUSED, ids=[name for name, _ in REFUSED])
def test_the_refusal_names_field_and_remedy(
    stage: Stage, name: str, business: Business, table: Table
) -> None:
    error = _refusal(stage, name, table, business)
    assert error.sqlstate == "42501"
    assert json.loads(error.diag.message_detail or "") == {
        "field": "business_id",
        "reason": "permission_missing",
        "permission": table.rule("insert"),
    }
    assert "role that allows it" in (error.diag.message_hint or "")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("name", ["owner", "stranger", "service_role"])
def test_a_missing_business_is_said_to_be_missing(stage: Stage, name: str, table: Table) -> None:
    made = FACTORIES[table.label](stage.world.tenants[ALPHA_ONE.name], "new")
    row = {column: made[column] for column in table.insert_columns if column in made}
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier(table.schema, table.name),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Literal, row.values())),
    )
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    with acting_as(connection, persona), pytest.raises(psycopg.Error) as refused:
        connection.execute(statement)
    connection.rollback()
    assert refused.value.sqlstate == "22023"  # which PostgREST answers with 400
    told = refused.value.diag
    assert json.loads(told.message_detail or "") == {"field": "business_id", "reason": "missing"}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_business_of_another_tenant_is_told_like_none(stage: Stage, table: Table) -> None:
    foreign = _told(_refusal(stage, "owner", table, BETA_ONE))
    assert foreign == _told(_refusal(stage, "owner", table, UNKNOWN))
