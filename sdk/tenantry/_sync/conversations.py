# Made from _async/conversations.py by tools/generate_sync.py: do not edit.
"""Conversations: threads of messages with one outside address on one channel."""

from __future__ import annotations

import datetime
from typing import Unpack
from uuid import UUID

from tenantry._generated.arguments import ConversationUpdate
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, matching, within
from tenantry.models import Conversation, ConversationStatus


class Conversations(Resource):
    """Conversations of the business in use."""

    def open(
        self,
        *,
        channel_id: UUID | str,
        customer_id: UUID | str | None = None,
        peer: str | None = None,
        subject: str | None = None,
    ) -> Conversation:
        """The open conversation with a customer or address on a channel; started if there is none.

        Calling it again gives the same one, so it needs no idempotency key.

        Args:
            customer_id: Whom to write to, at their address for this kind of channel.
            peer: Or the address itself; its customer is found or created.

        Raises:
            ValidationError: Neither of the two, or no valid address; `field` says which.
            NotFound: There is no such channel or customer.
        """
        arguments = {
            "business_id": self._business_id,
            "channel_id": channel_id,
            "customer_id": customer_id,
            "peer": peer,
            "subject": subject,
        }
        reply = self._call(
            "open_conversation", arguments, returns=Conversation, safety=self._repeatable
        )
        return reply.one(Conversation)

    def get(self, conversation_id: UUID | str) -> Conversation:
        """A conversation. Raises NotFound."""
        return self._get("conversations", Conversation, conversation_id)

    def list(
        self,
        *,
        status: ConversationStatus | None = None,
        customer_id: UUID | str | None = None,
        channel_id: UUID | str | None = None,
        assigned_membership_id: UUID | str | None = None,
        department_id: UUID | str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Conversation]:
        """Conversations by creation; `since` and `until` bound it."""
        query = matching(
            self._rows("conversations", Conversation),
            status=status,
            customer_id=customer_id,
            channel_id=channel_id,
            assigned_membership_id=assigned_membership_id,
            department_id=department_id,
        )
        query = within(query, "created_at", since, until)
        return self._pages(
            query, Conversation, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def update(
        self, conversation_id: UUID | str, **changes: Unpack[ConversationUpdate]
    ) -> Conversation:
        """Assign, snooze, resolve: change status, subject, assignee, department or `snoozed_until`.

        Raises:
            NotFound: There is none, or you may only read it.
            Conflict: The change of status is illegal; the hint lists the legal ones.
        """
        return self._update(
            "conversations", Conversation, conversation_id, changes, ConversationUpdate
        )

    def mark_read(self, conversation_id: UUID | str) -> None:
        """Set the unread counter to zero. Raises NotFound."""
        arguments = {
            "business_id": self._business_id,
            "conversation_id": check_id(conversation_id, "conversation_id"),
        }
        self._call("mark_conversation_read", arguments, safety=self._repeatable)
