"""Builds the world of the personas in a database, and reads back every row of it as the owner.

The rows read back are the proof that what a persona does not see is there to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from .catalog import Catalog, Connection, read_catalog
from .facts import Key, held_rows, key_of, read_rows, view_counts
from .people import (
    ACCESS_LISTS,
    ALPHA_ONE,
    BUSINESSES,
    CUSTOM_ROLES,
    DEPARTMENTS,
    EMPTY,
    ORGANIZATIONS,
    OWNED,
    RECORDS,
    Business,
    Cast,
    Membership,
    Persona,
    bystander,
    fixed_id,
    make_cast,
    membership_id,
    record_id,
)
from .rows import FACTORIES, Row, Tenant
from .site import POOLED, Site
from .specification import Specification

#: Tables filled by a factory, parents first, and with which tokens. The last row of a table is one
#: that nothing points to; the `hub` is what other rows point to.
_TOKENS = ("hub", "own", "leaf")
_FILLED: dict[str, tuple[str, ...]] = {
    "public.roles": _TOKENS,
    "public.role_permissions": _TOKENS,
    "public.departments": _TOKENS,
    "public.department_roles": ("hub",),
    "public.role_hierarchies": ("hub",),
    "public.permission_templates": _TOKENS,
    "public.user_permissions": _TOKENS,
    "public.access_control_lists": _TOKENS,
    "public.api_keys": _TOKENS,
    "private.api_key_secrets": ("leaf",),
    "private.revocations": ("own",),
    "public.business_domains": _TOKENS,
    "public.invitations": _TOKENS,
    "private.invitation_tokens": ("leaf",),
    "public.placement_databases": ("own",),
    "public.placement_moves": ("own",),
    "public.fleet_jobs": ("own",),
    "private.registry_places": ("own",),
    "public.provider_connections": _TOKENS,
    "private.provider_secrets": ("hub", "leaf"),
    "public.customers": _TOKENS,
    "public.contact_points": _TOKENS,
    "public.migration_targets": ("own",),
    "public.channels": _TOKENS,
    "public.conversations": _TOKENS,
    "public.messages": _TOKENS,
    "public.calls": _TOKENS,
    "public.call_transcripts": _TOKENS,
    "public.webhook_events": _TOKENS,
    "public.audit_logs": _TOKENS,
    "public.status_history": _TOKENS,
    "public.daily_metric_slots": _TOKENS,
    "public.erasures": _TOKENS,
    "public.customer_counts": ("leaf",),
    "public.idempotency_keys": _TOKENS,
    "public.import_batches": _TOKENS,
    "public.import_rows": ("hub", "leaf"),
    "public.customer_import_keys": _TOKENS,
    "private.query_counters": ("leaf",),
    "private.query_samples": ("leaf",),
    "private.capacity_samples": ("leaf",),
    "private.performance_benchmarks": ("leaf",),
    "private.maintenance_runs": ("leaf",),
}


def own_token(business: Business) -> str:
    """The token of the row whose natural values only this business has."""
    return business.name.replace("-", "")


@dataclass(frozen=True)
class World:
    """The cast, the catalog, and every row by table (values as the database prints them)."""

    specification: Specification
    cast: Cast
    catalog: Catalog
    tenants: Mapping[str, Tenant]
    #: Table -> primary key -> row.
    rows: Mapping[str, Mapping[Key, Mapping[str, str | None]]]
    #: (table, business name) -> primary key of a row nothing points to.
    samples: Mapping[tuple[str, str], Key]
    #: Table -> primary key -> `a` or `r`: rows that a no-action or restrict reference holds.
    held: Mapping[str, Mapping[Key, str]]
    #: View -> business id -> number of rows.
    views: Mapping[str, Mapping[str, int]]
    site: Site = POOLED
    #: The rows where the world was built, of which the site may lack some.
    built: Mapping[str, Mapping[Key, Mapping[str, str | None]]] = field(default_factory=dict)

    def row(self, table: str, key: Key) -> Mapping[str, str | None]:
        """A row that is there, or that was where the world was built."""
        return self.rows[table].get(key) or self.built[table][key]

    def sample(self, table: str, business: Business) -> Key:
        return self.samples[table, business.name]


def build_world(connection: Connection, specification: Specification) -> World:
    """Fill the (empty, migrated) database that `connection` owns; commits."""
    catalog = read_catalog(connection)
    cast = make_cast(specification)
    builder = _Builder(connection, catalog, specification)
    builder.people(cast, specification)
    for tenant in builder.tenants.values():
        builder.fill(tenant)
    builder.records(builder.tenants[ALPHA_ONE.name])
    _close_places(connection)
    connection.commit()
    rows = {one.label: read_rows(connection, one) for one in catalog.tables}
    return World(
        specification,
        cast,
        catalog,
        builder.tenants,
        rows,
        _samples(builder, catalog, rows),
        {one.label: held_rows(connection, catalog, one) for one in catalog.tables},
        {
            label: view_counts(connection, view)
            for label, view in specification.views.items()
            if view.has_cells
        },
    )


def _close_places(connection: Connection) -> None:
    """At the end: a place that is suspended, moving or not home takes no rows."""
    for organization in ORGANIZATIONS:
        if not organization.is_active:
            connection.execute(
                "update public.organizations set status = 'suspended' where id = %s",
                [organization.id],
            )
        connection.execute(
            """
            update public.organization_placements set schema_name = %(schema)s, state = %(state)s,
              database_name = coalesce(%(database)s, database_name), epoch = epoch + 1
            where organization_id = %(id)s
              and (schema_name, state, database_name)
                <> (%(schema)s, %(state)s, coalesce(%(database)s, database_name))
            """,
            {
                "id": organization.id,
                "schema": organization.schema,
                "state": organization.state,
                "database": organization.database,
            },
        )


class _Builder:
    def __init__(
        self, connection: Connection, catalog: Catalog, specification: Specification
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._owner_columns = {name: one.owners[0] for name, one in specification.records.items()}
        self.tenants = {one.name: Tenant(one) for one in BUSINESSES}
        self.samples: dict[tuple[str, str], Key] = {}

    def insert(self, table: str, row: Row) -> dict[str, Any]:
        """Insert one row as the owner; generated columns are the database's."""
        relation = self._catalog.relations[table]
        statement = sql.SQL("insert into {} ({}) values ({}) returning *").format(
            sql.Identifier(relation.schema, relation.name),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        )
        with self._connection.cursor(row_factory=dict_row) as cursor:
            stored = cursor.execute(statement, list(row.values())).fetchone()
        assert stored is not None
        return stored

    def people(self, cast: Cast, specification: Specification) -> None:
        for user in cast.users:
            self._connection.execute(
                "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
                [user.user_id, f"{user.name.replace(' ', '.')}@people.example"],
            )
        self.insert(
            "public.subscription_plans",
            {"id": fixed_id("plan"), "code": "unbounded", "name": "Plan", "is_public": False},
        )
        # Of nobody here: with a copy of one of its organizations, this would be no main database.
        received = {"organization_id": fixed_id("registry of nobody"), "version": 1}
        self.insert("private.received_registries", received)
        self.insert("private.query_sampling", {"sampled_at": "2026-01-01T00:00Z"})
        for organization in (*ORGANIZATIONS, EMPTY):
            name = organization.name
            row = {"id": organization.id, "name": name, "slug": name}
            row["requires_mfa"] = organization.requires_mfa
            self.insert("public.organizations", row)
        for organization in ORGANIZATIONS:
            key = {"organization_id": organization.id}
            self.insert("public.organization_placements", key)
            self.insert("public.subscriptions", {**key, "plan_id": fixed_id("plan")})
        for tenant in self.tenants.values():
            row = FACTORIES["public.businesses"](tenant, own_token(tenant.business))
            self.insert("public.businesses", {**row, "id": tenant.id})
        self._custom_roles(cast, specification)
        self._departments()
        for user in cast.users:
            for seat in user.seats:
                self.insert(
                    "public.organization_memberships",
                    {
                        "organization_id": seat.organization.id,
                        "user_id": user.user_id,
                        "role": seat.role,
                        "status": seat.status,
                    },
                )
            for membership in user.memberships:
                self._join(user, membership)
        self._api_keys(cast)
        for user in cast.users:
            if user.session_was_ended:
                self._connection.execute(
                    "insert into private.revoked_sessions (session_id, user_id) values (%s, %s)",
                    [user.session_id, user.user_id],
                )

    def _custom_roles(self, cast: Cast, specification: Specification) -> None:
        memberships = [one for user in cast.users for one in user.memberships if one.is_custom]
        for tenant in self.tenants.values():
            self._made_roles(tenant)
        for membership in memberships:
            role = self.insert(
                "public.roles",
                {
                    "business_id": membership.business.id,
                    "code": membership.role_code,
                    "name": membership.role,
                    "rank": specification.ranks["viewer"],
                },
            )
            self.insert(
                "public.role_permissions",
                {"role_id": role["id"], "permission_code": membership.role},
            )

    def _made_roles(self, tenant: Tenant) -> None:
        """The roles that a business made: the empty ones everywhere, the others where used."""
        ids = {}
        for one in CUSTOM_ROLES:
            if tenant.business != ALPHA_ONE and (one.permissions or one.inherits):
                continue
            row = {"business_id": tenant.id, "code": one.code, "name": one.code, "rank": one.rank}
            ids[one.code] = self.insert("public.roles", row)["id"]
            for code, scope in one.permissions.items():
                carried = {"role_id": ids[one.code], "permission_code": code, "scope": scope}
                may_grant = code in one.grantable
                self.insert("public.role_permissions", {**carried, "grantable": may_grant})
            for other in one.inherits:
                self._connection.execute(
                    """
                    insert into public.role_hierarchies (business_id, parent_role_id, child_role_id)
                    select %(business)s, %(parent)s, r.id from public.roles r
                    where r.code = %(code)s
                      and (r.business_id is null or r.business_id = %(business)s)
                    """,
                    {"business": tenant.id, "parent": ids[one.code], "code": other},
                )
        tenant.ids["empty role"], tenant.ids["other role"] = ids["nothing"], ids["guest"]

    def _departments(self) -> None:
        for one in DEPARTMENTS:
            self.insert(
                "public.departments",
                {
                    "business_id": one.business.id,
                    "id": one.id,
                    "name": one.name,
                    "kind": "sales",
                    "parent_id": one.parent.id if one.parent else None,
                },
            )

    def _api_keys(self, cast: Cast) -> None:
        for persona in cast.personas:
            if (key := persona.key) is None:
                continue
            past = "2020-01-01T00:00:00Z"
            self.insert(
                "public.api_keys",
                {
                    "business_id": key.business.id,
                    "id": persona.key_id,
                    "membership_id": membership_id(key.maker, key.business),
                    "name": persona.name,
                    "prefix": "tnk_11111111",
                    "scopes": list(key.scopes),
                    "revoked_at": past if key.state == "revoked" else None,
                    "expires_at": past if key.state == "expired" else None,
                },
            )

    def _role_id(self, business: Business, code: str) -> object:
        row = self._connection.execute(
            "select id from public.roles where code = %s and (business_id is null or"
            " business_id = %s) order by business_id nulls last limit 1",
            [code, business.id],
        ).fetchone()
        assert row is not None, code
        return row[0]

    def _join(self, user: Persona, membership: Membership) -> None:
        business = membership.business
        key = {"business_id": business.id, "membership_id": membership_id(user.name, business)}
        customer = membership.customer
        self.insert(
            "public.business_memberships",
            {
                "business_id": business.id,
                "id": key["membership_id"],
                "user_id": user.user_id,
                "status": membership.status,
                "customer_id": record_id("customers", customer, business) if customer else None,
            },
        )
        # A removed or suspended member keeps the role rows here: the status alone must stop them.
        role = self._role_id(business, membership.role_code)
        self.insert("public.membership_roles", {**key, "role_id": role})
        for department, code in membership.departments:
            row = {**key, "department_id": department.id, "role_id": self._role_id(business, code)}
            self.insert("public.department_roles", row)
        for single in membership.permissions:
            self.insert(
                "public.user_permissions",
                {
                    **key,
                    "permission_code": single.code,
                    "effect": single.effect,
                    "scope": single.scope,
                    "expires_at": "2020-01-01T00:00:00Z" if single.has_expired else None,
                },
            )
        if user.name == bystander(business):
            self.tenants[business.name].ids["business_memberships"] = key["membership_id"]

    def records(self, tenant: Tenant) -> None:
        """The records of alpha-one that belong to somebody, their parts, and who shares them."""
        for one in OWNED:
            ids = {name: record_id(name, one.token, tenant.business) for name in RECORDS}
            mine = Tenant(tenant.business, {**tenant.ids, **ids})
            owner = membership_id(one.owner, tenant.business) if one.owner else None
            department = one.department.id if one.department else None
            for name in RECORDS:
                column = self._owner_columns[name]
                belongs = {"id": ids[name], column: owner, "department_id": department}
                row = FACTORIES[f"public.{name}"](mine, f"of-{one.token}")
                self.insert(f"public.{name}", row | belongs)
            for part in ("contact_points", "messages", "call_transcripts"):
                self.insert(f"public.{part}", FACTORIES[f"public.{part}"](mine, f"of-{one.token}"))
        # Counting ends with a customer of an organization without a bound: count again.
        counted = "public.customer_counts"
        self.insert(counted, FACTORIES[counted](tenant, "leaf"))
        self.insert(
            "public.invitations",
            {
                "business_id": tenant.id,
                "id": fixed_id("invitation of a chief"),
                "email_normalized": "chief@invited.example",
                "role_id": self._role_id(tenant.business, "chief"),
            },
        )
        for entry in ACCESS_LISTS:
            member, role = entry.member, entry.role
            self.insert(
                "public.access_control_lists",
                {
                    "business_id": tenant.id,
                    "resource": entry.resource,
                    "resource_id": record_id(entry.resource, entry.token, tenant.business),
                    "membership_id": membership_id(member, tenant.business) if member else None,
                    "role_id": self._role_id(tenant.business, role) if role else None,
                    "department_id": entry.department.id if entry.department else None,
                    "verbs": list(entry.verbs),
                    "granted_by": fixed_id(f"user {entry.by}") if entry.by else None,
                    "effect": entry.effect,
                    "expires_at": "2020-01-01T00:00:00Z" if entry.has_expired else None,
                },
            )

    def fill(self, tenant: Tenant) -> None:
        for table, tokens in _FILLED.items():
            key = self._catalog.relations[table].primary_key
            for token in tokens:
                word = own_token(tenant.business) if token == "own" else token
                stored = self.insert(table, FACTORIES[table](tenant, word))
                if token == "hub" and "id" in stored:
                    tenant.ids[table.partition(".")[2]] = stored["id"]
            self.samples[table, tenant.business.name] = key_of(self._connection, table, key, stored)


