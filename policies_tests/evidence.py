"""What a run tried: figures for the line at its end, and files for the report.

With TENANTRY_PROOF_DIR set, a run writes matrix.json, mutation.json, gates.json, races.json and
run.json there. Under xdist the test processes hand over what they tried, and the figures add up.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .races.race import Race, Result


@dataclass
class Evidence:
    """Counters are keyed by parts joined with a tab, so that they survive JSON and xdist."""

    cells: int = 0
    #: spent on cells, summed over the processes that tried some
    seconds: float = 0.0
    processes: int = 0
    mutants: Counter[str] = field(default_factory=Counter)
    #: table or function, persona -> cells
    by_cell: Counter[str] = field(default_factory=Counter)
    #: pooled, schema, database -> cells
    placements: Counter[str] = field(default_factory=Counter)
    #: kind, what noticed it -> mutants
    by_kind: Counter[str] = field(default_factory=Counter)
    survivors: list[str] = field(default_factory=list)
    #: gate -> findings in the product; gate, `found` or `missed` -> planted violations
    gates: Counter[str] = field(default_factory=Counter)
    planted: Counter[str] = field(default_factory=Counter)
    #: name -> figures of a race
    races: dict[str, dict[str, Any]] = field(default_factory=dict)
    postgres: str = ""

    def note_cells(self, placement: str, count: int, seconds: float) -> None:
        self.cells += count
        self.seconds += seconds
        self.processes = 1
        self.placements[placement] += count

    def race(self, race: Race, result: Result, *, is_naive: bool = False) -> None:
        prefix = "naive_" if is_naive else ""
        self.note_race(
            race.name,
            invariant=race.invariant,
            workers=result.workers,
            **{
                f"{prefix}trials": result.trials,
                f"{prefix}violations": len(result.violations),
                f"{prefix}retries": result.retries,
            },
        )

    def note_race(self, name: str, **figures: object) -> None:
        self.races.setdefault(name, {}).update(figures)

    def add(self, other: Mapping[str, Any]) -> None:
        """Adds what another process handed over."""
        self.cells += other["cells"]
        self.seconds += other["seconds"]
        self.processes += other["processes"]
        self.survivors += other["survivors"]
        self.postgres = other["postgres"] or self.postgres
        for name in ("mutants", "by_cell", "placements", "by_kind", "gates", "planted"):
            getattr(self, name).update(other[name])
        for name, figures in other["races"].items():
            self.note_race(name, **figures)

    def write(self, directory: Path) -> None:
        """One file per section; a section that was not tried leaves no file."""
        directory.mkdir(parents=True, exist_ok=True)
        sections: dict[str, dict[str, Any]] = {}
        if self.cells:
            sections["matrix"] = {
                "cells": self.cells, "seconds": self.seconds, "processes": self.processes,
                "by_cell": dict(self.by_cell), "placements": dict(self.placements),
            }  # fmt: skip
        if self.mutants:
            sections["mutation"] = {"by_kind": dict(self.by_kind), "survivors": self.survivors}
        if self.gates:
            sections["gates"] = {"findings": dict(self.gates), "planted": dict(self.planted)}
        if self.races:
            sections["races"] = {"races": self.races}
        sections["versions"] = {"postgres": self.postgres}
        for name, content in sections.items():
            write_json(directory / f"{name}.json", content)


def rate_of_cells(cells: int, seconds: float, processes: int) -> str:
    """`seconds` are those of all processes, which work side by side."""
    each = cells / seconds
    together = f"{each * processes:,.0f} cells per second"
    return (
        together if processes == 1 else f"{together}, {each:,.0f} in each of {processes} processes"
    )


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_run(directory: Path, stats: Mapping[str, list[Any]], *, is_full: bool) -> None:
    """run.json: how the tests of each file ended, and which failed.

    A test that is expected to fail counts as failed: the proof has a hole there.
    """
    outcomes: dict[str, Counter[str]] = {}
    failed: list[str] = []
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in stats.get(outcome, ()):
            outcomes.setdefault(report.nodeid.partition("::")[0], Counter())[outcome] += 1
            if outcome not in ("passed", "skipped"):
                failed.append(report.nodeid)
    content = {"is_full": is_full, "outcomes": outcomes, "failed": sorted(failed)}
    write_json(directory / "run.json", content)


def proof_directory() -> Path | None:
    """Where a run leaves its figures; None when nobody asked for them."""
    directory = os.environ.get("TENANTRY_PROOF_DIR")
    return Path(directory) if directory else None


def handed_over(evidence: Evidence) -> dict[str, Any]:
    """Plain values, as xdist can send them.

    Not by `asdict`, which before Python 3.12 makes counters of counters: keys that are no text.
    """
    return {
        one.name: dict(value) if isinstance(value, Mapping) else value
        for one in fields(evidence)
        for value in [getattr(evidence, one.name)]
    }
