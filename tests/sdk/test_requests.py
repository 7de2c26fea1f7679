"""What each call sends: method, place, filters, body."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from decimal import Decimal

import httpx
import pytest
from sdk_answers import BUSINESS, KEY, URL, customer, ok

from tenantry import errors
from tenantry.models import Customer

ID = "0197a000-0000-7000-8000-00000000000a"
OTHER = "0197a000-0000-7000-8000-00000000000b"
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
COLUMNS = ",".join(Customer.model_fields)


def sent(client_of, call, *, answer="[]", business=BUSINESS):
    """The request of a call; what it makes of the answer is another test's matter."""
    client, server = client_of(ok(answer), business=business)
    with contextlib.suppress(errors.APIError):
        call(client)
    assert len(server.requests) == 1
    return server.last


def test_every_request_says_who_what_and_which(client_of) -> None:
    request = sent(client_of, lambda c: c.customers.get(ID))
    assert request.headers["apikey"] == KEY
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("tenantry-py/")
    assert uuid.UUID(request.headers["x-request-id"])
    # The gateway chooses the schema by where the business lives.
    assert "accept-profile" not in request.headers
    assert "content-type" not in request.headers


@pytest.mark.parametrize(
    ("call", "path", "params"),
    [
        (
            lambda c: c.customers.get(ID),
            "customers",
            {"business_id": f"eq.{BUSINESS}", "id": f"eq.{ID}", "select": COLUMNS},
        ),
        (
            lambda c: c.customers.list(
                lifecycle_stage="lead", tag='v,i"p', since=AT, page_size=50
            ).page(),
            "customers",
            {
                "lifecycle_stage": "eq.lead",
                "tags": 'cs.{"v,i\\"p"}',
                "deleted_at": "is.null",
                "merged_into_id": "is.null",
                "created_at": "gte.2026-01-02T03:04:05+00:00",
                "order": "created_at.desc,id.desc",
                "limit": "51",
            },
        ),
        (
            lambda c: c.calls.list(customer_id=ID, until=AT, newest_first=False).page(),
            "calls",
            {
                "customer_id": f"eq.{ID}",
                "started_at": "lt.2026-01-02T03:04:05+00:00",
                "order": "started_at.asc,id.asc",
            },
        ),
        (
            lambda c: c.messages.list(ID).page(),
            "messages",
            {"conversation_id": f"eq.{ID}", "order": "occurred_at.desc,id.desc"},
        ),
        (lambda c: c.messages.list().page(), "messages", {"order": "created_at.desc,id.desc"}),
        (
            lambda c: c.conversations.list(status="open").page(),
            "conversations",
            {"status": "eq.open", "business_id": f"eq.{BUSINESS}"},
        ),
        (lambda c: c.channels.list(is_active=False).page(), "channels", {"is_active": "eq.false"}),
        (
            lambda c: c.metrics.daily(
                from_=datetime.date(2026, 1, 1), to=datetime.date(2026, 1, 31), metric="calls"
            ),
            "daily_metrics",
            {
                "metric": "eq.calls",
                "dimension": "eq.business",
                "order": "metric_date.asc,metric.asc,dimension.asc,dimension_id.asc",
            },
        ),
        (lambda c: c.businesses.get("bluebird"), "businesses", {"slug": "eq.bluebird"}),
        (lambda c: c.use(ID), "businesses", {"id": f"eq.{ID}"}),
        (lambda c: c.members.list(status=None).page(), "business_memberships", {"limit": "101"}),
        (lambda c: c.calls.transcripts(ID), "call_transcripts", {"call_id": f"eq.{ID}"}),
        (lambda c: c.customers.contact_points(ID), "contact_points", {"customer_id": f"eq.{ID}"}),
    ],
)
def test_reads(client_of, call, path, params) -> None:
    request = sent(client_of, call)
    assert request.method == "GET"
    assert str(request.url).startswith(f"{URL}/rest/v1/{path}?")
    assert request.content == b""
    for name, value in params.items():
        assert request.url.params[name] == value
    assert "*" not in request.url.params["select"]


