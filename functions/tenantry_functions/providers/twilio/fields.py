"""Reading a Twilio form. Nothing here raises: a field that makes no sense reads as absent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tenantry_functions.events import AddressKind, ChannelKind
from tenantry_functions.providers.twilio.signature import Pair

_INTEGER = re.compile(r"-?[0-9]{1,9}")
_DECIMAL = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,15})?")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 _&+-]{1,11}")
_SCOPED_ID = re.compile(r"[A-Z]{2}(\.ENT)?\.[A-Za-z0-9_-]{1,160}")

# What Twilio puts in From when the caller withholds the number: the words spelled on a keypad.
# https://help.twilio.com/articles/223179988: anonymous, restricted, blocked, unknown, unavailable.
_WITHHELD = frozenset({"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"})
_WITHHELD_WORDS = frozenset(
    {"anonymous", "restricted", "blocked", "unknown", "unavailable", "private"}
)

_CHANNELS: Mapping[str, ChannelKind] = {
    "whatsapp": "whatsapp",
    "messenger": "social",
    # RCS carries the same phone identities as SMS and falls back to it.
    "rcs": "sms",
}


def form(pairs: Iterable[Pair]) -> dict[str, str | list[str]]:
    """Fields as JSON that Postgres can store; a name given several times has a list.

    A byte that is no UTF-8 and NUL become U+FFFD: such a message is worth more than none.
    """
    result: dict[str, str | list[str]] = {}
    for raw_name, raw_value in pairs:
        name, value = _text(raw_name), _text(raw_value)
        before = result.get(name)
        if before is None:
            result[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            result[name] = [before, value]
    return result


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


class Fields:
    """Typed access to the fields of one request."""

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self._payload = payload

    def raw(self, name: str) -> str:
        """The value as sent, the first of several; empty when absent."""
        value = self._payload.get(name, "")
        if isinstance(value, list):
            value = value[0] if value else ""
        return value if isinstance(value, str) else ""

    def text(self, *names: str) -> str | None:
        """The first of these that is not blank, trimmed."""
        for name in names:
            if value := self.raw(name).strip():
                return value
        return None

    def has(self, *names: str) -> bool:
        return any(name in self._payload for name in names)

    def identifier(self, *names: str) -> str | None:
        """A provider's id, such as CA... or SM...: letters, digits and little else."""
        value = self.text(*names)
        return value if value and _IDENTIFIER.fullmatch(value) else None

    def integer(self, name: str) -> int | None:
        value = self.text(name)
        return int(value) if value and _INTEGER.fullmatch(value) else None

    def count(self, name: str) -> int | None:
        """A number that cannot be negative: seconds, segments."""
        value = self.integer(name)
        return value if value is not None and value >= 0 else None

    def error_code(self, *names: str) -> int | None:
        """An error number; 0 means none."""
        for name in names:
            if (value := self.count(name)) is not None and value > 0:
                return value
        return None

    def coordinate(self, name: str, limit: float) -> float | None:
        value = self.text(name)
        if value is None or not _DECIMAL.fullmatch(value):
            return None
        number = float(value)
        return number if abs(number) <= limit else None

    def time(self, *names: str) -> str | None:
        """RFC 2822 (`Mon, 02 Mar 2026 10:01:01 +0000`) or ISO 8601, as ISO 8601 in UTC."""
        value = self.text(*names)
        if value is None:
            return None
        for parse in (parsedate_to_datetime, datetime.fromisoformat):
            try:
                moment = parse(value)
                if moment.tzinfo is None:
                    moment = moment.replace(tzinfo=UTC)
                return _sane(moment.astimezone(UTC))
            # A date field can hold anything; both parsers have several ways to fail.
            except Exception:  # noqa: S112
                continue
        return None

    def compact_time(self, name: str) -> str | None:
        """`RawDlrDoneDate`: YYMMDDhhmm, sometimes with seconds, in UTC."""
        value = self.text(name) or ""
        if not value.isascii() or not value.isdigit() or len(value) not in {10, 12}:
            return None
        try:
            moment = datetime.strptime(value.ljust(12, "0"), "%y%m%d%H%M%S")  # noqa: DTZ007
        except ValueError:
            return None
        return _sane(moment.replace(tzinfo=UTC))


def _sane(moment: datetime) -> str | None:
    return moment.isoformat() if 2000 <= moment.year < 2100 else None


def address(value: str | None) -> tuple[str | None, AddressKind]:
    """An address without its channel prefix, and what kind it is.

    A withheld number is kept as it came, with kind `anonymous`: never somebody's identity.
    """
    if value is None:
        return None, "anonymous"
    prefix, separator, rest = value.partition(":")
    plain = rest.strip() if separator and prefix.lower() in _CHANNELS else value
    if not plain or plain in _WITHHELD or plain.lstrip("+").lower() in _WITHHELD_WORDS:
        return plain or None, "anonymous"
    if plain.lower().startswith(("sip:", "sips:")):
        return plain, "sip"
    if plain.startswith("client:"):
        return plain, "client"
    for pattern, kind in _KINDS:
        if pattern.fullmatch(plain):
            return plain, kind
    return plain, "unknown"


# Order matters: a business-scoped user id (US.1349...) is also letters and digits.
_KINDS: tuple[tuple[re.Pattern[str], AddressKind], ...] = (
    (_E164, "e164"),
    (_SHORT_CODE, "short_code"),
    (_SCOPED_ID, "scoped_id"),
    (_ALPHANUMERIC, "alphanumeric"),
)


def channel_kind(fields: Fields) -> ChannelKind:
    """Channel of a message, told by the prefix of either address."""
    for name in ("From", "To", "ChannelToAddress"):
        prefix, separator, _ = fields.raw(name).strip().partition(":")
        if separator and (kind := _CHANNELS.get(prefix.lower())):
            return kind
    return _CHANNELS.get((fields.text("ChannelPrefix") or "").lower(), "sms")
