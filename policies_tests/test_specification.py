"""permissions.yaml and the database name the same things and the same rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .catalog import Catalog, Connection, read_catalog
from .people import make_cast
from .rows import FACTORIES
from .specification import VERBS, Specification, Table

ROLES = ("anon", "authenticated", "service_role", "integrator")


@pytest.fixture(scope="module")
def catalog(catalog_connection: Connection) -> Catalog:
    return read_catalog(catalog_connection)


def test_every_table_is_specified(catalog: Catalog, specification: Specification) -> None:
    tables = {one.label for one in catalog.tables if one.parent is None}
    assert tables == set(specification.tables)


def test_every_partition_belongs_to_a_specified_table(
    catalog: Catalog, specification: Specification
) -> None:
    partitions = [one for one in catalog.tables if one.parent is not None]
    assert partitions, "audit_logs is partitioned"
    for one in partitions:
        assert f"{one.schema}.{one.parent}" in specification.tables


def test_every_view_is_specified(catalog: Catalog, specification: Specification) -> None:
    assert {one.label for one in catalog.views} == set(specification.views)


def test_every_table_has_a_factory(specification: Specification) -> None:
    assert set(FACTORIES) == set(specification.tables)


def test_every_function_is_specified_once(
    catalog_connection: Connection, specification: Specification
) -> None:
    names = [
        f"{schema}.{name}"
        for schema, name in catalog_connection.execute(
            """
            select n.nspname, p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname in ('public', 'private') order by 1, 2
            """
        )
    ]
    assert len(names) == len(set(names)), "two functions of one name: PostgREST cannot choose"
    internal = {
        f"{schema}.{name}" for schema, found in specification.internal.items() for name in found
    }
    assert not internal & set(specification.functions)
    assert set(names) == internal | set(specification.functions)


def test_columns_named_in_the_specification_exist(
    catalog: Catalog, specification: Specification
) -> None:
    for table in specification.tables.values():
        columns = {one.name for one in catalog.relations[table.label].columns}
        named = {*table.hidden, *table.insert_columns, *table.update_columns}
        named |= {table.key} if table.key else set()
        assert named <= columns, table.label


def expected_columns(table: Table, role: str, verb: str, names: list[str]) -> set[str]:
    """The columns a role may use with a verb, from the specification."""
    if role == "service_role":
        return set(names) if verb in table.service else set()
    if role == "anon":
        return set(names) if verb == "select" and table.visitors else set()
    if role != "authenticated":
        return set()
    if verb == "select":
        return set(names) - table.hidden if table.is_readable else set()
    if table.rule(verb) == "nobody":
        return set()
    listed = table.insert_columns if verb == "insert" else table.update_columns
    return {*listed, *([table.key] if verb == "insert" and table.key else [])}


def _grants(connection: Connection, catalog: Catalog) -> Iterator[tuple[str, str, str, set[str]]]:
    for relation in catalog.tables:
        for role in ROLES:
            for verb in ("select", "insert", "update"):
                found = connection.execute(
                    """
                    select a.attname from pg_attribute a
                    where a.attrelid = to_regclass(%(table)s) and a.attnum > 0
                      and not a.attisdropped
                      and has_column_privilege(%(role)s, a.attrelid, a.attnum, %(verb)s)
                    """,
                    {"table": relation.label, "role": role, "verb": verb},
                )
                yield relation.label, role, verb, {name for (name,) in found}


def test_grants_on_columns_are_those_of_the_specification(
    catalog_connection: Connection, catalog: Catalog, specification: Specification
) -> None:
    for label, role, verb, found in _grants(catalog_connection, catalog):
        relation = catalog.relations[label]
        table = specification.tables.get(label)
        names = [one.name for one in relation.columns]
        wanted = set() if table is None else expected_columns(table, role, verb, names)
        assert found == wanted, f"{label}: {verb} for {role}"


def test_delete_is_granted_to_those_of_the_specification(
    catalog_connection: Connection, catalog: Catalog, specification: Specification
) -> None:
    for relation in catalog.tables:
        table = specification.tables.get(relation.label)
        for role in ROLES:
            found = catalog_connection.execute(
                "select has_table_privilege(%s, %s, 'delete')", [role, relation.label]
            ).fetchone()
            wanted = table is not None and (
                (role == "service_role" and "delete" in table.service)
                or (role == "authenticated" and table.rule("delete") != "nobody")
            )
            assert found == (wanted,), f"{relation.label}: delete for {role}"


def test_functions_are_executable_by_those_of_the_specification(
    catalog_connection: Connection, specification: Specification
) -> None:
    rows = catalog_connection.execute(
        """
        select n.nspname || '.' || p.proname,
          array(select r from unnest(%s::text[]) r where has_function_privilege(r, p.oid,
            'execute'))
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('public', 'private')
        """,
        [list(ROLES)],
    )
    for name, found in rows:
        one = specification.functions.get(name)
        assert set(found) == (set(one.execute) if one else set()), name


def test_views_are_selectable_by_members_and_jobs_alone(
    catalog_connection: Connection, specification: Specification
) -> None:
    for name, view in specification.views.items():
        for role in ROLES:
            for verb in VERBS:
                found = catalog_connection.execute(
                    "select has_table_privilege(%s, %s, %s)", [role, name, verb]
                ).fetchone()
                wanted = verb == "select" and role in view.readers
                assert found == (wanted,), f"{name}: {verb} for {role}"


def test_permissions_and_what_roles_carry(
    catalog_connection: Connection, specification: Specification
) -> None:
    codes = catalog_connection.execute("select code from public.permissions").fetchall()
    assert {code for (code,) in codes} == set(specification.permissions)
    carried: dict[str, dict[str, str]] = {role: {} for role in specification.ranks}
    rows = catalog_connection.execute(
        """
        select r.code, rp.permission_code, rp.scope from public.role_permissions rp
        join public.roles r on r.id = rp.role_id
        """
    )
    for role, code, scope in rows:
        carried[role][code] = scope
    assert carried == {role: dict(specification.carried_by(role)) for role in specification.ranks}


def test_what_permissions_are_for(
    catalog_connection: Connection, specification: Specification
) -> None:
    rows = catalog_connection.execute(
        "select code, is_record_scoped, for_api_keys from public.permissions"
    ).fetchall()
    assert {code for code, scoped, _ in rows if scoped} == specification.record_permissions
    assert {code for code, _, for_keys in rows if not for_keys} == specification.people_only


def test_what_access_lists_mean(
    catalog_connection: Connection, specification: Specification
) -> None:
    rows = catalog_connection.execute(
        "select resource, verb, permission_code from private.record_permissions"
    ).fetchall()
    assert set(rows) == {
        (name, verb, code)
        for name, record in specification.records.items()
        for verb, codes in record.verbs.items()
        for code in codes
    }


def test_ranks(catalog_connection: Connection, specification: Specification) -> None:
    rows = catalog_connection.execute(
        "select code, rank from public.roles where business_id is null"
    ).fetchall()
    assert dict(rows) == dict(specification.ranks)


def test_only_reviewed_roles_may_pass_a_permission_on(
    catalog_connection: Connection, specification: Specification
) -> None:
    rows = catalog_connection.execute(
        """
        select distinct r.code from public.role_permissions rp
        join public.roles r on r.id = rp.role_id where rp.grantable
        """
    )
    assert {code for (code,) in rows} == specification.granting_roles


def test_each_permission_has_a_persona_of_its_own(specification: Specification) -> None:
    names = {one.name for one in make_cast(specification).personas}
    assert {f"only {code}" for code in specification.permissions} <= names
    assert set(specification.ranks) <= names