def _samples(
    builder: _Builder, catalog: Catalog, rows: Mapping[str, Mapping[Key, Mapping[str, str | None]]]
) -> dict[tuple[str, str], Key]:
    """A row of each table for each business; reference data has the same one for all."""
    samples = dict(builder.samples)
    seats = {
        "alpha": "organization admin",
        "beta": "other owner",
        "suspended": "owner of suspended",
        "moving": "owner of moving",
        "moved": "owner of moved",
        "abroad": "owner of abroad",
        "guarded": "guarded aal1",
    }
    for tenant in builder.tenants.values():
        business = tenant.business
        wanted = {
            "public.organizations": {"id": business.organization.id},
            "public.businesses": {"id": business.id},
            "public.organization_placements": {"organization_id": business.organization.id},
            "public.subscriptions": {"organization_id": business.organization.id},
            "public.organization_memberships": {
                "organization_id": business.organization.id,
                "user_id": fixed_id(f"user {seats[business.organization.name]}"),
            },
            "public.profiles": {"user_id": fixed_id(f"user {bystander(business)}")},
            "public.business_memberships": {"id": tenant.ids["business_memberships"]},
            "public.membership_roles": {"membership_id": tenant.ids["business_memberships"]},
            "private.revoked_sessions": {},
            "private.business_directory": {"business_id": business.id},
        }
        for relation in catalog.tables:
            place = (relation.label, business.name)
            if place in samples or relation.parent is not None:
                continue
            conditions = wanted.get(relation.label, {})
            fitting = sorted(
                key
                for key, row in rows[relation.label].items()
                if all(row[name] == str(value) for name, value in conditions.items())
            )
            assert fitting, f"the world has no row of {relation.label} for {business.name}"
            samples[place] = fitting[0]
    return samples
