"""Cells of functions and views: every call and every view, with what must come of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from psycopg import sql

from .calls import Calls
from .catalog import Connection
from .cell import Cell, Predict
from .oracle import NOT_HOME, Expectation, Oracle, refused
from .people import ALPHA_ONE, BUSINESSES, UNKNOWN, Business, Persona
from .rows import Tenant
from .specification import Function, View
from .world import World


def _is_user(persona: Persona) -> bool:
    """Whether the token names a user, known or not."""
    if persona.subject is None:
        return persona.user_id is not None
    try:
        uuid.UUID(persona.subject)
    except ValueError:
        return False
    return True


class ApiCells:
    """Makes the cells of one world. `connection` only serves to quote values."""

    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._oracle = Oracle(world)
        self._calls = Calls(world)
        self._quote = connection

    def cells(self, for_service: bool) -> dict[str, list[Cell]]:
        """All cells by function or view. service_role is not asked about unknown businesses."""
        made = {
            label: list(self._function(one, for_service))
            for label, one in self._world.specification.functions.items()
            if one.schema == "public" and one.name not in Calls.ABOUT_USERS
        }
        made["public.my_business_ids"] += self._held()
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
        for tenant in tenants:
            statement = self._calls.statement(one.name, tenant)
            yield self._cell(
                label, f"call for {tenant.business.name}", statement, self._call(one, tenant)
            )

    def _call(self, one: Function, tenant: Tenant) -> Predict:
        business = tenant.business

        def predict(persona: Persona) -> Expectation:
            if persona.role not in one.execute:
                return refused()
            if persona.role == "integrator":
                is_closed = one.name == "ingest_webhook" and not business.takes_writes
                return Expectation(sqlstate="PT404" if is_closed else None)
            is_service = persona.role == "service_role"
            ends = Calls.SERVICE_ENDS if is_service else Calls.ENDS
            done = Expectation(sqlstate=ends.get(one.name))
            if one.requires == "signed_in":
                if not _is_user(persona) or persona.role != "authenticated":
                    return refused()
                # A token for a user who is gone cannot found anything.
                founds = one.name == "create_organization" and persona.user_id is None
                return refused("23503") if founds else done
            if one.requires in (None, "self"):
                return done
            if is_service:
                return self._job(one, business, done)
            return done if self._holds(persona, one, business) else refused()

        return predict

    def _job(self, one: Function, business: Business, done: Expectation) -> Expectation:
        if one.plane == "tenant" and not business.is_here:
            return refused("PT404")
        return refused(NOT_HOME) if one.fenced and not business.takes_writes else done

    def _holds(self, persona: Persona, one: Function, business: Business) -> bool:
        assert one.requires is not None
        if one.requires.startswith("organization."):
            organization = business.organization
            return self._oracle.holds_in_organization(persona, one.requires, organization)
        return self._oracle.holds(persona, one.requires, business, one.plane)

    def _held(self) -> Iterator[Cell]:
        """What policies ask, for each permission, whether or not a table asks for it yet."""
        for permission in self._world.specification.permissions:
            statement = sql.SQL("select unnest(public.my_business_ids({}))::text").format(
                sql.Literal(permission)
            )

            def predict(persona: Persona, permission: str = permission) -> Expectation:
                if persona.role not in ("authenticated", "service_role"):
                    return refused()
                held = (
                    (str(one.id),)
                    for one in BUSINESSES
                    if self._oracle.holds(persona, permission, one, "tenant")
                )
                return Expectation(keys=frozenset(held))

            yield self._cell("public.my_business_ids", permission, statement, predict)

    # Views ----------------------------------------------------------------------------------------

    def _view(self, label: str, view: View) -> Iterator[Cell]:
        name, key = sql.Identifier(view.schema, view.name), sql.Identifier(view.key)
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
        for column, permission in view.columns.items():
            yield self._cell(
                label,
                f"businesses with a {column}",
                sql.SQL(
                    "select distinct {}::text from {} where coalesce({}::text, '0') <> '0'"
                ).format(key, name, sql.Identifier(column)),
                self._filled(view, permission),
            )
        write = sql.SQL("update {} set {} = {}").format(name, key, key)
        # None is simple enough to be updatable, which Postgres says before it looks at grants.
        yield self._cell(label, "write", write, lambda _: refused("55000"))

    def _filled(self, view: View, permission: str) -> Predict:
        """A column that needs a permission of its own is empty without it."""

        def predict(persona: Persona) -> Expectation:
            if persona.role != "authenticated":
                return Expectation() if persona.role == "service_role" else refused()
            return Expectation(
                keys=frozenset(
                    (str(one.id),)
                    for one in BUSINESSES
                    if all(
                        self._oracle.holds(persona, p, one, "tenant")
                        for p in (*view.needs, permission)
                    )
                )
            )

        return predict
