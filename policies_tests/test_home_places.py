"""Only the home answers, where homes are in other databases than the registry.

The attacks of test_home.py, in real places: rows of a member's own business written into another
tenant's schema, the old home after a move, a tenant database restored under another name, tokens of
one tenant at the database of another, rights taken away while a place could not be reached.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tenantry_cli.fleet.fleet import Home
from tenantry_cli.fleet.mover import move_tenant
from tenantry_cli.fleet.registry import add_place, reconcile, send
from tenantry_cli.fleet.rows import tables_at
from tenantry_cli.stack.database import create_database, drop_database
from tenantry_cli.stack.installation import find_programs
from tenantry_cli.testing import Database

from .calls import Calls
from .facts import Key, read_rows
from .people import (
    ALPHA,
    ALPHA_ONE,
    BETA,
    BETA_ONE,
    GUARDED,
    GUARDED_ONE,
    Business,
    Organization,
    bystander,
)
from .places import Elsewhere, elsewhere
from .probe import acting_as, run
from .world import World

MEMBERS = {ALPHA: "owner", BETA: "other owner"}
DONE = dict.fromkeys(("insert", "update", "delete", "contact", "function"), "done")
#: What members get where their business does not live; a job is told so.
REFUSED = {
    "insert": "42501", "update": "nothing", "delete": "nothing", "contact": "42501",
    "function": "42501",
}  # fmt: skip
FENCED = {**dict.fromkeys(DONE, "PT409"), "function": "PT404"}
#: The same where the rows are not even there.
ABSENT = {**FENCED, "update": "nothing", "delete": "nothing"}


@pytest.fixture(scope="module")
def places(
    new_world: Callable[[], tuple[Database, World]], template_database: str
) -> Iterator[Elsewhere]:
    """Alpha and beta on one shelf; guarded in a database of its own."""
    database, world = new_world()
    with elsewhere(database, template_database, world) as one:
        one.move([ALPHA, BETA], "schema")
        one.move([GUARDED], "database")
        yield one


def counts(place: Database, schema: str, world: World, persona: str) -> dict[str, int]:
    """Rows of each readable tenant table that a persona sees."""
    seen = {}
    with place.connect("authenticator") as api, acting_as(api, world.cast[persona]):
        for table in world.specification.tables.values():
            if table.plane == "tenant" and table.is_readable:
                outcome = run(api, f"select 1 from {schema}.{table.name}".encode())
                # Without usage of the schema there is nothing to see either.
                assert outcome.sqlstate in (None, "3F000"), f"{schema}.{table.name}: {outcome}"
                seen[table.name] = outcome.rows
    assert len(seen) > 10
    return seen


def attempts(
    place: Database, schema: str, world: World, persona: str, business: Business
) -> dict[str, str]:
    """What adding, changing and removing rows of a business gives."""
    customer = world.sample("public.customers", business)[1]
    statements = {
        "insert": f"insert into {schema}.customers (business_id, first_name)"
        f" values ('{business.id}', 'x')",
        "update": f"update {schema}.customers set notes = 'x' where id = '{customer}'",
        "delete": f"delete from {schema}.customers where id = '{customer}'",
        "contact": f"insert into {schema}.contact_points (business_id, customer_id, kind, raw)"
        f" values ('{business.id}', '{customer}', 'email', 'x@y.example')",
        "function": f"select {schema}.create_customer('{business.id}', 'x')",
    }
    got = {}
    with place.connect("authenticator") as api, acting_as(api, world.cast[persona]):
        for name, statement in statements.items():
            outcome = run(api, statement.encode())
            got[name] = outcome.sqlstate or ("done" if outcome.rows else "nothing")
    return got


def nothing(seen: dict[str, int]) -> bool:
    return not any(seen.values())


@pytest.mark.parametrize(("attacker", "victim"), [(ALPHA, BETA), (BETA, ALPHA)])
def test_a_member_writes_and_reads_nothing_in_the_schema_of_another(
    places: Elsewhere, attacker: Organization, victim: Organization
) -> None:
    """Also not rows of the member's own business."""
    shelf, persona = places.database(ALPHA), MEMBERS[attacker]
    own = ALPHA_ONE if attacker == ALPHA else BETA_ONE
    mine, theirs = places.home(attacker).schema, places.home(victim).schema
    assert attempts(shelf, mine, places.built, persona, own) == DONE
    assert attempts(shelf, theirs, places.built, persona, own) == REFUSED
    assert attempts(shelf, "public", places.built, persona, own) == REFUSED
    assert attempts(shelf, theirs, places.built, "service_role", own) == ABSENT
    for schema in (theirs, "public"):
        assert nothing(counts(shelf, schema, places.built, persona))
    assert any(counts(shelf, mine, places.built, persona).values())


