# Made from _async/messages.py by tools/generate_sync.py: do not edit.
"""Messages: what was written, in and out."""

from __future__ import annotations

import datetime
from uuid import UUID

from tenantry._keyset import DEFAULT_PAGE_SIZE, Keyset
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, matching, within
from tenantry.models import Message, MessageDirection


class Messages(Resource):
    """Messages of the business in use."""

    def record(
        self, conversation_id: UUID | str, *, body: str, idempotency_key: str | None = None
    ) -> Message:
        """Record a message that a member sent, from a phone or another tool. Nothing is sent by it.

        Args:
            body: 1 to 65536 characters.
            idempotency_key: As in `customers.create`.

        Raises:
            NotFound: There is no such conversation.
            Conflict: The address has opted out of messages.
            IdempotencyConflict: The key was used with other arguments.
        """
        arguments = {
            "business_id": self._business_id,
            "conversation_id": check_id(conversation_id, "conversation_id"),
            "body": body,
        }
        reply = self._call_once(
            "record_message", arguments, idempotency_key=idempotency_key, returns=Message
        )
        return reply.one(Message)

    def get(self, message_id: UUID | str) -> Message:
        """A message. Raises NotFound."""
        return self._get("messages", Message, message_id)

    def list(
        self,
        conversation_id: UUID | str | None = None,
        *,
        direction: MessageDirection | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Message]:
        """Messages of a conversation by the time they were written, or of the whole business by
        the time they were stored.

        Args:
            since: That time or later.
            until: Before that time.
            page_size: Rows per request, 1 to 500.
            after: A cursor: go on behind the page it came from.
        """
        query = matching(self._rows("messages", Message), direction=direction)
        # Each order has its index.
        column = "created_at"
        if conversation_id is not None:
            query = query.eq("conversation_id", check_id(conversation_id, "conversation_id"))
            column = "occurred_at"
        query = within(query, column, since, until)
        keyset = Keyset((column, "id"), descending=newest_first)
        return self._pages(query, Message, keyset=keyset, page_size=page_size, after=after)
