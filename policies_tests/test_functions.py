"""What functions answer: about users, and about the caller. The matrix has who may call them."""

from __future__ import annotations

import pytest

from .calls import Calls, call_text
from .catalog import Connection
from .conftest import Stage
from .oracle import Oracle
from .people import (
    BUSINESSES,
    ORGANIZATIONS,
    TELLING,
    UNKNOWN,
    Business,
    Persona,
    make_cast,
)
from .probe import Outcome, acting_as, run
from .specification import load_specification

_ALL = make_cast(load_specification()).personas
SIGNED_IN = [one.name for one in _ALL if one.role == "authenticated"]


def test_every_callable_function_has_a_call(stage: Stage) -> None:
    public = {
        one.name for one in stage.world.specification.functions.values() if one.schema == "public"
    }
    assert Calls(stage.world).covered == public


def _value(connection: Connection, function: str, **arguments: object) -> str | None:
    text = call_text(function, arguments).as_string(connection).encode()
    outcome: Outcome = run(connection, text)
    assert outcome.sqlstate is None, f"{function} must not raise: {outcome}"
    ((value,),) = outcome.keys
    return value


def _roles(persona: Persona, business: Business) -> set[str]:
    held = {
        one.role_code
        for one in persona.memberships
        if one.business == business and one.status == "active"
    }
    return held | {
        seat.role
        for seat in persona.seats
        if seat.organization == business.organization and seat.status == "active"
    }


@pytest.mark.parametrize("name", [*TELLING[3:-1], "only members.write", "organization owner"])
def test_questions_about_users(stage: Stage, name: str) -> None:
    """can_access_business and its sisters: answers about oneself, and about members one manages."""
    asker = stage.world.cast[name]
    oracle = Oracle(stage.world)
    connection = stage.connection_of(asker)
    subjects = stage.world.cast.choose(
        ["owner", "viewer", "removed owner", "suspended owner", "organization admin", "dual",
         "other owner", "owner of suspended", "owner of moving", "owner of moved", "stranger"]
    )  # fmt: skip
    with acting_as(connection, asker):
        for subject in subjects:
            for business in (*BUSINESSES, UNKNOWN):
                may_ask = (
                    asker.role == "service_role"
                    or asker == subject
                    or oracle.holds(asker, "members.write", business)
                )
                can = may_ask and oracle.holds(subject, "business.read", business)
                about = {"user_id": subject.user_id, "business_id": business.id}
                label = f"{asker.name} asks about {subject.name} in {business.name}"
                answer = _value(connection, "can_access_business", **about)
                assert answer == ("t" if can else "f"), label
                roles = _roles(subject, business)
                for role in ("owner", "admin", "viewer"):
                    answer = _value(connection, "has_business_role", **about, role=role)
                    assert answer == ("t" if can and role in roles else "f"), label
                admin = can and bool(roles & {"owner", "admin"})
                answer = _value(connection, "is_business_admin", **about)
                assert answer == ("t" if admin else "f"), label
            _check_organizations(connection, oracle, asker, subject)
        for function in ("can_access_business", "is_business_admin"):
            assert _value(connection, function, user_id=None, business_id=None) == "f"
    connection.rollback()


def _check_organizations(
    connection: Connection, oracle: Oracle, asker: Persona, subject: Persona
) -> None:
    may_ask = asker.role == "service_role" or asker == subject
    held = sorted(
        str(one.id)
        for one in ORGANIZATIONS
        if may_ask and oracle.holds_in_organization(subject, "organization.read", one)
    )
    answer = _value(connection, "get_user_organization_ids", user_id=subject.user_id)
    assert answer == "{" + ",".join(held) + "}"
    one = _value(connection, "get_user_organization_id", user_id=subject.user_id)
    assert one == (held[0] if held else None)


@pytest.mark.parametrize("name", SIGNED_IN)
def test_what_the_caller_is_told_about_itself(stage: Stage, name: str) -> None:
    persona = stage.world.cast[name]
    oracle = Oracle(stage.world)
    connection = stage.connection_of(persona)
    with acting_as(connection, persona):
        rows = connection.execute(
            "select business_id, permissions from public.my_businesses()"
        ).fetchall()
        told = {business_id: set(permissions) for business_id, permissions in rows}
        listed = [one for one in BUSINESSES if oracle.is_listed(persona, one)]
        assert told == {one.id: set(oracle.permissions_in(persona, one)) for one in listed}
        for permission in stage.world.specification.permissions:
            found = connection.execute(
                "select unnest(public.my_business_ids(%s))", [permission]
            ).fetchall()
            wanted = {
                one.id for one in BUSINESSES if oracle.holds(persona, permission, one, "tenant")
            }
            assert {business_id for (business_id,) in found} == wanted, permission
        drift = connection.execute(
            "select distinct business_id from public.my_metric_differences()"
        ).fetchall()
        wanted = {
            one.id for one in BUSINESSES if oracle.holds(persona, "metrics.read", one, "tenant")
        }
        assert {business_id for (business_id,) in drift} == wanted
    connection.rollback()
