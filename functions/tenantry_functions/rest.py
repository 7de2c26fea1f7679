"""The API as the caller: with the user's own token, so that row security decides.

It is the API that users call, through the gateway, which knows where each business lives. There is
no other way to the tables from a function: no service role, no SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import aiohttp

from tenantry_functions.errors import FunctionError, Unavailable

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SECONDS = 10.0


class RestClient:
    """The API acting for one user during one request.

    Numbers come back exact: a fraction is a Decimal, never a float.

    Args:
        headers: who calls, sent with every request; what a call gives cannot replace them.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, headers: Mapping[str, str]
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._headers = {"Accept": "application/json", **headers}

    async def rpc(self, function: str, **arguments: Any) -> Any:
        """Call a function of the API with named arguments.

        Raises:
            FunctionError: what the database says, with its status, code, field and remedy.
            Unavailable: the API does not answer.
        """
        return await self.request("POST", f"rpc/{_checked(function)}", body=arguments)

    async def select(self, table: str, **query: str) -> Any:
        """Rows that the user may see; `query` in PostgREST's words: `id="eq.5", limit="20"`.

        Raises:
            FunctionError: see `rpc`.
        """
        return await self.request("GET", _checked(table), query=query)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Any other request; the decoded answer, None when it has no body.

        Raises:
            FunctionError: see `rpc`.
        """
        data = None if body is None else json.dumps(body).encode()
        ours = {name.lower() for name in self._headers}
        sent = {name: value for name, value in (headers or {}).items() if name.lower() not in ours}
        sent |= self._headers
        if data is not None:
            sent["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                f"{self._base_url}/{path}",
                params=query,
                data=data,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
            ) as answer:
                status, content = answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The API does not answer; try again in a moment.") from error
        if status >= 500:
            raise _trouble(content)
        value = _decode(content)
        if status >= 400:
            raise _refusal(status, value)
        return value


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a table or function")
    return name


def _decode(content: bytes) -> Any:
    if not content:
        return None
    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError as error:
        raise Unavailable("The API answered something that is not JSON.") from error


def _trouble(content: bytes) -> Unavailable:
    """What the caller cannot help: a move, or a fault of the API."""
    try:
        reason = _details(json.loads(content)).get("reason")
    except ValueError:
        reason = None
    if reason == "moving":
        return Unavailable(
            "This business is being moved and can only be read for a moment; try again.",
            code="moving",
        )
    return Unavailable("The API has a problem of its own; try again in a moment.")


def _details(body: Any) -> dict[str, Any]:
    """What errors raised by SQL say beside their message; the gateway's own are no text."""
    details = body.get("details") if isinstance(body, dict) else None
    try:
        more = json.loads(details) if isinstance(details, str) else details
    except ValueError:
        more = None
    return more if isinstance(more, dict) else {}


def _refusal(status: int, body: Any) -> FunctionError:
    """PostgREST's {code, message, details, hint} in our words; see errors raised by SQL."""
    told = body if isinstance(body, dict) else {}
    more = _details(body)
    message = str(told.get("message") or "The API refused the request.")
    if hint := told.get("hint"):
        message = f"{message.rstrip()} {hint}"
    field = more.get("field")
    code = more.get("reason") or told.get("code") or "refused"
    return FunctionError(
        status, str(code), message, field=field if isinstance(field, str) else None
    )
