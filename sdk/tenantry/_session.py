"""Who is signed in: the session, and when it needs a new token."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

#: A token is renewed this many seconds before it ends, so that none ends on its way.
REFRESH_BEFORE_EXPIRY = 60.0
_DEFAULT_LIFETIME = 3600


def _moment(value: Any) -> Any:
    # Some auth servers write times as Postgres does, `2026-01-02 03:04:05+00`.
    return datetime.datetime.fromisoformat(value) if isinstance(value, str) and value else value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


class User(BaseModel):
    """The account of the auth service. What colleagues see of it is the profile."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: UUID
    email: str | None = None
    email_confirmed_at: Moment | None = None
    last_sign_in_at: Moment | None = None
    user_metadata: dict[str, Any] = Field(default_factory=dict)

    def __repr_args__(self) -> Any:
        # Auth servers send much more, which logs need not know.
        yield "id", self.id
        yield "email", self.email


class Session(BaseModel):
    """A signed-in user's tokens. Keep it as secret as the password.

    Attributes:
        expires_in: Seconds the access token lives, counted from when it was issued.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    expires_in: int = Field(default=_DEFAULT_LIFETIME, gt=0)
    expires_at: int | None = None
    user: User

    def __repr_args__(self) -> Any:
        # Also keeps tokens out that a newer server sends under a name we do not know.
        yield "user", self.user
        yield "expires_in", self.expires_in


class SignUp(BaseModel):
    """A new account, and a session unless the address must be confirmed first."""

    model_config = ConfigDict(frozen=True)

    user: User
    session: Session | None = None


@dataclass
class TokenState:
    """The bearer token in use. Shared by all clients made from one; changed only under its lock."""

    access_token: str | None = field(default=None, repr=False)
    session: Session | None = None
    #: On this machine's monotonic clock: the wall clocks of two machines differ.
    _renew_at: float = field(default=0.0, repr=False)
    _ends_at: float = field(default=0.0, repr=False)

    def start(self, session: Session, *, age: float = 0.0) -> None:
        """Use this session, issued `age` seconds ago."""
        now = time.monotonic()
        self.session = session
        self.access_token = session.access_token
        self._ends_at = now - age + session.expires_in
        # A short-lived token is not renewed at every request.
        self._renew_at = self._ends_at - min(REFRESH_BEFORE_EXPIRY, session.expires_in / 2)

    def end(self) -> None:
        self.session = None
        self.access_token = None

    @property
    def is_due(self) -> bool:
        """A session is there and its token should be renewed before the next request."""
        return self.session is not None and time.monotonic() >= self._renew_at

    @property
    def is_over(self) -> bool:
        """A session is there and its token has ended."""
        return self.session is not None and time.monotonic() >= self._ends_at


def age_of(session: Session) -> float:
    """Seconds since a stored session was issued, by its `expires_at`; 0 when it does not say."""
    if session.expires_at is None:
        return 0.0
    return max(0.0, time.time() - (session.expires_at - session.expires_in))
