"""What processes and databases take: memory from Linux's /proc, disk from Postgres."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bench.environment import Connection, fetch

_KILOBYTES = re.compile(r"^(VmRSS|RssAnon):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Memory:
    """Of one process. Anonymous memory is its own; resident counts what it shares, too."""

    anonymous_mb: float
    resident_mb: float


def memory_of(pid: int) -> Memory:
    """Now, of a process of this machine. Raises RuntimeError where there is no such /proc."""
    try:
        found = dict(_KILOBYTES.findall(Path(f"/proc/{pid}/status").read_text()))
        return Memory(int(found["RssAnon"]) / 1024, int(found["VmRSS"]) / 1024)
    except (OSError, KeyError) as error:
        raise RuntimeError(f"the memory of process {pid} is told by Linux alone") from error


def database_mb(connection: Connection) -> float:
    """The files of the database of a connection, its catalog included."""
    return float(fetch(connection, "select pg_database_size(current_database()) / 1048576.0")[0][0])


def schema_mb(connection: Connection, schema: str) -> float:
    """The tables and indexes in a schema, without their entries in the catalog."""
    query = (
        "select coalesce(sum(pg_total_relation_size(oid)), 0) / 1048576.0 from pg_class"
        " where relnamespace = %s::regnamespace and relkind in ('r', 'm')"
    )
    return float(fetch(connection, query, (schema,))[0][0])
