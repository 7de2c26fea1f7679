"""What is wrong with a file or a row, in words for whoever has to correct it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Characters of a bad value that are shown.
SHOWN = 60

#: A spreadsheet takes text that begins with one of these for a formula (OWASP, CSV Injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class ImportRefused(RuntimeError):
    """The import cannot be done as asked; the message says why and what to do."""


@dataclass(frozen=True, order=True)
class BadRow:
    """One reason why a row cannot be imported. `line` is the line in the file, 1 for the first."""

    line: int
    field: str
    value: str
    problem: str
    remedy: str


def shown(value: str) -> str:
    """A value as it may be printed: short, and without characters that move the cursor."""
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value[: SHOWN + 1])
    return visible if len(visible) <= SHOWN else visible[: SHOWN - 1] + "…"


def write_report(path: Path, problems: Iterable[BadRow]) -> None:
    """Write the problems as a CSV file that a spreadsheet opens safely. Raises ImportRefused."""
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("line", "field", "value", "problem", "remedy"))
            for one in problems:
                value = f"'{one.value}" if one.value.startswith(_FORMULA_STARTS) else one.value
                writer.writerow((one.line, one.field, value, one.problem, one.remedy))
    except OSError as error:
        raise ImportRefused(f"cannot write {path}: {error.strerror}") from error
