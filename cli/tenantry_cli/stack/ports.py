"""TCP ports of 127.0.0.1, the only address that any part listens on."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

import psutil

from tenantry_cli.errors import TenantryError

DEFAULT_PORT = 54321


class PortError(TenantryError):
    """The public port cannot be used; the message names the setting to change."""


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: `preferred` if it is free."""
    return free_ports(preferred)[0]


def free_ports(*preferred: int | None) -> list[int]:
    """As many different free ports, each the preferred one where that is free."""
    with contextlib.ExitStack() as probes:
        return [_hold_port(probes, one) for one in preferred]


def _hold_port(probes: contextlib.ExitStack, preferred: int | None) -> int:
    for candidate in filter(None, (preferred,)):
        probe = probes.enter_context(socket.socket())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", candidate))
            probe.listen()
            return candidate
    probe = probes.enter_context(socket.socket())
    probe.bind(("127.0.0.1", 0))
    return int(probe.getsockname()[1])


def is_port_free(port: int) -> bool:
    """Whether we could listen on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_taken(port: int) -> str:
    """What to say when the public port is in use, with the owner where the system tells."""
    owner = ""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                name = psutil.Process(connection.pid).name()
                owner = f" by {name} (process {connection.pid})"
    return (
        f"port {port} is taken{owner}. Stop that program, or choose another port with "
        f"TENANTRY_PORT, for example: TENANTRY_PORT={free_port(port + 10)} tenantry up"
    )


def configured_port(settings: Mapping[str, str] = os.environ) -> int:
    """TENANTRY_PORT, or 54321. Raises PortError if it is not a port."""
    text = settings.get("TENANTRY_PORT", str(DEFAULT_PORT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise PortError(f"TENANTRY_PORT must be a port from 1 to 65535, not {text!r}")
    return int(text)
