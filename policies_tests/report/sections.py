"""The sections of the report, each with its state: passed only where figures say so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from policies_tests.evidence import rate_of_cells

from . import drawings
from .blocks import Block, Figure, Items, Section, State, Table
from .data import EXPECTED, OURS, Figures

Content = Mapping[str, Any]


_MATRIX = ("policies_tests/test_matrix.py", "policies_tests/test_matrix_places.py")


def sections(figures: Figures) -> list[Section]:
    """All sections; those without figures are there too, and missing."""
    written = [
        _section(figures, "run", "The run", ("policies_tests",), _run),
        _section(figures, "matrix", "Matrix", _MATRIX, _matrix),
        _section(
            figures,
            "mutation",
            "Mutants",
            ("policies_tests/test_mutation.py", "policies_tests/test_mutation_functions.py"),
            _mutation,
        ),
        _section(figures, "gates", "Catalog gates", ("policies_tests/test_gates.py",), _gates),
        _section(figures, "races", "Races", ("policies_tests/races",), _races),
    ]
    others = dict.fromkeys((*EXPECTED, *(name for name in figures.files if name not in OURS)))
    for name in others:
        written.append(_section(figures, name, name.replace("_", " ").capitalize(), (), _other))
    return written


def _section(
    figures: Figures,
    name: str,
    title: str,
    tests: tuple[str, ...],
    content: Callable[[Content], tuple[bool, list[Block]]],
) -> Section:
    if name not in figures.files:
        return Section(title, "missing", [f"The run left no `{name}.json`."])
    try:
        is_good, blocks = content(figures.files[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Section(title, "failed", [f"`{name}.json` cannot be read: {error!r}."])
    outcomes = {figures.outcome(path) for path in tests}
    named = [test for test in figures.failed if any(test.startswith(path) for path in tests)]
    named += [test for test in figures.failed if name in test and test not in named]
    if named:
        blocks.append("Tests that failed, or are known to fail:")
        blocks.append(Items([f"`{test}`" for test in named]))
    state: State = "passed" if is_good and not named and outcomes <= {"passed"} else "failed"
    return Section(title, state, blocks)


def _run(content: Content) -> tuple[bool, list[Block]]:
    total: Counter[str] = Counter()
    for outcomes in content["outcomes"].values():
        total.update(outcomes)
    kind = "The full proof." if content["is_full"] else "A sample: `--full-proof` was not given."
    rows = [(outcome, count) for outcome, count in total.items()]
    return bool(content["is_full"]), [kind, Table(("tests", "count"), rows)]


def _matrix(content: Content) -> tuple[bool, list[Block]]:
    cells: Mapping[str, int] = content["by_cell"]
    labels = sorted({key.split("\t")[0] for key in cells})
    personas = list(dict.fromkeys(key.split("\t")[1] for key in cells))
    total = content["cells"]
    rate = rate_of_cells(total, content["seconds"], content["processes"])
    text = (
        f"{total:,} cells: each is a statement that a persona runs as PostgREST would, compared"
        f" with what `permissions.yaml` says. {len(labels)} tables, views and functions,"
        f" {len(personas)} personas; {rate}."
    )
    by_label = [
        (label, sum(cells.get(f"{label}\t{one}", 0) for one in personas)) for label in labels
    ]
    placements: Mapping[str, int] = content["placements"]
    everywhere = all(placements.get(one) for one in ("pooled", "schema", "database"))
    adds_up = sum(n for _, n in by_label) == total == sum(placements.values())
    drawing = Figure(
        "matrix", "Cells by table and persona", lambda: drawings.heat_map(labels, personas, cells)
    )
    return total > 0 and everywhere and adds_up, [
        text,
        Table(("placement", "cells"), list(placements.items())),
        drawing,
        Table(("table, view or function", "cells"), by_label),
    ]


def _mutation(content: Content) -> tuple[bool, list[Block]]:
    by_kind: dict[str, dict[str, int]] = {}
    for key, count in content["by_kind"].items():
        kind, by = key.split("\t")
        by_kind.setdefault(kind, {})[by] = count
    ways = [*dict.fromkeys(by for counts in by_kind.values() for by in counts)]
    rows: list[tuple[object, ...]] = [
        (kind, sum(counts.values()), *(counts.get(by, 0) for by in ways))
        for kind, counts in sorted(by_kind.items())
    ]
    total = sum(sum(counts.values()) for counts in by_kind.values())
    rows.append(("all", total, *(sum(c.get(by, 0) for c in by_kind.values()) for by in ways)))
    survivors, equivalents = content["survivors"], content.get("equivalents", {})
    blocks: list[Block] = [
        f"{total:,} single faults, generated. {len(survivors)} survived;"
        f" {len(equivalents)} are argued to change nothing.",
        Figure("mutants", "Mutants by kind", lambda: drawings.stacked_bars(by_kind)),
        Table(("kind", "mutants", *ways), rows),
    ]
    if survivors:
        blocks += ["Survivors:", Items([f"`{one}`" for one in survivors])]
    if equivalents:
        blocks.append(Table(("equivalent", "reason"), list(equivalents.items())))
    unnoticed = sum(counts.get("nothing", 0) for counts in by_kind.values())
    return total > 0 and not survivors and not unnoticed, blocks


def _gates(content: Content) -> tuple[bool, list[Block]]:
    findings: Mapping[str, int] = content["findings"]
    planted: Mapping[str, int] = content["planted"]
    rows = [
        (gate, count, planted.get(f"{gate}\tfound", 0), planted.get(f"{gate}\tmissed", 0))
        for gate, count in sorted(findings.items())
    ]
    text = (
        f"{len(rows)} queries over the catalog that must find nothing,"
        f" and {sum(planted.values())} violations planted that they must find."
    )
    is_good = bool(rows) and all(
        not count and found and not missed for _, count, found, missed in rows
    )
    return is_good, [
        text,
        Table(("gate", "found in the product", "planted, found", "missed"), rows),
    ]


def _races(content: Content) -> tuple[bool, list[Block]]:
    races: Mapping[str, Mapping[str, Any]] = content["races"]
    compared = {name: one for name, one in races.items() if one.get("naive_trials")}
    rows = [
        (
            name, one["invariant"], one["workers"], one["trials"], one["violations"],
            f"{one['naive_violations']:,} of {one['naive_trials']:,}" if name in compared else "",
        )
        for name, one in races.items()
    ]  # fmt: skip
    total = sum(one["trials"] for one in races.values())
    blocks: list[Block] = [
        f"{len(races)} races, {total:,} trials. Workers start together on connections of their"
        " own; the naive version is the product with a lock or a check taken out.",
        Figure("races", "Trials that broke the invariant", lambda: drawings.race_shares(compared)),
        Table(("race", "invariant", "workers", "trials", "violations", "naive violations"), rows),
    ]  # fmt: skip
    delays = [(name, one) for name, one in races.items() if "statements_after" in one]
    if delays:
        blocks.append(
            "A right that is taken away: statements begun after the commit that still saw or"
            " wrote something, and milliseconds from the commit to the end of the first that"
            " did not."
        )
        blocks.append(
            Table(
                ("change and work", "statements before", "statements after", "median ms"),
                [
                    (name, one["statements_before"], one["statements_after"], one["milliseconds"])
                    for name, one in delays
                ],
            )
        )
    seen = all(one["naive_violations"] > 0 for one in compared.values())
    is_good = bool(races) and seen and not any(one["violations"] for one in races.values())
    return is_good, blocks


#: Any of these above zero means that something was found.
_BAD_FIGURE = re.compile(
    r"\b(violations|differences|failures|hits|errors|missed|survivors)$|^wrong "
)


def _other(content: Content) -> tuple[bool, list[Block]]:
    """Figures of another harness: name -> value, or name -> (name -> value)."""
    rows: list[tuple[object, ...]] = []
    is_good = bool(content)
    for name, value in _flat(content):
        rows.append((name.replace("_", " "), value))
        if _BAD_FIGURE.search(name.split(".")[-1].replace("_", " ")) and value != 0:
            is_good = False
    return is_good, [Table(("figure", "value"), rows)]


def _flat(content: Content, before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            flat.append((before + name, ", ".join(map(str, value)) if value else 0))
        else:
            flat.append((before + name, value))
    return flat
