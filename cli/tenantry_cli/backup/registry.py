"""Bringing the registry rows of an organization back that is gone, without what was revoked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from tenantry_cli.backup.log import Log, key_of
from tenantry_cli.backup.manifest import BackupError
from tenantry_cli.backup.saving import BESIDE
from tenantry_cli.fleet.fleet import Connection, Home
from tenantry_cli.fleet.rows import as_they_are

Row = dict[str, Any]

#: The columns that name a row in private.revocations: its primary key.
KEYS: dict[str, tuple[str, ...]] = {
    "public.roles": ("id",),
    "public.role_permissions": ("role_id", "permission_code"),
    "public.role_hierarchies": ("business_id", "parent_role_id", "child_role_id"),
    "public.organization_memberships": ("organization_id", "user_id"),
    "public.business_memberships": ("business_id", "id"),
    "public.membership_roles": ("business_id", "membership_id", "role_id"),
    "public.department_roles": ("business_id", "department_id", "membership_id", "role_id"),
    "public.user_permissions": ("business_id", "id"),
    "public.api_keys": ("business_id", "id"),
    "public.invitations": ("business_id", "id"),
    "public.provider_connections": ("business_id", "id"),
    "public.business_domains": ("business_id", "id"),
}
_MEMBERSHIP_PARTS = (
    "public.membership_roles",
    "public.department_roles",
    "public.user_permissions",
    "public.api_keys",
)
_ROLE_PARTS = {
    "public.role_permissions": ("role_id",),
    "public.role_hierarchies": ("parent_role_id", "child_role_id"),
    "public.membership_roles": ("role_id",),
    "public.department_roles": ("role_id",),
}
_ACCOUNTS = """
select a.id::text as archived, coalesce(own.id, other.id)::text as account
from unnest(%s::uuid[], %s::text[]) a(id, email)
left join auth.users own on own.id = a.id
left join lateral (select u.id from auth.users u where lower(u.email) = lower(a.email)
                   and u.email_confirmed_at is not null order by u.created_at limit 1) other
  on own.id is null
