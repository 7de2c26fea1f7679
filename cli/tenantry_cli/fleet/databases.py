"""Making and removing the databases of a fleet: the template, shelves, databases of tenants."""

from __future__ import annotations

from psycopg import sql

from tenantry_cli.fleet.fleet import Connection, Fleet, FleetError, exists
from tenantry_cli.fleet.names import shelf_name, template_name
from tenantry_cli.migrate import apply_migrations, plan_migrations
from tenantry_cli.stack.database import copy_database, create_database, drop_database

_TEMPLATE_LOCK = "tenantry:template"


def ensure_template(fleet: Fleet) -> str:
    """The template database, made or brought up to date where needed; returns its name.

    Nobody can connect to it while it is closed, so it can be cloned at any time.
    """
    name = template_name(fleet.prefix)
    newest = max(one.version for one in fleet.migrations)
    with fleet.session() as main:
        known = main.execute(
            "select exists (select from pg_database where datname = %s and datistemplate) "
            "and exists (select from public.placement_databases where name = %s) "
            "and shobj_description((select oid from pg_database where datname = %s), 'pg_database')"
            " = %s as current",
            (name, name, name, f"migrations up to {newest}"),
        ).fetchone()
        if known and known["current"]:
            return name
        with main.transaction():
            main.execute("select pg_advisory_xact_lock(hashtext(%s))", (_TEMPLATE_LOCK,))
            _bring_up_to_date(fleet, main, name, newest)
    return name


def _bring_up_to_date(fleet: Fleet, main: Connection, name: str, newest: str) -> None:
    with fleet.connect() as outside:  # databases are made outside a transaction
        if not exists(outside, name):
            create_database(fleet.server, name, with_auth_fallback=True)
        set_template(outside, name, is_template=False)
        with fleet.server.connect(name) as template:
            apply_migrations(template, list(fleet.migrations))
            if plan_migrations(template, list(fleet.migrations)).changed:
                raise FleetError(
                    f"the database {name} was made from other files than supabase/migrations has "
                    "now: drop it, it is made again"
                )
        set_template(outside, name, is_template=True)
        outside.execute(
            sql.SQL("comment on database {} is {}").format(
                sql.Identifier(name), sql.Literal(f"migrations up to {newest}")
            )
        )
    main.execute(
        "insert into public.placement_databases (name, kind) values (%s, 'template') "
        "on conflict do nothing",
        (name,),
    )


def set_template(connection: Connection, name: str, *, is_template: bool) -> None:
    """Open a template for a migration, or close it again for cloning."""
    connection.execute(
        sql.SQL("alter database {} with is_template {} allow_connections {}").format(
            sql.Identifier(name), sql.Literal(is_template), sql.Literal(not is_template)
        )
    )


def clone_template(fleet: Fleet, name: str) -> None:
    """A new database with everything that the migrations make."""
    template = ensure_template(fleet)
    with fleet.session() as main:  # a connection that is there already
        copy_database(main, template, name)


def choose_shelf(fleet: Fleet) -> str:
    """A shelf with room for one more schema; a new one where all are full."""
    with fleet.session() as main:
        row = main.execute(
            "select d.name from public.placement_databases d "
            "where d.kind = 'shelf' and d.state = 'open' and (select count(*) from "
            "public.organization_placements p where p.database_name = d.name) < d.max_tenants "
            "order by d.name limit 1"
        ).fetchone()
    return str(row["name"]) if row else _make_shelf(fleet)


def _make_shelf(fleet: Fleet) -> str:
    with fleet.session() as main:
        numbers = main.execute(
            "select count(*) as used from public.placement_databases where kind = 'shelf'"
        ).fetchone()
        number = (numbers["used"] if numbers else 0) + 1
        while exists(main, shelf_name(fleet.prefix, number)):
            number += 1
    name = shelf_name(fleet.prefix, number)
    clone_template(fleet, name)
    with fleet.session() as main:
        main.execute(
            "insert into public.placement_databases (name, kind, max_tenants) "
            "values (%s, 'shelf', %s)",
            (name, fleet.tenants_per_shelf),
        )
    return name


def drop_place(fleet: Fleet, name: str) -> None:
    """Drop a database of the fleet, and end the sessions in it."""
    fleet.close(name)
    drop_database(fleet.server, name)
