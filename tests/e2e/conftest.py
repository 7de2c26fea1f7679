"""Real clients against a stack of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from twilio.request_validator import RequestValidator

from tenantry_cli.stack.control import RunningStack

DEMO_PASSWORD = "tenantry-demo"
DENTAL = "c0000000-0000-4000-8000-000000000001"
PRINT = "c0000000-0000-4000-8000-000000000003"
CONNECTION = "e0000000-0000-4000-8000-000000000001"
ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "tenantry-demo-twilio-token"
OURS = "+14155550199"


@dataclass(frozen=True)
class Api:
    """The API over plain HTTP, as one signed-in user."""

    origin: str
    key: str
    token: str | None
    client: httpx.Client

    def headers(self, **more: str) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"apikey": self.key, **bearer, **more}

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(self.origin + path, headers=self.headers(**headers))

    def post(self, path: str, json: object, **headers: str) -> httpx.Response:
        return self.client.post(self.origin + path, json=json, headers=self.headers(**headers))

    def rows(self, path: str) -> list[dict[str, object]]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, object]] = answer.json()
        return rows

    def count(self, table: str, business: str = DENTAL) -> int:
        answer = self.get(
            f"/rest/v1/{table}?business_id=eq.{business}&limit=1", Prefer="count=exact"
        )
        return int(answer.headers["content-range"].split("/")[1])


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def sign_in(local_stack: RunningStack, http: httpx.Client) -> Callable[[str], Api]:
    known: dict[str, Api] = {}

    def as_user(email: str) -> Api:
        if email not in known:
            answer = http.post(
                f"{local_stack.origin}/auth/v1/token?grant_type=password",
                json={"email": email, "password": DEMO_PASSWORD},
                headers={"apikey": local_stack.keys.publishable_key},
            )
            assert answer.status_code == 200, answer.text
            known[email] = Api(
                local_stack.origin,
                local_stack.keys.publishable_key,
                answer.json()["access_token"],
                http,
            )
        return known[email]

    return as_user


@pytest.fixture
def owner(sign_in: Callable[[str], Api]) -> Api:
    return sign_in("owner@bluebird.example")


@pytest.fixture
def printer(sign_in: Callable[[str], Api]) -> Api:
    """The owner of another organization."""
    return sign_in("owner@copperline.example")


@pytest.fixture
def visitor(local_stack: RunningStack, http: httpx.Client) -> Api:
    return Api(local_stack.origin, local_stack.keys.publishable_key, None, http)


@dataclass(frozen=True)
class Twilio:
    """Calls our webhooks as Twilio does: form bodies, signed with the account's auth token."""

    origin: str
    client: httpx.Client

    def post(self, path: str, form: dict[str, str], *, token: str = TOKEN) -> httpx.Response:
        url = f"{self.origin}/functions/v1/{path}"
        signature = RequestValidator(token).compute_signature(url, form)
        return self.client.post(url, data=form, headers={"X-Twilio-Signature": signature})

    def text(self, sender: str, body: str, sid: str | None = None, **more: str) -> httpx.Response:
        form = {
            "AccountSid": ACCOUNT,
            "MessageSid": sid or f"SM{uuid.uuid4().hex}",
            "From": sender,
            "To": OURS,
            "Body": body,
            "NumMedia": "0",
            **more,
        }
        return self.post(f"twilio-messaging/{CONNECTION}", form)

    def call(self, sid: str, status: str, sender: str, **more: str) -> httpx.Response:
        form = {
            "AccountSid": ACCOUNT,
            "CallSid": sid,
            "From": sender,
            "To": OURS,
            "CallStatus": status,
            "Direction": "inbound",
            **more,
        }
        return self.post(f"twilio-voice/{CONNECTION}", form)


@pytest.fixture
def twilio(local_stack: RunningStack, http: httpx.Client) -> Twilio:
    return Twilio(local_stack.origin, http)