def test_a_token_of_one_tenant_is_nobody_at_the_database_of_another(places: Elsewhere) -> None:
    home = places.database(GUARDED)
    for persona in ("owner", "other owner", "organization admin", "key of owner", "stranger"):
        assert nothing(counts(home, "public", places.built, persona)), persona
        for business in (ALPHA_ONE, GUARDED_ONE):
            assert attempts(home, "public", places.built, persona, business) == REFUSED, persona
    assert any(counts(home, "public", places.built, "guarded aal2").values())
    shelf = places.database(ALPHA)
    for schema in (places.home(ALPHA).schema, places.home(BETA).schema):
        assert nothing(counts(shelf, schema, places.built, "guarded aal2"))


def test_the_old_home_is_silent_after_the_move(places: Elsewhere) -> None:
    """The rows are still there for the time of grace."""
    main = Database(places.database(ALPHA).server, places.fleet.main)
    pooled = Home("pooled", main.name, "public")
    with places.fleet.connect() as connection:
        for table in tables_at(connection, pooled):
            found = connection.execute(
                sql.SQL("select count(*) as n from {} where business_id = %s").format(
                    table.identifier
                ),
                (ALPHA_ONE.id,),
            ).fetchone()
            assert found is not None
            assert found["n"], f"{table.name} has nothing that could be seen"
    for persona, business in (("owner", ALPHA_ONE), ("other owner", BETA_ONE)):
        assert nothing(counts(main, "public", places.built, persona))
        assert attempts(main, "public", places.built, persona, business) == REFUSED
        assert attempts(main, "public", places.built, "service_role", business) == FENCED


def test_the_old_shelf_is_silent_after_a_move_to_a_database(places: Elsewhere) -> None:
    before = places.home(BETA)
    shelf = Database(places.database(ALPHA).server, before.database)
    seen = counts(shelf, before.schema, places.built, "other owner")
    assert any(seen.values())
    move_tenant(places.fleet, BETA.id, "database")
    assert nothing(counts(shelf, before.schema, places.built, "other owner"))
    assert attempts(shelf, before.schema, places.built, "other owner", BETA_ONE) == REFUSED
    assert attempts(shelf, before.schema, places.built, "service_role", BETA_ONE) == FENCED
    now = places.database(BETA)
    assert counts(now, "public", places.built, "other owner") == seen
    assert attempts(now, "public", places.built, "other owner", BETA_ONE) == DONE
    move_tenant(places.fleet, BETA.id, "pooled")
    assert nothing(counts(now, "public", places.built, "other owner"))
    assert attempts(now, "public", places.built, "other owner", BETA_ONE) == REFUSED
    assert attempts(now, "public", places.built, "service_role", BETA_ONE) == FENCED


@pytest.fixture
def restored(places: Elsewhere, tmp_path: Path) -> Iterator[Database]:
    """The database of guarded, dumped and restored under another name of the same fleet."""
    source = places.database(GUARDED)
    copy = Database(source.server, f"tenantry_test_restored_{secrets.token_hex(4)}")
    create_database(copy.server, copy.name, with_auth_fallback=False)
    programs = find_programs(os.environ.get("TENANTRY_TEST_POSTGRES_BIN"))
    dump = tmp_path / "dump.sql"
    commands: list[list[str | Path]] = [
        [programs.path("pg_dump"), "-f", dump, source.url("supabase_admin")],
        [programs.path("psql"), "-q", "-f", dump, copy.url("supabase_admin")],
    ]
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        yield copy
    finally:
        places.fleet.close(copy.name)
        drop_database(copy.server, copy.name)


def test_a_restored_copy_shows_nothing_until_the_registry_points_at_it(
    places: Elsewhere, restored: Database
) -> None:
    world, business = places.built, GUARDED_ONE
    seen = counts(places.database(GUARDED), "public", world, "guarded aal2")
    assert any(seen.values())
    assert nothing(counts(restored, "public", world, "guarded aal2"))
    assert attempts(restored, "public", world, "guarded aal2", business) == REFUSED
    assert attempts(restored, "public", world, "service_role", business) == FENCED

    left = places.database(GUARDED)
    with places.fleet.session() as main, main.transaction():
        main.execute(
            "update public.organization_placements set database_name = %s, epoch = epoch + 1"
            " where organization_id = %s",
            (restored.name, GUARDED.id),
        )
        add_place(main, GUARDED.id, restored.name)
        send(places.fleet, GUARDED.id, restored.name, main=main, force=True)
    send(places.fleet, GUARDED.id, left.name)
    try:
        assert counts(restored, "public", world, "guarded aal2") == seen
        assert attempts(restored, "public", world, "guarded aal2", business) == DONE
        assert nothing(counts(left, "public", world, "guarded aal2"))
        assert attempts(left, "public", world, "service_role", business) == FENCED
    finally:
        with places.fleet.session() as main:
            main.execute(
                "update public.organization_placements set database_name = %s, epoch = epoch + 1"
                " where organization_id = %s",
                (left.name, GUARDED.id),
            )
            main.execute(
                "delete from private.registry_places where database_name = %s", (restored.name,)
            )
        send(places.fleet, GUARDED.id, left.name)


