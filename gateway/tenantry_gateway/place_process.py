"""One PostgREST for one database: its configuration, its start, its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp

from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.settings import Settings
from tenantry_gateway.upstreams import PLACE_ORIGIN, POOLED_SCHEMA

POLL_SECONDS = 0.02
_STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Both sides of a relationship in the schema of every tenant: PostgREST has read what it needs when
# it can embed them.
_PROBE = "/customers?select=id,contact_points(id)&limit=0"


class PlaceFailed(Exception):
    """A place did not start, or ended."""


def database_url(settings: Settings, database: str) -> str:
    """The authenticator's URL with another database."""
    assert settings.places_database_url is not None
    return urlsplit(settings.places_database_url)._replace(path="/" + quote(database)).geturl()


def configuration(settings: Settings, database: str, schema: str, socket: Path) -> str:
    """PostgREST's configuration file: as closed as that of the main database."""
    values: dict[str, str | int | bool] = {
        "db-uri": database_url(settings, database),
        "db-schemas": "public" if schema == POOLED_SCHEMA else f"public,{schema}",
        "db-extra-search-path": "public, extensions",
        "db-anon-role": "anon",
        "db-pre-request": "public.check_request",
        "db-max-rows": 1000,
        "db-plan-enabled": False,
        "db-aggregates-enabled": False,
        "db-pool": settings.places_pool,
        "db-pool-acquisition-timeout": 10,
        "db-pool-max-idletime": 10,
        # Catalog caches of many schemas are given back only when a connection ends.
        "db-pool-max-lifetime": 600,
        "db-config": False,
        "db-channel-enabled": False,
        "openapi-mode": "disabled",
        "jwt-secret": settings.jwt_secret,
        "jwt-aud": "authenticated",
        "server-unix-socket": str(socket),
        "server-unix-socket-mode": "600",
        "log-level": "crit",
    }
    return "".join(f"{name} = {_written(value)}\n" for name, value in values.items())


def _written(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _die_with_parent() -> Callable[[], None] | None:
    """What a child runs before exec so that Linux ends it when the gateway is gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arrange


class PlaceProcess:
    """A running PostgREST on a socket in a private directory, which only this user can reach."""

    def __init__(
        self, settings: Settings, database: str, schema: str, directory: Path, number: int
    ) -> None:
        self._settings = settings
        self._database, self._schema = database, schema
        self._file = directory / f"{number}.conf"
        self._socket = directory / f"{number}.sock"
        self._process: asyncio.subprocess.Process | None = None
        connector = aiohttp.UnixConnector(str(self._socket), limit=0, keepalive_timeout=4.0)
        self.connector = connector
        self.postgrest = Postgrest(
            settings,
            origin=PLACE_ORIGIN,
            connector=aiohttp.UnixConnector(str(self._socket), limit=4),
        )

    async def start(self, seconds: float) -> None:
        """Start and return when the schema is served, embeds included. Raises PlaceFailed."""
        assert self._settings.postgrest_bin is not None
        self._write()
        environment = {"PATH": os.environ.get("PATH", "")}
        if self._settings.places_rts_flags:
            environment["GHCRTS"] = self._settings.places_rts_flags
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._settings.postgrest_bin,
                self._file,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        except OSError as error:
            raise PlaceFailed(f"PostgREST cannot be started: {error.strerror}") from error
        await self._wait_until_served(self._schema, seconds)
        self._file.unlink(missing_ok=True)  # it holds the password, and has been read

    def _write(self) -> None:
        text = configuration(self._settings, self._database, self._schema, self._socket)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)

    async def _wait_until_served(self, schema: str, seconds: float) -> None:
        """Return when an embed within `schema` succeeds. Raises PlaceFailed."""
        last = "no answer"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    if self.has_ended:
                        raise PlaceFailed("PostgREST ended while it started")
                    try:
                        reply = await self.postgrest.ask(
                            "GET", _PROBE, headers={"Accept-Profile": schema}
                        )
                    except PostgrestUnavailable:
                        pass
                    else:
                        if reply.status == 200:
                            return
                        last = f"status {reply.status}"
                    await asyncio.sleep(POLL_SECONDS)
        raise PlaceFailed(f"an embed in {schema} did not succeed within {seconds:g} s ({last})")

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.returncode is not None

    async def ended(self) -> None:
        """Return when the process has ended."""
        if self._process is not None:
            await self._process.wait()

    def _signal(self, one: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(one)

    async def stop(self) -> None:
        """End the process, by force if need be, and remove its files."""
        if self._process is not None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await self._process.wait()
        await self.postgrest.close()
        for path in (self._file, self._socket):
            path.unlink(missing_ok=True)
