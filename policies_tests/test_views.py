"""Every view shows a persona exactly the rows and columns it has the rights for."""

from __future__ import annotations

import pytest
from psycopg import sql

from .catalog import Connection
from .conftest import Stage
from .oracle import Oracle
from .people import BUSINESSES, make_cast
from .probe import acting_as, run
from .specification import View, load_specification

SPECIFICATION = load_specification()
PERSONAS = [one.name for one in make_cast(SPECIFICATION).personas]


def _counts(connection: Connection, view: View) -> dict[str, int]:
    """Rows per business."""
    statement = sql.SQL("select {}::text, count(*) from {} group by 1").format(
        sql.Identifier(view.key), sql.Identifier(view.schema, view.name)
    )
    return dict(connection.execute(statement).fetchall())


@pytest.fixture(scope="module")
def everything(stage: Stage) -> dict[str, dict[str, int]]:
    """Rows per view and business, as the owner of the database sees them."""
    connection = stage.connection("postgres")
    counts = {name: _counts(connection, view) for name, view in SPECIFICATION.views.items()}
    connection.rollback()
    return counts


def test_every_view_has_rows_of_two_tenants(everything: dict[str, dict[str, int]]) -> None:
    # business_dashboard_data asks the caller's permissions itself, and the owner is nobody.
    del everything["public.business_dashboard_data"]
    for name, counts in everything.items():
        assert len(counts) >= 2, name


@pytest.mark.parametrize("name", PERSONAS)
def test_views(stage: Stage, everything: dict[str, dict[str, int]], name: str) -> None:
    persona = stage.world.cast[name]
    oracle = Oracle(stage.world)
    connection = stage.connection_of(persona)
    with acting_as(connection, persona):
        for label, view in SPECIFICATION.views.items():
            text = f"select 1 from {label}".encode()
            if persona.role not in ("authenticated", "service_role"):
                assert run(connection, text).sqlstate == "42501"
                continue
            if persona.role == "service_role":
                assert run(connection, text).sqlstate is None
                continue
            allowed = [
                one
                for one in BUSINESSES
                if all(oracle.holds(persona, p, one, "tenant") for p in view.needs)
            ]
            counts = everything.get(label) or {str(one.id): 1 for one in BUSINESSES}
            assert _counts(connection, view) == {
                str(one.id): counts[str(one.id)] for one in allowed if str(one.id) in counts
            }, f"{name} / {label}"
            _check_columns(connection, oracle, persona.name, stage, view)
    connection.rollback()


def _check_columns(
    connection: Connection, oracle: Oracle, name: str, stage: Stage, view: View
) -> None:
    """A column that needs a permission of its own is empty without it."""
    persona = stage.world.cast[name]
    for column, permission in view.columns.items():
        statement = sql.SQL(
            "select {}::text, bool_or(coalesce({}::text, '0') <> '0') from {} group by 1"
        ).format(
            sql.Identifier(view.key),
            sql.Identifier(column),
            sql.Identifier(view.schema, view.name),
        )
        for business_id, is_filled in connection.execute(statement):
            business = next(one for one in BUSINESSES if str(one.id) == business_id)
            wanted = oracle.holds(persona, permission, business, "tenant")
            assert is_filled == wanted, f"{name} / {view.name}.{column}"
