"""What a database must be to be served: the shipped list, and how a database differs from it.

Both sides are fingerprints by section and name, made by `public.boot_facts()`. No definition is
stored or shown. Objects that the shipped list does not know belong to whoever builds on top; they
count only where they would let somebody in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("expected_database.json")
SHIPPED_TENANT_SCHEMA = Path(__file__).with_name("expected_tenant_schema.json")
REBUILD = "make expected"

Expected = Mapping[str, Mapping[str, str]]

# Why an object that nobody shipped is refused, by section and risk.
_REASONS = {
    ("policies", "open"): "row security is not enabled and forced",
    ("policies", "widens"): "one more policy on a shipped table",
    ("grants", "open"): "open to visitors or to everybody",
    ("grants", "widens"): "one more grant on a shipped object",
    ("functions", "open"): "SECURITY DEFINER without a pinned search_path",
    ("triggers", "open"): "the triggers of its keys are switched off",
    ("triggers", "widens"): "a rule on a shipped table",
    ("views", "open"): "does not run as its caller",
    ("roles", "open"): "changes what an API role is",
    ("settings", "open"): "changes what a request means",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of `boot_facts()`."""

    section: str
    name: str
    fingerprint: str
    risk: str
    """If nobody shipped it: `none`, `widens` (on a shipped object only) or `open` (anywhere)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a database differs from what was shipped; sentences with names only."""

    differences: tuple[str, ...]
    """Each of them closes the gate."""
    unknown: tuple[str, ...]
    """Objects that were not shipped and let nobody in."""


def read_expected(path: Path | None = None) -> Expected:
    """The shipped list. Raises OSError or ValueError."""
    content = json.loads((path or SHIPPED).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(one, dict) for one in content.values()):
        raise ValueError("the list of what is expected is not an object of objects")
    return content


def written(facts: Iterable[Fact]) -> str:
    """The text of the shipped list, sorted: one line for each object."""
    sections: dict[str, dict[str, str]] = {}
    for fact in sorted(facts, key=lambda one: (one.section, one.name)):
        section = sections.setdefault(fact.section, {})
        if section.setdefault(fact.name, fact.fingerprint) != fact.fingerprint:
            raise ValueError(f"{fact.section}: {fact.name} occurs in two forms")
    return json.dumps(sections, indent=1, ensure_ascii=False) + "\n"


def parse_facts(rows: Any) -> list[Fact]:
    """Rows of `boot_facts()` as PostgREST sends them. Raises ValueError, KeyError or TypeError."""
    if not isinstance(rows, list):
        raise ValueError("not a list of rows")
    names = ("section", "name", "fingerprint", "risk")
    facts = [Fact(*(row[name] for name in names)) for row in rows]
    if not all(isinstance(one.name, str) and isinstance(one.section, str) for one in facts):
        raise ValueError("a row without a name")
    return facts


def compare(expected: Expected, facts: Iterable[Fact]) -> Comparison:
    """What differs. A name that occurs in several forms differs from its one shipped form."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for fact in facts:
        found.setdefault((fact.section, fact.name), {})[fact.fingerprint] = fact.risk
    shipped = _shipped_objects(expected)
    differences: list[str] = []
    unknown: list[str] = []
    for section, names in expected.items():
        for name, fingerprint in names.items():
            forms = found.pop((section, name), None)
            if forms is None:
                differences.append(f"{section}: {name} is missing")
            elif set(forms) != {fingerprint}:
                differences.append(f"{section}: {name} differs")
    for (section, name), forms in found.items():
        reason = _reason(section, name, forms.values(), shipped)
        if reason is None:
            unknown.append(f"{section}: {name}")
        else:
            differences.append(f"{section}: {name} is extra ({reason})")
    return Comparison(tuple(sorted(differences)), tuple(sorted(unknown)))


def _reason(section: str, name: str, risks: Iterable[str], shipped: frozenset[str]) -> str | None:
    """Why an object that nobody shipped is refused; None where it is not."""
    for risk in risks:
        if risk == "none" or (risk == "widens" and not _extends(name, shipped)):
            continue
        return _REASONS.get((section, risk), "weakens the database")
    return None


def _shipped_objects(expected: Expected) -> frozenset[str]:
    names = {name for section in expected.values() for name in section}
    grants = expected.get("grants", {})
    return frozenset(names | {name.rpartition(" to ")[0] for name in grants})


def _extends(name: str, shipped: frozenset[str]) -> bool:
    """Whether a name begins with that of a shipped object: `public.calls to authenticated`."""
    places = [place for place, letter in enumerate(name) if letter == " "]
    return any(name[:place] in shipped for place in places)
