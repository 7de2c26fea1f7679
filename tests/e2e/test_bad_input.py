"""What is wrong gets a 4xx that names the field and the remedy, and stores nothing."""

from __future__ import annotations

import json
import socket
import time

import jwt
import pytest

from .conftest import DENTAL, PRINT

pytestmark = pytest.mark.stack
NOWHERE = "00000000-0000-4000-8000-00000000dead"


@pytest.mark.parametrize(
    ("rpc", "body", "status", "field"),
    [
        ("create_customer", {"business_id": DENTAL, "phone": "12"}, 400, "phone"),
        ("create_customer", {"business_id": DENTAL, "email": "a@b@c"}, 400, "email"),
        ("create_customer", {"business_id": DENTAL}, 400, "first_name"),
        ("create_customer", {"business_id": NOWHERE, "first_name": "A"}, 403, "business_id"),
        ("create_customer", {"business_id": PRINT, "first_name": "A"}, 403, "business_id"),
        (
            "log_call",
            {"business_id": DENTAL, "direction": "up", "peer": "+12125550123"},
            400,
            "direction",
        ),
        ("log_call", {"business_id": DENTAL, "direction": "inbound", "peer": "911x"}, 400, "peer"),
        (
            "open_conversation",
            {"business_id": DENTAL, "channel_id": NOWHERE, "peer": "x"},
            404,
            "channel_id",
        ),
        ("search_customers", {"business_id": DENTAL, "query": "a"}, 400, "query"),
        ("create_organization", {"name": ""}, 400, "name"),
        ("invite_member", {"business_id": DENTAL, "email": "x", "role": "staff"}, 400, "email"),
        (
            "invite_member",
            {"business_id": DENTAL, "email": "x@people.example", "role": "king"},
            400,
            "role",
        ),
        ("accept_invitation", {"token": "0" * 64}, 404, "token"),
    ],
)
def test_functions_name_the_field_and_the_remedy(owner, rpc, body, status, field):
    before = owner.count("customers")
    answer = owner.post(f"/rest/v1/rpc/{rpc}", body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert json.loads(problem["details"])["field"] == field
    assert problem["message"]
    assert problem["hint"]
    assert answer.headers["x-request-id"] == problem["request_id"]
    assert owner.count("customers") == before


@pytest.mark.parametrize(
    "path", ["/rest/v1/customers?select=*&first_name=eq.A%00B", "/rest/v1/customers%00"]
)
def test_nul_bytes_are_refused(owner, path):
    assert owner.get(path).status_code == 400


def test_a_nul_in_a_body_is_refused_and_not_stored(owner):
    before = owner.count("customers")
    body = {"business_id": DENTAL, "first_name": "A\x00B"}
    for path in ("/rest/v1/customers", "/rest/v1/rpc/create_customer"):
        answer = owner.post(path, body)
        assert answer.status_code == 400, answer.text
    assert owner.count("customers") == before


def test_wrong_json_and_huge_bodies(owner):
    headers = owner.headers(**{"Content-Type": "application/json"})
    url = f"{owner.origin}/rest/v1/rpc/create_customer"
    assert owner.client.post(url, content=b'{"business_id": ', headers=headers).status_code == 400
    huge = json.dumps({"business_id": DENTAL, "notes": "x" * (2 << 20)}).encode()
    answer = owner.client.post(url, content=huge, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["hint"]


def test_rows_of_another_tenant_are_not_there(owner, printer):
    [mine] = owner.rows(f"/rest/v1/customers?business_id=eq.{DENTAL}&limit=1&select=id,notes")
    assert printer.rows(f"/rest/v1/customers?id=eq.{mine['id']}") == []
    url = f"{printer.origin}/rest/v1/customers?id=eq.{mine['id']}"
    asked = printer.headers(Prefer="return=representation")
    assert printer.client.patch(url, json={"notes": "hacked"}, headers=asked).json() == []
    assert printer.client.delete(url, headers=asked).json() == []
    insert = printer.post("/rest/v1/customers", {"business_id": DENTAL, "first_name": "Spy"})
    assert insert.status_code == 403
    move = printer.client.patch(
        f"{printer.origin}/rest/v1/customers?business_id=eq.{PRINT}",
        json={"business_id": DENTAL},
        headers=asked,
    )
    assert move.status_code == 403
    # A reference to a foreign row looks the same as one to a row that does not exist.
    answers = {
        printer.post(
            "/rest/v1/contact_points",
            {
                "business_id": PRINT,
                "customer_id": customer,
                "kind": "email",
                "raw": "spy@mail.example",
            },
        ).text.split('"request_id"')[0]
        for customer in (mine["id"], NOWHERE)
    }
    assert len(answers) == 1
    assert owner.rows(f"/rest/v1/customers?id=eq.{mine['id']}&select=id,notes") == [mine]


def claims(stack, **changes):
    now = int(time.time())
    body = {
        "sub": "a0000000-0000-4000-8000-000000000001",
        "role": "authenticated",
        "aud": "authenticated",
        "iat": now,
        "exp": now + 600,
    } | changes
    return {key: value for key, value in body.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_700_000_000},
        {"exp": None},
        {"aud": None},
        {"aud": "other"},
        {"role": "service_role"},
        {"role": "postgres"},
        {"role": "none"},
        {"sub": "not-a-uuid"},
    ],
)
def test_a_token_that_is_not_quite_right_is_no_token(local_stack, visitor, changes):
    token = jwt.encode(claims(local_stack, **changes), local_stack.keys.jwt_secret, "HS256")
    answer = visitor.get("/rest/v1/customers", Authorization=f"Bearer {token}")
    assert answer.status_code in (401, 403), answer.text
    assert answer.json()["message"]


