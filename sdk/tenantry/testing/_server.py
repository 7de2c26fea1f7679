"""The fake server: the HTTP of auth and PostgREST over the world, as far as the SDK uses it."""

from __future__ import annotations

import collections
import datetime
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from tenantry import _json
from tenantry.errors import TenantryError
from tenantry.testing import _fleet, _rights
from tenantry.testing import _functions as functions
from tenantry.testing import _people as people
from tenantry.testing._figures import VIEWS, is_in
from tenantry.testing._problems import Problem, injected
from tenantry.testing._query import chosen, projected
from tenantry.testing._world import TABLES, Row, World, name_customer

OWNER = "owner@demo.example"
#: The password of every user the fake makes by itself.
PASSWORD = "password"  # noqa: S105  of nobody
#: The operator's.
SECRET_KEY = "sb_secret_fake"  # noqa: S105  of nobody


@dataclass(frozen=True)
class _Caller:
    """A user; with `session` their open one, or with `key` in the one business of an API key."""

    user: UUID
    session: Row | None = None
    key: Row | None = None


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
        self._sessions: dict[UUID, Row] = {}
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

    def _session(self, user: UUID, known: Row | None = None) -> Row:
        """A new session, or the known one with the same tokens."""
        now = self.world.now()
        one = known or {"id": uuid.uuid4(), "user_id": user, "created_at": now, "is_open": True}
        one["refreshed_at"] = now if known else None
        self._sessions[one["id"]] = one
        account = {"id": str(user), "email": self.world.emails[user]}
        return {
            "access_token": f"fake-access-{one['id']}",
            "refresh_token": f"fake-refresh-{one['id']}",
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
            session = self._session_with(body["refresh_token"], "fake-refresh-")
            if session is None or not session["is_open"]:
                return _refused(400, "refresh_token_not_found", "Invalid Refresh Token")
            return _said(self._session(session["user_id"], session))
        caller = self._caller(request)
        if path == "logout" and caller.session is not None:
            caller.session["is_open"] = False
            return httpx.Response(204)
        account = {"id": str(caller.user), "email": self.world.emails[caller.user]}
        return _said(account)

    def _session_with(self, token: str, prefix: str) -> Row | None:
        return next((s for s in self._sessions.values() if token == f"{prefix}{s['id']}"), None)

    def _caller(self, request: httpx.Request) -> _Caller:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = token or request.headers["apikey"]
        if token.startswith("tnk_"):
            return self._caller_of_key(token)
        session = self._session_with(token, "fake-access-")
        if session is None:
            raise _not_known("42501", "Nobody is signed in.", "not_signed_in")
        return _Caller(session["user_id"], session)

    def _caller_of_key(self, token: str) -> _Caller:
        key = self.world.key_rows.get(token)
        ended = key is None or key["revoked_at"] is not None
        if key is None or ended or (key["expires_at"] and key["expires_at"] <= self.world.now()):
            raise _not_known("GW401", "This API key is not valid.", "invalid_api_key")
        (member,) = self.world.find("business_memberships", id=key["membership_id"])
        key["last_used_at"] = self.world.now().replace(second=0, microsecond=0)
        return _Caller(member["user_id"], key=key)

    # Tables and functions.

    def _rest(self, path: str, request: httpx.Request, body: Any) -> Any:
        params = request.url.params
        if path in ("fleet_jobs", *(f"rpc/{name}" for name in _fleet.FUNCTIONS)):
            return self._of_operator(path.removeprefix("rpc/"), request, body)
        caller = self._caller(request)
        named = request.headers.get("x-tenant")
        if named is not None and UUID(named) not in self._businesses_of(caller):
            raise Problem(
                "GW403", "Agency mismatch", field="X-Tenant", reason="agency_mismatch",
                hint="Sign in as a member of this tenant, or name your own.",
            )  # fmt: skip
        if path.startswith("rpc/"):
            return self._rpc(path.removeprefix("rpc/"), caller, body, params)
        if path not in TABLES and path not in VIEWS:
            raise Problem("42P01", f'relation "public.{path}" does not exist')
        if request.method == "POST":
            return [projected(self._insert(path, caller, body), params)]
        rows = chosen(self._visible(path, caller), params)
        if request.method == "PATCH":
            for row in rows:
                row.update(_typed(body), updated_at=self.world.now())
                if path == "customers":
                    name_customer(row)
        elif request.method == "DELETE":
            self._delete(path, rows)
        embed = _EMBEDDED.get(path)
        if embed is not None:
            rows = [{**row, **embed(self.world, row)} for row in rows]
        return [projected(row, params) for row in rows]

    def _of_operator(self, name: str, request: httpx.Request, body: Any) -> Any:
        if request.headers["apikey"] != SECRET_KEY:
            raise Problem("42501", f"permission denied for {name}")
        if name != "fleet_jobs":
            job = _fleet.FUNCTIONS[name](self.world, _typed(body))
            return projected(job, request.url.params)
        _fleet.work(self.world)
        rows = chosen(self.world.rows[name], request.url.params)
        return [projected(row, request.url.params) for row in rows]

    def _rpc(self, name: str, caller: _Caller, body: Row, params: httpx.QueryParams) -> Any:
        ours = {
            "explain_access": self._explain, "my_sessions": self._my_sessions,
            "revoke_session": self._revoke_session,
            "revoke_other_sessions": self._revoke_other_sessions,
        }  # fmt: skip
        if name not in functions.FUNCTIONS and name not in ours:
            raise Problem("PGRST202", f"The fake server does not know the function {name}.")
        given = _typed(body)
        if name in ours:
            return ours[name](caller, given)
        business_id = given.get("business_id")
        if business_id is not None and business_id not in self._businesses_of(caller):
            raise Problem(
                "42501", "You are not in this business.", field="business_id",
                reason="permission_missing", hint="Check business_id.",
            )  # fmt: skip
        result = functions.FUNCTIONS[name](self.world, caller.user, given)
        if name in ("my_businesses", "my_permissions"):
            result = self._narrowed(result, caller)
        if isinstance(result, dict):
            return projected(result, params)
        if isinstance(result, list) and result and isinstance(result[0], dict):
            return [projected(row, params) for row in chosen(result, params)]
        return result

    def _narrowed(self, rows: list[Row], caller: _Caller) -> list[Row]:
        """What is left of a user's rights in their open session, or with their API key."""
        rows = [row for row in rows if row["business_id"] in self._businesses_of(caller)]
        if caller.key is None:
            return rows
        scopes = caller.key["scopes"]
        for row in rows:
            if "permissions" in row:
                row["permissions"] = [code for code in row["permissions"] if code in scopes]
        return [row for row in rows if row.get("permission", scopes[0]) in scopes]

    def _explain(self, caller: _Caller, given: Row) -> list[Row]:
        table, verb = given["table"], given["verb"]
        if table not in TABLES or "id" not in TABLES[table][0].model_fields:
            raise Problem(
                "22023", "table is not one with rows of their own id.", field="table",
                reason="unknown_table", hint="For example: customers.",
            )  # fmt: skip
        verbs = {"select": "read", "insert": "write", "update": "write", "delete": "delete"}
        if verb not in verbs:
            raise Problem(
                "22023", "verb must be select, insert, update or delete.", field="verb",
                reason="bad_choice", hint="Send one of them.",
            )  # fmt: skip
        module = {"contact_points": "customers", "call_transcripts": "calls"}.get(table, table)
        permission = f"{module}.{verbs[verb]}"
        found = [row for row in self._visible(table, caller) if str(row["id"]) == given["id"]]
        business = found[0].get("business_id") if found else None
        if verb == "insert":
            business = (
                UUID(given["id"]) if UUID(given["id"]) in self._businesses_of(caller) else None
            )
        said = {"permission": permission, "scope": None}
        if business is None:
            text = "There is no such row in a business or organization you belong to."
            return [{"allowed": False, "rule": "not_found", **said, "explanation": text}]
        rights = self._narrowed(_rights.my_permissions(self.world, caller.user, {}), caller)
        for right in rights:
            if right["business_id"] == business and right["permission"] == permission:
                said["scope"] = right["scope"]
                text = f"You hold {permission}."
                return [{"allowed": True, "rule": "role", **said, "explanation": text}]
        text = f"None of your roles carries {permission}."
        return [{"allowed": False, "rule": "no_role", **said, "explanation": text}]

    def _mine(self, caller: _Caller) -> list[Row]:
        if caller.session is None or not caller.session["is_open"]:
            raise Problem(
                "42501", "This session was ended.", reason="session_closed", hint="Sign in again."
            )
        mine = [
            s for s in self._sessions.values() if s["user_id"] == caller.user and s["is_open"]
        ]  # fmt: skip
        return sorted(mine, key=lambda s: s["created_at"], reverse=True)

    def _my_sessions(self, caller: _Caller, given: Row) -> list[Row]:
        return [
            {"id": s["id"], "created_at": s["created_at"], "refreshed_at": s["refreshed_at"],
             "user_agent": None, "ip": None, "aal": "aal1", "is_current": s is caller.session}
            for s in self._mine(caller)
        ]  # fmt: skip

    def _revoke_session(self, caller: _Caller, given: Row) -> None:
        for session in self._mine(caller):
            if session["id"] == given["session_id"]:
                session["is_open"] = False
                return
        raise Problem(
            "PT404", "You have no such session.", field="session_id", reason="not_found",
            hint="List your sessions with my_sessions.",
        )  # fmt: skip

    def _revoke_other_sessions(self, caller: _Caller, given: Row) -> int:
        others = [s for s in self._mine(caller) if s is not caller.session]
        for session in others:
            session["is_open"] = False
        return len(others)

    def _insert(self, table: str, caller: _Caller, body: Row) -> Row:
        given = _typed(body)
        world, business_id = self.world, given["business_id"]
        if business_id not in self._businesses_of(caller):
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
            return world.insert(
                "channels", address_normalized=address, created_by=caller.user, **given
            )
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

    def _businesses_of(self, caller: _Caller) -> set[UUID]:
        if caller.session is not None and not caller.session["is_open"]:
            return set()
        memberships = self.world.find("business_memberships", user_id=caller.user, status="active")
        theirs = {membership["business_id"] for membership in memberships}
        return theirs if caller.key is None else theirs & {caller.key["business_id"]}

    def _visible(self, table: str, caller: _Caller) -> list[Row]:
        rows = VIEWS[table](self.world) if table in VIEWS else self.world.rows[table]
        if table in ("profiles", "permissions"):
            return rows
        businesses = self._businesses_of(caller)
        if table in ("roles", "permission_templates"):
            return [row for row in rows if row["business_id"] in (None, *businesses)]
        if table == "organizations":
            theirs = {
                b["organization_id"] for b in self.world.rows["businesses"] if b["id"] in businesses
            }
            theirs |= {
                o for o, owner in self.world.organization_owners.items() if owner == caller.user
            }
            return [row for row in rows if row["id"] in theirs]
        return [row for row in rows if is_in(row, businesses)]


def _roles_of_member(world: World, row: Row) -> Row:
    return {"roles": [{"role": {"code": code}} for code in world.roles[row["id"]]]}


def _role_parts(world: World, row: Row) -> Row:
    grants = world.grants[row["id"]].items()
    return {
        "permissions": [
            {"permission_code": code, "scope": scope, "grantable": grantable}
            for code, (scope, grantable) in grants
        ],
        "inherits": [{"role": {"code": code}} for code in world.inherits[row["id"]]],
    }


def _role_of_assignment(world: World, row: Row) -> Row:
    (role,) = world.find("roles", id=row["role_id"])
    return {"role": {"code": role["code"]}}


#: What the SDK asks for beside the columns of a table.
_EMBEDDED: dict[str, Callable[[World, Row], Row]] = {
    "business_memberships": _roles_of_member,
    "roles": _role_parts,
    "department_roles": _role_of_assignment,
}


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


def _not_known(code: str, message: str, reason: str) -> Problem:
    problem = Problem(code, message, reason=reason)
    problem.status = 401
    return problem
