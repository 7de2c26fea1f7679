"""What an import says when it is over."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table as Grid
from rich.text import Text

from tenantry_cli.importing.columns import CUSTOM, Mapping
from tenantry_cli.importing.table import Table
from tenantry_cli.importing.upload import Outcome, Task
from tenantry_cli.output import Format, console, progress

#: Reasons that are printed; a report file has them all.
_PRINTED = 20


@dataclass(frozen=True)
class Summary:
    """One import: what was read, what was asked, what came of it."""

    table: Table
    mapping: Mapping
    task: Task
    outcome: Outcome
    business: str

    @property
    def bad_lines(self) -> int:
        return len({one.line for one in self.outcome.bad})

    @property
    def is_well(self) -> bool:
        """Whether nothing is left to do: no bad row, or bad ones were to be skipped."""
        return not self.bad_lines or (self.task.skip_bad and bool(self.task.rows))

    def as_json(self) -> dict[str, object]:
        columns = self.table.columns
        return {
            "kind": str(self.task.kind),
            "file": self.table.name,
            "business": self.business,
            "is_stored": self.outcome.is_stored,
            "is_dry_run": self.task.dry_run,
            "rows": len(self.table.rows) + len({one.line for one in self.table.bad}),
            "created": self.outcome.created,
            "completed": self.outcome.completed,
            "already_there": self.outcome.already_there,
            "bad": self.bad_lines,
            "columns": {field: columns[n] for field, n in self.mapping.fields.items()},
            "columns_left_out": list(self.mapping.left_out),
            "problems": [asdict(one) for one in self.outcome.bad],
        }


def print_summary(summary: Summary, output: Format, report: Path | None) -> None:
    """Print the result; bad rows as a table that says how to mend them."""
    if output is Format.json:
        console.print(json.dumps(summary.as_json(), indent=2, ensure_ascii=False), markup=False)
        return
    _print_columns(summary)
    if summary.outcome.bad:
        _print_problems(summary, report)
    console.print(_verdict(summary), markup=False)


def _print_columns(summary: Summary) -> None:
    columns = summary.table.columns
    pairs = [
        field if columns[n] == field else f"{field} from {columns[n]}"
        for field, n in summary.mapping.fields.items()
    ]
    progress.print(f"read: {', '.join(pairs)}", markup=False)
    if summary.mapping.left_out:
        hint = f" (keep one with --column {CUSTOM}NAME=COLUMN)"
        left_out = ", ".join(summary.mapping.left_out)
        is_customers = summary.task.kind == "customers"
        progress.print(f"left out: {left_out}{hint if is_customers else ''}", markup=False)


def _print_problems(summary: Summary, report: Path | None) -> None:
    grid = Grid(box=None, pad_edge=False)
    for heading in ("line", "field", "value", "problem", "what to do"):
        grid.add_column(heading, overflow="fold")
    for one in summary.outcome.bad[:_PRINTED]:
        grid.add_row(*(Text(str(part)) for part in asdict(one).values()))
    console.print(grid, soft_wrap=False)
    more = len(summary.outcome.bad) - _PRINTED
    if report is not None:
        console.print(f"All of this is in {report}.", markup=False)
    elif more > 0:
        console.print(f"... and {more} more: --report FILE.csv writes them all")


def _verdict(summary: Summary) -> str:
    outcome, kind = summary.outcome, summary.task.kind
    counts = [
        (outcome.created, "new"),
        (outcome.completed, "known and completed"),
        (outcome.already_there, "there already"),
        (summary.bad_lines, "bad"),
    ]
    said = ", ".join(f"{count} {what}" for count, what in counts if count) or "no rows"
    if outcome.is_stored:
        return f"{kind} into {summary.business}: {said}"
    if summary.task.dry_run:
        return f"{kind} into {summary.business}, dry run, nothing is stored: {said}"
    return (
        f"nothing is stored: {said}. Correct the bad rows, or import the good ones with --skip-bad"
    )
