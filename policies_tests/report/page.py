"""Writes the report: index.html, which needs no other file, report.md and the drawings."""

from __future__ import annotations

from pathlib import Path

from .blocks import Figure, Items, Section, Table, html, markdown
from .data import Figures, standards, what_remains
from .sections import sections

_TITLE = "The proof of isolation"


def write_page(figures: Figures, target: Path) -> list[Section]:
    """Writes all files to `target` and returns the sections that have a state."""
    target.mkdir(parents=True, exist_ok=True)
    written = sections(figures)
    after = [*_standards(figures), Section("What remains", "passed", [Items(what_remains())])]
    facts = Table(("what", "version"), list(figures.versions.items()))
    (target / "index.html").write_text(html(_TITLE, facts, written, after), encoding="utf-8")
    (target / "report.md").write_text(markdown(_TITLE, facts, written, after), encoding="utf-8")
    for section in written:
        for block in section.blocks:
            if isinstance(block, Figure):
                (target / f"{block.name}.svg").write_text(block.svg, encoding="utf-8")
    return written


def _standards(figures: Figures) -> list[Section]:
    """Requirements of standards, the promises that meet them, and how their tests ended here."""
    found = []
    for name, standard in standards().items():
        rows = []
        for requirement in standard["requirements"]:
            tests = requirement.get("tests", [])
            outcomes = {figures.outcome(test.partition("::")[0]) for test in tests}
            outcome = next((o for o in ("failed", "not run", "passed") if o in outcomes), "")
            promises = ", ".join(str(one) for one in requirement.get("promises", []))
            named = " ".join(f"`{test}`" for test in tests)
            rows.append(
                (requirement["id"], requirement["what"], promises, requirement.get("how", ""),
                 named, outcome)
            )  # fmt: skip
        head = ("id", "requirement", "promise", "how", "tests", "in this run")
        found.append(Section(name, "passed", [standard["note"], Table(head, rows)]))
    return found
