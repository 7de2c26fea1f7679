"""Everything the gateway is told, read once from the environment into one frozen object.

Every field is read from `GATEWAY_<FIELD IN CAPITALS>`; `python -m tenantry_gateway --help` lists
them. A wrong value stops the start with a message that names the variable and the remedy.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tenantry_gateway.addresses import Network, parse_network

PREFIX = "GATEWAY_"

# RFC 7518 section 3.2: a key of at least the hash's size (256 bits) for HS256.
MINIMUM_SECRET_BYTES = 32
MINIMUM_KEY_LENGTH = 20


class SettingsError(ValueError):
    """One or more settings are missing or wrong; the message has one line for each."""


def _text(value: str) -> str:
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("must be an origin such as http://127.0.0.1:3000, without a path")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("must be an origin without user, query or fragment")
    return f"{parts.scheme}://{parts.netloc}"


def _key(value: str) -> str:
    if len(value) < MINIMUM_KEY_LENGTH or not value.isascii() or not value.isprintable():
        raise ValueError(f"must be at least {MINIMUM_KEY_LENGTH} printable ASCII characters")
    return value


def _secret(value: str) -> str:
    if len(value.encode()) < MINIMUM_SECRET_BYTES:
        raise ValueError(f"must be at least {MINIMUM_SECRET_BYTES} bytes, as HS256 demands")
    return value


def _path(value: str) -> Path:
    return Path(value).absolute()


def _origins(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if names == ("*",):
        return names
    for name in names:
        if _origin(name) != name:
            raise ValueError(f"{name!r} is not an origin: use * or https://app.example, ...")
    return names


def _relations(value: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
            raise ValueError(f"{name!r} is not the name of a table or view: use calls,messages,...")
    return names


def _networks(value: str) -> tuple[Network, ...]:
    return tuple(parse_network(one) for one in value.split(",") if one.strip())


def _storage_access(value: str) -> str:
    if value not in ("service", "users"):
        raise ValueError("must be `service` or `users`")
    return value


def _host_names(value: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in value.split(",") if name.strip())


def _domain(value: str) -> str:
    name = value.lower().strip(".")
    if not name or not all(part.replace("-", "").isalnum() for part in name.split(".")):
        raise ValueError("must be a domain such as tenantry.example, without port")
    return name


def _database_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not parts.username:
        raise ValueError("must be a URL such as postgresql://authenticator:...@host:5432/postgres")
    return value


def _gate(value: str) -> str:
    if value not in ("enforce", "warn", "off"):
        raise ValueError("must be `enforce`, `warn` or `off`")
    return value


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return value == "1"


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and minimum <= int(value) <= maximum):
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(value)

    return parse


def _number(minimum: float, maximum: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not minimum <= number <= maximum:
            raise ValueError(f"must be a number from {minimum:g} to {maximum:g}")
        return number

    return parse


def _setting(
    parse: Callable[[str], Any], meaning: str, default: Any = MISSING, *, shown: bool = True
) -> Any:
    return field(default=default, repr=shown, metadata={"parse": parse, "meaning": meaning})


_SECONDS = _number(0.05, 3600)
_RATE = _number(0, 1e6)
_COUNT = _whole(1, 100_000)
_BYTES = _whole(1024, 2**40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See the module; times are seconds, sizes are bytes, a rate of 0 means no limit."""

    postgrest_url: str = _setting(_origin, "origin of PostgREST")
    auth_url: str = _setting(_origin, "origin that serves /auth/v1 and /storage/v1")
    functions_url: str = _setting(_origin, "origin that serves /functions/v1")

    jwt_secret: str = _setting(_secret, "HS256 secret that signs the users' tokens", shown=False)
    anon_key: str = _setting(_key, "legacy anon key, a JWT", shown=False)
    service_role_key: str = _setting(_key, "legacy service_role key, a JWT", shown=False)
    publishable_key: str = _setting(_key, "sb_publishable_... key", shown=False)
    secret_key: str = _setting(_key, "sb_secret_... key", shown=False)
    lite_publishable_key: str = _setting(
        _text, "publishable key of Auth and Storage, if it differs", "", shown=False
    )
    lite_secret_key: str = _setting(
        _text, "secret key of Auth and Storage, if it differs", "", shown=False
    )

    host: str = _setting(_text, "address to listen on", "127.0.0.1")
    port: int = _setting(_whole(0, 65535), "port to listen on; 0 takes a free one", 54321)
    console_dir: Path | None = _setting(  # noqa: RUF009 - a frozen field
        _path, "directory served at /", None
    )
    console_supabase_js: Path | None = _setting(  # noqa: RUF009 - a frozen field
        _path, "file served at /vendor/supabase.js", None
    )
    cors_origins: tuple[str, ...] = _setting(_origins, "origins browsers may call from", ("*",))
    trusted_proxies: tuple[Network, ...] = _setting(
        _networks, "networks (CIDR) of proxies whose X-Forwarded-For is believed", ()
    )
    storage_access: str = _setting(
        _storage_access, "who reaches private objects: `service` (secret key) or `users`", "service"
    )
    boot_gate: str = _setting(
        _gate, "what a database that was not shipped means: `enforce`, `warn` or `off`", "enforce"
    )
    boot_gate_seconds: float = _setting(_SECONDS, "time between two looks at the database", 60.0)
    expected_database: Path | None = _setting(  # noqa: RUF009 - a frozen field
        _path, "list of what the database must be, in place of the shipped one", None
    )
    replica_url: str | None = _setting(
        _origin, "origin of a PostgREST on a streaming replica of the database", None
    )
    replica_relations: frozenset[str] = _setting(
        _relations, "tables and views read from the replica without being asked to", frozenset()
    )
    replica_max_lag_seconds: float = _setting(
        _SECONDS, "the oldest state that a read from the replica may show", 5.0
    )
    replica_poll_seconds: float = _setting(
        _SECONDS, "time between two looks at the replica and its primary", 0.2
    )
    replica_answer_seconds: float = _setting(
        _SECONDS, "time for the replica to answer before the primary is asked", 5.0
    )
    replica_rights_seconds: float = _setting(
        _number(0, 60),
        "how long a read from the replica may go by rights the primary has since changed; 0 asks "
        "the primary every time",
        0.0,
    )
    expected_tenant_schema: Path | None = _setting(  # noqa: RUF009 - a frozen field
        _path, "the same list for the schema of a tenant", None
    )
    log_requests: bool = _setting(_switch, "1 logs each request, 0 only failures", False)

    tenant_routing: bool = _setting(
        _switch, "1 sends requests to where their tenant lives, 0 all to postgrest_url", True
    )
    base_domain: str = _setting(
        _domain, "domain under which <slug> and <audience>.<slug> name tenants", "localhost"
    )
    own_hosts: tuple[str, ...] = _setting(
        _host_names, "host names under base_domain that are the gateway's own", ()
    )
    places_database_url: str | None = _setting(
        _database_url,
        "authenticator's URL of the server with the tenants' databases; the name is replaced",
        None,
        shown=False,
    )
    postgrest_bin: Path | None = _setting(  # noqa: RUF009 - a frozen field
        _path, "PostgREST, started for each database that tenants live in", None
    )
    places_max: int = _setting(_COUNT, "most such processes at once", 20)
    places_pool: int = _setting(_COUNT, "connections of each to its database", 4)
    places_idle_seconds: float = _setting(_SECONDS, "stop one that nobody used so long", 300.0)
    places_wait_seconds: float = _setting(_SECONDS, "longest wait for one to be ready", 15.0)
    places_rts_flags: str = _setting(_text, "their GHC runtime options", "-N1 -A1m")

    max_url_bytes: int = _setting(_whole(256, 16_000), "longest path and query", 8192)
    max_body_bytes: int = _setting(_BYTES, "largest body for /rest/v1 and /auth/v1", 2**20)
    storage_max_body_bytes: int = _setting(_BYTES, "largest upload", 50 * 2**20)
    functions_max_body_bytes: int = _setting(_BYTES, "largest body for a function", 25 * 2**20)
    max_embed_depth: int = _setting(_COUNT, "how deep `select` may embed", 4)
    max_embeds: int = _setting(_COUNT, "how many tables one `select` may embed", 20)
    max_columns: int = _setting(_COUNT, "how many columns `select` or `columns` may list", 300)
    max_parameters: int = _setting(_COUNT, "how many query parameters a request may have", 100)
    max_token_seconds: int = _setting(
        _whole(60, 31_536_000), "longest life of a user's token, from issue to expiry", 3600
    )

    rate: float = _setting(_RATE, "requests per second of one user or key", 500.0)
    burst: int = _setting(_COUNT, "requests of one user or key at once before the rate", 1000)
    auth_rate: float = _setting(_RATE, "requests per second of one address to /auth/v1", 50.0)
    auth_burst: int = _setting(_COUNT, "requests of one address at once to /auth/v1", 500)
    concurrency: int = _setting(_COUNT, "requests under way at each service", 32)
    concurrency_per_tenant: int = _setting(
        _COUNT, "of those, for one tenant; keep it below PostgREST's db-pool", 8
    )
    waiting_per_tenant: int = _setting(_whole(0, 100_000), "requests of one tenant in line", 128)
    waiting_seconds: float = _setting(_SECONDS, "longest wait in line", 5.0)

    connect_seconds: float = _setting(_SECONDS, "time for a service to accept", 2.0)
    answer_seconds: float = _setting(_SECONDS, "time for PostgREST and Auth to answer", 20.0)
    storage_answer_seconds: float = _setting(_SECONDS, "time for Storage to answer", 60.0)
    functions_answer_seconds: float = _setting(_SECONDS, "time for a function to answer", 60.0)
    body_seconds: float = _setting(_SECONDS, "time for a client to send a buffered body", 30.0)
    pause_seconds: float = _setting(_SECONDS, "longest silence of a client in mid-stream", 30.0)
    keepalive_seconds: float = _setting(_SECONDS, "idle time of a client's connection", 75.0)
    shutdown_seconds: float = _setting(_SECONDS, "time for open requests when stopping", 10.0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read `GATEWAY_*`. Raises SettingsError with one line per problem; never shows values."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for one in fields(cls):
            name = variable(one)
            given = environment.get(name, "").strip()
            if not given:
                if one.default is MISSING:
                    problems.append(f"{name} is not set: {one.metadata['meaning']}")
                continue
            try:
                values[one.name] = one.metadata["parse"](given)
            except ValueError as error:
                problems.append(f"{name} {error} ({one.metadata['meaning']})")
        if not problems:
            problems = _contradictions(values)
        if values.get("places_database_url") and not values.get("postgrest_bin"):
            problems.append(
                f"{PREFIX}POSTGREST_BIN is not set: {PREFIX}PLACES_DATABASE_URL needs it"
            )
        if problems:
            raise SettingsError("\n".join(problems))
        values["lite_publishable_key"] = (
            values.get("lite_publishable_key") or values["publishable_key"]
        )
        values["lite_secret_key"] = values.get("lite_secret_key") or values["secret_key"]
        return cls(**values)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    names = ("anon_key", "service_role_key", "publishable_key", "secret_key")
    return [
        f"{PREFIX}{first.upper()} and {PREFIX}{second.upper()} are equal: give each its own key"
        for position, first in enumerate(names)
        for second in names[position + 1 :]
        if hmac.compare_digest(values[first], values[second])
    ]


def variable(one: Field[Any]) -> str:
    """The environment variable of a settings field."""
    return PREFIX + one.name.upper()


def describe() -> str:
    """One line per variable: its name, meaning and default."""
    lines = []
    for one in fields(Settings):
        default = "required" if one.default is MISSING else f"default {_shown(one.default)}"
        lines.append(f"  {variable(one):<34}{one.metadata['meaning']} ({default})")
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if isinstance(default, (tuple, frozenset)):
        return ",".join(default) or "none"
    if isinstance(default, bool):
        return "1" if default else "0"
    return "none" if default in (None, "") else str(default)
