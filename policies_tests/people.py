"""The cast: organizations, their businesses, and the personas who try every operation.

Pure facts. The world builds them in a database; the oracle reasons about them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from .specification import Specification

_NAMESPACE = uuid.UUID("7e9a0000-0000-4000-8000-000000000000")


@cache
def fixed_id(name: str) -> uuid.UUID:
    """The same uuid for the same name in every run."""
    return uuid.uuid5(_NAMESPACE, name)


@dataclass(frozen=True)
class Organization:
    """Who pays, and where it lives. `is_active` false means suspended."""

    name: str
    is_active: bool = True
    #: Its home is this database and schema; a home elsewhere makes the rows here a stale copy.
    schema: str = "public"
    #: None means the database that the world is built in.
    database: str | None = None
    #: While it is `moving`, its rows may be read and not written.
    state: str = "active"

    @property
    def id(self) -> uuid.UUID:
        return fixed_id(f"organization {self.name}")


@dataclass(frozen=True)
class Business:
    """A tenant."""

    name: str
    organization: Organization

    @property
    def id(self) -> uuid.UUID:
        return fixed_id(f"business {self.name}")

    @property
    def is_active(self) -> bool:
        return self.organization.is_active

    @property
    def is_here(self) -> bool:
        """Whether the tables of the schema public of this database are its home."""
        return self.organization.schema == "public" and self.organization.database is None

    @property
    def takes_writes(self) -> bool:
        """Whether rows of the tenant plane may be written here, by whatever role."""
        return self.is_active and self.is_here and self.organization.state == "active"


ALPHA = Organization("alpha")
BETA = Organization("beta")
SUSPENDED = Organization("suspended", is_active=False)
MOVING = Organization("moving", state="moving")
MOVED = Organization("moved", schema="tenant_moved")
ABROAD = Organization("abroad", database="another_database")
#: Nobody belongs to it and it has no rows: for tables with one row per organization.
EMPTY = Organization("empty")

ALPHA_ONE = Business("alpha-one", ALPHA)
ALPHA_TWO = Business("alpha-two", ALPHA)
BETA_ONE = Business("beta-one", BETA)
SUSPENDED_ONE = Business("suspended-one", SUSPENDED)
MOVING_ONE = Business("moving-one", MOVING)
MOVED_ONE = Business("moved-one", MOVED)
ABROAD_ONE = Business("abroad-one", ABROAD)

ORGANIZATIONS = (ALPHA, BETA, SUSPENDED, MOVING, MOVED, ABROAD)
#: own, sibling in the same organization, other organization, suspended, being moved, moved away
BUSINESSES = (
    ALPHA_ONE, ALPHA_TWO, BETA_ONE, SUSPENDED_ONE, MOVING_ONE, MOVED_ONE, ABROAD_ONE,
)  # fmt: skip
#: No such business exists.
UNKNOWN = Business("unknown", Organization("unknown"))


@dataclass(frozen=True)
class Membership:
    """A user in a business with one role: a system role, or the single permission it carries."""

    business: Business
    role: str
    status: str = "active"

    @property
    def is_custom(self) -> bool:
        return "." in self.role

    @property
    def role_code(self) -> str:
        return "only_" + self.role.replace(".", "_") if self.is_custom else self.role


@dataclass(frozen=True)
class Seat:
    """Owner or admin of an organization."""

    organization: Organization
    role: str
    status: str = "active"


@dataclass(frozen=True)
class Persona:
    """Somebody who sends statements. `role` is the database role of the request."""

    name: str
    role: str = "authenticated"
    memberships: tuple[Membership, ...] = ()
    seats: tuple[Seat, ...] = ()
    #: What the token says about the subject; None: the persona's own user id.
    subject: str | None = None
    has_account: bool = True
    login: str = "authenticator"

    @property
    def user_id(self) -> uuid.UUID | None:
        """The user behind the token, if it names one."""
        return fixed_id(f"user {self.name}") if self.has_account else None

    @property
    def claims(self) -> dict[str, object]:
        """The verified token as PostgREST hands it over."""
        claims: dict[str, object] = {"role": self.role}
        if self.subject is not None:
            claims["sub"] = self.subject
        elif self.user_id is not None:
            claims |= {"sub": str(self.user_id), "aal": "aal1"}
        return claims


@dataclass(frozen=True)
class Cast:
    """All personas, and the extra users who only fill the tables."""

    personas: tuple[Persona, ...]
    extras: tuple[Persona, ...]
    _by_name: dict[str, Persona] = field(default_factory=dict, compare=False)

    @property
    def users(self) -> list[Persona]:
        return [one for one in (*self.personas, *self.extras) if one.user_id is not None]

    def __getitem__(self, name: str) -> Persona:
        if not self._by_name:
            self._by_name.update({one.name: one for one in (*self.personas, *self.extras)})
        return self._by_name[name]

    def choose(self, names: Iterable[str]) -> list[Persona]:
        return [self[name] for name in names]


def bystander(business: Business) -> str:
    """The name of a member nobody plays: somebody to look at, change and remove."""
    return f"bystander of {business.name}"


#: A user with an account and nothing else, who may be added anywhere.
NEWCOMER = Persona("newcomer")


def make_cast(specification: Specification) -> Cast:
    """Everybody. Each permission also has a member who holds that one permission alone."""
    tokens = (
        Persona("anon", role="anon", has_account=False),
        Persona("no subject", has_account=False),
        Persona("malformed subject", has_account=False, subject="1 or 1=1"),
        Persona("unknown subject", has_account=False, subject=str(uuid.UUID(int=7))),
        Persona("stranger"),
    )
    system = tuple(
        Persona(role, memberships=(Membership(ALPHA_ONE, role),)) for role in specification.ranks
    )
    single = tuple(
        Persona(f"only {code}", memberships=(Membership(ALPHA_ONE, code),))
        for code in specification.permissions
    )
    special = (
        Persona("removed owner", memberships=(Membership(ALPHA_ONE, "owner", "removed"),)),
        Persona("suspended owner", memberships=(Membership(ALPHA_ONE, "owner", "suspended"),)),
        Persona("organization owner", seats=(Seat(ALPHA, "owner"),)),
        Persona("organization admin", seats=(Seat(ALPHA, "admin"),)),
        Persona("removed organization owner", seats=(Seat(ALPHA, "owner", "removed"),)),
        Persona(
            "dual",
            memberships=(Membership(ALPHA_ONE, "owner"), Membership(BETA_ONE, "viewer")),
        ),
        Persona("sibling owner", memberships=(Membership(ALPHA_TWO, "owner"),)),
        Persona(
            "other owner",
            memberships=(Membership(BETA_ONE, "owner"),),
            seats=(Seat(BETA, "owner"),),
        ),
        Persona(
            "owner of suspended",
            memberships=(Membership(SUSPENDED_ONE, "owner"),),
            seats=(Seat(SUSPENDED, "owner"),),
        ),
        Persona(
            "owner of moving",
            memberships=(Membership(MOVING_ONE, "owner"),),
            seats=(Seat(MOVING, "owner"),),
        ),
        Persona(
            "owner of moved",
            memberships=(Membership(MOVED_ONE, "owner"),),
            seats=(Seat(MOVED, "owner"),),
        ),
        Persona(
            "owner of abroad",
            memberships=(Membership(ABROAD_ONE, "owner"),),
            seats=(Seat(ABROAD, "owner"),),
        ),
    )
    machines = (
        Persona("service_role", role="service_role", has_account=False),
        Persona("integrator", role="integrator", has_account=False, login="integrator"),
    )
    extras = (
        *(
            Persona(bystander(one), memberships=(Membership(one, "customer"),))
            for one in BUSINESSES
        ),
        NEWCOMER,
    )
    return Cast((*tokens, *system, *single, *special, *machines), extras)


#: The personas that differ most: the quick runs use these.
TELLING = (
    "anon", "no subject", "malformed subject", "stranger", "owner", "viewer", "customer",
    "removed owner", "suspended owner", "organization admin", "dual", "other owner",
    "owner of suspended", "owner of moving", "owner of moved", "owner of abroad", "service_role",
    "integrator",
)  # fmt: skip
