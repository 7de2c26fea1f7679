"""Requests name the business they are about; a move is waited for; operators decide where."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sdk_answers import BUSINESS, customer, failed, ok

from tenantry import Tenantry, errors
from tenantry.models import FleetJob
from tenantry.testing import AsyncFakeTenantry, FakeTenantry

ID = "0197a000-0000-7000-8000-00000000000a"
OTHER = "0197a000-0000-7000-8000-00000000000b"
MOVING = {"code": "PT503", "message": "No.", "details": '{"reason": "moving"}'}

ABOUT_THE_BUSINESS: list[Callable[[Any], Any]] = [
    lambda c: c.customers.get(ID),
    lambda c: c.customers.list().page(),
    lambda c: c.customers.create(first_name="Ana"),
    lambda c: c.customers.update(ID, notes="x"),
    lambda c: c.customers.delete(ID, permanently=True),
    lambda c: c.members.list().page(),
    lambda c: c.roles.list().page(),
    lambda c: c.shares.list().page(),
    lambda c: c.metrics.dashboard(),
    lambda c: c.access.explain("customers", ID),
    lambda c: c.access.my_permissions(),
    lambda c: c.send(c.from_("customer_summary").select("id")),
    lambda c: c.send(c.rpc("explain_access", {})),
]
OF_NO_BUSINESS: list[Callable[[Any], Any]] = [
    lambda c: c.businesses.get("other"),
    lambda c: c.businesses.mine(),
    lambda c: c.businesses.list().page(),
    lambda c: c.businesses.update(OTHER, name="x"),
    lambda c: c.organizations.list().page(),
    lambda c: c.sessions.list(),
    lambda c: c.members.accept("token"),
    lambda c: c.access.my_permissions(everywhere=True),
    lambda c: c.auth.user(),
    lambda c: c.fleet.job(ID),
    lambda c: c.fleet.move(ID, "schema"),
]


def first_request(client_of: Any, call: Callable[[Any], Any], **options: Any) -> Any:
    client, server = client_of(failed(400, {"message": "No."}), **options)
    with pytest.raises(errors.APIError):
        call(client)
    return server.requests[0]


@pytest.mark.parametrize("call", ABOUT_THE_BUSINESS)
def test_a_request_names_the_business_it_is_about(client_of, call) -> None:
    assert first_request(client_of, call).headers["x-tenant"] == BUSINESS


@pytest.mark.parametrize("call", OF_NO_BUSINESS)
def test_others_name_none(client_of, call) -> None:
    assert "x-tenant" not in first_request(client_of, call).headers


def test_no_business_no_name(client_of) -> None:
    call = ABOUT_THE_BUSINESS[-1]
    assert "x-tenant" not in first_request(client_of, call, business=None).headers


def test_two_businesses_of_one_client(client_of) -> None:
    client, server = client_of(ok([]))
    other = client.with_options(business=OTHER)
    for one in (client, other, client):
        one.customers.list().page()
    names = [request.headers["x-tenant"] for request in server.requests]
    assert names == [BUSINESS, OTHER, BUSINESS]


class TestMoves:
    def test_a_read_waits_as_long_as_the_server_says(self, client_of, naps) -> None:
        client, server = client_of(failed(503, MOVING, retry_after="3"), ok([customer()]))
        client.customers.get(customer()["id"])
        assert 3 <= naps[0] <= 3.5
        assert {r.headers["x-tenant"] for r in server.requests} == {BUSINESS}

    @pytest.mark.parametrize("code", ["PT503", "GW503"])
    def test_a_write_that_cannot_be_repeated_waits_too(self, client_of, code) -> None:
        """Refused before anything was done, by the database or by the gateway."""
        answers = failed(503, MOVING | {"code": code}), failed(503, {"message": "No."})
        client, server = client_of(*answers)
        with pytest.raises(errors.ServerError) as caught:
            client.send(client.rpc("anything", {}))
        # The second answer says nothing about what was done: final.
        assert type(caught.value) is errors.ServerError
        assert len(server.requests) == 2

    def test_it_ends(self, client_of) -> None:
        client, server = client_of(failed(503, MOVING, retry_after="3"), max_retries=2)
        with pytest.raises(errors.BusinessMoving, match="few seconds") as caught:
            client.customers.create(first_name="Ana")
        assert (caught.value.retry_after, caught.value.reason) == (3, "moving")
        assert isinstance(caught.value, errors.ServerError)
        assert len(server.requests) == 3

    def test_a_missed_home_is_asked_again(self, client_of) -> None:
        client, server = client_of(failed(421, {"code": "PT421", "message": "No."}), ok([]))
        client.send(client.rpc("anything", {}))
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        "kind", [errors.BusinessMoving, errors.NotInBusiness, errors.UnknownBusiness]
    )
    def test_the_double_brings_them_about(self, kind) -> None:
        fake = FakeTenantry()
        fake.fail_next(kind)
        with pytest.raises(kind):
            fake.customers.list().all()
        assert fake.customers.list().all() == []


def job(state: str, **columns: Any) -> dict[str, Any]:
    return {
        "id": ID, "kind": "move", "arguments": {}, "state": state, "progress": {}, "attempts": 0,
        "created_at": "2026-01-01T00:00:00Z", **columns,
    }  # fmt: skip


class TestFleet:
    def test_what_is_asked(self, client_of) -> None:
        client, server = client_of(ok(job("queued")))
        client.fleet.provision(name="Acme", owner_email="a@b.c", isolation="schema", slug="acme")
        assert server.last.url.path == "/rest/v1/rpc/provision_business"
        assert server.last_body == {
            "name": "Acme", "owner_email": "a@b.c", "isolation": "schema", "slug": "acme",
        }  # fmt: skip
        client.fleet.move(OTHER, "database", requested_by="me")
        assert server.last.url.path == "/rest/v1/rpc/move_business"
        assert json.loads(server.last.content) == {
            "business_id": OTHER, "isolation": "database", "requested_by": "me",
        }  # fmt: skip

    def test_waiting(self, client_of, naps) -> None:
        states = ("queued", "running", "running", "running", "running", "done")
        client, server = client_of(*(ok([job(state)]) for state in states))
        assert client.fleet.wait(ID).state == "done"
        assert naps == [0.5, 1, 2, 4, 5]
        assert {str(r.url.params["id"]) for r in server.requests} == {f"eq.{ID}"}

    def test_a_job_that_fails(self, client_of) -> None:
        client, _ = client_of(ok([job("failed", error="There is no shelf with room.")]))
        with pytest.raises(errors.FleetJobFailed, match="no shelf with room") as caught:
            client.fleet.wait(FleetJob.model_validate(job("queued")))
        assert str(caught.value.job_id) == ID

    def test_a_job_that_takes_longer(self, client_of, naps) -> None:
        client, _ = client_of(ok([job("running")]))
        with pytest.raises(errors.FleetJobUnfinished, match="running"):
            client.fleet.wait(ID, within=0.4)
        assert naps == []

    def test_a_job_that_is_not_there(self, client_of) -> None:
        client, _ = client_of(ok([]))
        with pytest.raises(errors.NotFound):
            client.fleet.wait(ID)

    def test_the_double(self) -> None:
        fake = FakeTenantry()
        operator = fake.as_operator()
        new = operator.fleet.provision(name="Acme", owner_email="owner@demo.example")
        assert (new.kind, new.state, new.result) == ("provision", "queued", None)
        done = operator.fleet.wait(new)
        assert done.result is not None
        assert str(fake.use(done.result["business_id"]).id) == done.result["business_id"]
        moved = operator.fleet.wait(operator.fleet.move(done.result["business_id"], "schema"))
        assert moved.arguments["isolation"] == "schema"
        for refused in (
            lambda: fake.fleet.job(new.id),
            lambda: fake.fleet.move(done.result["business_id"], "schema"),
        ):
            with pytest.raises(errors.PermissionDenied):
                refused()
        with pytest.raises(errors.NotFound):
            operator.fleet.provision(name="A", owner_email="nobody@demo.example")
        with pytest.raises(errors.ValidationError) as caught:
            operator.fleet.move(done.result["business_id"], "own server")  # type: ignore[arg-type]
        assert caught.value.field == "isolation"

    @pytest.mark.anyio
    async def test_the_asynchronous_double(self) -> None:
        async with AsyncFakeTenantry().as_operator() as operator:
            new = await operator.fleet.provision(name="Acme", owner_email="owner@demo.example")
            assert (await operator.fleet.wait(new)).state == "done"

    @pytest.mark.parametrize(
        ("method", "function"), [("provision", "provision_business"), ("move", "move_business")]
    )
    def test_it_takes_what_the_database_takes(self, database, method, function) -> None:
        with database.connect() as connection:
            taken, columns = connection.execute(
                "select p.proargnames, array(select attname::text from pg_attribute where"
                " attrelid = 'public.fleet_jobs'::regclass and attnum > 0 and not attisdropped)"
                " from pg_proc p where p.oid = to_regproc(%s)",
                [f"public.{function}"],
            ).fetchone()
        call = getattr(Tenantry("http://api.test", "key").fleet, method)
        assert set(inspect.signature(call).parameters) == set(taken)
        assert set(columns) == set(FleetJob.model_fields)


@pytest.mark.stack
def test_on_the_stack(local_stack) -> None:
    """Jobs are queued by the secret key alone; nobody works them off here."""
    keys = local_stack.keys
    with Tenantry(local_stack.origin, keys.secret_key) as operator:
        address = "fleet-owner@example.test"
        with Tenantry(local_stack.origin, keys.publishable_key) as owner:
            owner.auth.sign_up(email=address, password="long enough for a test")
            with pytest.raises(errors.PermissionDenied):
                owner.fleet.job(ID)
            with pytest.raises(errors.PermissionDenied):
                owner.fleet.move(ID, "schema")
            new = operator.fleet.provision(name="Acme", owner_email=address, isolation="schema")
            assert (new.kind, new.state) == ("provision", "queued")
            assert new.arguments["isolation"] == "schema"
            assert operator.fleet.job(new.id) == new
            with pytest.raises(errors.ValidationError) as caught:
                operator.fleet.provision(name="A", owner_email=address, isolation="x")  # type: ignore[arg-type]
            assert caught.value.field == "isolation"
            with pytest.raises(errors.NotFound):
                operator.fleet.move(ID, "schema")
        with psycopg.connect(local_stack.server.url("postgres")) as connection:
            connection.execute("delete from fleet_jobs where id = %s", [new.id])
