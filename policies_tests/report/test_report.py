"""The report shows what figures say, and never takes silence for success."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .__main__ import main
from .data import ROOT, Figures, standards, what_remains
from .page import write_page
from .sections import sections

Files = dict[str, dict[str, Any]]


def good() -> Files:
    tests = (
        "test_matrix", "test_matrix_places", "test_mutation", "test_mutation_functions",
        "test_gates", "races/test_races",
    )  # fmt: skip
    return {
        "run": {
            "is_full": True,
            "failed": [],
            "outcomes": {f"policies_tests/{one}.py": {"passed": 3} for one in tests},
        },
        "versions": {"postgres": "18.1"},
        "matrix": {
            "cells": 30,
            "seconds": 0.5,
            "processes": 2,
            "placements": {"pooled": 10, "schema": 15, "database": 5},
            "by_cell": {"public.customers\towner": 20, "public.customers\tviewer": 10},
        },
        "mutation": {
            "by_kind": {"policy dropped\tmatrix": 4, "grant added\tgolden file": 3},
            "survivors": [],
            "equivalents": {"trigger renamed": "nothing depends on the name"},
        },
        "gates": {
            "findings": {"tables have row security": 0},
            "planted": {"tables have row security\tfound": 2},
        },
        "races": {
            "races": {
                "one token": {
                    "invariant": "one membership", "workers": 8, "trials": 200, "violations": 0,
                    "naive_trials": 50, "naive_violations": 49,
                },
                "removal": {
                    "invariant": "nothing after", "workers": 2, "trials": 60, "violations": 0,
                    "statements_before": 900, "statements_after": 0, "milliseconds": 1.25,
                },
            }
        },
        "two_worlds": {"seed": 7, "examples": 5000, "differences": 0, "planted": {"found": 9}},
        "http_repeat": {"pool of 1": {"requests": 20000, "canary hits": 0, "wrong answers": 0}},
    }  # fmt: skip


def states(files: Files) -> dict[str, str]:
    return {one.title: one.state for one in sections(Figures(files))}


def test_good_figures_pass_and_are_written(tmp_path: Path) -> None:
    write_page(Figures(good(), {"Postgres": "18.1", "commit": "abc"}), tmp_path)
    assert set(states(good()).values()) == {"passed"}
    page, text = ((tmp_path / name).read_text() for name in ("index.html", "report.md"))
    for expected in ("18.1", "one token", "49 of 50", "trigger renamed", "5,000", "1.25"):
        assert expected in page, expected
        assert expected in text, expected
    assert page.count("<svg") == 3
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page.replace("xlink:href", "x")), (
        "not alone"
    )
    assert "What remains" in text


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_page(Figures(good()), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("run", "The run"),
        ("matrix", "Matrix"),
        ("mutation", "Mutants"),
        ("gates", "Catalog gates"),
        ("races", "Races"),
        ("two_worlds", "Two worlds"),
        ("http_repeat", "Http repeat"),
    ],
)
def test_a_section_without_figures_is_missing(name: str, title: str) -> None:
    files = good()
    del files[name]
    assert states(files)[title] == "missing"
    assert states({**files, name: {}})[title] == "failed"
    assert states({**files, name: {"differences": 1, "by_cell": 3}})[title] == "failed"


def _no_cells(files: Files) -> None:
    files["matrix"]["cells"] = 31


def _no_shelf(files: Files) -> None:
    del files["matrix"]["placements"]["schema"]
    files["matrix"]["placements"]["pooled"] = 25


def _survivor(files: Files) -> None:
    files["mutation"]["survivors"] = ["policy dropped: customers"]


def _unnoticed(files: Files) -> None:
    files["mutation"]["by_kind"]["grant added\tnothing"] = 1


def _finding(files: Files) -> None:
    files["gates"]["findings"]["tables have row security"] = 1


def _missed(files: Files) -> None:
    files["gates"]["planted"]["tables have row security\tmissed"] = 1


def _lost_race(files: Files) -> None:
    files["races"]["races"]["one token"]["violations"] = 1


def _blind_race(files: Files) -> None:
    files["races"]["races"]["one token"]["naive_violations"] = 0


def _difference(files: Files) -> None:
    files["two_worlds"]["differences"] = 1


def _hit(files: Files) -> None:
    files["http_repeat"]["pool of 1"]["canary hits"] = 1


def _wrong(files: Files) -> None:
    files["http_repeat"]["pool of 1"]["wrong answers"] = 1


def _failed_test(files: Files) -> None:
    files["run"]["failed"] = ["policies_tests/races/test_races.py::test_x[one token]"]


def _sample(files: Files) -> None:
    files["run"]["is_full"] = False


@pytest.mark.parametrize(
    ("spoil", "title"),
    [
        (_no_cells, "Matrix"),
        (_no_shelf, "Matrix"),
        (_survivor, "Mutants"),
        (_unnoticed, "Mutants"),
        (_finding, "Catalog gates"),
        (_missed, "Catalog gates"),
        (_lost_race, "Races"),
        (_blind_race, "Races"),
        (_failed_test, "Races"),
        (_difference, "Two worlds"),
        (_hit, "Http repeat"),
        (_wrong, "Http repeat"),
        (_sample, "The run"),
    ],
)
def test_a_bad_figure_fails_its_section(spoil: Callable[[Files], None], title: str) -> None:
    files = good()
    spoil(files)
    assert states(files)[title] == "failed"


def test_the_command_fails_when_a_section_does(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    for name, content in good().items():
        (figures / f"{name}.json").write_text(json.dumps(content))
    assert main([str(figures), str(tmp_path / "page")]) == 0
    (figures / "matrix.json").write_text("{ broken")
    assert main([str(figures), str(tmp_path / "page")]) == 1
    assert 'class="state missing"' in (tmp_path / "page" / "index.html").read_text()


def test_mapped_tests_and_promises_exist() -> None:
    document = (ROOT / "docs" / "security.md").read_text()
    promises = {int(found) for found in re.findall(r"^\| (\d+) \|", document, re.MULTILINE)}
    assert promises
    for name, standard in standards().items():
        ids = [one["id"] for one in standard["requirements"]]
        assert len(set(ids)) == len(ids), name
        for requirement in standard["requirements"]:
            assert set(requirement.get("promises", [])) <= promises, requirement["id"]
            assert requirement.get("tests") or requirement.get("how"), requirement["id"]
            for test in requirement.get("tests", []):
                path, _, function = test.partition("::")
                assert (ROOT / path).is_file(), test
                assert not function or f"def {function}(" in (ROOT / path).read_text(), test


def test_what_remains_is_read_from_the_document(tmp_path: Path) -> None:
    assert any("REPEATABLE READ" in item for item in what_remains())
    changed = tmp_path / "security.md"
    changed.write_text(
        "# S\n\n## What remains\n\nStated.\n\n- **One.** And\n  more.\n- Two\n\n## R\n- x"
    )
    assert what_remains(changed) == ["**One.** And more.", "Two"]
    changed.write_text("# S\n")
    with pytest.raises(AssertionError):
        what_remains(changed)
