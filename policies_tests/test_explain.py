"""explain_access says what really happens, and the rule that it names is the one that decides."""

from __future__ import annotations

import pytest

from .calls import call_text
from .conftest import Stage
from .oracle import Oracle
from .people import ALPHA_ONE, BUSINESSES, OWNED, Persona, make_cast, record_id
from .probe import acting_as, run_all
from .specification import load_specification

PERSONAS = [
    one.name
    for one in make_cast(load_specification()).personas
    if one.role == "authenticated" and not one.name.startswith("only ")
]
#: What the verb says that changes nothing, so that only the rights decide.
_DO = {
    "select": "select 1 from public.{table} t where t.id = '{id}'",
    "update": "update public.{table} t set {column} = t.{column} where t.id = '{id}'",
    "delete": "delete from public.{table} t where t.id = '{id}'",
}


def _tables(stage: Stage) -> list[str]:
    specification = stage.world.specification
    return [
        table.name
        for table in specification.tables.values()
        if table.schema == "public"
        and "id" in {one.name for one in stage.world.catalog.relations[table.label].columns}
        and table.is_readable
    ]


def _rows(stage: Stage, table: str) -> list[str]:
    """A row of each business, those with owners, and one that does not exist."""
    label = f"public.{table}"
    rows = stage.world.rows[label]
    keys = [stage.world.samples.get((label, one.name)) for one in BUSINESSES]
    ids = [str(rows[key]["id"]) for key in keys if key is not None]
    if table in stage.world.specification.records:
        ids += [str(record_id(table, one.token, ALPHA_ONE)) for one in OWNED]
    elif stage.world.specification.tables[label].part_of:
        ids += [str(row["id"]) for row in rows.values() if row["business_id"] == str(ALPHA_ONE.id)]
    return [*dict.fromkeys(ids), "00000000-0000-4000-8000-00000000dead"]


def _told(
    stage: Stage, persona: Persona, wanted: list[tuple[str, str, str]]
) -> list[tuple[str, str]]:
    connection = stage.connection_of(persona)
    statements = [
        call_text("explain_access", {"table": table, "id": row, "verb": verb})
        .as_string(connection)
        .encode()
        for table, row, verb in wanted
    ]
    told = []
    for (table, row, verb), outcome in zip(wanted, run_all(connection, statements), strict=True):
        assert outcome.sqlstate is None, f"{verb} {table} {row}: {outcome}"
        ((allowed, rule, *_),) = outcome.keys
        told.append((str(allowed), str(rule)))
    return told


@pytest.mark.parametrize("name", PERSONAS)
def test_the_verdict_is_what_happens(stage: Stage, name: str) -> None:
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    specification = stage.world.specification
    with acting_as(connection, persona):
        wanted = [
            (table, row, verb)
            for table in _tables(stage)
            for row in _rows(stage, table)
            for verb in _DO
        ]
        verdicts = [allowed for allowed, _ in _told(stage, persona, wanted)]
        statements = []
        for table, row, verb in wanted:
            columns = specification.tables[f"public.{table}"].update_columns or ("id",)
            statements.append(_DO[verb].format(table=table, id=row, column=columns[0]).encode())
        outcomes = run_all(connection, statements)
        for (table, row, verb), allowed, done in zip(wanted, verdicts, outcomes, strict=True):
            # A reference that holds the row, or the last owner, comes after the right.
            happens = done.sqlstate in ("23503", "PT409") or done.rows == 1
            assert (allowed == "t") == happens, f"{name}: {verb} {table} {row}: {allowed}, {done}"
    connection.rollback()


RULES = {
    ("owner", "customers", "support"): "role",
    ("viewer", "customers", "support"): "role",
    ("staff", "customers", "field"): "role",
    ("staff", "customers", "support"): "out_of_scope",
    ("sales_rep", "customers", "rep"): "role",
    ("sales_rep", "customers", "support"): "out_of_scope",
    ("shared with", "customers", "shared"): "record_shared",
    ("shared with", "customers", "support"): "no_role",
    ("record denied", "customers", "denied"): "record_denied",
    ("record denied", "contact_points", "denied"): "record_denied",
    ("own but denied", "customers", "rep"): "record_denied",
    ("own but denied", "customers", "support"): "permission_given",
    ("denied and shared", "customers", "shared"): "permission_denied",
    ("denied", "customers", "rep"): "permission_denied",
    ("director", "customers", "denied"): "record_denied",
    ("portal", "conversations", "portal"): "role",
    ("portal", "conversations", "support"): "out_of_scope",
    ("portal", "customers", "portal"): "no_role",
    ("guest", "customers", "shared"): "record_shared",
    ("works below", "calls", "support"): "record_shared",
    ("sales lead", "calls", "support"): "role",
    ("organization admin", "customers", "support"): "role",
    ("stranger", "customers", "support"): "not_found",
    ("removed owner", "customers", "support"): "not_found",
    ("suspended owner", "customers", "support"): "membership_suspended",
    ("other owner", "customers", "support"): "not_found",
    ("anonymous", "customers", "support"): "session_closed",
    ("ended session", "customers", "support"): "session_closed",
    ("key of owner", "customers", "support"): "role",
    ("key of owner", "conversations", "support"): "not_in_key_scopes",
    ("key of rep", "customers", "support"): "out_of_scope",
}


@pytest.mark.parametrize(("name", "table", "token"), RULES)
def test_the_rule_is_named(stage: Stage, name: str, table: str, token: str) -> None:
    persona = stage.world.cast[name]
    if table == "contact_points":
        parent = str(record_id("customers", token, ALPHA_ONE))
        rows = stage.world.rows["public.contact_points"].values()
        row = next(str(one["id"]) for one in rows if one["customer_id"] == parent)
    else:
        row = str(record_id(table, token, ALPHA_ONE))
    with acting_as(stage.connection_of(persona), persona):
        ((_, rule),) = _told(stage, persona, [(table, row, "select")])
    stage.connection_of(persona).rollback()
    assert rule == RULES[name, table, token]


@pytest.mark.parametrize("name", ["owner", "sales_rep", "shared with", "guarded aal1", "stranger"])
def test_a_row_of_another_tenant_is_told_like_none(stage: Stage, name: str) -> None:
    """Verdict, rule and words are the same for a row of somebody else and for no row."""
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    nothing = "00000000-0000-4000-8000-00000000dead"
    oracle = Oracle(stage.world)
    compared = 0
    with acting_as(connection, persona):
        for table in _tables(stage):
            label = f"public.{table}"
            if stage.world.specification.tables[label].scope != "business":
                continue
            for business in BUSINESSES:
                if oracle.is_listed(persona, business):
                    continue
                row = stage.world.rows[label][stage.world.sample(label, business)]["id"]
                for function, more in (
                    ("explain_access", {}),
                    ("explain_rule", {"is_allowed": True}),
                ):
                    texts = [
                        call_text(function, {"table": table, "id": one, "verb": verb, **more})
                        for one in (row, nothing)
                        for verb in ("select", "update", "delete")
                    ]
                    told = run_all(
                        connection, [one.as_string(connection).encode() for one in texts]
                    )
                    assert told[:3] == told[3:], f"{function} {table} of {business.name}"
                    compared += 3
    connection.rollback()
    assert compared > 100
