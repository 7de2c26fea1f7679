"""What policies read says what private.my_access() says, and of the caller alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .catalog import Connection
from .conftest import Stage
from .people import ALPHA_ONE, make_cast
from .probe import acting_as, run
from .specification import load_specification

PERSONAS = [
    one.name for one in make_cast(load_specification()).personas if one.role == "authenticated"
]


@pytest.mark.parametrize("name", PERSONAS)
def test_it_says_what_the_functions_say(stage: Stage, name: str) -> None:
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    with acting_as(connection, persona):
        rows = connection.execute(
            """
            select p.code, r.business_ids, r.is_whole,
              public.my_business_ids(p.code), public.my_limited_business_ids(p.code)
            from public.permissions p
            left join private.my_rights r on r.permission = p.code and r.home_schema = 'public'
            """
        ).fetchall()
    connection.rollback()
    assert len(rows) > 20
    for code, held, is_whole, by_function, limited in rows:
        assert sorted(held or ()) == sorted(by_function), code
        if held:
            assert is_whole == (not limited), code


def test_personas_differ_in_what_it_says(stage: Stage) -> None:
    """Or the test above would compare nothing with nothing."""
    found = {name: _size(stage, name) for name in ("owner", "sales_rep", "stranger")}
    assert found["owner"][0] == found["owner"][1] > 20
    assert found["sales_rep"][0] > found["sales_rep"][1] > 0
    assert found["stranger"] == (0, 0)
    assert _size(stage, "guarded aal1") == (0, 0) < _size(stage, "guarded aal2")


def _size(stage: Stage, name: str) -> tuple[int, int]:
    """In how many businesses a right is held, over all permissions, and in how many as a whole."""
    persona = stage.world.cast[name]
    connection = stage.connection_of(persona)
    with acting_as(connection, persona):
        rows = connection.execute("select business_ids, is_whole from private.my_rights").fetchall()
    connection.rollback()
    return sum(len(row[0]) for row in rows), sum(len(row[0]) for row in rows if row[1])


def test_a_condition_of_the_reader_meets_no_row_of_anybody_else(stage: Stage) -> None:
    """The cheapest condition there is, on a plan that reads every row: it would be asked first."""
    persona = stage.world.cast["stranger"]
    connection = stage.connection("postgres")
    connection.execute(
        """
        create function public.tell(permission text) returns boolean language plpgsql cost 0.000001
        as $$ begin raise exception 'told of %', permission using errcode = 'PT999'; end $$;
        grant execute on function public.tell(text) to authenticated;
        set local enable_indexscan = off;
        set local enable_bitmapscan = off;
        """
    )
    attack = b"select 1 from private.my_rights r where public.tell(r.permission)"
    with acting_as(connection, persona):
        with_barrier = run(connection, attack)
    connection.execute("alter view private.my_rights reset (security_barrier)")
    with acting_as(connection, persona):
        without = run(connection, attack)
    connection.rollback()
    assert (with_barrier.sqlstate, with_barrier.rows) == (None, 0)
    assert without.sqlstate == "PT999"  # so the attack is one


def end_errors(stage: Stage, connection: Connection) -> Iterator[str]:
    """A row of the cache whose end has passed says nothing by itself: the rules are asked again."""
    persona, code = stage.world.cast["stranger"], "customers.read"
    connection.execute("savepoint ends")
    connection.execute(
        "insert into private.user_access (user_id, permission, home_database, home_schema,"
        " business_ids, expires_at) values (%s, %s, current_database(), 'public', %s,"
        " now() - interval '1 second')",
        [persona.user_id, code, [ALPHA_ONE.id]],
    )
    with acting_as(connection, persona):
        ask = f"select 1 from private.my_rights where permission = '{code}'"
        if run(connection, f"{ask} and business_ids <> '{{}}'".encode()).rows:
            yield "rights that ended"
        if run(connection, b"select 1 from public.customers").rows:
            yield "rows by rights that ended"
        if not run(connection, ask.encode()).rows:
            yield "no row that has ended, so nothing was asked"
    connection.execute("rollback to savepoint ends")
    rep = stage.world.cast["sales_rep"]
    connection.execute(
        "update private.user_access set expires_at = now() - interval '1 second',"
        " limited_business_ids = null where user_id = %s and permission = %s",
        [rep.user_id, code],
    )
    with acting_as(connection, rep):
        if not run(connection, f"{ask} and not is_whole".encode()).rows:
            yield "all records, by a rule that ended"
    connection.execute("rollback to savepoint ends")


def test_a_right_that_has_ended_is_none(stage: Stage) -> None:
    connection = stage.connection("postgres")
    assert list(end_errors(stage, connection)) == []
    connection.rollback()
