"""What the gateway asks PostgREST in its own name: about keys, and about the database behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from tenantry_gateway.settings import Settings

# Below the time after which PostgREST closes an idle connection; see the proxy.
_IDLE_SECONDS = 4.0
_CONNECTIONS = 8
_LONGEST_SECONDS = 10.0
_LARGEST_BYTES = 8 * 2**20
# Codes of a database that is starting, stopping, full or lost.
_AWAY = ("08", "53", "57P", "PGRST00")


class PostgrestUnavailable(Exception):
    """PostgREST is not there, or does not answer in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def require_up(self) -> None:
        """Raises PostgrestUnavailable where PostgREST speaks for a database that is not there."""
        if self.status < 500:
            return
        try:
            code = json.loads(self.body)["code"]
        except (ValueError, KeyError, TypeError):
            code = None
        away = isinstance(code, str) and code.startswith(_AWAY)
        if away or self.status in (502, 503, 504):
            raise PostgrestUnavailable(f"status {self.status}")


class Postgrest:
    """Asks with the service_role token, which never leaves this process for anybody else.

    Another `origin` and `connector` ask the PostgREST of a place.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        origin: str | None = None,
        headers: Mapping[str, str] | None = None,
        connector: aiohttp.BaseConnector | None = None,
    ) -> None:
        """`origin` replaces the PostgREST of the settings; `headers` go with every request."""
        self._origin = origin or settings.postgrest_url
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._token = settings.service_role_key
        self._session = aiohttp.ClientSession(
            connector=connector
            or aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=min(settings.answer_seconds, _LONGEST_SECONDS),
                sock_connect=settings.connect_seconds,
            ),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ask(
        self,
        method: str,
        target: str,
        *,
        body: Any = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request; `token` replaces the service's, an empty one sends none.

        `target` is path and query, percent-encoded; `body` becomes JSON. Raises
        PostgrestUnavailable.
        """
        sent = {**self._headers, **(headers or {})}
        if bearer := self._token if token is None else token:
            sent["Authorization"] = f"Bearer {bearer}"
        url = URL(self._origin + target, encoded=True)
        try:
            async with self._session.request(
                method, url, json=body, headers=sent, allow_redirects=False
            ) as answer:
                received = await answer.content.read(-1)
                if len(received) > _LARGEST_BYTES:
                    raise PostgrestUnavailable("the answer is too large")
                return Reply(answer.status, answer.headers, received)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PostgrestUnavailable(type(error).__name__) from None
