"""Databases as hosted Supabase makes them: roles, default privileges, extensions, passwords."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, tuple_row

from tenantry_cli.errors import TenantryError
from tenantry_cli.stack.postgres import SUPERUSER

_CONNECT_SECONDS = 5

#: Roles that log in with a password, beside the superuser. Migrations make `integrator`.
LOGIN_ROLES = ("postgres", "authenticator", "integrator")


class DatabaseError(TenantryError):
    """The server is not what the product needs; the message says what to change."""


@dataclass(frozen=True)
class Server:
    """How to reach a Postgres server, and the password of each login role."""

    host: str
    port: int
    passwords: Mapping[str, str]
    administrator: str = SUPERUSER
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_url(cls, url: str) -> Server:
        """A server that exists already. `url` logs in as its superuser or as Supabase's postgres.

        The same password is used for every other role this package makes there.
        """
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        parts.pop("dbname", None)
        administrator = parts.pop("user", SUPERUSER)
        password = parts.pop("password", os.environ.get("PGPASSWORD", ""))
        return cls(
            host=parts.pop("host", "127.0.0.1"),
            port=int(parts.pop("port", "5432")),
            passwords=dict.fromkeys((administrator, *LOGIN_ROLES), password),
            administrator=administrator,
            options=parts,
        )

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection URL that logs in as `user`. Raises KeyError if its password is unknown."""
        address = f"{quote(user)}:{quote(self.passwords[user], safe='')}@{self.host}:{self.port}"
        query = "&".join(f"{name}={quote(value)}" for name, value in self.options.items())
        return f"postgresql://{address}/{quote(database)}" + (f"?{query}" if query else "")

    def connect(
        self, database: str = "postgres", user: str = "postgres", *, autocommit: bool = False
    ) -> psycopg.Connection[TupleRow]:
        """A new connection to `database` as `user`; the caller closes it."""
        return psycopg.connect(
            self.url(database, user), autocommit=autocommit, connect_timeout=_CONNECT_SECONDS
        )

    def administer(
        self, database: str = "postgres", *, autocommit: bool = False
    ) -> psycopg.Connection[TupleRow]:
        """A new connection as the administrator."""
        return self.connect(database, self.administrator, autocommit=autocommit)


def read_sql(name: str) -> sql.SQL:
    """The text of one of our SQL files, e.g. `database.sql`."""
    # Our own file, not user input, so it may become SQL.
    text = files("tenantry_cli.stack").joinpath("sql", name).read_text(encoding="utf-8")
    return sql.SQL(text)


def prepare_cluster(server: Server) -> None:
    """Give a new server Supabase's roles and their passwords. May run again; changes nothing then.

    Roles that migrations make get their passwords when it runs after the migrations. A server where
    we are not superuser is taken for a Supabase that has them already.
    """
    with server.administer() as connection:
        if not is_superuser(connection):
            return
        if server.administrator == "postgres":
            raise DatabaseError(
                "the superuser of this server is called postgres, which must be an ordinary role "
                f"as on Supabase: make the server with another superuser, e.g. POSTGRES_USER="
                f"{SUPERUSER} in Docker or `initdb -U {SUPERUSER}`"
            )
        if not _role_exists(connection, "authenticator"):
            connection.execute(read_sql("cluster.sql"))
        for role in LOGIN_ROLES:
            if _role_exists(connection, role):
                set_password(connection, role, server.passwords[role])


def prepare_database(server: Server, name: str) -> None:
    """Make `name` look like a new Supabase database. Runs once: migrations change what it sets."""
    with server.administer(name) as connection:
        if is_superuser(connection):
            connection.execute(
                sql.SQL("alter database {} owner to postgres").format(sql.Identifier(name))
            )
        connection.execute(read_sql("database.sql"))


def is_prepared(server: Server, name: str = "postgres") -> bool:
    """Whether `prepare_database` has run there."""
    with server.administer(name) as connection:
        row = connection.execute("select to_regnamespace('extensions') is not null").fetchone()
        return row == (True,)


def create_database(server: Server, name: str, *, with_auth_fallback: bool) -> None:
    """Create database `name`, owned by `postgres`, as hosted Supabase would hand it over.

    `with_auth_fallback` adds a minimal `auth` schema, for databases that no Auth server visits.
    """
    with server.administer(autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0").format(sql.Identifier(name))
        )
    prepare_database(server, name)
    if with_auth_fallback:
        with server.administer(name) as connection:
            connection.execute(read_sql("auth_fallback.sql"))
            connection.execute(read_sql("auth_functions.sql"))


# The statements that give database $1 the rights which database $2 grants.
_DATABASE_RIGHTS = """
with template as (
  select %s::text as copy, coalesce(datacl, acldefault('d', datdba)) as rights
  from pg_database where datname = %s
)
select format('revoke all on database %%I from public', copy) from template
union all
select format('grant %%s on database %%I to %%s', privilege_type, copy,
              case grantee when 0 then 'public' else grantee::regrole::text end)
from template, aclexplode(rights)
"""


def clone_database(server: Server, template: str, name: str) -> None:
    """Copy `template`, which nobody may be connected to, into a new database `name`."""
    with server.administer(autocommit=True) as connection:
        copy_database(connection, template, name)


def copy_database(connection: psycopg.Connection[Any], template: str, name: str) -> None:
    """As `clone_database`, on an autocommit connection that is there already.

    Its user is a superuser, or may create databases and `template` is marked as a template.
    """
    connection.execute(
        sql.SQL("create database {} template {} owner postgres").format(
            sql.Identifier(name), sql.Identifier(template)
        )
    )
    copy_database_rights(connection, template, name)


def copy_database_rights(connection: psycopg.Connection[Any], template: str, name: str) -> None:
    """Give `name` the rights on the database itself that `template` grants, such as who may make
    temporary objects in it: neither a clone nor a dump takes them along.
    """
    rights = connection.cursor(row_factory=tuple_row).execute(_DATABASE_RIGHTS, (name, template))
    for (statement,) in rights.fetchall():
        connection.execute(sql.SQL(statement))


def drop_database(server: Server, name: str) -> None:
    """Drop database `name` if it exists, and end the sessions in it."""
    with server.administer(autocommit=True) as connection:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )


def set_password(connection: psycopg.Connection[TupleRow], role: str, password: str) -> None:
    """Let `role` log in with `password`, which leaves this process only as a SCRAM verifier."""
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    connection.execute(
        sql.SQL("alter role {} with login password {}").format(
            sql.Identifier(role), sql.Literal(verifier)
        )
    )


def is_superuser(connection: psycopg.Connection[TupleRow]) -> bool:
    """Whether the connection's user is a superuser."""
    row = connection.execute("select rolsuper from pg_roles where rolname = current_user")
    return row.fetchone() == (True,)


def _role_exists(connection: psycopg.Connection[TupleRow], role: str) -> bool:
    row = connection.execute("select exists (select from pg_roles where rolname = %s)", (role,))
    return row.fetchone() == (True,)


def wait_until_reachable(server: Server, seconds: float = 10.0) -> None:
    """Return when the server takes connections. Raises its last error after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            server.administer().close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