def test_both_bounds_of_a_span_are_sent(client_of) -> None:
    request = sent(
        client_of,
        lambda c: c.metrics.daily(from_=datetime.date(2026, 1, 1), to=datetime.date(2026, 1, 31)),
    )
    assert request.url.params.get_list("metric_date") == ["gte.2026-01-01", "lte.2026-01-31"]


@pytest.mark.parametrize(
    ("call", "function", "body"),
    [
        (
            lambda c: c.customers.create(
                first_name="Ana", tags=("a",), custom_fields={"n": Decimal("1.10")}
            ),
            "create_customer",
            {"business_id": BUSINESS, "first_name": "Ana", "tags": ["a"],
             "custom_fields": {"n": 1.10}},
        ),
        (
            lambda c: c.customers.search("ana", limit=5),
            "search_customers",
            {"business_id": BUSINESS, "query": "ana", "max_results": 5},
        ),
        (
            lambda c: c.customers.find(phone="555"),
            "find_customer",
            {"business_id": BUSINESS, "phone": "555"},
        ),
        (
            lambda c: c.calls.log(direction="inbound", peer="555", started_at=AT),
            "log_call",
            {"business_id": BUSINESS, "direction": "inbound", "peer": "555",
             "started_at": "2026-01-02T03:04:05+00:00"},
        ),
        (
            lambda c: c.conversations.open(channel_id=uuid.UUID(ID), peer="555"),
            "open_conversation",
            {"business_id": BUSINESS, "channel_id": ID, "peer": "555"},
        ),
        (
            lambda c: c.conversations.mark_read(ID),
            "mark_conversation_read",
            {"business_id": BUSINESS, "conversation_id": ID},
        ),
        (
            lambda c: c.messages.record(ID, body="Hi"),
            "record_message",
            {"business_id": BUSINESS, "conversation_id": ID, "body": "Hi"},
        ),
        (
            lambda c: c.members.invite(email="a@b.c", role="staff"),
            "invite_member",
            {"business_id": BUSINESS, "email": "a@b.c", "role": "staff"},
        ),
        (lambda c: c.members.accept("t"), "accept_invitation", {"token": "t"}),
        (
            lambda c: c.members.change_roles(ID, roles="staff"),
            "change_member_roles",
            {"business_id": BUSINESS, "membership_id": ID, "roles": ["staff"]},
        ),
        (
            lambda c: c.members.remove(ID),
            "remove_member",
            {"business_id": BUSINESS, "membership_id": ID},
        ),
        (
            lambda c: c.members.revoke(ID),
            "revoke_invitation",
            {"business_id": BUSINESS, "invitation_id": ID},
        ),
        (lambda c: c.businesses.mine(), "my_businesses", {}),
        (lambda c: c.organizations.create(name="A"), "create_organization", {"name": "A"}),
        (
            lambda c: c.businesses.create(
                organization_id=ID, name="A", timezone="UTC", country="US", currency="USD"
            ),
            "create_business",
            {"organization_id": ID, "name": "A", "timezone": "UTC", "country": "US",
             "currency": "USD"},
        ),
    ],
)  # fmt: skip
def test_functions(client_of, call, function, body) -> None:
    request = sent(client_of, call)
    assert request.method == "POST"
    assert request.url.path == f"/rest/v1/rpc/{function}"
    assert request.headers["content-type"] == "application/json"
    content = json.loads(request.content)
    content.pop("idempotency_key", None)
    assert content == body


def test_an_update_sends_what_is_named_and_none_as_null(client_of) -> None:
    request = sent(client_of, lambda c: c.customers.update(ID, first_name="B", notes=None))
    assert request.method == "PATCH"
    assert json.loads(request.content) == {"first_name": "B", "notes": None}
    assert request.url.params["id"] == f"eq.{ID}"
    assert request.url.params["business_id"] == f"eq.{BUSINESS}"
    assert request.headers["prefer"] == "return=representation"


