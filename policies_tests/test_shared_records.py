"""Policies look at `shared_id`, not at the id: what an access control list names must carry it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from .catalog import Connection
from .conftest import Stage
from .people import ALPHA_ONE, RECORDS, fixed_id, membership_id, record_id
from .probe import acting_as, run
from .rows import FACTORIES

_LIST = (
    "insert into public.access_control_lists (business_id, resource, resource_id, membership_id,"
    " verbs, effect) values (%s, %s, %s, %s, '{read}', %s)"
)


def sharing_errors(stage: Stage, connection: Connection) -> Iterator[str]:
    """What lists made now, as the owner of the database, fail to share or to keep from somebody."""
    for resource in RECORDS:
        record = record_id(resource, "support", ALPHA_ONE)
        connection.execute("savepoint sharing")
        if _sees(stage, connection, "sales_rep", resource, record):
            yield f"{resource}: seen before it was shared"
        _list(connection, resource, record, "sales_rep", "allow")
        if not _sees(stage, connection, "sales_rep", resource, record):
            yield f"{resource}: shared, and not seen"
        _list(connection, resource, record, "owner", "deny")
        if _sees(stage, connection, "owner", resource, record):
            yield f"{resource}: denied, and seen"
        connection.execute("set local role service_role")
        connection.execute(f"update public.{resource} set shared_id = null where id = '{record}'")
        connection.execute("reset role")
        if _sees(stage, connection, "owner", resource, record):
            yield f"{resource}: denied, unmarked and seen"

        unborn = fixed_id(f"unborn of {resource}")
        _list(connection, resource, unborn, "owner", "deny")
        _add(stage, connection, resource, unborn)
        if _sees(stage, connection, "owner", resource, unborn):
            yield f"{resource}: denied before it was made, and seen"
        other = fixed_id(f"unlisted of {resource}")
        _add(stage, connection, resource, other)
        if not _sees(stage, connection, "owner", resource, other):
            yield f"{resource}: not denied, and not seen"
        connection.execute("rollback to savepoint sharing")


def _list(
    connection: Connection, resource: str, record: uuid.UUID, member: str, effect: str
) -> None:
    grantee = membership_id(member, ALPHA_ONE)
    connection.execute(_LIST, [ALPHA_ONE.id, resource, record, grantee, effect])


def _add(stage: Stage, connection: Connection, resource: str, record: uuid.UUID) -> None:
    row = FACTORIES[f"public.{resource}"](stage.world.tenants[ALPHA_ONE.name], f"new-{record}")
    columns, values = ", ".join(row), ", ".join(["%s"] * len(row))
    statement = f"insert into public.{resource} (id, {columns}) values (%s, {values})"
    connection.execute(statement.encode(), [record, *row.values()])


def _sees(
    stage: Stage, connection: Connection, name: str, resource: str, record: uuid.UUID
) -> bool:
    with acting_as(connection, stage.world.cast[name]):
        found = run(connection, f"select 1 from public.{resource} where id = '{record}'".encode())
    assert found.sqlstate is None, found
    return bool(found.rows)


def test_lists_reach_their_records(stage: Stage) -> None:
    connection = stage.connection("postgres")
    errors = list(sharing_errors(stage, connection))
    connection.rollback()
    assert errors == []


@pytest.mark.parametrize("resource", RECORDS)
def test_marks_are_the_id_or_nothing(stage: Stage, resource: str) -> None:
    connection = stage.connection("postgres")
    found = connection.execute(
        f"select id, shared_id is not null, exists (select from public.access_control_lists a"
        f" where a.resource = '{resource}' and (a.business_id, a.resource_id)"
        f" = (r.business_id, r.id)) from public.{resource} r".encode()
    ).fetchall()
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(f"update public.{resource} set shared_id = gen_random_uuid()".encode())
    connection.rollback()
    assert {marked for _, marked, _ in found} == {True, False}
    assert [row for row in found if row[1] != row[2]] == []
