"""Reading request bodies with limits: size, time, nesting."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.requests import Request

from tenantry_functions.errors import FunctionError

DEFAULT_MAX_BODY_BYTES = 1_048_576
MAX_JSON_DEPTH = 32
_READ_SECONDS = 10.0


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    Raises:
        FunctionError: 413 when it is larger, 408 when it does not arrive in ten seconds.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise FunctionError(
            408, "body_timeout", f"The body did not arrive within {_READ_SECONDS:g} seconds."
        ) from None
    return b"".join(pieces)


def _too_large(limit: int) -> FunctionError:
    return FunctionError(
        413, "body_too_large", f"The body is larger than {limit} bytes; send less at a time."
    )


def parse_json(body: bytes, *, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """JSON that Postgres can store too, read strictly.

    Refused: what RFC 8259 leaves to luck (NaN, Infinity, numbers too large for a double, a name
    given twice) and what jsonb cannot hold (NUL, half a surrogate pair).

    Raises:
        FunctionError: 400 with the reason.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_no_duplicates,
        )
    except FunctionError:
        raise
    except RecursionError:
        raise _bad_json(f"it is nested deeper than {max_depth} levels") from None
    except UnicodeDecodeError:
        raise _bad_json("it is not UTF-8") from None
    except ValueError as error:
        # The message of json tells position only, never content.
        raise _bad_json(str(error)) from None
    _check(value, max_depth)
    return value


def _check(value: Any, max_depth: int) -> None:
    """Walk level by level, not by recursion: the nesting is the sender's choice."""
    containers: list[Any] = [[value]]
    for _ in range(max_depth + 1):
        inner: list[Any] = []
        for container in containers:
            inner.extend(container)
            if isinstance(container, dict):
                inner.extend(container.values())
        if any(isinstance(item, str) and not storable(item) for item in inner):
            raise _bad_json("a text holds NUL or half a surrogate pair")
        containers = [item for item in inner if isinstance(item, (dict, list))]
        if not containers:
            return
    raise _bad_json(f"it is nested deeper than {max_depth} levels")


def storable(text: str) -> bool:
    """Whether Postgres can keep the text: no NUL, encodable as UTF-8."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def _no_constant(name: str) -> Any:
    raise _bad_json(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _bad_json("a number is too large")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _bad_json("an object has the same name twice")
    return result


def _bad_json(reason: str) -> FunctionError:
    return FunctionError(400, "invalid_json", f"The body is not valid JSON: {reason}.")
