"""Positions in the write-ahead log of Postgres, and who has written up to which."""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken

from tenantry_gateway.errors import GatewayError

AFTER_HEADER = "x-read-after"
# How long a write may still take effect after its answer was lost: longer than any API role's
# statement_timeout.
UNKNOWN_SECONDS = 60.0
_CAPACITY = 100_000
_TEXT = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})")


def parse_position(text: str) -> int:
    """A `pg_lsn` as Postgres prints it, as a number. Raises ValueError."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("not a WAL position")
    return int(match[1], 16) << 32 | int(match[2], 16)


def print_position(position: int) -> str:
    """A position as Postgres reads it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


class PositionTokens:
    """Positions as clients hold them. Encrypted, because the plain number tells everybody how much
    all tenants together write."""

    def __init__(self, secret: str) -> None:
        key = hmac.digest(secret.encode(), b"tenantry: positions", "sha256")
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, position: int) -> str:
        """The token for a position; every gateway of the project can open it."""
        return self._fernet.encrypt(position.to_bytes(8)).decode()

    def open(self, token: str) -> int:
        """The position of a token. Raises 400."""
        try:
            return int.from_bytes(self._fernet.decrypt(token.encode()))
        except InvalidToken:
            raise GatewayError(
                400,
                "bad_position",
                f"The header {AFTER_HEADER} is not a position of this project",
                "Send what an answer had in X-Tenantry-Position, unchanged.",
                field=AFTER_HEADER,
            ) from None


@dataclass(slots=True)
class _Writer:
    position: int = 0
    under_way: int = 0
    unknown_since: float | None = None
    """When the outcome of a write was lost."""


class Writers:
    """Who has written what, as far as it matters: until every replica in use has replayed it."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, capacity: int = _CAPACITY
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._writers: OrderedDict[str, _Writer] = OrderedDict()
        self._everybody = _Writer()

    def __len__(self) -> int:
        return len(self._writers)

    def begin(self, caller: str) -> None:
        """A write of `caller` is on its way. Exactly one `end` follows."""
        self._writers.setdefault(caller, _Writer()).under_way += 1

    def end(self, caller: str, position: int | None) -> None:
        """It is over, and nothing of it lies after `position`; None where that is not known."""
        writer = self._writers[caller]
        self._writers.move_to_end(caller)
        writer.under_way -= 1
        if position is None:
            writer.unknown_since = self._clock()
        else:
            writer.position = max(writer.position, position)

    def everybody_wrote(self, position: int) -> None:
        """A write up to `position` whose caller nobody can name, such as a new user's."""
        self._everybody.position = max(self._everybody.position, position)

    def forget(self, floor: int) -> None:
        """Drop the writers whose writes every read will see that must see `floor`."""
        while self._writers:
            caller, writer = next(iter(self._writers.items()))
            if writer.under_way:
                self._writers.move_to_end(caller)
                return
            if writer.position > floor or writer.unknown_since is not None:
                if len(self._writers) <= self._capacity:
                    return
                self._add_to_everybody(writer)
            del self._writers[caller]

    def _add_to_everybody(self, writer: _Writer) -> None:
        everybody = self._everybody
        everybody.position = max(everybody.position, writer.position)
        if writer.unknown_since is not None:
            everybody.unknown_since = max(everybody.unknown_since or 0.0, writer.unknown_since)

    def position(self, caller: str, sampled_at: float, sample: int) -> int | None:
        """What a read of `caller` must see; None while that is not known.

        The primary was at `sample` or further when it was asked at `sampled_at`, which settles
        what has become of the writes before.
        """
        position = 0
        for writer in (self._everybody, self._writers.get(caller)):
            if writer is None:
                continue
            if writer.under_way:
                return None
            if writer.unknown_since is not None:
                if sampled_at < writer.unknown_since + UNKNOWN_SECONDS:
                    return None
                writer.unknown_since = None
                writer.position = max(writer.position, sample)
            position = max(position, writer.position)
        return position
