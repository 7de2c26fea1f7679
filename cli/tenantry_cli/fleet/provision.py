"""New organizations in any placement, and their life afterwards: suspended, archived, dropped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from tenantry_cli.fleet.databases import choose_shelf, clone_template, drop_place
from tenantry_cli.fleet.fleet import Connection, Fleet, FleetError, Home, Tenant, exists
from tenantry_cli.fleet.names import POOLED_SCHEMA, database_name, schema_name
from tenantry_cli.fleet.registry import add_place, send
from tenantry_cli.migrate.locks import keep_migrations_away
from tenantry_cli.migrate.tenant_plane import create_tenant_schema

ISOLATIONS = ("pooled", "schema", "database")


@dataclass(frozen=True)
class NewTenant:
    """What a new organization is made of. `owner_email` must have an account."""

    name: str
    owner_email: str
    business_name: str | None = None
    slug: str | None = None
    timezone: str = "UTC"
    country: str = "US"
    isolation: str = "pooled"


def create_tenant(fleet: Fleet, new: NewTenant) -> Tenant:
    """An organization with one business, its owner and its home. Raises FleetError.

    Members see nothing of it until its home is complete. One that was interrupted stays in state
    `provisioning` and is taken up by `finish_provisioning`.
    """
    check_isolation(new.isolation)
    # A connection of its own for the lock, so that the others stay as they are kept.
    with fleet.connect() as guard, keep_migrations_away(guard):
        # Before the transaction: within it, this would need a second connection.
        shelf = choose_shelf(fleet) if new.isolation == "schema" else None
        with fleet.session() as main:
            organization_id = _register(fleet, main, new, shelf)
        return finish_provisioning(fleet, organization_id)


def finish_provisioning(fleet: Fleet, organization_id: UUID) -> Tenant:
    """Make the home that the registry names for an organization in state `provisioning`."""
    tenant = fleet.tenant(organization_id)
    if tenant.state not in ("provisioning", "failed"):
        return tenant
    try:
        with fleet.session() as main:
            set_state(main, tenant.id, "provisioning")
        make_place(fleet, tenant.id, tenant.home)
        with fleet.session() as main, main.transaction():
            set_state(main, tenant.id, "active")
            # The place knows its tenant before anybody is sent there.
            send(fleet, tenant.id, tenant.home.database, main=main)
    except (psycopg.Error, FleetError) as error:
        with fleet.session() as main:
            set_state(main, tenant.id, "failed")
        raise FleetError(
            f"the home of {tenant.slug} was not made: {error}\nMend the cause, then run "
            f"`tenantry tenant resume {tenant.slug}`"
        ) from error
    return fleet.tenant(organization_id)


def check_isolation(isolation: str) -> None:
    """Raises FleetError for a placement that does not exist."""
    if isolation not in ISOLATIONS:
        raise FleetError(f"placement {isolation!r} is none: choose {', '.join(ISOLATIONS)}")


def new_home(fleet: Fleet, organization_id: UUID, isolation: str, shelf: str | None = None) -> Home:
    """Where an organization would live in that placement.

    `shelf` is what `choose_shelf` said; without it that is asked here, which may make a shelf.
    """
    check_isolation(isolation)
    if isolation == "pooled":
        return Home("pooled", fleet.main, POOLED_SCHEMA)
    if isolation == "schema":
        return Home("schema", shelf or choose_shelf(fleet), schema_name(organization_id))
    return Home("database", database_name(fleet.prefix, organization_id), POOLED_SCHEMA)


def make_place(fleet: Fleet, organization_id: UUID, home: Home) -> None:
    """Make tables for an organization at a home where there are none yet; may run again."""
    if home.isolation == "database":
        with fleet.session() as main:
            there = exists(main, home.database)
        if not there:
            clone_template(fleet, home.database)
    elif home.isolation == "schema":
        with fleet.session(home.database) as place, place.transaction():
            found = place.execute(
                "select to_regnamespace(%s) is not null as found", (home.schema,)
            ).fetchone()
            if not (found and found["found"]):
                # On disk at the latest when the registry says so: its commit, on the same server,
                # writes all that came before.
                place.execute("set local synchronous_commit = off")
                create_tenant_schema(place, home.schema, fleet.migrations)  # type: ignore[arg-type]
    if home.database != fleet.main:
        with fleet.session() as main:
            add_place(main, organization_id, home.database)


def remove_place(fleet: Fleet, organization_id: UUID, home: Home) -> None:
    """Drop what an organization left behind at a home that is no longer its own.

    Raises FleetError while the registry still says that it lives there.
    """
    tenant = fleet.tenant(organization_id)
    if tenant.home == home and tenant.state != "archived":
        raise FleetError(
            f"{tenant.slug} lives in {home.database}.{home.schema}: nothing was dropped"
        )
    drop_home(fleet, organization_id, home)


def drop_home(fleet: Fleet, organization_id: UUID, home: Home) -> None:
    """Drop a schema or database of an organization, whatever the registry says of it."""
    with fleet.session() as main:
        main.execute(
            "delete from private.registry_places where organization_id = %s and database_name = %s",
            (organization_id, home.database),
        )
    if home.isolation == "database":
        drop_place(fleet, home.database)
    elif home.isolation == "schema":
        with fleet.session(home.database) as place, place.transaction():
            place.execute(
                sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(home.schema))
            )
            forget(place, organization_id)


def forget(place: Connection, organization_id: UUID) -> None:
    """Remove the registry rows of an organization from a database it has left."""
    place.execute("delete from public.organizations where id = %s", (organization_id,))
    place.execute(
        "delete from private.received_registries where organization_id = %s", (organization_id,)
    )


def set_state(main: Connection, organization_id: UUID, state: str) -> None:
    """Change the state of a home; steps that the state machine does not allow raise."""
    main.execute(
        "update public.organization_placements set state = %s "
        "where organization_id = %s and state <> %s",
        (state, organization_id, state),
    )


def _register(fleet: Fleet, main: Connection, new: NewTenant, shelf: str | None) -> UUID:
    with main.transaction():
        owner = main.execute(
            "select id from auth.users where lower(email) = lower(btrim(%s))", (new.owner_email,)
        ).fetchone()
        if owner is None:
            raise FleetError(
                f"nobody has an account with the address {new.owner_email!r}: let the owner sign "
                "up first"
            )
        # The functions that members use, in the owner's name: one way to found an organization.
        claims = {"sub": str(owner["id"]), "role": "authenticated"}
        main.execute("select set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))
        try:
            founded = main.execute(
                "select id from public.create_organization(%s, %s, %s)",
                (new.name, new.slug, new.country),
            ).fetchone()
            assert founded is not None
            organization_id: UUID = founded["id"]
            main.execute(
                "select public.create_business(organization_id => %s, name => %s, timezone => %s, "
                "country => %s)",
                (organization_id, new.business_name or new.name, new.timezone, new.country),
            )
        except psycopg.Error as error:
            raise FleetError(_in_words(error)) from error
        if new.isolation != "pooled":
            home = new_home(fleet, organization_id, new.isolation, shelf)
            main.execute(
                "delete from public.organization_placements where organization_id = %s",
                (organization_id,),
            )
            main.execute(
                "insert into public.organization_placements "
                "(organization_id, isolation, database_name, schema_name, state) "
                "values (%s, %s, %s, %s, 'provisioning')",
                (organization_id, home.isolation, home.database, home.schema),
            )
    return organization_id


def _in_words(error: psycopg.Error) -> str:
    hint = error.diag.message_hint
    return f"{error.diag.message_primary or error}" + (f" {hint}" if hint else "")
