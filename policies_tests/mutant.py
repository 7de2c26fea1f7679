"""One single fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault. `slices` names the tables, views and functions whose cells should notice."""

    kind: str
    name: str
    statements: str
    slices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"
