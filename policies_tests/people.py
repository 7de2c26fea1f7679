"""The cast: organizations, their businesses, and the personas who try every operation.

Pure facts. The world builds them in a database; the oracle reasons about them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

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
    #: Open to sessions with a second factor alone.
    requires_mfa: bool = False

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


@dataclass(frozen=True)
class Department:
    """A department of a business; whoever works for one reaches those below it."""

    name: str
    business: Business
    parent: Department | None = None

    @property
    def id(self) -> uuid.UUID:
        return fixed_id(f"department {self.name} of {self.business.name}")


ALPHA = Organization("alpha")
BETA = Organization("beta")
SUSPENDED = Organization("suspended", is_active=False)
MOVING = Organization("moving", state="moving")
MOVED = Organization("moved", schema="tenant_moved")
ABROAD = Organization("abroad", database="another_database")
GUARDED = Organization("guarded", requires_mfa=True)
#: Nobody belongs to it and it has no rows: for tables with one row per organization.
EMPTY = Organization("empty")

ALPHA_ONE = Business("alpha-one", ALPHA)
ALPHA_TWO = Business("alpha-two", ALPHA)
BETA_ONE = Business("beta-one", BETA)
SUSPENDED_ONE = Business("suspended-one", SUSPENDED)
MOVING_ONE = Business("moving-one", MOVING)
MOVED_ONE = Business("moved-one", MOVED)
ABROAD_ONE = Business("abroad-one", ABROAD)
GUARDED_ONE = Business("guarded-one", GUARDED)

ORGANIZATIONS = (ALPHA, BETA, SUSPENDED, MOVING, MOVED, ABROAD, GUARDED)
#: own, sibling in the same organization, other organization, suspended, being moved, moved away,
#: open to a second factor alone
BUSINESSES = (
    ALPHA_ONE, ALPHA_TWO, BETA_ONE, SUSPENDED_ONE, MOVING_ONE, MOVED_ONE, ABROAD_ONE, GUARDED_ONE,
)  # fmt: skip
SALES = Department("sales", ALPHA_ONE)
FIELD_SALES = Department("field sales", ALPHA_ONE, SALES)
SUPPORT = Department("support", ALPHA_ONE)
DEPARTMENTS = (SALES, FIELD_SALES, SUPPORT)
#: No such business exists.
UNKNOWN = Business("unknown", Organization("unknown"))


@dataclass(frozen=True)
class CustomRole:
    """A role of a business's own making: permission -> scope, and the roles it inherits from."""

    code: str
    permissions: Mapping[str, str] = field(default_factory=dict)
    inherits: tuple[str, ...] = ()
    rank: int = 50
    #: What holders may pass on.
    grantable: tuple[str, ...] = ()


CUSTOM_ROLES = (
    CustomRole("nothing"),
    CustomRole("guest"),
    CustomRole("sales_lead", {"calls.read": "business"}, ("sales_rep",)),
    CustomRole("team_lead", {"customers.delete": "own"}, ("sales_lead",)),
    CustomRole("department_reader", {"customers.read": "department", "calls.read": "department"}),
    CustomRole("customer_reader", {"customers.read": "own"}),
    CustomRole(
        "team_admin",
        {
            "members.write": "business", "roles.write": "business",
            "customers.read": "department", "calls.read": "business",
        },
        rank=600,
        grantable=("customers.read",),
    ),
    CustomRole("chief", rank=950),
    CustomRole(
        "dispatcher",
        {
            "customers.read": "own", "conversations.read": "business",
            "conversations.write": "business", "messages.write": "business",
        },
    ),
)  # fmt: skip


@dataclass(frozen=True)
class SinglePermission:
    """A permission given to a member, or denied, beside the roles."""

    code: str
    effect: str = "allow"
    scope: str = "business"
    has_expired: bool = False


@dataclass(frozen=True)
class Membership:
    """A user in a business with one role: a system role, a custom one, or the single permission it
    carries.
    """

    business: Business
    role: str
    status: str = "active"
    #: Departments worked for, with the role held there.
    departments: tuple[tuple[Department, str], ...] = ()
    permissions: tuple[SinglePermission, ...] = ()
    #: For the portal: the token of the customer whom the member is.
    customer: str | None = None

    @property
    def is_custom(self) -> bool:
        """Whether the role is one permission alone."""
        return "." in self.role

    @property
    def role_code(self) -> str:
        return "only_" + self.role.replace(".", "_") if self.is_custom else self.role


