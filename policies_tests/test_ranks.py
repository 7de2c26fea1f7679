"""Nobody gives, changes or takes a role above their own, whatever permission they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from .calls import call_text
from .catalog import Connection
from .conftest import Stage
from .oracle import Oracle
from .people import ALPHA_ONE, Persona
from .probe import acting_as, run
from .specification import Specification

ACTORS = (
    "owner", "admin", "only members.write", "organization owner", "organization admin", "dual",
)  # fmt: skip


def _rank(specification: Specification, persona: Persona) -> int:
    """The highest rank a persona has in alpha-one."""
    ranks = [-1]
    for one in persona.memberships:
        if one.business == ALPHA_ONE and one.status == "active":
            ranks.append(specification.ranks["viewer" if one.is_custom else one.role])
    for seat in persona.seats:
        if seat.organization == ALPHA_ONE.organization and seat.status == "active":
            ranks.append(specification.ranks[seat.role])
    return max(ranks)


def rank_errors(
    stage: Stage, connection: Connection, actors: Iterable[str] = ACTORS
) -> Iterator[str]:
    """What differs from the rule, over all actors, targets and roles."""
    specification = stage.world.specification
    top = specification.ranks["owner"]

    def call(function: str, **arguments: object) -> str | None:
        text = call_text(function, {"business_id": ALPHA_ONE.id, **arguments})
        return run(connection, text.as_string(connection).encode()).sqlstate

    def rule(is_allowed: bool) -> str | None:
        return None if is_allowed else "42501"

    for name in actors:
        actor = stage.world.cast[name]
        own = _rank(specification, actor)
        with acting_as(connection, actor):
            for role, rank in specification.ranks.items():
                if call("invite_member", email="x@y.example", role=role) != rule(own >= rank):
                    yield f"{name} invites {role}"
            for target in specification.ranks:
                other = stage.world.cast[target]
                rank = _rank(specification, other)
                # Owners are equals who may act on each other; everybody else only on those below.
                above = own > rank or own == rank == top
                member = {"membership_id": _membership(stage, other)}
                for function, arguments, is_allowed in (
                    ("change_member_roles", {"roles": ["customer"]}, above),
                    ("change_member_roles", {"roles": ["owner"]}, above and own == top),
                    ("remove_member", {}, above or other == actor),
                ):
                    got = call(function, **member, **arguments)
                    if got != rule(is_allowed):
                        yield f"{name}: {function} {arguments} of {target}: {got}"


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
