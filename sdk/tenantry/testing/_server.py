"""The fake server: the HTTP of auth and PostgREST over the world, as far as the SDK uses it."""

from __future__ import annotations

import collections
import datetime
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx

from tenantry import _json
from tenantry.errors import TenantryError
from tenantry.testing import _functions as functions
from tenantry.testing import _people as people
from tenantry.testing._figures import VIEWS, is_in
from tenantry.testing._problems import Problem, injected
from tenantry.testing._query import chosen, projected
from tenantry.testing._world import TABLES, Row, World, name_customer

OWNER = "owner@demo.example"
#: The password of every user the fake makes by itself.
PASSWORD = "password"  # noqa: S105  of nobody


class FakeServer:
    """Answers requests of the SDK. One world; share it between fakes to act as several users.

    Attributes:
        requests: What was sent, as (method, path) in order.
        demo_business_id: The business that is there from the start.
    """

    def __init__(self, now: Callable[[], datetime.datetime] | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.world = World(now)
        self._failures: collections.deque[httpx.Response | httpx.TransportError] = (
            collections.deque()
        )
        self._passwords: dict[str, str] = {}
        self._users: dict[str, UUID] = {}
        owner = self._user(OWNER)
        organization = people.create_organization(self.world, owner, {"name": "Demo Group"})
        business = people.create_business(
            self.world,
            owner,
            {
                "organization_id": organization["id"], "name": "Demo", "timezone": "UTC",
                "country": "US", "currency": "USD",
            },
        )  # fmt: skip
        self.demo_business_id: UUID = business["id"]

    def fail_next(
        self,
        kind: type[TenantryError],
        message: str,
        *,
        times: int = 1,
        retry_after: float | None = None,
    ) -> None:
        self._failures.extend(injected(kind, message, retry_after) for _ in range(times))

    def receive_message(self, channel_id: Any, peer: str, body: str) -> Row:
        """An inbound message, with its customer and conversation."""
        channel = self.world.one("channels", "channel_id", id=UUID(str(channel_id)))
        given = {"business_id": channel["business_id"], "channel_id": channel["id"], "peer": peer}
        conversation = functions.open_conversation(self.world, UUID(int=0), given)
        return functions.add_message(
            self.world, conversation, body, "inbound", "customer", "received"
        )

    def session_of(self, email: str | None) -> Row:
        """A session for a user, who is made when there is none."""
        return self._session(self._user(email or OWNER))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append((request.method, path))
        if self._failures:
            failure = self._failures.popleft()
            if isinstance(failure, Exception):
                raise failure
            return failure
        body = json.loads(request.content) if request.content else None
        try:
            if path.startswith("/auth/v1/"):
                return self._auth(path.removeprefix("/auth/v1/"), request, body)
            answer = self._rest(path.removeprefix("/rest/v1/"), request, body)
        except Problem as problem:
            return problem.response()
        return httpx.Response(200, content=_json.encode(answer))

    # Auth.

    def _user(self, email: str, password: str = PASSWORD, name: str | None = None) -> UUID:
        email = email.lower()
        if email not in self._users:
            user = self.world.new_id()
            self._users[email], self._passwords[email] = user, password
            self.world.emails[user] = email
            self.world.insert("profiles", user_id=user, full_name=name)
        return self._users[email]

    def _session(self, user: UUID) -> Row:
        account = {"id": str(user), "email": self.world.emails[user]}
        return {
            "access_token": f"fake-access-{user}", "refresh_token": f"fake-refresh-{user}",
            "token_type": "bearer", "expires_in": 3600, "user": account,
        }  # fmt: skip

    def _auth(self, path: str, request: httpx.Request, body: Any) -> httpx.Response:
        if path == "signup":
            if body["email"].lower() in self._users:
                return _refused(422, "user_already_exists", "User already registered")
            name = (body.get("data") or {}).get("full_name")
            return _said(self._session(self._user(body["email"], body["password"], name)))
        if path == "token" and request.url.params["grant_type"] == "password":
            email = body["email"].lower()
            if self._passwords.get(email) != body["password"]:
                return _refused(400, "invalid_credentials", "Invalid login credentials")
            return _said(self._session(self._users[email]))
        if path == "token":
            user = self._bearer(body["refresh_token"], "fake-refresh-")
            if user is None:
                return _refused(400, "refresh_token_not_found", "Invalid Refresh Token")
            return _said(self._session(user))
        if path == "logout":
            return httpx.Response(204)
        user = self._caller(request)
        return _said(self._session(user)["user"])

    def _bearer(self, token: str, prefix: str) -> UUID | None:
        known = {f"{prefix}{user}": user for user in self.world.emails}
        return known.get(token)

    def _caller(self, request: httpx.Request) -> UUID:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        user = self._bearer(token, "fake-access-")
        if user is None:
            problem = Problem("42501", "Nobody is signed in.", reason="not_signed_in")
            problem.status = 401
            raise problem
        return user

    # Tables and functions.

    def _rest(self, path: str, request: httpx.Request, body: Any) -> Any:
        user = self._caller(request)
        params = request.url.params
        if path.startswith("rpc/"):
            return self._rpc(path.removeprefix("rpc/"), user, body, params)
        if path not in TABLES and path not in VIEWS:
            raise Problem("42P01", f'relation "public.{path}" does not exist')
        if request.method == "POST":
            return [projected(self._insert(path, user, body), params)]
        rows = chosen(self._visible(path, user), params)
        if request.method == "PATCH":
            for row in rows:
                row.update(_typed(body), updated_at=self.world.now())
                if path == "customers":
                    name_customer(row)
        elif request.method == "DELETE":
            self._delete(path, rows)
        if "membership_roles(" in params.get("select", ""):
            codes = self.world.roles
            rows = [{**r, "roles": [{"role": {"code": c}} for c in codes[r["id"]]]} for r in rows]
        return [projected(row, params) for row in rows]

    def _rpc(self, name: str, user: UUID, body: Row, params: httpx.QueryParams) -> Any:
        if name not in functions.FUNCTIONS:
            raise Problem("PGRST202", f"The fake server does not know the function {name}.")
        given = _typed(body)
        business_id = given.get("business_id")
        if business_id is not None and business_id not in self._businesses_of(user):
            raise Problem(
                "42501", "You are not in this business.", field="business_id",
                reason="permission_missing", hint="Check business_id.",
            )  # fmt: skip
        result = functions.FUNCTIONS[name](self.world, user, given)
        if isinstance(result, dict):
            return projected(result, params)
        if isinstance(result, list) and result and isinstance(result[0], dict):
            return [projected(row, params) for row in result]
        return result

    def _insert(self, table: str, user: UUID, body: Row) -> Row:
        given = _typed(body)
        world, business_id = self.world, given["business_id"]
        if business_id not in self._businesses_of(user):
            raise Problem(
                "42501", f'new row violates row-level security policy for table "{table}"'
            )
        if table == "contact_points":
            customer = world.one("customers", "customer_id", id=given["customer_id"])
            return world.add_contact_point(customer, given["kind"], given["raw"], given["kind"])
        if table == "channels":
            kind = functions.KINDS.get(given["kind"], "social")
            address = world.normalized(business_id, kind, given["address"], "address")
            same = {"kind": given["kind"], "address_normalized": address}
            if next(world.find("channels", business_id=business_id, **same), None):
                raise Problem(
                    "23505", "The business has this channel.", field="address", reason="exists"
                )
            return world.insert("channels", address_normalized=address, created_by=user, **given)
        raise Problem("42501", f"permission denied for table {table}")

    def _delete(self, table: str, rows: list[Row]) -> None:
        for row in rows:
            self.world.rows[table].remove(row)
            if table == "customers":
                points = self.world.rows["contact_points"]
                points[:] = [p for p in points if p["customer_id"] != row["id"]]
                for other in (*self.world.rows["calls"], *self.world.rows["conversations"]):
                    if other["customer_id"] == row["id"]:
                        other["customer_id"] = None
            if table == "contact_points":
                (customer,) = self.world.find("customers", id=row["customer_id"])
                self.world.refresh_primary(customer)

    def _businesses_of(self, user: UUID) -> set[UUID]:
        memberships = self.world.find("business_memberships", user_id=user, status="active")
        return {membership["business_id"] for membership in memberships}

    def _visible(self, table: str, user: UUID) -> list[Row]:
        rows = VIEWS[table](self.world) if table in VIEWS else self.world.rows[table]
        if table == "profiles":
            return rows
        businesses = self._businesses_of(user)
        if table == "organizations":
            theirs = {
                b["organization_id"] for b in self.world.rows["businesses"] if b["id"] in businesses
            }
            theirs |= {o for o, owner in self.world.organization_owners.items() if owner == user}
            return [row for row in rows if row["id"] in theirs]
        return [row for row in rows if is_in(row, businesses)]


def _typed(body: Row) -> Row:
    """Ids and times as the world keeps them."""
    typed: Row = {}
    for name, value in body.items():
        if name.endswith("_id") and isinstance(value, str) and not name.startswith("provider_"):
            try:
                value = UUID(value)
            except ValueError:
                raise Problem(
                    "22P02", f'invalid input syntax for type uuid: "{value}"', field=name
                ) from None
        elif name.endswith("_at") and isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        typed[name] = value
    return typed


def _said(body: Any) -> httpx.Response:
    return httpx.Response(200, content=_json.encode(body))


def _refused(status: int, code: str, message: str) -> httpx.Response:
    return httpx.Response(status, content=_json.encode({"error_code": code, "msg": message}))