@dataclass(frozen=True)
class AccessList:
    """One record of alpha-one shared with, or denied to, a persona, a role or a department."""

    resource: str
    token: str
    member: str | None = None
    role: str | None = None
    department: Department | None = None
    verbs: tuple[str, ...] = ("read",)
    effect: str = "allow"
    has_expired: bool = False
    #: The persona who shared it.
    by: str | None = None


@dataclass(frozen=True)
class ApiKey:
    """A key that the persona `maker` made in a business."""

    maker: str
    business: Business
    scopes: tuple[str, ...]
    state: str = "valid"


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
    aal: str = "aal1"
    is_anonymous: bool = False
    session_was_ended: bool = False
    key: ApiKey | None = None

    @property
    def key_id(self) -> uuid.UUID:
        return fixed_id(f"api key {self.name}")

    @property
    def session_id(self) -> uuid.UUID:
        return fixed_id(f"session {self.name}")

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
        elif self.key is not None:
            claims |= {"sub": str(self.key_id), "api_key": True}
        elif self.user_id is not None:
            claims |= {"sub": str(self.user_id), "aal": self.aal}
            claims |= {"session_id": str(self.session_id), "is_anonymous": self.is_anonymous}
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


def membership_id(persona: str, business: Business) -> uuid.UUID:
    """The id of a membership in the world."""
    return fixed_id(f"membership of {persona} in {business.name}")


def record_id(resource: str, token: str, business: Business) -> uuid.UUID:
    """The id of a customer, conversation or call in the world."""
    return fixed_id(f"{token} of {resource} in {business.name}")


#: A user with an account and nothing else, who may be added anywhere.
NEWCOMER = Persona("newcomer")
#: Works for support, so that records can be somebody else's.
COLLEAGUE = Persona(
    "colleague", memberships=(Membership(ALPHA_ONE, "viewer", departments=((SUPPORT, "nothing"),)),)
)


@dataclass(frozen=True)
class Owned:
    """Who owns the records of a token in alpha-one: a persona, a department, both or nobody."""

    token: str
    owner: str | None = None
    department: Department | None = None


#: The records that tell scopes apart; those of the other tokens belong to nobody.
OWNED = (
    Owned("rep", owner="sales_rep"),
    Owned("sales", department=SALES),
    Owned("field", department=FIELD_SALES),
    Owned("support", department=SUPPORT),
    Owned("colleague", owner="colleague"),
    Owned("shared", department=SUPPORT),
    Owned("denied", department=SUPPORT),
    Owned("portal", department=SUPPORT),
)
RECORDS = ("customers", "conversations", "calls")
_READ_WRITE = ("read", "write")
ACCESS_LISTS = (
    *(AccessList(one, "shared", member="shared with", verbs=_READ_WRITE) for one in RECORDS),
    *(AccessList(one, "denied", member="record denied", effect="deny") for one in RECORDS),
    AccessList("customers", "shared", role="guest", by="staff"),
    AccessList("calls", "support", department=SALES, by="removed owner"),
    AccessList("customers", "denied", role="director", effect="deny"),
    AccessList("customers", "shared", member="denied and shared", verbs=_READ_WRITE),
    AccessList("customers", "rep", member="own but denied", effect="deny"),
    AccessList("customers", "support", member="shared with", has_expired=True),
    AccessList("customers", "support", role="viewer", effect="deny", has_expired=True),
)


def make_cast(specification: Specification) -> Cast:
    """Everybody. Each permission also has a member who holds that one permission alone."""
    tokens = (
        Persona("anon", role="anon", has_account=False),
        Persona("no subject", has_account=False),
        Persona("malformed subject", has_account=False, subject="1 or 1=1"),
        Persona("unknown subject", has_account=False, subject=str(uuid.UUID(int=7))),
        Persona("stranger"),
    )
    departments = {"staff": ((SALES, "nothing"),), "manager": ((FIELD_SALES, "nothing"),)}
    system = tuple(
        Persona(
            role, memberships=(Membership(ALPHA_ONE, role, departments=departments.get(role, ())),)
        )
        for role in specification.ranks
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
    rights = rights_personas()
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
        COLLEAGUE,
    )
    return Cast((*tokens, *system, *single, *special, *rights, *machines), extras)


