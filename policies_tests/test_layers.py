"""Each layer holds alone: policies without grants, grants without policies, and constraints.

The matrix sees all layers at once, and one can hide that another is open.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql

from .catalog import Connection, Reference
from .conftest import Stage
from .new_row_cells import assignments
from .oracle import Oracle
from .people import ALPHA_ONE, BETA_ONE, BUSINESSES, TELLING, Business
from .probe import Outcome, acting_as, run, run_all
from .rows import FACTORIES
from .specification import Table
from .test_specification import expected_columns

MEMBERS = [name for name in TELLING if name not in ("anon", "service_role", "integrator")]

_OPEN_GRANTS = "grant select, insert, update, delete on {} to authenticated, anon"
_OPEN_POLICY = "create policy everything on {} to authenticated using (true) with check (true)"
_NO_POLICIES = "alter table {} disable row level security"
_NO_TRIGGERS = "alter table {} disable trigger user"


def _for_all_tables(connection: Connection, stage: Stage, *templates: str) -> None:
    """Statements on every table, in the owner's transaction."""
    connection.execute("set local lock_timeout = '2s'")
    connection.execute("grant usage on schema private to anon")
    for relation in stage.world.catalog.tables:
        for template in templates:
            name = sql.Identifier(relation.schema, relation.name)
            connection.execute(sql.SQL(template).format(name))


@pytest.fixture(scope="module")
def own(stage: Stage) -> Iterator[Connection]:
    """A second connection of the owner: changes of definitions stay in its transaction."""
    with stage.database.connect() as connection:
        yield connection
        connection.rollback()


def _bytes(connection: Connection, statement: sql.Composable) -> bytes:
    return statement.as_string(connection).encode()


def _name(table: Table) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _insert(stage: Stage, table: Table, business: Business) -> sql.Composable:
    row = FACTORIES[table.label](stage.world.tenants[business.name], "new")
    return sql.SQL("insert into {} ({}) values ({})").format(
        _name(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Literal, row.values())),
    )


def _move(stage: Stage, table: Table, source: Business, target: Business) -> sql.Composable:
    """Give every row of one business to another."""
    assert table.key is not None
    rows = stage.world.rows[table.label]
    old = rows[stage.world.sample(table.label, source)][table.key]
    new = rows[stage.world.sample(table.label, target)][table.key]
    key = sql.Identifier(table.key)
    return sql.SQL("update {} set {} = {} where {} = {}").format(
        _name(table), key, sql.Literal(new), key, sql.Literal(old)
    )


@pytest.fixture
def only_policies(own: Connection, stage: Stage) -> Iterator[Connection]:
    _for_all_tables(own, stage, _OPEN_GRANTS, _NO_TRIGGERS)
    yield own
    own.rollback()


def test_policies_alone(only_policies: Connection, stage: Stage) -> None:
    """With every grant and no trigger, what members do is still what their permissions say."""
    oracle = Oracle(stage.world)
    connection = only_policies
    for name in MEMBERS:
        persona = stage.world.cast[name]
        with acting_as(connection, persona):
            for table in stage.world.specification.tables.values():
                _check_policies(connection, stage, oracle, name, table)


def _check_policies(
    connection: Connection, stage: Stage, oracle: Oracle, name: str, table: Table
) -> None:
    persona = stage.world.cast[name]
    label = f"{name} / {table.label}"
    visible = oracle.visible(persona, table) or frozenset()
    relation = stage.world.catalog.relations[table.label]
    generated = {one.name for one in relation.columns if one.is_generated}
    key = next(name for name in relation.primary_key if name not in generated)
    changeable = (oracle.changeable(persona, table, "update") or frozenset()) & visible
    removable = oracle.changeable(persona, table, "delete") or frozenset()
    is_held = any(key in stage.world.held[table.label] for key in removable)

    # What is tried, as what, and what must come of it: an error or so many rows.
    tried: list[tuple[str, sql.Composable, tuple[str | None, int]]] = []
    read, touch, remove = (
        sql.SQL(text).format(table=_name(table), key=sql.Identifier(key))
        for text in (
            "select {key} from {table}",
            "update {table} set {key} = {key}",
            "delete from {table}",
        )
    )
    tried.append(("read", read, (None, len(visible))))
    tried.append(("update", touch, (None, len(changeable))))
    tried.append(("delete", remove, ("23503", 0) if is_held else (None, len(removable))))
    if table.key is not None and table.label in stage.world.rows:
        for business in BUSINESSES:
            row = FACTORIES[table.label](stage.world.tenants[business.name], "new")
            values = {name: None if value is None else str(value) for name, value in row.items()}
            allowed = table.rule("insert") != "nobody" and oracle.may_insert(
                persona, table, business, values, with_triggers=False
            )
            expected = (None, 1) if allowed else ("42501", 0)
            tried.append((f"insert {business.name}", _insert(stage, table, business), expected))
    outcomes = run_all(connection, [_bytes(connection, text) for _, text, _ in tried])
    for (verb, _, wanted), found in zip(tried, outcomes, strict=True):
        assert (found.sqlstate, found.rows) == wanted, f"{label}: {verb} {found}"

    if table.key is None or table.label not in stage.world.rows:
        return
    moves = [
        _bytes(connection, _move(stage, table, source, target))
        for source, target in ((ALPHA_ONE, BETA_ONE), (BETA_ONE, ALPHA_ONE))
    ]
    for found in run_all(connection, moves):
        assert found.sqlstate is not None or found.rows == 0, f"{label}: moved {found}"


