"""Cells of functions and views: every call and every view, with what must come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import sql

from .calls import Calls, call_text
from .catalog import Connection
from .cell import Cell, Predict
from .oracle import NOT_HOME, NOT_MAIN, Expectation, Oracle, Row, refused
from .people import (
    ALPHA_ONE,
    BETA_ONE,
    BUSINESSES,
    OWNED,
    UNKNOWN,
    Business,
    Persona,
    record_id,
)
from .rows import Tenant
from .site import Site
from .specification import Function, View
from .world import World


class ApiCells:
    """Makes the cells of one world. `connection` only serves to quote values."""

    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._oracle = Oracle(world)
        self._calls = Calls(world)
        self._schema = world.site.schema
        self._quote = connection

    def cells(self, for_service: bool) -> dict[str, list[Cell]]:
        """All cells by function or view. service_role is not asked about unknown businesses."""
        made = {
            label: list(self._function(one, for_service))
            for label, one in self._world.specification.functions.items()
            if one.schema == "public" and one.name not in Calls.ABOUT_USERS
        }
        made["public.my_business_ids"] += self._held()
        made["public.may_access_record"] += self._reached()
        made["public.may_create"] += self._created()
        for label, view in self._world.specification.views.items():
            made[label] = list(self._view(label, view))
        return made

    def _cell(
        self, label: str, operation: str, statement: sql.Composable, predict: Predict
    ) -> Cell:
        return Cell(label, operation, statement.as_string(self._quote).encode(), predict)

    # Functions ------------------------------------------------------------------------------------

    def _function(self, one: Function, for_service: bool) -> Iterator[Cell]:
        label = f"{one.schema}.{one.name}"
        tenants = [*self._world.tenants.values()]
        if one.name in self._calls.of_business and not for_service:
            ids = self._world.tenants[ALPHA_ONE.name].ids
            tenants.append(Tenant(UNKNOWN, dict(ids)))
        elif one.name not in self._calls.of_business and one.name != "ingest_webhook":
            tenants = tenants[:1]
        if for_service and one.plane == "platform":
            tenants = [tenant for tenant in tenants if self._world.site.knows(tenant.business)]
        for tenant in tenants:
            statement = self._calls.statement(one.name, tenant)
            yield self._cell(
                label, f"call for {tenant.business.name}", statement, self._call(one, tenant)
            )

    def _call(self, one: Function, tenant: Tenant) -> Predict:
        business, site = tenant.business, self._world.site

        def predict(persona: Persona) -> Expectation:
            if persona.role not in one.execute:
                return refused()
            if persona.role == "integrator":
                is_delivery = one.name == "ingest_webhook"
                return Expectation(
                    sqlstate=_refusal_of_events(site, business) if is_delivery else None
                )
            is_service = persona.role == "service_role"
            ends = Calls.SERVICE_ENDS if is_service else Calls.ENDS
            done = Expectation(sqlstate=ends.get(one.name) or self._end_at_copy(one))
            if one.requires == "signed_in":
                # A token for a user who is gone, an API key, an ended session: nobody of these.
                is_person = persona.user_id is not None and persona.subject is None
                if site.accounts is not None and str(persona.user_id) not in site.accounts:
                    is_person = False
                is_open = not persona.is_anonymous and not persona.session_was_ended
                return (
                    done if is_person and is_open and persona.role == "authenticated" else refused()
                )
            if one.requires in (None, "self"):
                return done
            if is_service:
                return self._job(one, business, done)
            if not self._holds(persona, one, business):
                return refused()
            return self._beyond(persona, one, business) or done

        return predict

    def _end_at_copy(self, one: Function) -> str | None:
        """What stops a change of the registry where only a copy of it is."""
        if not self._world.site.is_copy or one.plane == "tenant":
            return None
        named = self._calls.ENDS_AT_COPY.get(one.name)
        asks = one.requires not in (None, "self", "signed_in")
        return named or (NOT_MAIN if asks else None)

    def _beyond(self, persona: Persona, one: Function, business: Business) -> Expectation | None:
        """What stops somebody who holds the permission; None for nothing."""
        oracle, permission = self._oracle, one.requires or ""
        reach = oracle.rights_in(persona, business).get(permission)
        if one.whole and reach and not reach.is_whole:
            return refused()
        if one.creates and not oracle.may_create(persona, permission, business):
            return refused()
        roles = oracle.system_roles(persona, business)
        if one.rank and one.rank not in roles:
            return refused()
        # A copy has no invitation to send again: nobody is asked what it would give away.
        is_there = one.plane == "tenant" or not self._world.site.is_copy
        if one.grants and is_there and not roles & self._world.specification.granting_roles:
            return refused()
        if one.name == "create_api_key":
            return self._api_key(persona, business)
        if one.name == "unshare_record" and not oracle.holds(persona, "members.write", business):
            return refused("PT404")
        for record in one.records:
            if refusal := self._of_record(persona, record, business):
                return refusal
        return None

    def _of_record(
        self, persona: Persona, record: Mapping[str, Any], business: Business
    ) -> Expectation | None:
        resource, permission = record["resource"], record["permission"]
        hub = self._world.tenants[business.name].ids[resource]
        row = self._world.rows[f"public.{resource}"][str(business.id), str(hub)]
        if self._oracle.reaches(persona, permission, business, resource, row):
            return None
        is_held = self._oracle.holds(persona, permission, business)
        return refused("PT404") if is_held or record.get("always") else None

    def _api_key(self, persona: Persona, business: Business) -> Expectation | None:
        """A key has what its maker has, and acts as a member."""
        if not self._oracle.holds(persona, "channels.read", business):
            return refused()
        is_member = any(
            one.business == business and one.status == "active" for one in persona.memberships
        )
        return None if is_member else refused("PT409")

    def _job(self, one: Function, business: Business, done: Expectation) -> Expectation:
        site = self._world.site
        if one.plane == "tenant" and not site.is_home(business):
            return refused("PT404")
        return refused(NOT_HOME) if one.fenced and not site.takes_writes(business) else done

    def _holds(self, persona: Persona, one: Function, business: Business) -> bool:
        assert one.requires is not None
        if one.requires.startswith("organization."):
            organization = business.organization
            return self._oracle.holds_in_organization(persona, one.requires, organization)
        return self._oracle.holds(persona, one.requires, business, one.plane)

    def _reached(self) -> Iterator[Cell]:
        """What members are told about single records of their own and of other businesses."""
        places = [(ALPHA_ONE, f"of {one.token}", one.token) for one in OWNED]
        for business, operation, token in (*places, (BETA_ONE, "of beta-one", None)):
            for resource, record in self._world.specification.records.items():
                ids = self._world.tenants[business.name].ids
                found = record_id(resource, token, business) if token else ids[resource]
                code = record.verbs["read"][0]
                arguments = {
                    "resource": resource, "business_id": business.id, "record_id": found,
                    "permission": code,
                }  # fmt: skip
                row = self._world.rows[f"public.{resource}"][str(business.id), str(found)]

                def predict(
                    persona: Persona, business: Business = business, resource: str = resource,
                    row: Row = row, code: str = code,
                ) -> Expectation:  # fmt: skip
                    if persona.role not in ("authenticated", "service_role"):
                        return refused()
                    is_told = self._world.site.is_home(business) and self._oracle.reaches(
                        persona, code, business, resource, row
                    )
                    return Expectation(keys=frozenset({("t" if is_told else "f",)}))

                statement = call_text("may_access_record", arguments, self._schema)
                yield self._cell(
                    "public.may_access_record", f"{resource} {operation}", statement, predict
                )

    def _created(self) -> Iterator[Cell]:
        for business in (ALPHA_ONE, BETA_ONE):
            for code in ("customers.write", "calls.write"):

                def predict(
                    persona: Persona, business: Business = business, code: str = code
                ) -> Expectation:
                    if persona.role not in ("authenticated", "service_role"):
                        return refused()
                    may = self._world.site.is_home(business)
                    may = may and self._oracle.may_create(persona, code, business)
                    return Expectation(keys=frozenset({("t" if may else "f",)}))

                arguments = {"business_id": business.id, "permission": code}
                statement = call_text("may_create", arguments, self._schema)
                yield self._cell(
                    "public.may_create", f"{code} in {business.name}", statement, predict
                )

    def _held(self) -> Iterator[Cell]:
        """What functions ask, for each permission, whether or not one asks for it yet."""
        ask = sql.SQL("select unnest({}({}))::text")
        function = sql.Identifier(self._schema, "my_business_ids")
        for permission in self._world.specification.permissions:
            statement = ask.format(function, sql.Literal(permission))
            yield self._holding("public.my_business_ids", permission, statement, "service_role")

    def _rights(self) -> Iterator[Cell]:
        """The same of the view that policies ask."""
        ask = sql.SQL(
            "select unnest(business_ids)::text from private.my_rights"
            " where permission = {} and home_schema = {}"
        )
        for permission in self._world.specification.permissions:
            statement = ask.format(sql.Literal(permission), sql.Literal(self._schema))
            yield self._holding("private.my_rights", permission, statement)

    def _holding(
        self, label: str, permission: str, statement: sql.Composable, *others: str
    ) -> Cell:
        """The businesses where a member, or one of the `others`, holds the permission."""

        def predict(persona: Persona) -> Expectation:
            if persona.role not in ("authenticated", *others):
                return refused()
            held = (
                (str(one.id),)
                for one in BUSINESSES
                if self._oracle.holds(persona, permission, one, "tenant")
            )
            return Expectation(keys=frozenset(held))

        return self._cell(label, permission, statement, predict)

    # Views ----------------------------------------------------------------------------------------

    def _view(self, label: str, view: View) -> Iterator[Cell]:
        name = sql.Identifier(self._world.site.schema_of(label), view.name)
        if view.for_policies:
            yield from self._rights()
            return
        if view.key is None:
            read = sql.SQL("select 1 from {} limit 1").format(name)
            yield self._cell(label, "read", read, lambda _: refused())
            return
        key = sql.Identifier(view.key)
        counts = self._world.views[label]
        # business_dashboard_data asks the caller's rights itself, and the owner is nobody.
        shown = {str(one.id): counts.get(str(one.id), 0) for one in BUSINESSES}
        if not counts:
            shown = dict.fromkeys(shown, 1)

        def rows(persona: Persona) -> Expectation:
            if persona.role == "service_role":
                return Expectation()
            if persona.role != "authenticated":
                return refused()
            if view.rows_of is not None:
                seen = Counter(row["business_id"] for row in self._visible(persona, view.rows_of))
                return Expectation(keys=frozenset((key, str(n)) for key, n in seen.items()))
            return Expectation(
                keys=frozenset(
                    (str(one.id), str(shown[str(one.id)]))
                    for one in BUSINESSES
                    if shown[str(one.id)]
                    and all(self._oracle.holds(persona, p, one, "tenant") for p in view.needs)
                )
            )

        count = sql.SQL("select {}::text, count(*)::text from {} group by 1").format(key, name)
        yield self._cell(label, "rows per business", count, rows)
        for column, source in view.columns.items():
            yield self._cell(
                label,
                f"businesses with a {column}",
                sql.SQL(
                    "select distinct {}::text from {} where coalesce({}::text, '0') <> '0'"
                ).format(key, name, sql.Identifier(column)),
                self._filled(view, source),
            )
        write = sql.SQL("update {} set {} = {}").format(name, key, key)
        is_open = self._schema == "public"

        def unwritable(persona: Persona) -> Expectation:
            """None is simple enough to be updatable, which Postgres says before it asks for grants
            on the view; a schema of a tenant is closed to visitors even before.
            """
            return refused("55000" if is_open or persona.role != "anon" else "42501")

        yield self._cell(label, "write", write, unwritable)

    def _visible(self, persona: Persona, table: str) -> list[Row]:
        one = self._world.specification.tables[f"public.{table}"]
        keys = self._oracle.visible(persona, one) or frozenset()
        return [self._world.rows[one.label][key] for key in keys]

    def _filled(self, view: View, source: tuple[str, str, str]) -> Predict:
        """A column has only what the caller sees of the table behind it."""
        table, column, target = source
        assert view.rows_of is not None
        rows_of = view.rows_of

        def predict(persona: Persona) -> Expectation:
            if persona.role != "authenticated":
                return Expectation() if persona.role == "service_role" else refused()
            behind = {(row["business_id"], row[column]) for row in self._visible(persona, table)}
            return Expectation(
                keys=frozenset(
                    (row["business_id"],)
                    for row in self._visible(persona, rows_of)
                    if (row["business_id"], row[target]) in behind
                )
            )

        return predict


def _refusal_of_events(site: Site, business: Business) -> str | None:
    """What the webhook role is told when a delivery is not taken here; None when it is."""
    if not business.is_active or not site.knows(business):
        return "PT404"
    if not site.is_home(business):
        return "PT409"
    return None if site.takes_writes(business) else "PT503"