def test_removing_marks_and_erasing_deletes(client_of) -> None:
    removal = sent(client_of, lambda c: c.customers.delete(ID))
    assert removal.method == "PATCH"
    marked = datetime.datetime.fromisoformat(json.loads(removal.content)["deleted_at"])
    assert abs(datetime.datetime.now(datetime.UTC) - marked).total_seconds() < 60
    erasure = sent(client_of, lambda c: c.customers.delete(ID, permanently=True))
    assert erasure.method == "DELETE"
    assert erasure.url.params["id"] == f"eq.{ID}"
    assert erasure.content == b""


def test_nobody_found_is_none_in_either_form(client_of) -> None:
    for answer in ("null", json.dumps(dict.fromkeys(customer()))):
        client, _ = client_of(ok(answer))
        assert client.customers.find(phone="555") is None


def test_members_come_with_roles_and_names(client_of) -> None:
    row = {
        "business_id": BUSINESS, "id": ID, "user_id": OTHER, "status": "active",
        "joined_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "roles": [{"role": {"code": "staff"}}, {"role": None}, {"role": {"code": "manager"}}],
    }  # fmt: skip
    profile = {
        "user_id": OTHER, "full_name": "Ana", "login_count": 1,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    client, server = client_of(ok([row]), ok([profile]))
    (member,) = client.members.list()
    assert member.roles == ["manager", "staff"]
    assert member.full_name == "Ana"
    assert server.last.url.params["user_id"] == f"in.({OTHER})"


def test_a_slug_that_two_organizations_use_is_a_conflict(client_of) -> None:
    row = {
        "id": ID, "organization_id": OTHER, "name": "A", "slug": "a", "timezone": "UTC",
        "country": "US", "currency": "USD", "locale": "en", "settings": {}, "status": "active",
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    client, _ = client_of(ok([row, row | {"id": OTHER}]), business=None)
    with pytest.raises(errors.Conflict, match="Give its id"):
        client.use("a")
    assert client.business_id is None


def test_use_chooses_the_business_of_later_calls(client_of) -> None:
    row = {
        "id": ID, "organization_id": OTHER, "name": "A", "slug": "a", "timezone": "UTC",
        "country": "US", "currency": "USD", "locale": "en", "settings": {}, "status": "active",
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    client, server = client_of(ok([row]), ok([]), business=None)
    assert client.use("a").name == "A"
    client.customers.list().page()
    assert server.last.url.params["business_id"] == f"eq.{ID}"


def test_any_query_can_be_sent_with_exact_numbers(client_of) -> None:
    client, server = client_of(
        ok('[{"n": 0.10}]', **{"Content-Range": "0-0/17", "X-Request-Id": "r"})
    )
    reply = client.send(
        client.from_("anything").select("n", count="exact").gt("n", 0).strip_nulls()
    )
    assert reply.data == [{"n": Decimal("0.10")}]
    assert (reply.count, reply.status, reply.request_id, reply.retries) == (17, 200, "r", 0)
    assert server.last.url.params["n"] == "gt.0"
    assert server.last.headers["accept"] == "application/vnd.pgrst.array+json;nulls=stripped"
    assert client.send(client.rpc("f", {"a": Decimal("0.10")})).data == reply.data
    assert server.last.content == b'{"a":0.10}'


def test_redirects_are_not_followed(client_of) -> None:
    client, server = client_of(httpx.Response(307, headers={"location": "http://elsewhere.test/"}))
    with pytest.raises(errors.UnexpectedResponse):
        client.customers.get(ID)
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_the_asynchronous_client_sends_the_same(async_client_of) -> None:
    client, server = async_client_of(ok(customer()))
    await client.customers.create(first_name="Ana", idempotency_key="k")
    assert server.last_body == {
        "business_id": BUSINESS, "first_name": "Ana", "idempotency_key": "k",
    }  # fmt: skip
    async with client:
        assert (await client.send(client.from_("t").select("n"))).status == 200
