# Made from _async/sessions.py by tools/generate_sync.py: do not edit.
"""Sessions: where the signed-in user is signed in, and ending that."""

from __future__ import annotations

import builtins
from uuid import UUID

from tenantry._sync.resource import Resource, check_id
from tenantry.models import MySession


class Sessions(Resource):
    """Open sessions of the signed-in user, in all applications."""

    _in_business = False

    def list(self) -> builtins.list[MySession]:
        """Your open sessions, newest first. Raises PermissionDenied for an API key."""
        reply = self._call("my_sessions", {}, safety=self._repeatable)
        return reply.many(MySession)

    def revoke(self, session_id: UUID | str) -> None:
        """End one of your sessions at once: its tokens reach nothing any more. Raises NotFound."""
        self._call("revoke_session", {"session_id": check_id(session_id, "session_id")})

    def revoke_others(self) -> int:
        """End all your sessions but this one. Returns how many there were."""
        reply = self._call("revoke_other_sessions", {})
        if not isinstance(reply.data, int):
            raise reply.unexpected("a number of sessions was expected")
        return reply.data
