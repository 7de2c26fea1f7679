"""A place answers only for the organizations whose home it is.

A second copy of the tenant plane is made in the same database. Whichever of the two is not home is
inert, for members and for jobs, and a change of the registry holds from the next statement on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from tenantry_cli.migrate import read_migrations
from tenantry_cli.project import find_project
from tenantry_cli.testing import Database

from .catalog import Connection, read_catalog
from .people import ALPHA, ALPHA_ONE
from .probe import acting_as, run
from .specification import Specification
from .world import World

PLACE = "tenant_alpha"


@dataclass
class Places:
    """A world whose organization alpha has its rows in `public` and a copy in `tenant_alpha`."""

    database: Database
    world: World
    owner: Connection
    api: Connection
    tables: list[str] = field(default_factory=list)

    def move_home(self, schema: str, state: str = "active") -> None:
        self.owner.execute(
            "update public.organization_placements set schema_name = %s, state = %s,"
            " epoch = epoch + 1 where organization_id = %s and (schema_name, state) <> (%s, %s)",
            [schema, state, ALPHA.id, schema, state],
        )
        self.owner.commit()


def migrate_tenant_plane(owner: Connection, schema: str) -> None:
    """The tenant files once more, into a schema of their own, as a fleet does for one tenant."""
    owner.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
    owner.execute(
        sql.SQL("grant usage on schema {} to authenticated, service_role").format(
            sql.Identifier(schema)
        )
    )
    for migration in read_migrations(find_project().migrations):
        if migration.name.startswith("tenant_"):
            owner.execute(
                sql.SQL("set local search_path = {}, extensions, pg_temp").format(
                    sql.Identifier(schema)
                )
            )
            for statement in migration.statements:
                owner.execute(statement.encode())


def _copy_rows(database: Database, tables: list[str]) -> None:
    """All rows of alpha, as the mover copies them: without triggers, generated columns left out."""
    with database.server.administer(database.name) as superuser:
        superuser.execute("set local session_replication_role = replica")
        catalog = read_catalog(superuser, ("public",))
        for table in tables:
            names = [
                one.name
                for one in catalog.relations[f"public.{table}"].columns
                if not one.is_generated
            ]
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            superuser.execute(
                sql.SQL("insert into {} ({}) select {} from {} where business_id = {}").format(
                    sql.Identifier(PLACE, table),
                    columns,
                    columns,
                    sql.Identifier("public", table),
                    sql.Literal(ALPHA_ONE.id),
                )
            )


@pytest.fixture(scope="module")
def places(
    new_world: Callable[[], tuple[Database, World]], specification: Specification
) -> Iterator[Places]:
    database, world = new_world()
    with database.connect() as owner, database.connect("authenticator") as api:
        migrate_tenant_plane(owner, PLACE)
        owner.commit()
        tables = [
            one.name
            for one in specification.tables.values()
            if one.plane == "tenant" and one.schema == "public"
        ]
        _copy_rows(database, tables)
        yield Places(database, world, owner, api, tables)
        owner.rollback()
        api.rollback()


@pytest.fixture(autouse=True)
def at_home_in_public(places: Places) -> Iterator[None]:
    yield
    places.owner.rollback()
    places.api.rollback()
    places.move_home("public")


READABLE = (
    "customers", "contact_points", "channels", "conversations", "messages", "calls",
    "call_transcripts", "webhook_events", "audit_logs", "status_history", "daily_metric_slots",
)  # fmt: skip


def _visible(places: Places, schema: str, persona: str = "owner") -> dict[str, int]:
    counts = {}
    with acting_as(places.api, places.world.cast[persona]):
        for table in READABLE:
            outcome = run(places.api, f"select 1 from {schema}.{table}".encode())
            assert outcome.sqlstate is None, f"{schema}.{table}: {outcome}"
            counts[table] = outcome.rows
    places.api.rollback()
    return counts


def _write(places: Places, schema: str, persona: str) -> dict[str, str | None]:
    """What adding, changing and removing a row gives."""
    business = ALPHA_ONE.id
    customer = places.world.sample("public.customers", ALPHA_ONE)[1]
    attempts = {
        "insert": f"insert into {schema}.customers (business_id, first_name)"
        f" values ('{business}', 'x')",
        "update": f"update {schema}.customers set notes = 'x' where id = '{customer}'",
        "delete": f"delete from {schema}.customers where id = '{customer}'",
        "contact": f"insert into {schema}.contact_points (business_id, customer_id, kind, raw)"
        f" values ('{business}', '{customer}', 'email', 'x@y.example')",
        "function": f"select {schema}.create_customer('{business}', 'x')",
    }
    got: dict[str, str | None] = {}
    with acting_as(places.api, places.world.cast[persona]):
        for name, statement in attempts.items():
            outcome = run(places.api, statement.encode())
            got[name] = outcome.sqlstate or ("done" if outcome.rows else "nothing")
    places.api.rollback()
    return got


DONE = dict.fromkeys(("insert", "update", "delete", "contact", "function"), "done")
REFUSED = {
    "insert": "42501", "update": "nothing", "delete": "nothing", "contact": "42501",
    "function": "42501",
}  # fmt: skip
FENCED = {**dict.fromkeys(DONE, "PT409"), "function": "PT404"}


def test_the_copy_has_rows_and_shows_none(places: Places) -> None:
    for table in READABLE:
        name = sql.Identifier(PLACE, table)
        count = places.owner.execute(sql.SQL("select count(*) from {}").format(name)).fetchone()
        assert count is not None
        assert count[0] > 0, f"{table} has nothing that could be seen"
    places.owner.rollback()
    assert set(_visible(places, PLACE).values()) == {0}
    assert all(_visible(places, "public").values())


@pytest.mark.parametrize("persona", ["owner", "organization admin"])
def test_members_write_at_home_alone(places: Places, persona: str) -> None:
    assert _write(places, "public", persona) == DONE
    assert _write(places, PLACE, persona) == REFUSED


def test_jobs_write_at_home_alone(places: Places) -> None:
    assert _write(places, "public", "service_role") == DONE
    assert _write(places, PLACE, "service_role") == FENCED


def test_the_home_moves(places: Places) -> None:
    places.move_home(PLACE)
    assert set(_visible(places, "public").values()) == {0}
    assert all(_visible(places, PLACE).values())
    assert _write(places, "public", "owner") == REFUSED
    assert _write(places, PLACE, "owner") == DONE
    assert _write(places, "public", "service_role") == FENCED
    assert _write(places, PLACE, "service_role") == DONE


def test_the_others_stay(places: Places) -> None:
    before = _visible(places, "public", "other owner")
    assert all(before.values())
    places.move_home(PLACE)
    assert _visible(places, "public", "other owner") == before
    assert set(_visible(places, PLACE, "other owner").values()) == {0}


def test_a_home_in_another_database_is_no_home_here(places: Places) -> None:
    places.owner.execute(
        "update public.organization_placements set database_name = 'elsewhere'"
        " where organization_id = %s",
        [ALPHA.id],
    )
    places.owner.commit()
    try:
        for schema in ("public", PLACE):
            assert set(_visible(places, schema).values()) == {0}
            assert _write(places, schema, "owner") == REFUSED
            assert _write(places, schema, "service_role") == FENCED
    finally:
        places.owner.execute(
            "update public.organization_placements set database_name = current_database()"
        )
        places.owner.commit()


@pytest.mark.parametrize("schema", ["public", PLACE])
def test_while_moving_rows_are_read_and_not_written(places: Places, schema: str) -> None:
    places.move_home(schema)
    places.move_home(schema, "moving")
    assert all(_visible(places, schema).values())
    assert _write(places, schema, "owner") == REFUSED
    assert _write(places, schema, "service_role") == {**FENCED, "function": "PT409"}
    places.move_home(schema)
    assert _write(places, schema, "owner") == DONE


def test_webhooks_come_in_at_home_alone(places: Places) -> None:
    connection = places.world.tenants[ALPHA_ONE.name].ids["provider_connections"]
    places.owner.execute(
        sql.SQL("grant usage on schema {} to integrator").format(sql.Identifier(PLACE))
    )
    places.owner.commit()
    with places.database.connect("integrator", autocommit=True) as webhooks:
        call = "select {}.ingest_webhook(%s, %s, 'test', '{{}}', '[]')"
        webhooks.execute(call.format("public").encode(), [connection, "at home"])
        with pytest.raises(psycopg.Error) as refused:
            webhooks.execute(call.format(PLACE).encode(), [connection, "not at home"])
        assert refused.value.sqlstate == "PT409"
        places.move_home("public", "moving")
        with pytest.raises(psycopg.Error) as refused:
            webhooks.execute(call.format("public").encode(), [connection, "being moved"])
        assert refused.value.sqlstate == "PT503"
        places.move_home(PLACE)
        webhooks.execute(call.format(PLACE).encode(), [connection, "at home now"])


def test_the_copy_is_bound_to_its_own_schema(places: Places) -> None:
    """Nothing in the copy refers to the tables it was made beside."""
    registry = {
        one.name
        for one in places.world.specification.tables.values()
        if one.plane == "platform" and one.schema == "public"
    }
    rows = places.owner.execute(
        """
        select distinct r.relname from pg_depend d
        join pg_class c on c.oid = d.objid
          or c.oid = (select w.ev_class from pg_rewrite w where w.oid = d.objid)
          or c.oid = (select k.conrelid from pg_constraint k where k.oid = d.objid)
          or c.oid = (select p.polrelid from pg_policy p where p.oid = d.objid)
        join pg_class r on d.refclassid = 'pg_class'::regclass and r.oid = d.refobjid
        where c.relnamespace = %s::regnamespace and r.relnamespace = 'public'::regnamespace
          and r.relkind in ('r', 'p', 'v')
        """,
        [PLACE],
    ).fetchall()
    assert {name for (name,) in rows} <= registry
    paths = places.owner.execute(
        """
        select distinct k from pg_proc p, unnest(p.proconfig) k
        where p.pronamespace = %s::regnamespace and k ~ '^search_path='
        """,
        [PLACE],
    ).fetchall()
    assert paths == [(f"search_path={PLACE}, extensions, pg_temp",)]


def test_both_places_have_the_same_protection(places: Places) -> None:
    """Policies and grants of the copy are those of public, name by name."""

    def protection(schema: str) -> set[tuple[object, ...]]:
        rows = places.owner.execute(
            """
            select c.relname, p.polname::text, p.polcmd::text,
              coalesce(pg_get_expr(p.polqual, p.polrelid), ''),
              coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
            from pg_policy p join pg_class c on c.oid = p.polrelid
            join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = %(schema)s
            union all
            select c.relname, a.attname, a.attacl::text, '', '' from pg_attribute a
            join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = %(schema)s and a.attacl is not null and a.attnum > 0
            union all
            select c.relname, t.tgname, p.proname, t.tgenabled::text, t.tgtype::text
            from pg_trigger t join pg_proc p on p.oid = t.tgfoid
            join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = %(schema)s and not t.tgisinternal and not c.relispartition
            """,
            {"schema": schema},
        )
        # Each names its own schema: of functions, and of the rights that policies ask for.
        return {
            tuple(
                text.replace(f"{schema}.", "").replace(f"'{schema}'::text", "its own")
                if isinstance(text, str)
                else text
                for text in row
            )
            for row in rows
            if row[0] in places.tables
        }

    own = protection(PLACE)
    assert len(own) > 200
    assert own == protection("public")


def test_a_stranger_learns_nothing_from_either_place(places: Places) -> None:
    for schema in ("public", PLACE):
        assert set(_visible(places, schema, "stranger").values()) == {0}
        assert _write(places, schema, "stranger") == REFUSED
