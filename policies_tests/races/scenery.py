"""Fresh people and businesses for every trial, made by the owner of the database."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from tenantry_cli.testing import Database

from .crew import Call, Row, Session, enter, open_session


@dataclass(frozen=True)
class Person:
    user_id: UUID
    email: str
    #: In the office the person was made for; None for a stranger.
    membership_id: UUID | None = None

    def calls(self, statement: str, *parameters: object) -> Call:
        return Call(((statement, parameters),), self.user_id)


@dataclass(frozen=True)
class Office:
    """A business with its members; the first person is an owner."""

    organization_id: UUID
    business_id: UUID
    people: tuple[Person, ...]

    @property
    def owner(self) -> Person:
        return self.people[0]


class Scenery:
    """What a trial starts from. `is_naive` tells that the database carries a naive version."""

    def __init__(self, database: Database, *, is_naive: bool = False) -> None:
        self.database, self.is_naive = database, is_naive
        self.session: Session = open_session(database, "postgres")
        self._numbers = count(1)

    def rows(self, statement: str, *parameters: object) -> list[Row]:
        cursor = self.session.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: object) -> Any:
        (row,) = self.rows(statement, *parameters)
        return next(iter(row.values()))

    def person(self, email: str | None = None) -> Person:
        user_id = uuid4()
        email = email or f"{user_id.hex}@people.example"
        self.rows(
            "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
            user_id,
            email,
        )
        return Person(user_id, email)

    def office(self, *roles: str, limits: dict[str, int] | None = None) -> Office:
        """A new organization with one business; one member per role, in this order."""
        organization = self.organization(limits)
        return self.branch(organization, *roles)

    def organization(self, limits: dict[str, int] | None = None) -> UUID:
        number = next(self._numbers)
        organization: UUID = self.value(
            "insert into organizations (name, slug, country) values ('Race', %s, 'US')"
            " returning id",
            f"race-{number}-{uuid4().hex[:6]}",
        )
        self.rows("insert into organization_placements (organization_id) values (%s)", organization)
        self.rows(
            "with plan as (insert into subscription_plans (code, name, limits)"
            " values (%s, 'Race', %s) returning id)"
            " insert into subscriptions (organization_id, plan_id) select %s, id from plan",
            f"race-{organization}",
            Jsonb(limits or {}),
            organization,
        )
        return organization

    def branch(self, organization: UUID, *roles: str) -> Office:
        """One more business of the organization."""
        business: UUID = self.value(
            "insert into businesses (organization_id, name, slug, country, currency)"
            " values (%s, 'Race', %s, 'US', 'USD') returning id",
            organization,
            f"race-{next(self._numbers)}",
        )
        people = tuple(self.join(business, role) for role in roles or ("owner",))
        return Office(organization, business, people)

    def join(self, business: UUID, role: str) -> Person:
        one = self.person()
        membership = self.value(
            "insert into business_memberships (business_id, user_id) values (%s, %s) returning id",
            business,
            one.user_id,
        )
        self.rows(
            "insert into membership_roles (business_id, membership_id, role_id)"
            " select %s, %s, id from roles where code = %s and business_id is null",
            business,
            membership,
            role,
        )
        return Person(one.user_id, one.email, membership)

    def as_person(self, person: Person, statement: str, *parameters: object) -> list[Row]:
        """One request of this person."""
        with self.session.transaction():
            enter(self.session, person.user_id)
            return self.rows(statement, *parameters)

    def invite(self, office: Office, email: str, role: str = "staff") -> Row:
        """An open invitation by the owner: invitation_id, token."""
        (row,) = self.as_person(
            office.owner,
            "select * from invite_member(business_id => %s, email => %s, role => %s)",
            *(office.business_id, email, role),
        )
        return row

    def close(self) -> None:
        self.session.close()
