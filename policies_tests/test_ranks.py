"""Nobody gives, changes or takes a role above their own, or passes on what they may not pass on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from .calls import call_text
from .catalog import Connection
from .conftest import Stage
from .oracle import Oracle
from .people import (
    ALPHA_ONE,
    CUSTOM_ROLES,
    SUPPORT,
    Persona,
    bystander,
    fixed_id,
    membership_id,
)
from .probe import acting_as, run
from .specification import Specification

ACTORS = (
    "owner", "admin", "team admin", "only members.write", "organization owner",
    "organization admin", "dual",
)  # fmt: skip


def _rank(specification: Specification, persona: Persona) -> int:
    """The highest rank a persona has in alpha-one."""
    ranks = [-1]
    for one in persona.memberships:
        if one.business == ALPHA_ONE and one.status == "active":
            made = {role.code: role.rank for role in CUSTOM_ROLES}
            known = {**specification.ranks, **made}
            ranks.append(known["viewer" if one.is_custom else one.role])
    for seat in persona.seats:
        if seat.organization == ALPHA_ONE.organization and seat.status == "active":
            ranks.append(specification.ranks[seat.role])
    return max(ranks)


@dataclass(frozen=True)
class Attempts:
    """Calls about alpha-one, as the persona that the connection acts as."""

    stage: Stage
    connection: Connection

    def call(self, function: str, **arguments: object) -> str | None:
        text = call_text(function, {"business_id": ALPHA_ONE.id, **arguments})
        return run(self.connection, text.as_string(self.connection).encode()).sqlstate

    def role(self, code: str) -> str | None:
        """The id of a role of the business."""
        rows = self.stage.world.rows["public.roles"].values()
        place = (code, str(ALPHA_ONE.id))
        return next(row["id"] for row in rows if (row["code"], row["business_id"]) == place)

    @property
    def bystander(self) -> dict[str, object]:
        return {"membership_id": membership_id(bystander(ALPHA_ONE), ALPHA_ONE)}


def rank_errors(
    stage: Stage, connection: Connection, actors: Iterable[str] = ACTORS
) -> Iterator[str]:
    """What differs from the rules, over all actors, targets and roles."""
    for name in actors:
        actor = stage.world.cast[name]
        tries = Attempts(stage, connection)
        with acting_as(connection, actor):
            own = _rank(stage.world.specification, actor)
            yield from (f"{name}: {text}" for text in _about_roles(tries, actor, own))
            yield from (f"{name}: {text}" for text in _about_members(tries, actor, own))
    if actors is ACTORS:
        yield from grant_errors(stage, connection)


def _rule(is_allowed: bool, then: str | None = None) -> str | None:
    return then if is_allowed else "42501"


def _about_roles(tries: Attempts, actor: Persona, own: int) -> Iterator[str]:
    """Nobody gives or changes a role above their own."""
    specification = tries.stage.world.specification
    oracle = Oracle(tries.stage.world)
    grants = bool(oracle.system_roles(actor, ALPHA_ONE) & specification.granting_roles)
    department = {"department_id": SUPPORT.id}
    for role, rank in (*specification.ranks.items(), ("nothing", 50), ("chief", 950)):
        may = own >= rank and (grants or role in ("nothing", "chief"))
        wanted = "22023" if role == "customer" else _rule(may)
        if tries.call("invite_member", email="x@y.example", role=role) != wanted:
            yield f"invites {role}"
        if tries.call(
            "assign_department_role", **department, **tries.bystander, role=role
        ) != _rule(may):
            yield f"assigns {role} in a department"
    chief = {"role_id": tries.role("chief")}
    may_change = oracle.holds(actor, "roles.write", ALPHA_ONE)
    for function, arguments, needed in (
        ("create_role", {"code": "planted", "name": "Planted", "rank": 950}, 950),
        ("create_role", {"code": "planted", "name": "Planted", "rank": 100}, 100),
        ("update_role", {**chief, "name": "Planted"}, 950),
        ("update_role", {"role_id": tries.role("nothing"), "rank": 950}, 950),
    ):
        if tries.call(function, **arguments) != _rule(may_change and own >= needed):
            yield f"{function} {arguments}"
    # An open invitation still uses it: so far one comes, and no further.
    if tries.call("delete_role", **chief) != _rule(may_change and own >= 950, "PT409"):
        yield "deletes the role of a chief"
    again = {"invitation_id": fixed_id("invitation of a chief")}
    if tries.call("resend_invitation", **again) != _rule(own >= 950):
        yield "resends the invitation of a chief"


def _about_members(tries: Attempts, actor: Persona, own: int) -> Iterator[str]:
    """Nobody acts on somebody of their own rank or above, but owners on owners."""
    stage = tries.stage
    specification, oracle = stage.world.specification, Oracle(stage.world)
    top = specification.ranks["owner"]
    grants = bool(oracle.system_roles(actor, ALPHA_ONE) & specification.granting_roles)
    may_single = oracle.holds(actor, "roles.write", ALPHA_ONE)
    may_share = oracle.holds(actor, "records.share", ALPHA_ONE)
    record: dict[str, Any] = {"resource": "customers", "verbs": ["read"], "effect": "deny"}
    record["resource_id"] = stage.world.tenants[ALPHA_ONE.name].ids["customers"]
    for target in specification.ranks:
        other = stage.world.cast[target]
        rank = _rank(specification, other)
        # Owners are equals who may act on each other; everybody else only on those below.
        above = own > rank or own == rank == top
        member = {"membership_id": _membership(stage, other)}
        denied = {"permission": "channels.read", "effect": "deny"}
        for function, arguments, wanted in (
            ("change_member_roles", {"roles": ["nothing"]}, _rule(above)),
            ("change_member_roles", {"roles": ["chief"]}, _rule(above and own >= 950)),
            ("change_member_roles", {"roles": ["owner"]}, _rule(above and own == top and grants)),
            ("remove_member", {}, _rule(above or other == actor)),
            ("suspend_member", {}, _rule(above)),
            ("assign_department_role", {"department_id": SUPPORT.id, "role": "nothing"},
             _rule(above)),
            ("remove_department_role", {"department_id": SUPPORT.id, "role": "nothing"},
             _rule(above, "PT404")),
            # Nothing is denied to an owner, by nobody.
            ("set_member_permission", denied,
             _rule(above and may_single, "PT409" if rank == top else None)),
            ("clear_member_permission", {"permission": "channels.read"},
             _rule(above and may_single, "PT404")),
            ("share_record", record, _rule(above and may_share)),
        ):  # fmt: skip
            got = tries.call(function, **member, **arguments)
            if got != wanted:
                yield f"{function} {arguments} of {target}: {got}"


def grant_errors(stage: Stage, connection: Connection) -> Iterator[str]:
    """A team admin may pass on customers.read with scope department, and nothing else."""
    tries = Attempts(stage, connection)
    denied = {"membership_id": membership_id("denied", ALPHA_ONE)}
    new = {"code": "planted", "name": "Planted"}
    department = {"department_id": SUPPORT.id, **tries.bystander}
    lead = {"role_id": tries.role("customer_reader")}
    wide = {"customers.read": {"scope": "own", "grantable": True}}
    narrow, more = {"customers.read": "own"}, {"customers.read": "business"}
    with acting_as(connection, stage.world.cast["team admin"]):
        for function, arguments, is_allowed in (
            ("create_role", {**new, "permissions": Jsonb(narrow)}, True),
            ("create_role", {**new, "permissions": Jsonb({"customers.read": "department"})}, True),
            ("create_role", {**new, "permissions": Jsonb(wide)}, True),
            ("create_role", {**new, "permissions": Jsonb(more)}, False),
            ("create_role", {**new, "permissions": Jsonb({"calls.read": "own"})}, False),
            ("create_role", {**new, "inherits": ["customer_reader"]}, True),
            ("create_role", {**new, "inherits": ["sales_lead"]}, False),
            ("create_role", {**new, "template": "marketer"}, False),
            ("update_role", {**lead, "permissions": Jsonb(narrow)}, True),
            ("update_role", {**lead, "permissions": Jsonb(more)}, False),
            ("update_role", {**lead, "inherits": ["department_reader"]}, False),
            ("invite_member", {"email": "x@y.example", "role": "customer_reader"}, True),
            ("invite_member", {"email": "x@y.example", "role": "department_reader"}, False),
            ("invite_member", {"email": "x@y.example", "role": "team_lead"}, False),
            ("invite_member", {"email": "x@y.example", "role": "team_admin"}, False),
            ("change_member_roles", {**tries.bystander, "roles": ["customer_reader"]}, True),
            ("change_member_roles", {**tries.bystander, "roles": ["viewer"]}, False),
            ("assign_department_role", {**department, "role": "customer_reader"}, True),
            ("assign_department_role", {**department, "role": "staff"}, False),
            ("set_member_permission",
             {**tries.bystander, "permission": "customers.read", "scope": "department"}, True),
            ("set_member_permission", {**tries.bystander, "permission": "customers.read"}, False),
            ("set_member_permission", {**tries.bystander, "permission": "calls.read"}, False),
            ("clear_member_permission", {**denied, "permission": "customers.read"}, True),
            ("clear_member_permission", {**denied, "permission": "calls.write"}, False),
        ):  # fmt: skip
            got = tries.call(function, **arguments)
            if got != _rule(is_allowed):
                yield f"team admin: {function} {arguments}: {got}"
    acts: tuple[tuple[str, str, dict[str, Any], str], ...] = (
        ("suspended owner", "change_member_roles", {"roles": ["nothing"]}, "42501"),
        ("suspended owner", "remove_member", {}, "42501"),
        ("suspended owner", "reactivate_member", {}, "42501"),
        ("portal", "change_member_roles", {"roles": ["viewer"]}, "PT409"),
        ("portal", "set_member_permission", {"permission": "customers.read"}, "PT409"),
        ("portal", "assign_department_role",
         {"department_id": SUPPORT.id, "role": "viewer"}, "PT409"),
    )  # fmt: skip
    for name, function, more, refusal in acts:
        with acting_as(connection, stage.world.cast["admin"]):
            got = tries.call(function, membership_id=membership_id(name, ALPHA_ONE), **more)
            if got != refusal:
                yield f"admin: {function} {more} of {name}: {got}"
    with acting_as(connection, stage.world.cast["owner elsewhere"]):
        if tries.call("invite_member", email="x@y.example", role="viewer") != "42501":
            yield "an owner of another business passes on what that one allows"
    deny = {"resource": "customers", "verbs": ["read"], "effect": "deny", **tries.bystander}
    deny["resource_id"] = stage.world.tenants[ALPHA_ONE.name].ids["customers"]
    with acting_as(connection, stage.world.cast["manager"]):
        if tries.call("share_record", **deny) != "42501":
            yield "somebody who may share and not change members denies a record"
    with acting_as(connection, stage.world.cast["only billing.write"]):
        if tries.call("transfer_ownership", **tries.bystander) != "42501":
            yield "somebody with billing.write transfers the ownership"
    with acting_as(connection, stage.world.cast["owner"]):
        for name, wanted in (("viewer", None), ("suspended owner", "PT409"), ("portal", "PT409")):
            member = membership_id(name, ALPHA_ONE)
            if tries.call("transfer_ownership", membership_id=member) != wanted:
                yield f"the owner transfers the ownership to {name}"


def _membership(stage: Stage, persona: Persona) -> str | None:
    rows = stage.world.rows["public.business_memberships"].values()
    return next(
        row["id"]
        for row in rows
        if (row["user_id"], row["business_id"]) == (str(persona.user_id), str(ALPHA_ONE.id))
    )


@pytest.mark.parametrize("name", ACTORS)
def test_ranks(stage: Stage, name: str) -> None:
    connection = stage.connection("authenticator")
    wrong = list(rank_errors(stage, connection, [name]))
    connection.rollback()
    assert not wrong


def test_what_may_be_passed_on(stage: Stage) -> None:
    connection = stage.connection("authenticator")
    wrong = list(grant_errors(stage, connection))
    connection.rollback()
    assert not wrong


def test_those_without_the_permission_are_refused_whatever_their_rank(stage: Stage) -> None:
    connection = stage.connection("authenticator")
    oracle = Oracle(stage.world)
    membership = stage.world.tenants[ALPHA_ONE.name].ids["business_memberships"]
    for name in ("director", "manager", "staff", "viewer", "stranger", "other owner"):
        persona = stage.world.cast[name]
        assert not oracle.holds(persona, "members.write", ALPHA_ONE)
        with acting_as(connection, persona):
            member = {"business_id": ALPHA_ONE.id, "membership_id": membership}
            for text in (
                call_text("remove_member", member),
                call_text("change_member_roles", {**member, "roles": ["customer"]}),
            ):
                assert run(connection, text.as_string(connection).encode()).sqlstate == "42501"
    connection.rollback()