def test_policies_alone_show_visitors_nothing(only_policies: Connection, stage: Stage) -> None:
    with acting_as(only_policies, stage.world.cast["anon"]):
        for table in stage.world.specification.tables.values():
            found = run(
                only_policies,
                _bytes(only_policies, sql.SQL("select 1 from {}").format(_name(table))),
            )
            seen = Oracle(stage.world).visible(stage.world.cast["anon"], table) or ()
            assert (found.sqlstate, found.rows) == (None, len(seen)), table.label


@pytest.fixture
def only_bounds(own: Connection, stage: Stage) -> Iterator[Connection]:
    _for_all_tables(own, stage, _OPEN_GRANTS, _NO_TRIGGERS)
    for relation in stage.world.catalog.tables:
        if relation.schema == "public":
            name = sql.Identifier(relation.schema, relation.name)
            own.execute(sql.SQL(_OPEN_POLICY).format(name))
    yield own
    own.rollback()


def test_bounds_alone(only_bounds: Connection, stage: Stage) -> None:
    """Beside a policy that lets everybody do everything, nobody leaves the businesses where they
    hold the permission in this session: no tenant is opened, no second factor passed by.
    """
    for name in MEMBERS:
        with acting_as(only_bounds, stage.world.cast[name]):
            _check_bounds(only_bounds, stage, name)


def _check_bounds(connection: Connection, stage: Stage, name: str) -> None:
    oracle, persona = Oracle(stage.world), stage.world.cast[name]
    by_key = {str(one.id): one for one in BUSINESSES}

    def is_held(table: Table, verb: str, business: Business) -> bool:
        return oracle.holds(persona, table.rule(verb), business, table.plane)

    reads: list[tuple[str, sql.Composable, frozenset[tuple[str | None, ...]]]] = []
    inserts: list[tuple[str, sql.Composable, bool]] = []
    for table in stage.world.specification.tables.values():
        if table.key is None or "." not in table.rule("select"):
            continue
        readable = oracle.visible(persona, table) or frozenset()
        if table.scope == "business":  # all records, for whoever reaches some
            readable |= {
                key
                for key, row in stage.world.rows[table.label].items()
                if (own := row[table.key]) and is_held(table, "select", by_key[own])
            }
        columns = sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(one))
            for one in stage.world.catalog.relations[table.label].primary_key
        )
        read = sql.SQL("select {} from {}").format(columns, _name(table))
        reads.append((f"{name}: {table.label}", read, readable))
        if table.rule("insert") != "nobody" and table.plane == "tenant":
            for business in BUSINESSES:
                label = f"{name}: {table.label}: insert {business.name}"
                is_refused = not is_held(table, "insert", business)
                inserts.append((label, _insert(stage, table, business), is_refused))
    found = run_all(connection, [_bytes(connection, text) for _, text, _ in reads])
    for (label, _, readable), got in zip(reads, found, strict=True):
        assert (got.sqlstate, got.keys) == (None, readable), label
    found = run_all(connection, [_bytes(connection, text) for _, text, _ in inserts])
    for (label, _, is_refused), got in zip(inserts, found, strict=True):
        assert (got.sqlstate == "42501") == is_refused, f"{label}: {got}"
    assert len(reads) > 20
    assert len(inserts) > 20


@pytest.fixture
def only_grants(own: Connection, stage: Stage) -> Iterator[Connection]:
    _for_all_tables(own, stage, _NO_POLICIES, _NO_TRIGGERS)
    yield own
    own.rollback()


@pytest.mark.parametrize("name", ["owner", "stranger", "anon"])
def test_grants_alone(only_grants: Connection, stage: Stage, name: str) -> None:
    """Without policies and triggers, keys, authorship and whole verbs are still out of reach."""
    connection, role = only_grants, stage.world.cast[name].role
    tried: list[tuple[str, bool, bytes]] = []
    for table in stage.world.specification.tables.values():
        relation = stage.world.catalog.relations[table.label]
        names = [one.name for one in relation.columns]
        readable = expected_columns(table, role, "select", names)
        for column in relation.columns:
            one = sql.Identifier(column.name)
            verbs = {
                "select": sql.SQL("select {} from {} where false").format(one, _name(table)),
                "update": sql.SQL("update {} set {} = default where false").format(
                    _name(table), one
                ),
                "insert": sql.SQL("insert into {} ({}) select null::{} where false").format(
                    _name(table), one, sql.SQL(column.type)
                ),
            }
            for verb, statement in verbs.items():
                may = column.name in expected_columns(table, role, verb, names)
                if column.is_generated and verb != "select":
                    continue
                tried.append(
                    (f"{table.label}.{column.name} {verb}", may, _bytes(connection, statement))
                )
        may_delete = role == "authenticated" and table.rule("delete") != "nobody"
        # `where false` reads nothing, but a member without any column may not even name the table.
        delete = sql.SQL("delete from {} where false").format(_name(table))
        tried.append((f"{table.label} delete", may_delete, _bytes(connection, delete)))
        system = sql.SQL("select ctid from {} where false").format(_name(table))
        tried.append((f"{table.label} ctid", False, _bytes(connection, system)))
        assert readable or role == "anon" or not table.is_readable
    with acting_as(connection, stage.world.cast[name]):
        for start in range(0, len(tried), 40):
            batch = tried[start : start + 40]
            outcomes = run_all(connection, [statement for _, _, statement in batch])
            for (label, may, _), got in zip(batch, outcomes, strict=True):
                assert got.sqlstate == (None if may else "42501"), f"{name}: {label}: {got}"
    assert len(tried) > 1000


