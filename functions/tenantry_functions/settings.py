"""Settings of the functions app, read once from the environment.

Every variable begins with `FUNCTIONS_`. A missing or malformed one stops the start with a
sentence that names the variable and the remedy: a half-configured app must not serve.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

# functions/tenantry_functions/settings.py -> functions/
_FOLDER_OF_FUNCTIONS = Path(__file__).resolve().parents[1]


class SettingsError(ValueError):
    """A variable is missing or malformed; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the app needs to know. Secrets never appear in `repr`."""

    public_origin: str
    """Scheme, host and port under which providers reach us: the base of the URLs they sign."""
    database_url: str = field(repr=False)
    """Login role `integrator`: it may execute the three webhook functions and nothing else."""
    functions_dir: Path = _FOLDER_OF_FUNCTIONS
    only: tuple[str, ...] = ("*",)
    """Glob patterns of the functions to mount, for scaling them apart: `twilio-*`."""
    postgrest_url: str | None = None
    jwt_secret: str | None = field(default=None, repr=False)
    jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str = "authenticated"
    publishable_keys: tuple[str, ...] = field(default=(), repr=False)
    """The publishable key and, while it lives, the legacy anon key."""
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    """The secret key and, while it lives, the legacy service_role key."""
    cors_origin: str = "*"
    pool_max: int = 10
    pool_wait_seconds: float = 3.0
    statement_timeout_ms: int = 5000
    retry_interval_seconds: float = 5.0
    retry_batch: int = 50

    @property
    def service_token(self) -> str | None:
        """The secret key that the API itself understands: the one that is a token (RFC 7519)."""
        return next((key for key in self.secret_keys if key.count(".") == 2), None)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: a required variable is missing or one has a wrong form.
        """
        read = _Reader(os.environ if environment is None else environment)
        return cls(
            public_origin=_origin("FUNCTIONS_PUBLIC_ORIGIN", read.required("PUBLIC_ORIGIN")),
            database_url=read.required("DATABASE_URL"),
            functions_dir=_folder(read.optional("DIR")),
            only=tuple(part.strip() for part in (read.optional("ONLY") or "*").split(",")),
            postgrest_url=_base(read.optional("POSTGREST_URL")),
            jwt_secret=_long_enough(read.optional("JWT_SECRET")),
            jwks_url=read.optional("JWKS_URL"),
            jwt_issuer=read.optional("JWT_ISSUER"),
            jwt_audience=read.optional("JWT_AUDIENCE") or "authenticated",
            publishable_keys=read.all_of("PUBLISHABLE_KEY", "ANON_KEY"),
            secret_keys=read.all_of("SECRET_KEY", "SERVICE_ROLE_KEY"),
            cors_origin=read.optional("CORS_ORIGIN") or "*",
            pool_max=int(read.number("POOL_MAX", 10, 1, 500)),
            pool_wait_seconds=read.number("POOL_WAIT_SECONDS", 3.0, 0.05, 10.0),
            statement_timeout_ms=int(read.number("STATEMENT_TIMEOUT_MS", 5000, 50, 12_000)),
            retry_interval_seconds=read.number("RETRY_INTERVAL_SECONDS", 5.0, 0.05, 3600.0),
            retry_batch=int(read.number("RETRY_BATCH", 50, 1, 1000)),
        )


class _Reader:
    """Reads `FUNCTIONS_*`; an empty value counts as not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def optional(self, name: str) -> str | None:
        return self._environment.get(f"FUNCTIONS_{name}", "").strip() or None

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            raise SettingsError(
                f"FUNCTIONS_{name} is not set: start the stack with `tenantry up`, "
                "which sets it, or give it to the process."
            )
        return value

    def all_of(self, *names: str) -> tuple[str, ...]:
        return tuple(value for value in map(self.optional, names) if value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        text = self.optional(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise SettingsError(f"FUNCTIONS_{name} must be a number from {low:g} to {high:g}.")
        return value


def _origin(name: str, value: str) -> str:
    """An origin alone: a path, user or query in it would change every URL that is signed."""
    parts = urlsplit(value)
    try:
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in {"http", "https"} or not parts.hostname or extra or not port_is_valid:
        raise SettingsError(f"{name} must be scheme, host and port only: https://api.example.com")
    if not value.isascii():
        raise SettingsError(f"{name} must be ASCII: write the host name in its punycode form.")
    return f"{parts.scheme}://{parts.netloc}"


def _base(value: str | None) -> str | None:
    return value.rstrip("/") if value else None


def _folder(value: str | None) -> Path:
    folder = Path(value).resolve() if value else _FOLDER_OF_FUNCTIONS
    if not folder.is_dir():
        raise SettingsError(f"FUNCTIONS_DIR is not a folder: {folder}")
    return folder


def _long_enough(secret: str | None) -> str | None:
    # RFC 7518 3.2: a key for HS256 has at least 256 bits.
    if secret is not None and len(secret.encode()) < 32:
        raise SettingsError("FUNCTIONS_JWT_SECRET must have at least 32 bytes (RFC 7518 3.2).")
    return secret
