"""The plans that PostgREST's statements really run with, as the server itself reports them.

PostgREST can explain a request too, but plans it for its values; what runs is the plan that is kept
for all values. auto_explain writes that one to the server's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.client import Connection
from bench.environment import Environment, postgrest
from bench.shapes import Persona, Sender, Shape, make_senders

_SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_verbose": "on",
}
# The lines of an entry after its first begin with a tab.
_ENTRY = re.compile(r" ms  plan:\n((?:\t.*\n?)+)")


@dataclass(frozen=True)
class Plan:
    """How Postgres runs a shape for a member and for the baseline, in its own words."""

    shape: str
    persona: str
    variant: str
    text: str


def record_plans(
    environment: Environment, database: str, shapes: Sequence[Shape], personas: Sequence[Persona]
) -> list[Plan]:
    """Send each request once and take its plan from the log. Writes are carried out."""
    plans: list[Plan] = []
    log = environment.directory / "postgres.log"
    with _explained(environment), postgrest(environment, database) as server:
        connection = Connection(server.port)
        for persona in personas:
            for sender in make_senders(environment, database, server, persona):
                for shape in shapes:
                    plans.append(_record(connection, sender, shape, persona, log))
        connection.close()
    return plans


@contextmanager
def _explained(environment: Environment) -> Iterator[None]:
    with environment.administer("postgres") as connection:
        for name, value in _SETTINGS.items():
            connection.execute(f"alter role authenticator set {name} = '{value}'".encode())
        try:
            yield
        finally:
            for name in _SETTINGS:
                connection.execute(f"alter role authenticator reset {name}".encode())


def _record(
    connection: Connection, sender: Sender, shape: Shape, persona: Persona, log: Path
) -> Plan:
    before = log.stat().st_size
    connection.fetch(sender.request(shape, 0))
    written = log.read_bytes()[before:].decode(errors="replace")
    entries = [text for text in _ENTRY.findall(written) if "pgrst_source" in text]
    if not entries:
        raise RuntimeError(f"{shape.name}: no plan in {log}")
    # The query text comes first, the plan after it.
    lines = [line[1:] for line in entries[-1].splitlines()]
    start = next(n for n, line in enumerate(lines) if "(cost=" in line)
    return Plan(shape.name, persona.name, sender.variant, "\n".join(lines[start:]))
