"""When a request is sent again, and how long to wait before."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

#: First and longest back-off, in seconds. Full jitter spreads clients that failed together
#: (AWS Architecture Blog, "Exponential Backoff And Jitter").
_BASE = 0.5
_CAP = 8.0
#: A server that asks for more patience than this, in seconds, gets none: the caller decides.
_LONGEST_WAIT = 60.0

_RETRIED_STATUS = frozenset({408, 421, 429, 502, 503, 504})
#: The server refused before it began (RFC 9110, 15.5.9 and 15.5.20; RFC 6585, 4).
_NOT_BEGUN_STATUS = frozenset({408, 421, 429})
#: Rolled back as a whole (SQLSTATE 40001, 40P01), or never given a connection (PostgREST, Errors).
_NOT_APPLIED_CODES = frozenset({"40001", "40P01", "PGRST000", "PGRST002", "PGRST003"})


class Safety(enum.Enum):
    """What it would mean to send a request twice."""

    #: Sending it again changes nothing: reads, and writes that set a state or carry a key.
    REPEATABLE = "repeatable"
    #: Sending it again could do it twice: retried only when the first one was certainly not done.
    ONCE = "once"


@dataclass(frozen=True)
class RetryPolicy:
    """At most `max_retries` further attempts, 0 for none."""

    max_retries: int = 2

    def wait_after_answer(
        self,
        attempt: int,
        *,
        status: int,
        code: str | None,
        retry_after: float | None,
        safety: Safety,
        is_refused: bool = False,
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up. `attempt` counts from 0.

        With `is_refused` the server says itself that it did nothing.
        """
        not_applied = is_refused or status in _NOT_BEGUN_STATUS or code in _NOT_APPLIED_CODES
        worth_it = status in _RETRIED_STATUS or not_applied
        if attempt >= self.max_retries or not worth_it:
            return None
        if safety is Safety.ONCE and not not_applied:
            return None
        if retry_after is None:
            return self.backoff(attempt)
        if retry_after > _LONGEST_WAIT:
            return None
        return retry_after + random.uniform(0, _BASE)  # noqa: S311  spreads load, no secret

    def wait_after_silence(
        self, attempt: int, *, maybe_applied: bool, safety: Safety
    ) -> float | None:
        """The same when no answer came. `maybe_applied` is False if it certainly did not arrive."""
        if attempt >= self.max_retries or (maybe_applied and safety is Safety.ONCE):
            return None
        return self.backoff(attempt)

    def backoff(self, attempt: int) -> float:
        """Full jitter: anything from nothing to a bound that doubles, in seconds."""
        return random.uniform(0, min(_CAP, _BASE * 2**attempt))  # noqa: S311
