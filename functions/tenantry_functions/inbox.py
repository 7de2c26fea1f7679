"""Where verified webhooks go: the port, and an inbox in memory for tests.

`database.PostgresInbox` is the one that serves. `MemoryInbox` keeps the same promises (an event is
stored once, an outage stores nothing), so a function can be tested without a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID, uuid4

from tenantry_functions.errors import Unavailable
from tenantry_functions.events import Event
from tenantry_functions.providers import Payload, Reading


@dataclass(frozen=True, slots=True)
class Home:
    """Where the rows of a business are: one schema of one database.

    Args:
        state: of the placement; events are taken while it is `active`.
        epoch: grows with every move, so that a home taken again is another one.
    """

    database: str
    schema: str
    state: str = "active"
    epoch: int = 1

    @property
    def takes_events(self) -> bool:
        return self.state == "active"


@dataclass(frozen=True, slots=True)
class Connection:
    """An account of a business at a provider."""

    id: UUID
    business_id: UUID
    provider: str
    account_ref: str
    secrets: tuple[str, ...] = field(repr=False)
    home: Home
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a webhook: it is stored, now or before.

    Args:
        status: of the stored event; `failed` means that it will be applied again later.
        results: what applying the events gave, one object per event.
    """

    event_id: str
    duplicate: bool
    status: str
    results: tuple[Mapping[str, Any], ...] = ()


class Inbox(Protocol):
    """The three things that webhook code may do with the database."""

    async def connection(self, connection_id: UUID) -> Connection | None:
        """The connection, None when there is none.

        Raises:
            Unavailable: the database does not answer.
        """

    async def ingest(self, connection: Connection, reading: Reading, payload: Payload) -> Receipt:
        """Store the request once, at the home of its business, and apply its events, in one
        transaction.

        Raises:
            Unavailable: nothing is known to be stored; the provider must send again.
        """

    async def retry(self, limit: int) -> int:
        """Apply stored events that failed before and are due, up to `limit` at each home.

        Returns how many succeeded. A home that does not answer is passed over.

        Raises:
            Unavailable: the main database does not answer.
        """


@dataclass(slots=True)
class StoredWebhook:
    """What MemoryInbox keeps of a webhook."""

    connection_id: UUID
    reading: Reading
    payload: Payload
    receipt: Receipt


class MemoryInbox:
    """An inbox that forgets when the process ends.

    Args:
        voice: settings of the voice channel, answered for inbound calls as the database does.

    Set `outage` to make it refuse, as a database that is down.
    """

    def __init__(self, *, voice: Mapping[str, Any] | None = None) -> None:
        self.voice = voice
        self.outage = False
        self.connections: dict[UUID, Connection] = {}
        self.webhooks: dict[tuple[UUID, str], StoredWebhook] = {}
        self.retries_asked = 0

    def connect(self, account_ref: str, *secrets: str, provider: str = "twilio") -> Connection:
        """Add a connection of a new business."""
        home = Home("memory", "public")
        connection = Connection(uuid4(), uuid4(), provider, account_ref, secrets, home)
        self.connections[connection.id] = connection
        return connection

    @property
    def events(self) -> list[Event]:
        """All canonical events in the order in which they were stored."""
        return [event for webhook in self.webhooks.values() for event in webhook.reading.events]

    async def connection(self, connection_id: UUID) -> Connection | None:
        self._check()
        return self.connections.get(connection_id)

    async def ingest(self, connection: Connection, reading: Reading, payload: Payload) -> Receipt:
        self._check()
        key = (connection.id, reading.event_id)
        if before := self.webhooks.get(key):
            first = before.receipt
            return Receipt(first.event_id, True, first.status, first.results)
        receipt = Receipt(str(uuid4()), False, "processed", self._results(reading.events))
        self.webhooks[key] = StoredWebhook(connection.id, reading, payload, receipt)
        return receipt

    async def retry(self, limit: int) -> int:
        self._check()
        self.retries_asked += 1
        return 0

    def _results(self, events: Sequence[Event]) -> tuple[Mapping[str, Any], ...]:
        is_call = [e["type"] == "call.event" and e["direction"] == "inbound" for e in events]
        return tuple({"voice": self.voice} if call else {} for call in is_call)

    def _check(self) -> None:
        if self.outage:
            raise Unavailable("The database does not answer; send it again in a moment.")
