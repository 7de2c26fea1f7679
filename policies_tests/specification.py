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


#: How far a permission reaches, from the widest.
SCOPES = ("business", "department", "own")


@dataclass(frozen=True)
class Record:
    """A kind of record that somebody owns."""

    resource: str
    #: The columns that name a membership.
    owners: tuple[str, ...]
    #: The column of the customer it is about.
    about: str | None
    #: Verb of an access list -> the permissions it gives or takes.
    verbs: Mapping[str, tuple[str, ...]]

    @property
    def permissions(self) -> frozenset[str]:
        return frozenset(code for codes in self.verbs.values() for code in codes)


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
    #: Rows of an organization that lives in another database are not deleted.
    kept_elsewhere: bool = False
    #: Verbs that work beside a copy of the registry, which refuses the others of platform tables.
    at_home: frozenset[str] = frozenset()
    frozen: tuple[str, ...] = ()
    #: Exactly one of these columns is set.
    one_of: tuple[str, ...] = ()
    #: The kind of record that its rows are.
    record: str | None = None
    #: {resource, column} of the record that its rows are parts of.
    part_of: Mapping[str, str] | None = None

    @property
    def resource(self) -> str | None:
        """The kind of record whose owner and department decide over its rows."""
        return self.part_of["resource"] if self.part_of else self.record

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
    #: The column that says whose row it is; None for views of operators.
    key: str | None
    #: All of these are needed to see a row.
    needs: tuple[str, ...]
    #: The table whose visible rows it has, where its rows are somebody's.
    rows_of: str | None = None
    #: Column -> table, its column, the column of `rows_of` that it equals: who fills it.
    columns: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    #: It tells of all tenants at once: no role of the API may select it.
    for_operators: bool = False
    #: Row policies read it: it has no rows of tenants, and tests of its own.
    for_policies: bool = False

    @property
    def readers(self) -> frozenset[str]:
        """The roles of the API that may select it."""
        if self.for_operators:
            return frozenset()
        return frozenset({"authenticated"} | (set() if self.for_policies else {"service_role"}))

    @property
    def has_cells(self) -> bool:
        """Whether it shows rows of tenants to members."""
        return not (self.for_operators or self.for_policies)


@dataclass(frozen=True)
class Function:
    """What permissions.yaml says about one function that somebody may call."""

    schema: str
    name: str
    execute: frozenset[str]
    requires: str | None = None
    plane: str = "platform"
    fenced: bool = False
    #: It makes a record: the permission must reach one of the caller's own.
    creates: bool = False
    #: It works on many records: the permission must reach all.
    whole: bool = False
    #: {resource, permission, always}: the records of the call that must be in reach.
    records: tuple[Mapping[str, Any], ...] = ()
    #: It passes the permissions of this role on.
    grants: str | None = None
    #: Only this role may do it, whatever else is held.
    rank: str | None = None


@dataclass(frozen=True)
class Specification:
    """All of permissions.yaml."""

    #: Permission -> system role -> scope.
    permissions: Mapping[str, Mapping[str, str]]
    granting_roles: frozenset[str]
    people_only: frozenset[str]
    records: Mapping[str, Record]
    ranks: Mapping[str, int]
    organization_roles: tuple[str, ...]
    organization_permissions: Mapping[str, frozenset[str]]
    tables: Mapping[str, Table]
    views: Mapping[str, View]
    functions: Mapping[str, Function]
    internal: Mapping[str, frozenset[str]]

    def carried_by(self, role: str) -> Mapping[str, str]:
        """The permissions of a system role, with their scopes."""
        return {code: roles[role] for code, roles in self.permissions.items() if role in roles}

    @property
    def record_permissions(self) -> frozenset[str]:
        """The permissions that can be held for some records alone."""
        return frozenset(code for one in self.records.values() for code in one.permissions)


def _take(entry: dict[str, Any], name: str, allowed: set[str]) -> dict[str, Any]:
    if unknown := set(entry) - allowed:
        raise SpecificationError(f"{SOURCE.name}: {name} has unknown words {sorted(unknown)}")
    return entry


def _table(schema: str, name: str, raw: dict[str, Any], permissions: set[str]) -> Table:
    words = {"plane", "key", "scope", "or_rows", "through", "visitors", "hidden", "service"}
    words |= {"insert_columns", "update_columns", "guarded", "append_only", "keeps_owner"}
    words |= {"kept_elsewhere", "at_home"}
    words |= {"frozen", "one_of", "record", "part_of", *VERBS}
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
        kept_elsewhere=entry.get("kept_elsewhere", False),
        at_home=frozenset(entry.get("at_home", ())),
        frozen=tuple(entry.get("frozen", ())),
        one_of=tuple(entry.get("one_of", ())),
        record=entry.get("record"),
        part_of=entry.get("part_of"),
    )


def _view(schema: str, name: str, raw: dict[str, Any]) -> View:
    words = {"key", "select", "rows_of", "columns", "operators", "policies"}
    entry = _take(raw, f"{schema}.{name}", words)
    if entry.get("operators"):
        return View(schema, name, None, (), for_operators=True)
    if entry.get("policies"):
        return View(schema, name, None, (), for_policies=True)
    needs = entry["select"] if isinstance(entry["select"], list) else [entry["select"]]
    columns = {
        column: (str(of[0]), str(of[1]), str(of[2]))
        for column, of in ((key, value["of"]) for key, value in entry.get("columns", {}).items())
    }
    return View(schema, name, entry["key"], tuple(needs), entry.get("rows_of"), columns)


def _function(schema: str, name: str, raw: dict[str, Any]) -> Function:
    words = {"execute", "requires", "plane", "fenced", "creates", "whole", "records"}
    words |= {"grants", "rank"}
    entry = _take(raw, f"{schema}.{name}", words)
    return Function(
        schema,
        name,
        frozenset(entry["execute"]),
        entry.get("requires"),
        entry.get("plane", "platform"),
        entry.get("fenced", False),
        entry.get("creates", False),
        entry.get("whole", False),
        tuple(entry.get("records", ())),
        entry.get("grants"),
        entry.get("rank"),
    )


def _scopes(raw: list[str] | dict[str, list[str]]) -> Mapping[str, str]:
    """System role -> scope; a plain list means all records."""
    by_scope = raw if isinstance(raw, dict) else {"business": raw}
    if unknown := set(by_scope) - set(SCOPES):
        raise SpecificationError(f"{SOURCE.name}: unknown scopes {sorted(unknown)}")
    return {role: scope for scope, roles in by_scope.items() for role in roles}


def _record(resource: str, raw: dict[str, Any]) -> Record:
    entry = _take(raw, resource, {"owners", "about", "verbs"})
    verbs = {verb: tuple(codes) for verb, codes in entry["verbs"].items()}
    return Record(resource, tuple(entry["owners"]), entry.get("about"), verbs)


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
        permissions={code: _scopes(roles) for code, roles in raw["permissions"].items()},
        granting_roles=frozenset(raw["granting_roles"]),
        people_only=frozenset(raw["people_only"]),
        records={name: _record(name, entry) for name, entry in raw["records"].items()},
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
