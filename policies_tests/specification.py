"""Reads permissions.yaml: the hand-written truth that the database is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).with_name("permissions.yaml")
VERBS = ("select", "insert", "update", "delete")
#: Words that stand where a permission could stand.
WORDS = frozenset({"nobody", "signed_in", "own", "colleagues"})


class SpecificationError(ValueError):
    """permissions.yaml says something that has no meaning; the message names the entry."""


@dataclass(frozen=True)
class Table:
    """What permissions.yaml says about one table."""

    schema: str
    name: str
    plane: str
    #: The column that says whose row it is; None for reference data.
    key: str | None
    #: What the key names: business, organization, user; None for reference data.
    scope: str | None
    #: Verb -> permission or one of WORDS.
    rules: Mapping[str, str]
    or_rows: str | None = None
    through: Mapping[str, str] | None = None
    visitors: str | None = None
    hidden: frozenset[str] = frozenset()
    insert_columns: tuple[str, ...] = ()
    update_columns: tuple[str, ...] = ()
    service: frozenset[str] = frozenset(VERBS)
    guarded: bool = False
    append_only: bool = False
    keeps_owner: bool = False

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    def rule(self, verb: str) -> str:
        return self.rules.get(verb, "nobody")

    @property
    def is_readable(self) -> bool:
        """Whether any signed-in user may select from it at all."""
        return self.through is not None or self.rule("select") != "nobody"


@dataclass(frozen=True)
class View:
    """What permissions.yaml says about one view."""

    schema: str
    name: str
    key: str
    #: All of these are needed to see a row.
    needs: tuple[str, ...]
    #: Column -> permission that fills it.
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """What permissions.yaml says about one function that somebody may call."""

    schema: str
    name: str
    execute: frozenset[str]
    requires: str | None = None
    plane: str = "platform"
    fenced: bool = False


@dataclass(frozen=True)
class Specification:
    """All of permissions.yaml."""

    permissions: Mapping[str, frozenset[str]]
    ranks: Mapping[str, int]
    organization_roles: tuple[str, ...]
    organization_permissions: Mapping[str, frozenset[str]]
    tables: Mapping[str, Table]
    views: Mapping[str, View]
    functions: Mapping[str, Function]
    internal: Mapping[str, frozenset[str]]

    def carried_by(self, role: str) -> frozenset[str]:
        """The permissions of a system role."""
        return frozenset(code for code, roles in self.permissions.items() if role in roles)


def _take(entry: dict[str, Any], name: str, allowed: set[str]) -> dict[str, Any]:
    if unknown := set(entry) - allowed:
        raise SpecificationError(f"{SOURCE.name}: {name} has unknown words {sorted(unknown)}")
    return entry


def _table(schema: str, name: str, raw: dict[str, Any], permissions: set[str]) -> Table:
    words = {"plane", "key", "scope", "or_rows", "through", "visitors", "hidden", "service"}
    words |= {"insert_columns", "update_columns", "guarded", "append_only", "keeps_owner", *VERBS}
    entry = _take(raw, f"{schema}.{name}", words)
    rules = {verb: entry[verb] for verb in VERBS if verb in entry}
    for verb, rule in rules.items():
        if rule not in WORDS and rule not in permissions:
            raise SpecificationError(f"{SOURCE.name}: {schema}.{name}: {verb}: unknown {rule!r}")
    scope = entry.get("scope", "business") if entry["key"] else None
    return Table(
        schema=schema,
        name=name,
        plane=entry["plane"],
        key=entry["key"],
        scope=scope,
        rules=rules,
        or_rows=entry.get("or_rows"),
        through=entry.get("through"),
        visitors=entry.get("visitors"),
        hidden=frozenset(entry.get("hidden", ())),
        insert_columns=tuple(entry.get("insert_columns", ())),
        update_columns=tuple(entry.get("update_columns", ())),
        service=frozenset(entry.get("service", VERBS)),
        guarded=entry.get("guarded", False),
        append_only=entry.get("append_only", False),
        keeps_owner=entry.get("keeps_owner", False),
    )


def _view(schema: str, name: str, raw: dict[str, Any]) -> View:
    entry = _take(raw, f"{schema}.{name}", {"key", "select", "columns"})
    needs = entry["select"] if isinstance(entry["select"], list) else [entry["select"]]
    return View(schema, name, entry["key"], tuple(needs), entry.get("columns", {}))


def _function(schema: str, name: str, raw: dict[str, Any]) -> Function:
    entry = _take(raw, f"{schema}.{name}", {"execute", "requires", "plane", "fenced"})
    return Function(
        schema,
        name,
        frozenset(entry["execute"]),
        entry.get("requires"),
        entry.get("plane", "platform"),
        entry.get("fenced", False),
    )


def load_specification(path: Path = SOURCE) -> Specification:
    """The specification. Raises SpecificationError for a word without meaning."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    codes = {*raw["permissions"], *raw["organization_permissions"]}
    tables = [
        _table(schema, name, entry, codes)
        for schema, entries in raw["tables"].items()
        for name, entry in entries.items()
    ]
    views = [
        _view(schema, name, entry)
        for schema, entries in raw["views"].items()
        for name, entry in entries.items()
    ]
    functions = [
        _function(schema, name, entry)
        for schema, entries in raw["functions"]["callable"].items()
        for name, entry in entries.items()
    ]
    return Specification(
        permissions={code: frozenset(roles) for code, roles in raw["permissions"].items()},
        ranks=raw["ranks"],
        organization_roles=tuple(raw["organization_roles"]),
        organization_permissions={
            code: frozenset(holders) for code, holders in raw["organization_permissions"].items()
        },
        tables={table.label: table for table in tables},
        views={f"{view.schema}.{view.name}": view for view in views},
        functions={f"{one.schema}.{one.name}": one for one in functions},
        internal={
            schema: frozenset(names) for schema, names in raw["functions"]["internal"].items()
        },
    )