def test_a_forged_token_is_no_token(local_stack, visitor):
    for key, algorithm in (
        ("x" * 32, "HS256"),
        ("", "none"),
        (local_stack.keys.jwt_secret, "HS512"),
    ):
        token = jwt.encode(claims(local_stack), key or None, algorithm)
        answer = visitor.get("/rest/v1/customers", Authorization=f"Bearer {token}")
        assert answer.status_code == 401, (algorithm, answer.text)


def test_without_a_key_nothing_answers(visitor):
    answer = visitor.client.get(f"{visitor.origin}/rest/v1/customers")
    assert answer.status_code == 401
    assert visitor.get("/rest/v1/customers").status_code == 401


def test_doubled_headers_are_refused(owner):
    host, port = owner.origin.removeprefix("http://").split(":")
    for name, first, second in (
        ("Prefer", "count=planned", "return=minimal"),
        ("Accept", "application/vnd.pgrst.plan", "application/json"),
        ("Authorization", f"Bearer {owner.token}", "Bearer x"),
    ):
        lines = [
            "GET /rest/v1/customers?limit=1 HTTP/1.1",
            f"Host: {host}:{port}",
            f"apikey: {owner.key}",
            f"{name}: {first}",
            f"{name}: {second}",
            "Connection: close",
        ]
        if name != "Authorization":
            lines.insert(3, f"Authorization: Bearer {owner.token}")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert b" 400 " in answer.split(b"\r\n")[0], answer[:300]
        assert name.lower().encode() in answer.lower()


@pytest.mark.parametrize("count", ["planned", "estimated"])
def test_planner_counts_are_refused(owner, count):
    answer = owner.get("/rest/v1/customers?limit=1", Prefer=f"count={count}")
    assert answer.status_code == 400
    assert "exact" in answer.json()["hint"]


def test_changing_everything_by_forgetting_the_filter_is_refused(owner):
    for method in ("PATCH", "DELETE"):
        answer = owner.client.request(
            method,
            f"{owner.origin}/rest/v1/customers",
            json={"notes": "x"},
            headers=owner.headers(),
        )
        assert answer.status_code == 400, answer.text
