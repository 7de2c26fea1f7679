"""The secrets of one stack: made once, kept in `.tenantry/secrets.json`, readable to its owner."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tenantry_cli.stack.database import LOGIN_ROLES
from tenantry_cli.stack.postgres import SUPERUSER

_TEN_YEARS = 10 * 365 * 24 * 3600


@dataclass(frozen=True)
class StackKeys:
    """Everything secret that the parts of a stack share."""

    jwt_secret: str
    #: The two kinds of API key that Supabase gives out: opaque, and the older signed ones.
    publishable_key: str
    secret_key: str
    anon_key: str
    service_role_key: str
    #: Password of each role that logs in to Postgres.
    passwords: Mapping[str, str]


def load_or_create_keys(path: Path) -> StackKeys:
    """The keys in `path`; new ones, written there with mode 0600, if it does not exist."""
    try:
        return StackKeys(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        keys = _new_keys()
        write_private(path, json.dumps(asdict(keys), indent=2))
        return keys


def _new_keys() -> StackKeys:
    jwt_secret = secrets.token_urlsafe(48)
    return StackKeys(
        jwt_secret=jwt_secret,
        publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(32)}",
        anon_key=_role_token("anon", jwt_secret),
        service_role_key=_role_token("service_role", jwt_secret),
        passwords={role: secrets.token_urlsafe(24) for role in (SUPERUSER, *LOGIN_ROLES)},
    )


def _role_token(role: str, jwt_secret: str) -> str:
    """A legacy API key, as `supabase status` prints it: a token that names a role and no user."""
    import jwt  # slow to load, and needed once in a stack's life

    now = int(time.time())
    claims = {"iss": "supabase", "role": role, "iat": now, "exp": now + _TEN_YEARS}
    return jwt.encode(claims, jwt_secret, algorithm="HS256")


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step with a file that only its owner can read (0600)."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
