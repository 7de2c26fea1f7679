"""Restoring a whole fleet into an empty server.

The main database comes back under another name, where it is inert: nobody's home is there. It gets
its own name when its policies, grants and triggers are those that were shipped, and what was
revoked since is revoked again. All homes are closed then; each opens with its archive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tenantry_cli.backup.archive import Archive
from tenantry_cli.backup.check import database_differences
from tenantry_cli.backup.dump import restore_dump
from tenantry_cli.backup.fleet_saving import MAIN, FleetManifest, check_fleet
from tenantry_cli.backup.log import Log, logs_beside
from tenantry_cli.backup.manifest import BackupError, names
from tenantry_cli.backup.registry import KEYS
from tenantry_cli.backup.restoring import Restore, plan_restore
from tenantry_cli.backup.saving import Progress, quiet
from tenantry_cli.fleet.databases import clone_template
from tenantry_cli.fleet.fleet import Connection, Fleet, FleetError
from tenantry_cli.fleet.mover import alone
from tenantry_cli.fleet.names import template_name
from tenantry_cli.fleet.rows import as_they_are
from tenantry_cli.migrate import apply_migrations
from tenantry_cli.stack.database import (
    Server,
    copy_database_rights,
    create_database,
    drop_database,
    is_superuser,
    prepare_cluster,
)

_RESTORING = "_restoring"


@dataclass(frozen=True)
class RestoredFleet:
    """What came back, and what did not."""

    main: str
    tenants: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    revoked_again: int = 0
    erased_again: int = 0


def restore_fleet(
    fleet: Fleet, directory: Path, *, log: Log | None = None, progress: Progress = quiet
) -> RestoredFleet:
    """Restore a fleet's backup into the empty server of `fleet`. Raises BackupError.

    `fleet.main` and the prefix are those of the backup, because homes are named by them. An
    organization that cannot be restored stays closed and is in `failed`; the others are served.
    """
    progress("read the backup", 0.0)
    manifest = check_fleet(directory)
    if (fleet.main, fleet.prefix) != (manifest.main, manifest.prefix):
        raise BackupError(
            f"the backup is of {manifest.main} and databases named {manifest.prefix}_…, and homes "
            f"are named by them: restore it under these names, not {fleet.main} and {fleet.prefix}"
        )
    whole = (log or Log()).add(logs_beside(directory / MAIN))
    server = fleet.server
    progress("prepare the server", 0.05)
    _require_empty(server, manifest)
    _make_template(fleet)
    progress("restore the main database", 0.1)
    restoring = manifest.main + _RESTORING
    drop_database(server, restoring)
    _create_bare(server, restoring)
    restore_dump(server, directory / MAIN, restoring)
    with server.administer("template1", autocommit=True) as connection:
        copy_database_rights(connection, template_name(fleet.prefix), restoring)
    with fleet.connect(restoring) as main, main.transaction():
        if different := database_differences(main):
            raise BackupError(
                f"the restored main database is not protected as it was shipped "
                f"({names(different)}): it stays aside as {restoring}. Restore with the checkout "
                "of Tenantry that made the backup, then run `tenantry migrate up`"
            )
        revoked = _revoke_again(main, whole)
        _end_sessions(main)
        _close_homes(main)
    fleet.close()
    _rename(server, restoring, manifest.main)
    return _restore_tenants(fleet, directory, manifest, whole, revoked, progress)


def _restore_tenants(
    fleet: Fleet,
    directory: Path,
    manifest: FleetManifest,
    log: Log,
    revoked: int,
    progress: Progress,
) -> RestoredFleet:
    for shelf in manifest.shelves:
        clone_template(fleet, shelf)
    done = RestoredFleet(manifest.main, revoked_again=revoked)
    erased = 0
    for number, one in enumerate(manifest.tenants):
        progress(f"restore {one.slug}", 0.3 + 0.7 * number / len(manifest.tenants))
        try:
            with (
                Archive(directory / one.file) as archive,
                fleet.connect() as guard,
                alone(guard, one.organization_id),
            ):
                plan = plan_restore(fleet, archive)
                erased += Restore(fleet, archive, plan, log, quiet).run(directory).erased_again
            done.tenants.append(one.slug)
        except (psycopg.Error, FleetError) as error:
            done.failed.append(f"{one.slug}: {str(error).strip()}")
    done.failed.extend(f"not in the backup: {one}" for one in manifest.missing)
    progress("done", 1.0)
    return replace(done, erased_again=erased)


def _require_empty(server: Server, manifest: FleetManifest) -> None:
    with server.administer("template1", autocommit=True) as connection:
        if not is_superuser(connection):
            raise BackupError(
                f"{server.administrator} is no superuser: event triggers and the schemas of other "
                "roles come back only as one"
            )
        rows = connection.execute(
            "select datname from pg_database where datname = %s or starts_with(datname, %s)",
            (manifest.main, manifest.prefix + "_"),
        ).fetchall()
    for (name,) in rows:
        if name == manifest.main + _RESTORING or name == template_name(manifest.prefix):
            continue  # what an interrupted restore has left
        with server.administer(name) as connection:
            there = connection.execute(
                "select exists (select from pg_class c "
                "join pg_namespace n on n.oid = c.relnamespace "
                "where n.nspname in ('public', 'private') and c.relkind = 'r')"
            ).fetchone()
        if there == (True,):
            raise BackupError(
                f"the database {name} of this server has tables: a fleet is restored into an "
                "empty server. (A restore that was interrupted after the main database is finished "
                "archive by archive, with `tenantry restore FILE`)"
            )


def _make_template(fleet: Fleet) -> None:
    """Migrations make roles and rights that no dump has; the template is made by them."""
    prepare_cluster(fleet.server)
    name = template_name(fleet.prefix)
    with fleet.server.administer("template1", autocommit=True) as connection:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            if not _is_template(connection, name)
            else sql.SQL("alter database {} with is_template false allow_connections true").format(
                sql.Identifier(name)
            )
        )
    drop_database(fleet.server, name)
    create_database(fleet.server, name, with_auth_fallback=True)
    with fleet.server.connect(name) as template:
        apply_migrations(template, list(fleet.migrations))
    prepare_cluster(fleet.server)  # roles that migrations made get their passwords


def _is_template(connection: psycopg.Connection[Any], name: str) -> bool:
    row = connection.execute(
        "select exists (select from pg_database where datname = %s and datistemplate)", (name,)
    ).fetchone()
    return bool(row and row[0])


def _create_bare(server: Server, name: str) -> None:
    with server.administer("template1", autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0 owner postgres").format(
                sql.Identifier(name)
            )
        )


def _rename(server: Server, restoring: str, name: str) -> None:
    with server.administer("template1", autocommit=True) as connection:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )
        connection.execute(
            sql.SQL("alter database {} rename to {}").format(
                sql.Identifier(restoring), sql.Identifier(name)
            )
        )


def _revoke_again(main: Connection, log: Log) -> int:
    """What was taken away after the dump was taken; returns how many rows changed."""
    changed = 0
    with as_they_are(main):
        for (table, key), outcome in log.outcomes().items():
            if table not in KEYS or outcome == "granted":
                continue
            schema, name = table.split(".")
            where = sql.SQL(" and ").join(
                sql.SQL("{}::text = {}").format(sql.Identifier(column), sql.Literal(value))
                for column, value in key
                if column in KEYS[table]
            )
            target = sql.Identifier(schema, name)
            if outcome == "deleted":
                change = sql.SQL("delete from {} where {}").format(target, where)
            elif table == "public.api_keys":
                change = sql.SQL(
                    "update {} set revoked_at = now() where {} and revoked_at is null"
                ).format(target, where)
            elif table == "public.provider_connections":
                change = sql.SQL("update {} set is_active = false where {} and is_active").format(
                    target, where
                )
            else:
                change = sql.SQL("update {} set status = {} where {} and status <> {}").format(
                    target, sql.Literal(outcome), where, sql.Literal(outcome)
                )
            changed += main.execute(change).rowcount
        # Cascades do not run here: what hangs on rows that are gone goes with them.
        main.execute("select private.mend_references(array['public'])")
        for statement in _PARTS:
            main.execute(statement)
    main.execute(
        "select private.refresh_user_access(array(select id from auth.users)), "
        "private.refresh_business_directory(array(select id from public.organizations))"
    )
    return changed


# What a membership that was removed, a role or a key that is gone would have taken along.
_PARTS = (
    "delete from public.role_permissions p where not exists "
    "(select from public.roles r where r.id = p.role_id)",
    "delete from public.membership_roles r where not exists (select from "
    "public.business_memberships m where (m.business_id, m.id) = (r.business_id, r.membership_id) "
    "and m.status <> 'removed')",
    "delete from public.membership_roles r where not exists "
    "(select from public.roles o where o.id = r.role_id)",
    "delete from public.department_roles r where not exists (select from "
    "public.business_memberships m where (m.business_id, m.id) = (r.business_id, r.membership_id) "
    "and m.status <> 'removed') or not exists (select from public.roles o where o.id = r.role_id)",
    "delete from public.user_permissions p where not exists (select from "
    "public.business_memberships m where (m.business_id, m.id) = (p.business_id, p.membership_id) "
    "and m.status <> 'removed')",
    "delete from public.api_keys k where not exists (select from public.business_memberships m "
    "where (m.business_id, m.id) = (k.business_id, k.membership_id))",
    "delete from private.api_key_secrets s where not exists "
    "(select from public.api_keys k where (k.business_id, k.id) = (s.business_id, s.api_key_id))",
    "delete from private.invitation_tokens t where not exists (select from public.invitations i "
    "where (i.business_id, i.id) = (t.business_id, t.invitation_id) and i.status = 'pending')",
    "delete from private.provider_secrets s where not exists (select from "
    "public.provider_connections c where (c.business_id, c.id) = (s.business_id, s.connection_id))",
)


def _end_sessions(main: Connection) -> None:
    """Everybody signs in again: sessions and codes that were used or ended since would be back."""
    main.execute("select private.end_sessions(array(select id from auth.sessions))")
    columns = main.execute(
        "select column_name::text as name from information_schema.columns "
        "where table_schema = 'auth' and table_name = 'users' and column_name = any (%s)",
        (["confirmation_token", "recovery_token", "email_change_token_new",
          "email_change_token_current", "phone_change_token", "reauthentication_token"],),
    ).fetchall()  # fmt: skip
    for row in columns:
        # Not null: the auth service reads strings.
        main.execute(
            sql.SQL("update auth.users set {0} = '' where {0} <> ''").format(
                sql.Identifier(row["name"])
            )
        )


def _close_homes(main: Connection) -> None:
    """No home is open before its rows are there; older routers are refused."""
    with as_they_are(main):
        main.execute(
            "update public.organization_placements set state = 'provisioning', epoch = epoch + 1000"
        )
        # Copies are counted from the beginning: the places are new.
        main.execute("delete from private.registry_places")
        main.execute("update private.placement_version set version = version + 1000")
    main.execute(
        "select private.refresh_business_directory(array(select id from public.organizations))"
    )
