# Made from _async/auth.py by tools/generate_sync.py: do not edit.
"""Signing in and out, and keeping the session alive.

Speaks the Supabase Auth API directly (`/auth/v1`), with this SDK's time-outs, retries and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from tenantry import _json
from tenantry._options import Options
from tenantry._reply import Reply
from tenantry._retry import Safety
from tenantry._session import Session, SignUp, User, age_of
from tenantry._sync.transport import Request
from tenantry.errors import APIError, AuthenticationError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from tenantry._sync.client import Tenantry


class Auth:
    """Who is signed in on this client. Clients made from it by `with_options` share it."""

    def __init__(self, client: Tenantry) -> None:
        self._client = client
        self._transport = client._transport
        if self._transport.renew is None:
            self._transport.renew = self._renew

    @property
    def session(self) -> Session | None:
        """The session in use: None when nobody signed in here, also with `access_token=`."""
        return self._transport.tokens.session

    def sign_in(self, *, email: str, password: str) -> Session:
        """Sign in; from now on requests are made as this user.

        Raises:
            AuthenticationError: Wrong address or password, or the address is not confirmed yet.
        """
        self._refuse_api_key()
        body = {"email": _required("email", email), "password": _required("password", password)}
        reply = self._post("token", body, grant_type="password", safety=Safety.REPEATABLE)
        session = reply.one(Session)
        self._transport.tokens.start(session)
        return session

    def sign_up(self, *, email: str, password: str, full_name: str | None = None) -> SignUp:
        """Make an account. Signed in at once, unless the address must be confirmed first.

        Raises:
            Conflict: There is an account with this address.
            ValidationError: The address is none, or the password is too weak.
        """
        self._refuse_api_key()
        body: dict[str, Any] = {
            "email": _required("email", email),
            "password": _required("password", password),
        }
        if full_name is not None:
            body["data"] = {"full_name": full_name}
        reply = self._post("signup", body)
        # With a session the user is inside it; without one the answer is the user.
        if isinstance(reply.data, dict) and "access_token" in reply.data:
            session = reply.one(Session)
            self._transport.tokens.start(session)
            return SignUp(user=session.user, session=session)
        return SignUp(user=reply.one(User))

    def sign_out(self) -> None:
        """End the session, here and on the server. Does nothing when nobody is signed in.

        The tokens are forgotten here even when the server cannot be reached; that error is raised.
        """
        tokens = self._transport.tokens
        token = tokens.access_token
        if self._transport.has_api_key:
            return  # a key is revoked with api_keys.revoke, not signed out
        tokens.end()
        if token is None:
            return
        headers = httpx.Headers({"authorization": f"Bearer {token}"})
        try:
            self._post("logout", {}, headers=headers, safety=Safety.REPEATABLE, scope="local")
        except (AuthenticationError, NotFound):
            return  # it had ended already

    def user(self) -> User:
        """The account as the auth service knows it now. Raises AuthenticationError without one."""
        request = Request("GET", f"{self._transport.url}/auth/v1/user")
        reply = self._transport.send(request, self._client._options)
        return reply.one(User)

    def refresh(self) -> Session:
        """Renew the tokens now; happens by itself a minute before they end.

        Raises:
            AuthenticationError: Nobody is signed in, or the session was ended elsewhere.
        """
        with self._transport.renewing:
            self._renew(self._client._options)
        session = self._transport.tokens.session
        assert session is not None  # _renew() raises otherwise
        return session

    def restore(self, session: Session) -> None:
        """Go on with a session that was kept from before. Its refresh token works once only."""
        self._refuse_api_key()
        self._transport.tokens.start(session, age=age_of(session))

    def _refuse_api_key(self) -> None:
        if self._transport.has_api_key:
            raise InvalidArgument(
                "api_key",
                "this client acts with an API key, so nobody signs in on it",
                hint="Make another client with the publishable key.",
            )

    def _renew(self, options: Options) -> None:
        tokens = self._transport.tokens
        if tokens.session is None:
            raise AuthenticationError("Nobody is signed in.", status=401, code="session_not_found")
        body = {"refresh_token": tokens.session.refresh_token}
        try:
            reply = self._post("token", body, options=options, grant_type="refresh_token")
        except APIError as error:
            if error.status not in (400, 401, 403):
                raise
            tokens.end()
            raise AuthenticationError(
                "The session has ended.",
                status=error.status,
                code=error.code,
                hint="Sign in again with client.auth.sign_in(...).",
                request_id=error.request_id,
            ) from error
        tokens.start(reply.one(Session))

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        *,
        headers: httpx.Headers | None = None,
        safety: Safety = Safety.ONCE,
        options: Options | None = None,
        **params: str,
    ) -> Reply:
        request = Request(
            method="POST",
            url=f"{self._transport.url}/auth/v1/{path}",
            params=httpx.QueryParams(params),
            headers=headers or httpx.Headers(),
            content=_json.encode(body),
            safety=safety,
            signed=False,
        )
        return self._transport.send(request, options or self._client._options)


def _required(field: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidArgument(field, "it is missing", hint=f"Give the {field} of the account.")
    return value
