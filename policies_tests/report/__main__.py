"""python -m policies_tests.report FIGURES TARGET: writes index.html and report.md to TARGET.

Ends with 1 when a section is missing or failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .data import load
from .page import write_page


def main(arguments: list[str]) -> int:
    figures, target = (Path(one) for one in arguments)
    sections = write_page(load(figures), target)
    for section in sections:
        print(f"{section.state:8} {section.title}")
    print(f"written: {target / 'index.html'}")
    return any(section.state != "passed" for section in sections)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
