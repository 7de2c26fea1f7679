"""The operator's side of the fake server. A job is done as soon as it is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args
from uuid import UUID

from tenantry.models import Isolation
from tenantry.testing import _people as people
from tenantry.testing._problems import Problem, choice, require
from tenantry.testing._world import Row, World


def provision_business(world: World, given: Row) -> Row:
    require(given, "name", "owner_email", "isolation")
    choice(given, "isolation", *get_args(Isolation))
    address = given["owner_email"].strip().lower()
    owner = next((user for user, email in world.emails.items() if email == address), None)
    if owner is None:
        raise Problem(
            "PT404", "Nobody has an account with this address.",
            field="owner_email", reason="not_found", hint="Let the owner sign up first.",
        )  # fmt: skip
    defaults = {"business_name": given["name"], "timezone": "UTC", "country": "US", "slug": None}
    return _queued(world, "provision", given, defaults | given)


def move_business(world: World, given: Row) -> Row:
    require(given, "isolation")
    choice(given, "isolation", *get_args(Isolation))
    business = next(world.find("businesses", id=given["business_id"]), None)
    if business is None:
        raise Problem(
            "PT404", "There is no such business.",
            field="business_id", reason="not_found", hint="Check business_id.",
        )  # fmt: skip
    arguments = {"tenant": business["organization_id"], "isolation": given["isolation"]}
    return _queued(world, "move", given, arguments)


FUNCTIONS: dict[str, Callable[[World, Row], Row]] = {
    function.__name__: function for function in (provision_business, move_business)
}


def _queued(world: World, kind: str, given: Row, arguments: Row) -> Row:
    by = given.get("requested_by")
    known = {name: value for name, value in arguments.items() if name != "requested_by"}
    return dict(world.insert("fleet_jobs", kind=kind, arguments=known, requested_by=by))


def work(world: World) -> None:
    """Do what is queued."""
    for job in list(world.find("fleet_jobs", state="queued")):
        now = world.now()
        job.update(started_at=now, attempts=1)
        try:
            job.update(result=_done(world, job["kind"], job["arguments"]), state="done")
        except Problem as problem:
            job.update(error=str(problem), state="failed")
        job["finished_at"] = now


def _done(world: World, kind: str, arguments: Row) -> Row:
    if kind == "move":
        return {"organization_id": arguments["tenant"]}
    address = arguments["owner_email"].strip().lower()
    owner: UUID = next(user for user, email in world.emails.items() if email == address)
    named: dict[str, Any] = {"name": arguments["name"], "slug": arguments["slug"]}
    organization = people.create_organization(world, owner, named)
    business = people.create_business(
        world,
        owner,
        {
            "organization_id": organization["id"], "name": arguments["business_name"],
            "timezone": arguments["timezone"], "country": arguments["country"], "currency": "USD",
        },
    )  # fmt: skip
    return {"organization_id": organization["id"], "business_id": business["id"]}