def test_who_was_removed_while_a_place_was_out_of_reach_has_nothing_afterwards(
    places: Elsewhere,
) -> None:
    shelf, schema = places.database(ALPHA), places.home(ALPHA).schema
    set_reachable(places, shelf, is_reachable=True)
    assert any(counts(shelf, schema, places.built, "viewer").values())
    set_reachable(places, shelf, is_reachable=False)
    try:
        with places.fleet.session() as main:
            main.execute(
                "update public.business_memberships set status = 'removed' where user_id = %s",
                (places.built.cast["viewer"].user_id,),
            )
        assert all(one.error for one in reconcile(places.fleet) if one.database == shelf.name)
    finally:
        set_reachable(places, shelf, is_reachable=True)
    assert not [one for one in reconcile(places.fleet) if one.error]
    assert nothing(counts(shelf, schema, places.built, "viewer"))
    assert attempts(shelf, schema, places.built, "viewer", ALPHA_ONE) == REFUSED
    assert any(counts(shelf, schema, places.built, "owner").values()), "others keep their rights"


def set_reachable(places: Elsewhere, place: Database, *, is_reachable: bool) -> None:
    places.fleet.close(place.name)
    with places.fleet.connect() as connection:
        connection.execute(
            sql.SQL("alter database {} with allow_connections {}").format(
                sql.Identifier(place.name), sql.Literal(is_reachable)
            )
        )


def registry(place: Database, world: World) -> dict[str, dict[Key, Mapping[str, str | None]]]:
    """Every row of the platform plane in a database."""
    with place.connect() as owner:
        return {
            table.label: dict(read_rows(owner, world.catalog.relations[table.label]))
            for table in world.specification.tables.values()
            if table.plane == "platform"
        }


@pytest.mark.parametrize(
    ("persona", "organization", "least"),
    [
        ("owner", ALPHA, 10),
        ("organization admin", ALPHA, 2),
        ("service_role", ALPHA, 10),
        ("service_role", GUARDED, 10),
        ("guarded aal2", GUARDED, 10),
        ("owner", GUARDED, 0),
    ],
)
def test_no_function_of_the_platform_changes_a_copy(
    places: Elsewhere, persona: str, organization: Organization, least: int
) -> None:
    """Every one is called for every business, and committed: nothing of it stays.

    At least so many are stopped by the copy alone, which the caller may call in the main database.
    """
    world, shelf = places.built, places.database(organization)
    one, calls = world.cast[persona], Calls(places.built)
    before, refused = registry(shelf, world), set()
    with shelf.connect("authenticator", autocommit=True) as api:
        for function in world.specification.functions.values():
            is_callable = function.schema == "public" and one.role in function.execute
            if function.plane == "tenant" or not is_callable or function.name in calls.ABOUT_USERS:
                continue
            for tenant in world.tenants.values():
                try:
                    with api.transaction():
                        api.execute(sql.SQL("set local role {}").format(sql.Identifier(one.role)))
                        api.execute(
                            "select set_config('request.jwt.claims', %s, true)",
                            [json.dumps(one.claims)],
                        )
                        api.execute(calls.statement(function.name, tenant).as_string(api).encode())
                except psycopg.Error as error:
                    if error.sqlstate == "PT421":
                        refused.add(function.name)
    assert registry(shelf, world) == before
    assert len(refused) >= least, refused


@pytest.mark.parametrize("persona", ["owner", "service_role"])
def test_rights_are_not_changed_in_a_copy(places: Elsewhere, persona: str) -> None:
    """What a request would change there, the next copy would undo: until then it would hold."""
    member = places.built.sample("public.business_memberships", ALPHA_ONE)
    assert bystander(ALPHA_ONE) in {one.name for one in places.built.cast.extras}
    statements = {
        "rename": f"update public.businesses set name = 'x' where id = '{ALPHA_ONE.id}'",
        "connection": "update public.provider_connections set is_active = false",
        "profile": "update public.profiles set full_name = 'x'",
        "role": f"select public.create_role('{ALPHA_ONE.id}', 'new', 'New')",
        "promotion": f"select public.change_member_roles('{ALPHA_ONE.id}',"
        f" '{member[-1]}', array['manager'])",
        "key": f"select public.invite_member('{ALPHA_ONE.id}', 'x@y.example', 'viewer')",
        "organization": "select public.create_organization('New')",
    }
    shelf = places.database(ALPHA)
    with shelf.connect("authenticator") as api, acting_as(api, places.built.cast[persona]):
        for name, statement in statements.items():
            if persona == "service_role" and name == "organization":
                continue  # founded by people alone
            assert run(api, statement.encode()).sqlstate == "PT421", name
