"""What only a real server can show: lost answers, expired tokens, exact digits, rights, races."""

from __future__ import annotations

import concurrent.futures
import datetime
import secrets
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal

import httpx
import jwt
import pytest

from tenantry import Session, Tenantry, errors

pytestmark = pytest.mark.stack

DEMO_PASSWORD = "tenantry-demo"


class LosesAnswers(httpx.BaseTransport):
    """Lets requests through to the server and loses the answers to the first few of them."""

    def __init__(self, lost: int) -> None:
        self._inner = httpx.HTTPTransport()
        self.lost = lost
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        self.sent += 1
        if self.sent <= self.lost:
            response.read()
            response.close()
            raise httpx.ReadError("The answer was lost on its way.", request=request)
        return response

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def keys(local_stack) -> dict[str, str]:
    return local_stack.variables()


def signed_in(keys: dict[str, str], email: str, business: str, **options: object) -> Tenantry:
    client = Tenantry(keys["API_URL"], keys["PUBLISHABLE_KEY"], **options)  # type: ignore[arg-type]
    client.auth.sign_in(email=email, password=DEMO_PASSWORD)
    client.use(business)
    return client


@pytest.fixture(scope="module")
def owner(keys) -> Iterator[Tenantry]:
    with signed_in(keys, "owner@bluebird.example", "bluebird-dental") as client:
        yield client


@pytest.fixture(scope="module")
def viewer(keys) -> Iterator[Tenantry]:
    with signed_in(keys, "viewer@bluebird.example", "bluebird-dental") as client:
        yield client


@pytest.fixture(scope="module")
def stranger(keys) -> Iterator[Tenantry]:
    with signed_in(keys, "owner@copperline.example", "copperline-print") as client:
        yield client


def client_losing_answers(keys, owner: Tenantry, lost: int) -> tuple[Tenantry, LosesAnswers]:
    transport = LosesAnswers(lost)
    assert owner.auth.session is not None
    client = Tenantry(
        keys["API_URL"], keys["PUBLISHABLE_KEY"], business=owner.business_id,
        access_token=owner.auth.session.access_token,
        http_client=httpx.Client(transport=transport),
    )  # fmt: skip
    return client, transport


def test_a_create_whose_answers_are_lost_is_applied_once(keys, owner) -> None:
    name = f"Lost{secrets.token_hex(4)}"
    client, transport = client_losing_answers(keys, owner, lost=2)
    with client._transport.http:
        created = client.customers.create(first_name=name)
        call = client.calls.log(direction="inbound", peer="+14155550177", notes=name)
    assert transport.sent == 4
    assert [c.id for c in owner.customers.search(name)] == [created.id]
    assert [c.id for c in owner.calls.list(customer_id=call.customer_id)].count(call.id) == 1


def test_an_erasure_whose_answer_is_lost_is_done(keys, owner) -> None:
    created = owner.customers.create(first_name="Gone")
    client, transport = client_losing_answers(keys, owner, lost=1)
    with client._transport.http:
        client.customers.delete(created.id, permanently=True)
    assert transport.sent == 2
    with pytest.raises(errors.NotFound):
        owner.customers.get(created.id)


def test_a_write_without_a_key_is_not_repeated(keys, owner) -> None:
    slug = f"lost-{secrets.token_hex(4)}"
    client, transport = client_losing_answers(keys, owner, lost=1)
    with client._transport.http, pytest.raises(errors.ConnectionError) as caught:
        client.organizations.create(name="Lost", slug=slug)
    assert caught.value.maybe_applied
    assert transport.sent == 1
    # The error said to look first: it had been done.
    assert slug in [o.slug for o in owner.organizations.list()]


def test_many_with_one_key_are_one(owner) -> None:
    name, key = f"Race{secrets.token_hex(4)}", secrets.token_hex(8)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        made = list(
            pool.map(
                lambda _: owner.customers.create(first_name=name, idempotency_key=key).id, range(16)
            )
        )
    assert len(set(made)) == 1
    assert [c.id for c in owner.customers.search(name)] == [made[0]]


def test_an_expired_token_is_renewed_and_the_call_answered(keys, owner) -> None:
    with signed_in(keys, "staff@bluebird.example", "bluebird-dental") as client:
        session = client.auth.session
        assert session is not None
        claims = jwt.decode(session.access_token, options={"verify_signature": False})
        past = int(time.time()) - 600
        expired = jwt.encode(claims | {"iat": past - 60, "exp": past}, keys["JWT_SECRET"])
        # The session believes in its token; only the server knows better.
        client.auth.restore(Session(**session.model_dump() | {"access_token": expired}))
        assert client.customers.list(page_size=1).page().items
        assert client.auth.session is not None
        assert client.auth.session.access_token != expired


def test_an_expired_token_from_outside_is_an_authentication_error(keys) -> None:
    past = int(time.time()) - 600
    claims = {"sub": str(uuid.uuid4()), "role": "authenticated", "exp": past}
    with (
        Tenantry(
            keys["API_URL"],
            keys["PUBLISHABLE_KEY"],
            access_token=jwt.encode(claims, keys["JWT_SECRET"]),
        ) as client,
        pytest.raises(errors.AuthenticationError),
    ):
        client.businesses.mine()


@pytest.mark.parametrize("key", ["sb_publishable_forged", "a.b.c"])
def test_a_forged_key_is_an_authentication_error(keys, key: str) -> None:
    with Tenantry(keys["API_URL"], key) as client, pytest.raises(errors.AuthenticationError):
        client.businesses.list().all()


