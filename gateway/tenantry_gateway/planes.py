"""Which part of the API lives where: with a tenant, or in the main database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from tenantry_gateway.errors import GatewayError

_EMBEDDED = re.compile(r"([^,()]*)\(")


class Side(Enum):
    """Where a request is answered when its tenant does not live in the pooled tables."""

    MAIN = "main"
    TENANT = "tenant"
    """At the tenant's home, in the tenant's schema."""
    HOME = "home"
    """At the tenant's home, in `public`: what belongs to the database, not to one schema."""


@dataclass(frozen=True, slots=True)
class Planes:
    """What `api_planes()` says: tenant, home, registry or platform for each name."""

    relations: Mapping[str, str]
    functions: Mapping[str, str]

    @classmethod
    def read(cls, rows: Any) -> Planes:
        """From the rows of `api_planes()`. Raises KeyError or TypeError."""
        found: dict[str, dict[str, str]] = {"relation": {}, "function": {}}
        for row in rows:
            found[row["kind"]][row["name"]] = row["plane"]
        return cls(found["relation"], found["function"])

    def side(self, method: str, path: str, select: str) -> Side:
        """Where `path` (without /rest/v1) is answered. Raises 400 for rows that never meet.

        PostgREST embeds within one schema, so both sides of an embed must be in one place: a home
        has the tenant's rows and copies of the registry; main has the registry and the platform.
        """
        name = unquote(path.removeprefix("/rpc/").removeprefix("/"))
        is_function = path.startswith("/rpc/")
        plane = (self.functions if is_function else self.relations).get(name, "platform")
        embedded = {self.relations.get(one, "registry") for one in embedded_names(select)}
        if plane == "tenant":
            self._check(embedded <= {"tenant", "home", "registry"})
            return Side.TENANT
        needs_home = bool(embedded & {"tenant", "home"})
        if plane == "home":
            reads = method in ("GET", "HEAD")
            self._check("platform" not in embedded and (reads or "tenant" not in embedded))
            return Side.TENANT if "tenant" in embedded else Side.HOME
        if not needs_home:
            return Side.MAIN
        # The registry is written at main alone, and functions run where their data is.
        self._check(
            plane == "registry" and method in ("GET", "HEAD") and not is_function
            and "platform" not in embedded
        )  # fmt: skip
        return Side.TENANT

    @staticmethod
    def _check(possible: bool) -> None:
        if not possible:
            raise GatewayError(
                400,
                "embed_across_homes",
                "`select` embeds rows that are kept in different databases",
                "Ask for them in two requests.",
                field="select",
            )


def embedded_names(select: str) -> set[str]:
    """The names before parentheses in `select`: relations, or the foreign keys that lead there."""
    names = set()
    for token in _EMBEDDED.findall(select.replace("()", "")):
        name = token.strip().removeprefix("...").partition("!")[0]
        names.add(name.rpartition(":")[2].strip().strip('"'))
    return names
