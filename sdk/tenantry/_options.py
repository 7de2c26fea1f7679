"""What a client is told at the start, checked once."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from pydantic import SecretStr

from tenantry.errors import InvalidArgument, NoBusinessChosen

#: Seconds for each phase of a request: connecting, sending, waiting for the next bytes.
DEFAULT_TIMEOUT = 10.0
DEFAULT_MAX_RETRIES = 2

_API_KEY = re.compile(r"tnk_[0-9a-f]{64}")


@dataclass(frozen=True)
class Exchange:
    """One attempt, as `on_response` sees it: no bodies, no query, no secrets.

    Attributes:
        status: HTTP status.
        headers: Of the answer, names in lower case.
        request_id: Of the call; all its attempts share it.
        attempt: 0 for the first, then 1, 2, ...
        elapsed: Seconds.
    """

    method: str
    path: str
    status: int
    headers: dict[str, str]
    request_id: str
    attempt: int
    elapsed: float


@dataclass(frozen=True)
class Options:
    """How requests are made. Clients made by `with_options` differ only in these."""

    timeout: float = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    business_id: UUID | None = None
    on_response: Callable[[Exchange], None] | None = None

    def __post_init__(self) -> None:
        timeout: Any = self.timeout
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise InvalidArgument("timeout", f"{timeout!r} is no number", hint="Give seconds.")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise InvalidArgument(
                "timeout", f"{timeout} seconds cannot be kept", hint="Give more than 0 seconds."
            )
        retries: Any = self.max_retries
        if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 10:
            raise InvalidArgument(
                "max_retries", f"{retries!r} is out of bounds", hint="Give 0 to 10; 2 is usual."
            )

    def replace(self, **changes: Any) -> Options:
        """The same with these changes; None leaves a value as it is."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def chosen_business(self) -> UUID:
        """The business in use. Raises NoBusinessChosen."""
        if self.business_id is None:
            raise NoBusinessChosen
        return self.business_id


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """The certificates that are trusted. Reading them takes longer than a request: done once."""
    return httpx.create_ssl_context()


def check_url(url: str) -> str:
    """The API's origin without a trailing slash. Raises InvalidArgument."""
    hint = "Give the API's origin, such as http://127.0.0.1:54321; `tenantry status` prints yours."
    if not isinstance(url, str) or not url:
        raise InvalidArgument("url", "it is missing", hint=hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument("url", f"{url!r} is not a URL: {error}", hint=hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument("url", f"{url!r} is not an http or https URL", hint=hint)
    if parts.query or parts.fragment or parts.username or port == 0:
        raise InvalidArgument("url", "it must be an origin only", hint=hint)
    return url.rstrip("/")


def check_key(key: str | None) -> str:
    """The API key. Raises InvalidArgument."""
    hint = (
        "Give the publishable key in applications, the secret key only on a server; "
        "`tenantry status` prints both."
    )
    if not isinstance(key, str) or not key.strip():
        raise InvalidArgument("key", "it is missing", hint=hint)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidArgument("key", "it has characters that no key has", hint=hint)
    return key


def is_jwt(key: str) -> bool:
    """True for the older kind of key, which is itself a token."""
    return key.count(".") == 2


@dataclass(frozen=True)
class Identity:
    """As whom requests are made: the key of the application, and what goes into Authorization."""

    key: str = field(repr=False)
    bearer: str | None = field(default=None, repr=False)
    is_api_key: bool = False


def check_identity(
    key: str | None, access_token: str | None, api_key: SecretStr | str | None
) -> Identity:
    """The identity that these arguments give. Raises InvalidArgument."""
    text = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    # The messages never repeat it: whatever it is, it was meant to be a secret.
    if text is not None and (not isinstance(text, str) or not _API_KEY.fullmatch(text)):
        raise InvalidArgument(
            "api_key",
            "it is no API key",
            hint="Give the text that api_keys.create returned: tnk_ and 64 hexadecimal digits.",
        )
    # The key alone is enough; the gateway takes it in either place, and refuses two callers.
    key = check_key(text if key is None and text is not None else key)
    bearer = access_token if text is None or text == key else text
    is_api_key = text is not None or key.startswith("tnk_")
    if is_api_key and (access_token is not None or (key.startswith("tnk_") and bearer is not None)):
        raise InvalidArgument(
            "api_key", "there is another caller beside it", hint="Act with one of the two."
        )
    return Identity(key, bearer, is_api_key)
