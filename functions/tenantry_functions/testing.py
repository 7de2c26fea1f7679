"""Call a function in process: no socket, no database, the same kernel.

with memory_host() as host:
    connection = host.inbox.connect("AC...", "auth-token")
    answer = host.twilio("twilio-messaging", connection, {"MessageSid": "SM...", ...})
    assert answer.status == 200
    assert host.inbox.events[0]["type"] == "message.inbound"
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlencode
from uuid import UUID

import jwt
from starlette.types import Message

from tenantry_functions.app import create_app
from tenantry_functions.inbox import Connection, Inbox, MemoryInbox
from tenantry_functions.providers.twilio.signature import SIGNATURE_HEADER, form_pairs, signature
from tenantry_functions.settings import Settings

ORIGIN = "https://functions.example.com"
JWT_SECRET = "a secret for tests that is long enough for HS256"  # noqa: S105
PUBLISHABLE_KEY = "sb_publishable_for_tests"
SECRET_KEY = "sb_secret_for_tests"  # noqa: S105

Form = Mapping[str, str] | Iterable[tuple[str, str]]
_Inbox = TypeVar("_Inbox", bound=Inbox | None)
_Result = TypeVar("_Result")


def local_settings(**changes: Any) -> Settings:
    """Settings that need nothing outside the process."""
    settings = Settings(
        public_origin=ORIGIN,
        database_url="",
        jwt_secret=JWT_SECRET,
        publishable_keys=(PUBLISHABLE_KEY,),
        secret_keys=(SECRET_KEY,),
        retry_interval_seconds=3600,
    )
    return replace(settings, **changes)


def access_token(user_id: UUID | str, *, seconds: int = 600, **claims: Any) -> str:
    """A user's token as the Auth server signs it; `claims` add to it or replace."""
    now = int(time.time())
    body = {
        "sub": str(user_id),
        "aud": "authenticated",
        "role": "authenticated",
        "iat": now,
        "exp": now + seconds,
        **claims,
    }
    return jwt.encode(body, JWT_SECRET, algorithm="HS256")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class FunctionHost(Generic[_Inbox]):
    """The app with an inbox of your choice, started for the length of a `with` block.

    With None it opens the database of its settings.
    """

    def __init__(self, inbox: _Inbox, *, settings: Settings | None = None) -> None:
        self.inbox = inbox
        self.settings = settings or local_settings()
        self.app = create_app(self.settings, inbox=self.inbox)
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> FunctionHost[_Inbox]:
        self._runner.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine in the app's loop, e.g. many `send` at once."""
        return self._runner.run(work)

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))

    def call(
        self,
        target: str,
        *,
        method: str = "POST",
        body: bytes | Mapping[str, Any] = b"",
        headers: Iterable[tuple[str, str]] = (),
        as_user: UUID | str | None = None,
        key: str | None = None,
    ) -> Answer:
        """Call `/functions/v1/<target>`; see `request`.

        Args:
            target: the function's name and what follows it, a query too.
            body: bytes, or an object to send as JSON.
            as_user: sign in as this user.
            key: the apikey header.
        """
        sent = list(headers)
        if isinstance(body, Mapping):
            body = json.dumps(body).encode()
            sent.append(("content-type", "application/json"))
        if as_user is not None:
            sent.append(("authorization", f"Bearer {access_token(as_user)}"))
        if key is not None:
            sent.append(("apikey", key))
        return self.request(method, f"/functions/v1/{target}", body, sent)

    def twilio(
        self,
        function: str,
        connection: Connection,
        form: Form | bytes,
        *,
        route: str = "",
        query: str = "",
        headers: Iterable[tuple[str, str]] = (),
        secret: str | None = None,
    ) -> Answer:
        """Post a form as Twilio does, signed with the connection's first secret or another."""
        body = form if isinstance(form, bytes) else encode_form(form)
        target = f"/functions/v1/{function}/{connection.id}"
        target += f"/{route}" if route else ""
        target += f"?{query}" if query else ""
        url = f"{self.settings.public_origin}{target}".encode()
        signed = signature(secret or connection.secrets[0], url, form_pairs(body)).decode()
        sent = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            (SIGNATURE_HEADER, signed),
        ]
        return self.request("POST", target, body, [*sent, *headers])

    def request(
        self, method: str, target: str, body: bytes, headers: Iterable[tuple[str, str]]
    ) -> Answer:
        """Any request, its target and header lines exactly as given."""
        return self.run(self.send(method, target, body, headers))

    async def send(
        self, method: str, target: str, body: bytes, headers: Iterable[tuple[str, str]]
    ) -> Answer:
        """`request` inside the app's loop; see `run`."""
        raw_path, _, query = target.encode().partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("internal.invalid", 80),
            "client": ("127.0.0.1", 40000),
            "root_path": "",
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in headers],
        }
        incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        outgoing: list[Message] = []

        async def receive() -> Message:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            outgoing.append(message)

        await self.app(scope, receive, send)
        start = outgoing[0]
        return Answer(
            start["status"],
            {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in outgoing[1:]),
        )


def memory_host(
    *, voice: Mapping[str, Any] | None = None, settings: Settings | None = None
) -> FunctionHost[MemoryInbox]:
    """A host with an inbox in memory."""
    return FunctionHost(MemoryInbox(voice=voice), settings=settings)


def encode_form(form: Form) -> bytes:
    """A form body; blank values are kept."""
    pairs = form.items() if isinstance(form, Mapping) else form
    return urlencode(list(pairs)).encode()
