"""What a webhook provider is: three pure functions, tested without network or database.

A provider verifies a request over its raw bytes, names the account that it speaks for, and reads
it into canonical events. It never answers, stores or asks anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.datastructures import Headers

from tenantry_functions.events import Event

Payload = Mapping[str, Any]
"""The verified request as JSON: what is stored as it came."""


class SignatureError(Exception):
    """The request does not prove where it comes from. The reason is for our log alone."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature can cover.

    Args:
        url: configured public origin + raw path + raw query. Never made from Host or
            X-Forwarded-*, which the sender of a forged request chooses.
        headers: of the request; names are case-insensitive.
        body: the bytes as they arrived.
    """

    url: bytes
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request means.

    Args:
        kind: our word for it, e.g. `call.event`; `unknown` when we have none.
        event_id: the same for every delivery of one event, and for no other.
        events: canonical events in the order to apply; none is fine, the request is still stored.
    """

    kind: str
    event_id: str
    events: tuple[Event, ...] = ()


class WebhookProvider(Protocol):
    """A sender of webhooks."""

    @property
    def name(self) -> str:
        """As in `provider_connections.provider`."""

    @property
    def routes(self) -> frozenset[str]:
        """What may follow the connection id in the path; `""` for nothing."""

    def verify(self, request: SignedRequest, secrets: Sequence[str]) -> Payload:
        """The payload, if one of the secrets signed the request.

        Raises:
            SignatureError: not signed, or not by these. Any other exception counts as the same.
        """

    def account(self, payload: Payload) -> str | None:
        """The account that the payload names as its own."""

    def read(self, payload: Payload) -> Reading:
        """Its meaning. Never raises, whatever the payload holds."""