def _member(name: str, role: str, **facts: Any) -> Persona:
    return Persona(name, memberships=(Membership(ALPHA_ONE, role, **facts),))


def rights_personas() -> tuple[Persona, ...]:
    """Those whose rights come from more than one plain role."""
    guarded = (Membership(GUARDED_ONE, "owner"),)
    guarded_seat = (Seat(GUARDED, "owner"),)
    alpha_owner = (Membership(ALPHA_ONE, "owner"),)
    keys = (
        (
            "key of owner",
            ApiKey("owner", ALPHA_ONE, ("customers.read", "calls.read", "members.write")),
        ),
        ("key of rep", ApiKey("sales_rep", ALPHA_ONE, ("customers.read", "customers.write"))),
        (
            "key beyond its maker",
            ApiKey("viewer", ALPHA_ONE, ("customers.read", "customers.write")),
        ),
        ("revoked key", ApiKey("owner", ALPHA_ONE, ("customers.read",), "revoked")),
        ("expired key", ApiKey("owner", ALPHA_ONE, ("customers.read",), "expired")),
        ("key of suspended owner", ApiKey("suspended owner", ALPHA_ONE, ("customers.read",))),
        ("key of guarded", ApiKey("guarded aal2", GUARDED_ONE, ("customers.read",))),
    )
    return (
        _member("sales lead", "team_lead"),
        _member("team admin", "team_admin"),
        Persona("owner elsewhere", memberships=(
            Membership(ALPHA_ONE, "team_admin"), Membership(BETA_ONE, "owner"))),
        _member("dispatcher", "dispatcher"),
        _member("leads one, works in another", "nothing",
                departments=((FIELD_SALES, "manager"), (SUPPORT, "nothing"))),
        _member("department manager", "nothing", departments=((SALES, "manager"),)),
        _member("department director", "nothing", departments=((SUPPORT, "director"),)),
        _member("works in two", "department_reader",
                departments=((FIELD_SALES, "nothing"), (SUPPORT, "nothing"))),
        _member("given", "viewer", permissions=(
            SinglePermission("customers.write", scope="own"), SinglePermission("audit.read"))),
        _member("denied", "manager", permissions=(
            SinglePermission("customers.read", "deny"), SinglePermission("calls.write", "deny"))),
        _member("given and denied", "team_lead", permissions=(
            SinglePermission("customers.delete", scope="department"),
            SinglePermission("messages.read", "deny"))),
        _member("expired rules", "viewer", permissions=(
            SinglePermission("customers.write", has_expired=True),
            SinglePermission("customers.read", "deny", has_expired=True))),
        _member("shared with", "nothing"),
        _member("guest", "guest"),
        _member("works below", "nothing", departments=((FIELD_SALES, "nothing"),)),
        _member("record denied", "viewer"),
        _member("denied and shared", "nothing", permissions=(
            SinglePermission("customers.read", "deny"),)),
        _member("own but denied", "sales_rep", permissions=(SinglePermission("customers.read"),)),
        _member("portal", "customer", customer="portal"),
        Persona("guarded aal1", memberships=guarded, seats=guarded_seat),
        Persona("guarded aal2", memberships=guarded, seats=guarded_seat, aal="aal2"),
        Persona("anonymous", memberships=alpha_owner, is_anonymous=True),
        Persona("ended session", memberships=alpha_owner, session_was_ended=True),
        *(Persona(name, has_account=False, key=key) for name, key in keys),
    )  # fmt: skip


#: The personas that differ most: the quick runs use these.
TELLING = (
    "anon", "no subject", "malformed subject", "stranger", "owner", "viewer", "customer",
    "removed owner", "suspended owner", "organization admin", "dual", "other owner",
    "staff", "manager", "sales_rep", "department manager", "shared with", "record denied", "portal",
    "guarded aal1", "guarded aal2", "anonymous", "ended session", "key of rep", "revoked key",
    "owner of suspended", "owner of moving", "owner of moved", "owner of abroad", "service_role",
    "integrator",
)  # fmt: skip