@pytest.mark.parametrize("name", ["ANON_KEY", "PUBLISHABLE_KEY"])
def test_both_kinds_of_key_sign_in(keys, name: str) -> None:
    with Tenantry(keys["API_URL"], keys[name]) as client:
        client.auth.sign_in(email="viewer@bluebird.example", password=DEMO_PASSWORD)
        assert client.use("bluebird-dental").name == "Bluebird Dental"


@pytest.mark.parametrize("name", ["SERVICE_ROLE_KEY", "SECRET_KEY"])
def test_a_server_key_works_without_signing_in(keys, name: str) -> None:
    with Tenantry(keys["API_URL"], keys[name]) as client:
        assert client.use("copperline-print").name == "Copperline Print"
        assert client.customers.list(page_size=1).page().items


def test_no_digit_is_lost_in_the_database(owner) -> None:
    exact = {"amount": Decimal("12345678901234567.89"), "small": Decimal("0.10"), "big": 2**80}
    created = owner.customers.create(first_name="Exact", custom_fields=exact)
    assert owner.customers.get(created.id).custom_fields == exact
    assert str(owner.customers.get(created.id).custom_fields["small"]) == "0.10"


def test_a_viewer_reads_and_may_not_write(owner, viewer) -> None:
    customer = owner.customers.create(first_name="Seen")
    assert viewer.customers.get(customer.id) == customer
    with pytest.raises(errors.PermissionDenied) as caught:
        viewer.customers.create(first_name="No")
    assert caught.value.reason == "permission_missing"
    assert caught.value.details["permission"] == "customers.write"
    with pytest.raises(errors.NotFound, match="lack the right"):
        viewer.customers.update(customer.id, first_name="No")
    with pytest.raises(errors.NotFound):
        viewer.customers.delete(customer.id, permanently=True)
    assert owner.customers.get(customer.id) == customer


def test_another_tenant_learns_nothing(owner, stranger) -> None:
    customer = owner.customers.create(first_name="Private")
    call = owner.calls.log(direction="inbound", peer="+14155550178")
    with pytest.raises(errors.NotFound) as foreign:
        stranger.customers.get(customer.id)
    with pytest.raises(errors.NotFound) as missing:
        stranger.customers.get(uuid.uuid4())
    assert foreign.value.hint == missing.value.hint
    with pytest.raises(errors.NotFound):
        stranger.use("bluebird-dental")
    intruder = stranger.with_options(business=owner.business_id)
    for attempt in (
        lambda: intruder.customers.list().all(),
        lambda: intruder.calls.list().all(),
        lambda: intruder.metrics.daily(from_=call.metric_date, to=call.metric_date),
        lambda: intruder.customers.search("private"),
        lambda: intruder.customers.find(phone="+14155550178"),
        lambda: intruder.calls.log(direction="inbound", peer="+14155550179"),
        lambda: intruder.channels.create(kind="sms", name="x", address="+14155550180"),
    ):
        with pytest.raises(errors.NotInBusiness):
            attempt()


def test_an_illegal_status_says_the_legal_ones(owner) -> None:
    channel = next(iter(owner.channels.list(kind="sms")))
    conversation = owner.conversations.open(channel_id=channel.id, peer="+14155550181")
    owner.conversations.update(conversation.id, status="resolved")
    with pytest.raises(errors.Conflict) as caught:
        owner.conversations.update(conversation.id, status="snoozed")
    assert "open" in caught.value.hint


def test_a_plan_limit_says_bound_and_use(keys) -> None:
    with Tenantry(keys["API_URL"], keys["PUBLISHABLE_KEY"]) as client:
        client.auth.sign_up(email=f"{secrets.token_hex(6)}@example.com", password="correct-horse-7")
        organization = client.organizations.create(name=f"Small {secrets.token_hex(4)}")

        def add(name: str) -> None:
            client.businesses.create(
                organization_id=organization.id, name=name, timezone="UTC", country="US",
                currency="USD",
            )  # fmt: skip

        add("One")
        add("Two")
        with pytest.raises(errors.PlanLimitExceeded) as caught:
            add("Three")
    assert (caught.value.limit, caught.value.used) == (2, 2)


def test_the_request_id_of_an_error_is_the_gateways(keys, owner) -> None:
    seen = []
    client = owner.with_options(on_response=seen.append)
    with pytest.raises(errors.ValidationError) as caught:
        client.customers.create(first_name="A", phone="12")
    assert caught.value.request_id == seen[-1].request_id
    assert seen[-1].headers["x-request-id"] == caught.value.request_id


def test_the_seed_reads_through_the_models(owner) -> None:
    """Every row of every list validates; nothing in the seed surprises a model."""
    assert owner.customers.list(include_removed=True).all()
    assert owner.calls.list().all()
    threads = [c for c in owner.conversations.list() if c.message_count]
    for thread in threads:
        assert len(owner.messages.list(thread.id, page_size=3).all()) == thread.message_count
    assert threads
    assert owner.messages.list().all()
    assert owner.members.list(status=None).all()
    assert owner.channels.list().all()
    customer = owner.calls.list().all(limit=1)[0].customer_id
    assert owner.customers.summary(customer).call_count
    assert owner.customers.contact_points(customer)
    today = datetime.datetime.now(datetime.UTC).date()
    month = owner.metrics.daily(from_=today - datetime.timedelta(days=40), to=today)
    assert {m.dimension for m in month} == {"business"}
    calls = sum(m.value for m in month if m.metric in ("calls_inbound", "calls_outbound"))
    assert calls == len(owner.calls.list().all())
