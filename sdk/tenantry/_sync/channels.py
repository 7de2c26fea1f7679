# Made from _async/channels.py by tools/generate_sync.py: do not edit.
"""Channels: the phone numbers, mailboxes and chats a business owns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack
from uuid import UUID

from tenantry._generated.arguments import ChannelUpdate
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._reply import columns_of
from tenantry._retry import Safety
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, matching
from tenantry.models import Channel, ChannelKind, ChannelThreading


class Channels(Resource):
    """Channels of the business in use."""

    def create(
        self,
        *,
        kind: ChannelKind,
        name: str,
        address: str,
        connection_id: UUID | str | None = None,
        department_id: UUID | str | None = None,
        provider: str | None = None,
        threading: ChannelThreading | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Channel:
        """Add a channel. A number for both voice and SMS is two channels.

        Args:
            address: The number (with country code, or a national one), address or handle.
            connection_id: The provider connection whose webhooks bring its events.
            department_id: The department that answers here: what arrives belongs to it.
            threading: `single`: a new message reopens a resolved conversation;
                `per_resolution`: it starts a new one.

        Raises:
            ValidationError: Naming the field.
            Conflict: The business has this channel already.
        """
        row = {
            "business_id": self._business_id,
            "kind": kind, "name": name, "address": address, "connection_id": connection_id,
            "department_id": department_id, "provider": provider, "threading": threading,
            "settings": settings,
        }  # fmt: skip
        given = {column: value for column, value in row.items() if value is not None}
        query = self._table("channels").insert(given).select(columns_of(Channel))
        # Unique by kind and address, so sending it twice could only end in a conflict.
        return self._single(self._send(query, Safety.ONCE), Channel)

    def get(self, channel_id: UUID | str) -> Channel:
        """A channel. Raises NotFound."""
        return self._get("channels", Channel, channel_id)

    def list(
        self,
        *,
        kind: ChannelKind | None = None,
        is_active: bool | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Channel]:
        """Channels by creation."""
        query = matching(self._rows("channels", Channel), kind=kind, is_active=is_active)
        return self._pages(
            query, Channel, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def update(self, channel_id: UUID | str, **changes: Unpack[ChannelUpdate]) -> Channel:
        """Change fields; what is not named stays. Raises NotFound, ValidationError."""
        return self._update("channels", Channel, channel_id, changes, ChannelUpdate)
