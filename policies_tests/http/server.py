"""PostgREST in front of one database, with the settings of the local stack."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jwt

from policies_tests.people import Persona
from tenantry_cli.project import find_project
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.programs import find_postgrest
from tenantry_cli.testing import Database

_AUDIENCE = "authenticated"
_START_SECONDS = 30


@dataclass(frozen=True)
class Api:
    """A running PostgREST."""

    origin: str
    secret: str

    def headers(self, persona: Persona) -> dict[str, str]:
        """What a client of this persona sends; a visitor sends no token."""
        if persona.role == "anon":
            return {}
        claims = {**persona.claims, "aud": _AUDIENCE, "exp": int(time.time()) + 3600}
        return {"Authorization": f"Bearer {jwt.encode(claims, self.secret, 'HS256')}"}


@contextmanager
def serve(database: Database, pool: int) -> Iterator[Api]:
    """PostgREST with `pool` connections, inside the block only.

    Clients may have a request taken back (Prefer: tx=rollback), so that writes leave nothing.
    """
    api = Api(f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(48))
    environment = {
        "PATH": os.environ["PATH"],
        "PGRST_DB_URI": database.url("authenticator"),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_MAX_ROWS": "1000",
        "PGRST_DB_PLAN_ENABLED": "false",
        "PGRST_DB_AGGREGATES_ENABLED": "false",
        "PGRST_DB_POOL": str(pool),
        "PGRST_DB_POOL_ACQUISITION_TIMEOUT": "10",
        "PGRST_DB_TX_END": "rollback-allow-override",
        "PGRST_OPENAPI_MODE": "disabled",
        "PGRST_JWT_SECRET": api.secret,
        "PGRST_JWT_AUD": _AUDIENCE,
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": api.origin.rpartition(":")[2],
        "PGRST_LOG_LEVEL": "crit",
    }
    process = subprocess.Popen(
        [find_postgrest(find_project())],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, int(environment["PGRST_SERVER_PORT"]))
        yield api
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the schema is loaded: then a visitor is told that he has no right."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as probe:
                probe.sendall(b"GET /customers HTTP/1.0\r\n\r\n")
                if b" 401 " in probe.recv(100):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise TimeoutError("PostgREST did not become ready")