"""


class Registry:
    """Registry rows on their way back. `left_out` says in words what stays away."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.organization_id = UUID(content["organization_id"])
        self.tables: dict[str, list[Row]] = {n: list(rows) for n, rows in content["tables"].items()}
        self.users: dict[str, str | None] = dict(content["users"])
        self.left_out: list[str] = []

    def restore(self, main: Connection, home: Home, epoch: int, log: Log) -> None:
        """Write the rows, in the caller's transaction; the home is closed. Raises BackupError."""
        self._refuse_taken_names(main)
        self._link_people(main)
        self._take_away(log)
        self._drop_parts()
        (placement,) = self.tables["public.organization_placements"]
        placement |= {
            "isolation": home.isolation,
            "database_name": home.database,
            "schema_name": home.schema,
            "state": "provisioning",
            "epoch": epoch,
        }
        self._keep_what_is_shared(main)
        snapshot = {
            "organization_id": str(self.organization_id),
            "tables": {n: rows for n, rows in self.tables.items() if n not in BESIDE},
        }
        main.execute("select private.receive_registry(%s, 0, true)", (Jsonb(snapshot),))
        # That counts copies, and the main database has the original.
        main.execute(
            "delete from private.received_registries where organization_id = %s",
            (self.organization_id,),
        )
        with as_they_are(main):
            for name in BESIDE:
                main.execute(
                    sql.SQL(
                        "insert into {0} select * from jsonb_populate_recordset(null::{0}, %s) "
                        "on conflict do nothing"
                    ).format(sql.Identifier(*name.split("."))),
                    (Jsonb(self.tables.get(name, [])),),
                )

    def _refuse_taken_names(self, main: Connection) -> None:
        (organization,) = self.tables["public.organizations"]
        taken = main.execute(
            "select name from public.organizations where slug = %s and id <> %s",
            (organization["slug"], self.organization_id),
        ).fetchone()
        if taken:
            raise BackupError(
                f"the slug {organization['slug']!r} belongs to {taken['name']!r} now: give that "
                "organization another slug first"
            )

    def _link_people(self, main: Connection) -> None:
        """Accounts are found by id, else by a confirmed address: they may have been made anew."""
        rows = main.execute(_ACCOUNTS, (list(self.users), list(self.users.values()))).fetchall()
        accounts = {row["archived"]: row["account"] for row in rows}
        for name in ("public.organization_memberships", "public.business_memberships"):
            self._keep(name, lambda row: accounts.get(row["user_id"]) is not None, "no account")
            for row in self.tables[name]:
                row["user_id"] = accounts[row["user_id"]]
        for rows_of in self.tables.values():
            for row in rows_of:
                for column in ("granted_by", "invited_by", "accepted_by"):
                    if row.get(column):
                        row[column] = accounts.get(row[column])
        sessions = self.tables["private.revoked_sessions"]
        self.tables["private.revoked_sessions"] = [
            r for r in sessions if accounts.get(r["user_id"])
        ]

    def _take_away(self, log: Log) -> None:
        outcomes = log.outcomes()
        #: Roles of the business that are gone; system roles are nobody's to remove.
        self._gone_roles: set[str] = set()
        for name, columns in KEYS.items():
            kept = []
            for row in self.tables[name]:
                key = key_of({column: row[column] for column in columns})
                found = outcomes.get((name, key), "granted")
                if found == "deleted" or (found == "revoked" and name == "public.api_keys"):
                    if name == "public.roles":
                        self._gone_roles.add(row["id"])
                    continue
                if name == "public.provider_connections":
                    row["is_active"] = row["is_active"] and found != "disabled"
                elif found != "granted" and row["status"] != found:
                    row["status"] = found
                    self.left_out.append(f"{name} {row.get('id', row.get('user_id'))}: {found}")
                kept.append(row)
            self._replace(name, kept, "taken away since")

    def _drop_parts(self) -> None:
        """What hangs on rows that stay away stays away with them."""
        for row in self.tables["public.invitations"]:
            if row["status"] == "pending":
                row["status"] = "expired"  # its token is not in the archive
        active = {
            (row["business_id"], row["id"])
            for row in self.tables["public.business_memberships"]
            if row["status"] != "removed"
        }
        for name in _MEMBERSHIP_PARTS:
            self._keep(
                name,
                lambda row: (row["business_id"], row["membership_id"]) in active,
                "of a member who stays away",
            )
        for name, columns in _ROLE_PARTS.items():
            rows = self.tables[name]
            kept = [row for row in rows if not any(row[c] in self._gone_roles for c in columns)]
            self._replace(name, kept, "of a role that stays away")
        keys = {row["id"] for row in self.tables["public.api_keys"]}
        secrets = self.tables["private.api_key_secrets"]
        self.tables["private.api_key_secrets"] = [r for r in secrets if r["api_key_id"] in keys]
        connections = {row["id"] for row in self.tables["public.provider_connections"]}
        self.tables["private.provider_secrets"] = [
            row
            for row in self.tables["private.provider_secrets"]
            if row["connection_id"] in connections
        ]
        owners = [
            row
            for row in self.tables["public.organization_memberships"]
            if row["role"] == "owner" and row["status"] == "active"
        ]
        if not owners:
            self.left_out.append(
                "no owner is left: let one sign up with a confirmed address that the archive "
                "knows, and restore again with --replace"
            )

    def _keep_what_is_shared(self, main: Connection) -> None:
        """Accounts and plans belong to others too: today's are right."""
        self.tables["auth.users"] = []
        self.tables["public.profiles"] = []
        plans = main.execute("select id::text as id from public.subscription_plans").fetchall()
        known = {row["id"] for row in plans}
        self.tables["public.subscription_plans"] = [
            row for row in self.tables["public.subscription_plans"] if row["id"] not in known
        ]
        hosts = [row["host"] for row in self.tables["public.business_domains"]]
        taken = {
            row["host"]
            for row in main.execute(
                "select host from public.business_domains "
                "where host = any (%s) and verified_at is not null",
                (hosts,),
            )
        }
        for row in self.tables["public.business_domains"]:
            if row["host"] in taken and row["verified_at"]:
                row["verified_at"] = None
                self.left_out.append(f"the host {row['host']} was verified by another business")

    def _keep(self, name: str, wanted: Callable[[Row], bool], why: str) -> None:
        self._replace(name, [row for row in self.tables[name] if wanted(row)], why)

    def _replace(self, name: str, kept: list[Row], why: str) -> None:
        missing = len(self.tables[name]) - len(kept)
        self.tables[name] = kept
        if missing:
            self.left_out.append(f"{name}: {missing} rows ({why})")
