"""Saving one organization: all its rows as of one moment, in one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import sql

from tenantry_cli.backup.archive import REGISTRY, Writer
from tenantry_cli.backup.manifest import BackupError, Manifest, SavedTable, now, stamp
from tenantry_cli.fleet.fleet import Connection, Fleet, Tenant
from tenantry_cli.fleet.mover import alone
from tenantry_cli.fleet.rows import (
    Table,
    copy_out,
    digest,
    partitions_at,
    plain_text,
    tables_at,
)

#: Told of each step with how much of the whole is done, 0 to 1.
Progress = Callable[[str, float], None]

#: What of the registry a restore needs and registry_snapshot() leaves out, parents first. Tokens of
#: invitations stay behind: an invitation is sent again.
BESIDE = (
    "public.permission_templates",
    "public.invitations",
    "public.business_domains",
    "private.provider_secrets",
    "private.api_key_secrets",
)


def quiet(step: str, done: float) -> None:
    """Tell nobody."""


def tenant_directory(directory: Path, organization_id: UUID) -> Path:
    """Where the archives of one organization are, below the directory of all backups."""
    return directory / "tenants" / str(organization_id)


def archive_tenant(
    fleet: Fleet, key: str | UUID, directory: Path, *, progress: Progress = quiet
) -> Path:
    """Save an organization below `directory`; returns the new file. Raises BackupError.

    The file holds secrets (of providers and API keys) and is readable by its owner alone.
    """
    tenant = fleet.tenant(key)
    with fleet.connect() as guard, alone(guard, tenant.id):
        tenant = fleet.tenant(tenant.id)
        path = tenant_directory(directory, tenant.id) / f"{stamp(now())}.tar"
        return write_archive(fleet, tenant, path, progress)


def write_archive(fleet: Fleet, tenant: Tenant, path: Path, progress: Progress = quiet) -> Path:
    """Save an organization that nobody else moves or restores meanwhile."""
    if tenant.state in ("provisioning", "failed"):
        raise BackupError(
            f"{tenant.slug} is in state {tenant.state}, so its rows are not whole: bring it up "
            "first (`tenantry tenant repair`, or the restore that was interrupted)"
        )
    pooled = tenant.home.database == fleet.main
    with fleet.connect(tenant.home.database) as place, fleet.connect() as other:
        main = place if pooled else other
        with place.transaction(), other.transaction():
            plain_text(place)
            # The rows' moment first: whatever they refer to is in the registry at the next one.
            for connection in (place, main):
                connection.execute("set transaction isolation level repeatable read read only")
                connection.execute("select 1")
                if pooled:
                    break
            taken_at = now()
            registry = read_registry(main, tenant.id)
            businesses = tuple(
                sorted(UUID(one["id"]) for one in registry["tables"]["public.businesses"])
            )
            with Writer(path) as archive:
                archive.add(REGISTRY, [json.dumps(registry).encode()])
                tables = _save_tables(place, tenant, businesses, archive, progress)
                archive.finish(
                    Manifest(
                        organization_id=tenant.id,
                        slug=tenant.slug,
                        name=tenant.name,
                        taken_at=taken_at,
                        home=tenant.home,
                        epoch=tenant.epoch,
                        migration=newest_migration(fleet, place, tenant),
                        postgres=place.info.parameter_status("server_version") or "",
                        businesses=businesses,
                        tables=tuple(tables),
                        partitions=tuple(
                            one
                            for one in partitions_at(place, tenant.home)
                            if one.bound != "DEFAULT"
                        ),
                        sha256=archive.sha256,
                    )
                )
    return path


def read_registry(main: Connection, organization_id: UUID) -> dict[str, Any]:
    """All rows of the main database that go with an organization, by table, and its users."""
    row = main.execute(
        "select private.registry_snapshot(%s) as snapshot", (organization_id,)
    ).fetchone()
    assert row is not None
    tables: dict[str, Any] = dict(row["snapshot"]["tables"])
    users = [one["id"] for one in tables["auth.users"]]
    for name in BESIDE:
        found = main.execute(
            sql.SQL(
                "select coalesce(jsonb_agg(to_jsonb(t)), '[]') as rows from {} t "
                "join public.businesses b on b.id = t.business_id where b.organization_id = %s"
            ).format(sql.Identifier(*name.split("."))),
            (organization_id,),
        ).fetchone()
        assert found is not None
        tables[name] = found["rows"]
    emails = main.execute(
        "select id::text as id, email from auth.users where id = any (%s::uuid[]) order by id",
        (users,),
    ).fetchall()
    return {
        "organization_id": str(organization_id),
        "tables": tables,
        "users": {one["id"]: one["email"] for one in emails},
    }


def newest_migration(fleet: Fleet, place: Connection, tenant: Tenant) -> str:
    """The newest migration that the tables of a home have."""
    ledger = (
        sql.Identifier(tenant.home.schema, "schema_migrations")
        if tenant.home.isolation == "schema"
        else sql.Identifier("supabase_migrations", "schema_migrations")
    )
    row = place.execute(sql.SQL("select max(version) as newest from {}").format(ledger)).fetchone()
    return str(row["newest"]) if row and row["newest"] else ""


def _save_tables(
    place: Connection,
    tenant: Tenant,
    businesses: Sequence[UUID],
    archive: Writer,
    progress: Progress,
) -> list[SavedTable]:
    tables = tables_at(place, tenant.home)
    saved = []
    for number, table in enumerate(tables):
        progress(f"save {table.name}", number / len(tables))
        # In the same snapshot as the rows.
        found = digest(place, table, businesses)
        one = SavedTable(table.name, table.columns, table.types, found.rows, found.checksum)
        archive.add(one.member, _rows(place, table, businesses))
        saved.append(one)
    progress("saved", 1.0)
    return saved


def _rows(place: Connection, table: Table, businesses: Sequence[UUID]) -> Iterator[bytes]:
    with place.cursor().copy(copy_out(table, businesses, "text")) as rows:
        for block in rows:
            yield bytes(block)
