"""PostgREST's own settings, tried out: what it must refuse, whatever its configuration says.

The gateway refuses most of this itself. It is tried here because a gateway is one layer, and
because PostgREST may have been started by somebody else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from tenantry_gateway.keys import ALGORITHM, AUDIENCE
from tenantry_gateway.postgrest import Postgrest, Reply

MOST_ROWS = 1000

_ROWS = "/rpc/boot_rows"
_SHORTLY = 60


@dataclass(frozen=True, slots=True)
class Probe:
    """One request in the service's name, or with `token`, and what its answer must be."""

    problem: str
    """What is wrong where the answer is another."""
    expects: Callable[[Reply], bool]
    target: str = _ROWS
    token: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _refuses(*statuses: int) -> Callable[[Reply], bool]:
    return lambda reply: reply.status in statuses


def _refuses_aggregates(reply: Reply) -> bool:
    body = _json(reply)
    return reply.status == 400 and isinstance(body, dict) and body.get("code") == "PGRST123"


def _hides_the_description(reply: Reply) -> bool:
    """Refused, or without what visitors may not call."""
    if reply.status != 200:
        return True
    body = _json(reply)
    return isinstance(body, dict) and "/rpc/boot_facts" not in body.get("paths", {})


def _caps_the_rows(reply: Reply) -> bool:
    rows = _json(reply)
    return reply.status in (200, 206) and isinstance(rows, list) and len(rows) <= MOST_ROWS


def _claims(**changes: Any) -> dict[str, Any]:
    claims = {"role": "service_role", "aud": AUDIENCE, "exp": int(time.time()) + _SHORTLY}
    return {name: value for name, value in (claims | changes).items() if value is not None}


def _unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join(encoded).decode() + "."


def make_probes(jwt_secret: str) -> tuple[Probe, ...]:
    """The probes, with tokens that expire within a minute."""

    def signed(secret: str = jwt_secret, **changes: Any) -> str:
        return jwt.encode(_claims(**changes), secret, algorithm=ALGORITHM)

    stranger = secrets.token_hex(32)
    refused = _refuses(401, 403)
    return (
        Probe(
            "plans are served (db-plan-enabled)",
            _refuses(406, 415),
            headers={"Accept": "application/vnd.pgrst.plan+json"},
        ),
        Probe(
            "aggregates are served (db-aggregates-enabled)",
            _refuses_aggregates,
            target="/rpc/boot_facts?select=count()",
        ),
        Probe(
            "the description of the API is public (openapi-mode)",
            _hides_the_description,
            target="/",
            token="",
        ),
        Probe(f"more than {MOST_ROWS} rows are served (db-max-rows)", _caps_the_rows),
        Probe(
            "the schema private is served (db-schemas)",
            _refuses(406),
            headers={"Accept-Profile": "private"},
        ),
        Probe("visitors act as the service (db-anon-role)", refused, token=""),
        Probe("a token without a role acts as the service", refused, token=signed(role=None)),
        Probe("an unsigned token is believed", _refuses(401), token=_unsigned(_claims())),
        Probe("a stranger's signature is believed", _refuses(401), token=signed(stranger)),
        Probe("another audience is believed (jwt-aud)", _refuses(401), token=signed(aud="other")),
        Probe(
            "an expired token is believed",
            _refuses(401),
            token=signed(exp=int(time.time()) - 3600),
        ),
    )


async def run_probes(postgrest: Postgrest, jwt_secret: str) -> list[str]:
    """`PostgREST: ...` for each probe that fails. Raises PostgrestUnavailable."""
    probes = make_probes(jwt_secret)
    replies = await asyncio.gather(
        *(postgrest.ask("GET", one.target, token=one.token, headers=one.headers) for one in probes)
    )
    for reply in replies:
        reply.require_up()
    return [
        f"PostgREST: {probe.problem}"
        for probe, reply in zip(probes, replies, strict=True)
        if not probe.expects(reply)
    ]
