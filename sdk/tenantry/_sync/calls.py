# Made from _async/calls.py by tools/generate_sync.py: do not edit.
"""Calls: what was spoken by phone, in and out."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Unpack
from uuid import UUID

from tenantry._generated.arguments import CallUpdate
from tenantry._keyset import DEFAULT_PAGE_SIZE, Keyset
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, matching, within
from tenantry.models import Call, CallDirection, CallOutcome, CallStatus, CallTranscript


class Calls(Resource):
    """Calls of the business in use."""

    def log(
        self,
        *,
        direction: CallDirection,
        peer: str,
        channel_id: UUID | str | None = None,
        provider_call_id: str | None = None,
        status: CallStatus | None = None,
        started_at: datetime.datetime | None = None,
        answered_at: datetime.datetime | None = None,
        ended_at: datetime.datetime | None = None,
        duration_seconds: int | None = None,
        outcome: CallOutcome | None = None,
        transcript: str | Sequence[Mapping[str, Any]] | None = None,
        notes: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call:
        """Log a call that took place; its customer is found by number, or created.

        Args:
            direction: `inbound` or `outbound`.
            peer: The outside number, any way of writing it.
            channel_id: Our number; the only voice channel by default.
            provider_call_id: The same id again gives the first row.
            status: `completed` by default.
            started_at: Now by default, or `duration_seconds` before `ended_at`.
            duration_seconds: Seconds of conversation, never billed minutes; 0 to 604800.
            transcript: Text, or segments `{"speaker", "start", "end", "text"}` with seconds.
            idempotency_key: As in `customers.create`.

        Raises:
            ValidationError: Naming the field.
            NotFound: There is no such channel.
            IdempotencyConflict: The key was used with other arguments.
        """
        arguments = {
            "business_id": self._business_id,
            "direction": direction, "peer": peer, "channel_id": channel_id,
            "provider_call_id": provider_call_id, "status": status, "started_at": started_at,
            "answered_at": answered_at, "ended_at": ended_at,
            "duration_seconds": duration_seconds, "outcome": outcome, "transcript": transcript,
            "notes": notes,
        }  # fmt: skip
        reply = self._call_once(
            "log_call", arguments, idempotency_key=idempotency_key, returns=Call
        )
        return reply.one(Call)

    def get(self, call_id: UUID | str) -> Call:
        """A call. Raises NotFound."""
        return self._get("calls", Call, call_id)

    def list(
        self,
        *,
        direction: CallDirection | None = None,
        status: CallStatus | None = None,
        outcome: CallOutcome | None = None,
        customer_id: UUID | str | None = None,
        channel_id: UUID | str | None = None,
        owner_membership_id: UUID | str | None = None,
        department_id: UUID | str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Call]:
        """Calls by the time they started.

        Args:
            owner_membership_id: The member whose calls they are.
            department_id: The department they belong to, without those below it.
            since: Started at this moment or later.
            until: Started before this moment.
            page_size: Rows per request, 1 to 500.
            after: A cursor: go on behind the page it came from.
        """
        query = matching(
            self._rows("calls", Call),
            direction=direction,
            status=status,
            outcome=outcome,
            customer_id=customer_id,
            channel_id=channel_id,
            owner_membership_id=owner_membership_id,
            department_id=department_id,
        )
        query = within(query, "started_at", since, until)
        keyset = Keyset(("started_at", "id"), descending=newest_first)
        return self._pages(query, Call, keyset=keyset, page_size=page_size, after=after)

    def update(self, call_id: UUID | str, **changes: Unpack[CallUpdate]) -> Call:
        """Correct outcome, notes, conversation, owner, department or who handled it.

        Raises NotFound.
        """
        return self._update("calls", Call, call_id, changes, CallUpdate)

    def transcripts(self, call_id: UUID | str) -> builtins.list[CallTranscript]:
        """What was said on a call; usually one, several when more than one service listened."""
        query = self._rows("call_transcripts", CallTranscript)
        query = query.eq("call_id", check_id(call_id, "call_id")).order("created_at").order("id")
        reply = self._send(query)
        return reply.many(CallTranscript)