@pytest.fixture
def only_constraints(own: Connection, stage: Stage) -> Iterator[Connection]:
    _for_all_tables(own, stage, _NO_TRIGGERS)
    own.execute("savepoint cell")
    yield own
    own.rollback()


def _tenant_references(stage: Stage) -> list[Reference]:
    tables = stage.world.specification.tables
    return [
        one
        for one in stage.world.catalog.references
        if one.target in tables
        and tables[one.table].key == tables[one.target].key == "business_id"
        and tables[one.table].scope == tables[one.target].scope == "business"
    ]


def test_constraints_alone(only_constraints: Connection, stage: Stage) -> None:
    """The owner of the database, past policies, grants and triggers, cannot cross tenants."""
    connection = only_constraints
    crossed = set()
    references = _tenant_references(stage)
    for reference in references:
        column = next(name for name in reference.columns if name != "business_id")
        foreign = stage.world.rows[reference.target][stage.world.sample(reference.target, BETA_ONE)]
        target = next(name for name in reference.target_columns if name != "business_id")
        relation = stage.world.catalog.relations[reference.table]
        one_of = stage.world.specification.tables[reference.table].one_of
        changes: dict[str, str | None] = {name: None for name in one_of if column in one_of}
        statement = sql.SQL("update {} set {} where ({}) = ({})").format(
            sql.Identifier(relation.schema, relation.name),
            assignments(changes | {column: foreign[target]}),
            sql.SQL(", ").join(
                sql.SQL("{}::text").format(sql.Identifier(name)) for name in relation.primary_key
            ),
            sql.SQL(", ").join(map(sql.Literal, stage.world.sample(reference.table, ALPHA_ONE))),
        )
        got: Outcome = run(connection, _bytes(connection, statement))
        if got.sqlstate != "23503":
            assert (got.sqlstate, got.rows) == (None, 1), f"{reference.name}: {got}"
            crossed.add(reference.name)
    assert len(references) > 20
    # Roles have no key with the business in it: the trigger _100_own_role stands in.
    assert crossed == {
        "membership_roles_role_id_fkey",
        "invitations_role_id_fkey",
        "department_roles_role_id_fkey",
        "role_hierarchies_parent_role_id_fkey",
        "role_hierarchies_child_role_id_fkey",
        "access_control_lists_role_id_fkey",
    }


def test_rows_with_relations_cannot_move(only_constraints: Connection, stage: Stage) -> None:
    """Even the owner cannot give a row away while anything of its business hangs on it."""
    connection = only_constraints
    related = {one.table for one in _tenant_references(stage)}
    related |= {one.target for one in _tenant_references(stage)}
    # What only points to roles has no key with the business in it: triggers stand in.
    related -= {"public.roles", "public.role_hierarchies", "private.invitation_tokens"}
    for label in sorted(related):
        table = stage.world.specification.tables[label]
        got = run(connection, _bytes(connection, _move(stage, table, ALPHA_ONE, BETA_ONE)))
        assert got.sqlstate in ("23503", "23505"), f"{label}: {got}"


@pytest.fixture
def only_guards(own: Connection, stage: Stage) -> Iterator[Connection]:
    _for_all_tables(own, stage, _OPEN_GRANTS, _NO_POLICIES)
    yield own
    own.rollback()


def test_guards_alone(only_guards: Connection, stage: Stage) -> None:
    """With every grant and no policy, keys stay and strangers add nothing to a tenant's tables."""
    connection = only_guards
    for table in stage.world.specification.tables.values():
        if not (table.guarded or table.append_only):
            continue
        with acting_as(connection, stage.world.cast["stranger"]):
            moved = run(connection, _bytes(connection, _move(stage, table, ALPHA_ONE, BETA_ONE)))
            assert moved.sqlstate == "42501", f"{table.label}: {moved}"
            if table.plane == "tenant" and table.guarded:
                for business in (ALPHA_ONE, BETA_ONE):
                    got = run(connection, _bytes(connection, _insert(stage, table, business)))
                    assert got.sqlstate == "42501", f"{table.label}: {got}"
            if table.append_only:
                gone = sql.SQL("delete from {}").format(_name(table))
                assert run(connection, _bytes(connection, gone)).sqlstate == "42501"
