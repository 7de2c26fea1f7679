"""A server made of a function: what a test wants to be answered, and what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

URL = "http://api.test"
KEY = "sb_publishable_test"
BUSINESS = "0197a000-0000-7000-8000-000000000001"

Answer = httpx.Response | Exception


class Answers:
    """Answers in order; the last one again and again. Keeps every request."""

    def __init__(self, *answers: Answer | Callable[[httpx.Request], Answer]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer) and not isinstance(answer, httpx.Response | Exception):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        # A response object is sent once; the last answer may be sent often.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]

    @property
    def last_body(self) -> Any:
        return json.loads(self.last.content)


def ok(body: Any, **headers: str) -> httpx.Response:
    """200 with this JSON; text is taken as it is, to keep the digits of numbers."""
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(200, headers=headers, content=content.encode())


def failed(status: int, body: Any = None, **headers: str) -> httpx.Response:
    content = b"" if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, content=content)


def customer(number: int = 1, **columns: Any) -> dict[str, Any]:
    """A row of customers as PostgREST writes it."""
    row: dict[str, Any] = {
        "business_id": BUSINESS,
        "id": f"0197a000-0000-7000-8000-{number:012d}",
        "kind": "person",
        "first_name": "Ana",
        "last_name": None,
        "display_name": "Ana",
        "company_name": None,
        "title": None,
        "primary_email": None,
        "primary_phone": "+14155550123",
        "lifecycle_stage": "lead",
        "owner_membership_id": None,
        "source": "api",
        "tags": [],
        "address_line": None,
        "city": None,
        "region": None,
        "postal_code": None,
        "country": None,
        "custom_fields": {},
        "notes": None,
        "merged_into_id": None,
        "metric_date": "2026-11-20",
        "deleted_at": None,
        "created_at": f"2026-11-20T10:00:00.{number:06d}+00:00",
        "updated_at": "2026-11-20T10:00:00+00:00",
        "created_by": None,
        "updated_by": None,
    }
    return row | columns


def session(access: str = "access-1", *, refresh: str = "refresh-1", lifetime: int = 3600) -> Any:
    """A session as the auth service writes it."""
    return {
        "access_token": access,
        "token_type": "bearer",
        "expires_in": lifetime,
        "refresh_token": refresh,
        "user": {"id": "0197a000-0000-7000-8000-0000000000aa", "email": "ana@example.com"},
    }
