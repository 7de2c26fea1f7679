"""The statements that take back what one migration did, from the catalog before and after it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from rollbacks.objects import Id, Object, Objects
from tenantry_cli.migrate.catalog import Fact, Facts

Connection = psycopg.Connection[Any]
#: Rows by primary key, all values as text.
Rows = Mapping[tuple[str, ...], Mapping[str, str | None]]

#: What no generator can know how to take back: shared by databases, or possibly there before.
_BY_HAND = {"extension", "role", "default grant", "event trigger"}
_DROPS = {
    "policy": "drop policy {}",
    "trigger": "drop trigger {}",
    "rule": "drop rule {}",
    "table constraint": "alter table {1} drop constraint {0}",
}
_PUBLIC = re.compile(r"\bpublic\.(\w+)")
_PATH = " SET search_path TO 'public', 'extensions', 'pg_temp'"


@dataclass(frozen=True)
class Table:
    """A table of the state before: its key and its rows."""

    key: tuple[str, ...]
    rows: Rows
    is_referenced: bool


@dataclass(frozen=True)
class Moment:
    """All that is compared of a database."""

    facts: Facts
    objects: Objects
    tables: Mapping[str, Table]


@dataclass
class Undo:
    """The parts of one rollback, in the order in which they run."""

    saved_tables: list[str] = field(default_factory=list)
    #: Table, key columns, and the column that goes.
    saved_columns: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    restored_first: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    #: What the part written by hand has to do.
    by_hand: list[str] = field(default_factory=list)


class Comparison:
    """Works out the undo of one migration. `tenant` files are written without schema names."""

    def __init__(
        self, before: Moment, after: Moment, *, tenant: bool, platform: Collection[str] = ()
    ) -> None:
        """`platform` names what platform files made in `public`: that keeps its schema."""
        self._before, self._after, self._tenant = before, after, tenant
        self._platform = platform
        self._undo = Undo()

    def undo(self) -> Undo:
        """Raises ValueError for what cannot be ordered."""
        added = self._after.objects.added_since(self._before.objects)
        self._save(added)
        self._rows()
        self._drop(added)
        self._facts()
        return self._undo

    def own(self, text: str) -> str:
        """A name as the file writes it."""
        text = re.sub(r"\bpg_catalog\.", "", text)
        return _PUBLIC.sub(self._unqualified, text) if self._tenant else text

    def _unqualified(self, match: re.Match[str]) -> str:
        return match[0] if match[1] in self._platform else match[1]

    # What is dropped -----------------------------------------------------------------------------

    def _save(self, added: list[Object]) -> None:
        self._undo.saved_tables = [self.own(one.identity) for one in added if one.kind == "table"]
        for fact in self._new("column"):
            table, column = _column(fact.name)
            if Fact("relation", table) in self._before.facts:
                key = self._before.tables[table].key if table in self._before.tables else ()
                self._undo.saved_columns.append((self.own(table), key, column))
                self._undo.dropped.append(f"alter table {self.own(table)} drop column {column}")

    def _drop(self, added: list[Object]) -> None:
        wanted = [one for one in added if one.kind != "extension" and one.id[0] != "pg_attrdef"]
        first, order = self._after.objects.drop_order(wanted)
        guests = self._guests(wanted)
        for one in (*first, *order):
            if one in guests:
                continue
            if one.schema not in ("", "public") and self._tenant:
                raise ValueError(f"a tenant file makes {one.identity}, outside of its own schema")
            names = self.own(one.identity)
            pattern = _DROPS.get(one.kind)
            if triggers := [guest for guest, function in guests.items() if function == one.id]:
                self._undo.dropped += _drop_with_guests(one, triggers)
            elif pattern and "constraint" in one.kind:
                self._undo.dropped.append(pattern.format(*names.split(" on ", 1)))
            elif pattern:
                self._undo.dropped.append(pattern.format(names))
            else:
                self._undo.dropped.append(f"drop {one.kind} {names}")

    def _guests(self, added: list[Object]) -> dict[Object, Id]:
        """Triggers on tables of other owners (Auth's, Storage's), and their functions.

        Whoever may make such a trigger may not drop it: it goes with its function.
        """
        known = {"public", "private"}
        triggers = {
            one.id: one
            for one in added
            if one.kind == "trigger" and one.identity.split(" on ")[-1].split(".")[0] not in known
        }
        return {
            triggers[source]: target
            for source, target in self._after.objects.dependencies
            if source in triggers and target[0] == "pg_proc"
        }

    # What stays, as it was -----------------------------------------------------------------------

    def _new(self, kind: str) -> list[Fact]:
        return [f for f in self._after.facts if f.kind == kind and f not in self._before.facts]

    def _facts(self) -> None:
        before, after = self._before.facts, self._after.facts
        for fact in sorted(set(before) | set(after)):
            old, new = before.get(fact), after.get(fact)
            if old == new:
                continue
            if fact.kind in _BY_HAND or fact.name.startswith("database to "):
                self._undo.by_hand.append(f"{fact.kind} {fact.name}: {old} became {new}")
            elif fact.kind == "grant":
                self._grant(fact.name, _privileges(old), _privileges(new))
            elif fact.kind == "comment":
                self._comment(fact.name, old)
            elif fact.kind == "row security" and old is not None and new is not None:
                self._row_security(fact.name, old)
            elif fact.kind == "routine" and old is not None:
                self._undo.restored_first.append(self._routine(old))
            elif fact.kind == "constraint" and old is not None:
                name, _, table = fact.name.partition(" on ")
                if new is not None:
                    self._undo.dropped.append(
                        f"alter table {self.own(table)} drop constraint {name}"
                    )
                definition = self.own(old.rpartition(" ")[0])
                self._undo.restored.append(
                    f"alter table {self.own(table)} add constraint {name} {definition}"
                )
            elif fact.kind in ("trigger", "index") and old is not None:
                if new is not None:
                    self._undo.dropped.append(f"drop {fact.kind} {self.own(fact.name)}")
                definition = (
                    old.split(" ", 1)[1] if fact.kind == "trigger" else old.rsplit(" ", 2)[0]
                )
                self._undo.restored.append(self.own(definition))
            elif old is not None:
                self._undo.by_hand.append(f"{fact.kind} {fact.name}: {old} became {new}")
            elif fact.kind == "options" and Fact("relation", fact.name) in before:
                self._undo.by_hand.append(f"options of {fact.name}: {new}")

    def _routine(self, definition: str) -> str:
        text = definition.split(" ", 1)[1].rstrip()
        if self._tenant:
            head, mark, body = text.partition("\nAS $")
            head = self.own(head).replace(_PATH, " SET search_path FROM CURRENT")
            text = head + mark + body
        return text

    def _grant(self, name: str, old: set[str], new: set[str]) -> None:
        target, _, grantee = name.rpartition(" to ")
        if grantee == "postgres" or not self._stays(target):
            return
        kind, _, identity = target.partition(" ")
        columns = ""
        if kind == "column":
            table, column = _column(identity)
            kind, identity, columns = "table", table, f" ({column})"
        for verb, privileges, preposition in (
            ("revoke", new - old, "from"),
            ("grant", old - new, "to"),
        ):
            if privileges:
                what = ", ".join(one + columns for one in sorted(privileges))
                self._undo.restored.append(
                    f"{verb} {what} on {kind} {self.own(identity)} {preposition} {grantee}"
                )

    def _stays(self, target: str) -> bool:
        """Whether the object was there before: what is dropped takes its grants along."""
        kind, _, identity = target.partition(" ")
        before = self._before.facts
        if kind == "column":
            return Fact("column", identity) in before
        if kind in ("table", "sequence"):
            return Fact("relation", identity) in before
        if kind == "schema":
            return Fact("schema", identity) in before or identity == "extensions"
        return Fact("routine", target) in before or Fact("type", target) in before

    def _comment(self, name: str, old: str | None) -> None:
        if old is None and not self._was_there(name):
            return
        value = "null" if old is None else sql.Literal(old).as_string(None)
        self._undo.restored.append(f"comment on {self.own(name)} is {value}")

    def _was_there(self, name: str) -> bool:
        kind, _, identity = name.partition(" ")
        if kind == "column":
            table, _, column = identity.rpartition(".")
            return Fact("column", f"{table}({column})") in self._before.facts
        if kind in ("table", "view", "index", "sequence"):
            return any(Fact(one, identity) in self._before.facts for one in ("relation", "index"))
        if kind in ("function", "procedure"):
            return Fact("routine", name) in self._before.facts
        return Fact("type", name) in self._before.facts

    def _row_security(self, table: str, old: str) -> None:
        enabled, forced = (one == "t" for one in old.split())
        self._undo.restored.append(
            f"alter table {self.own(table)} {'enable' if enabled else 'disable'} row level security"
        )
        self._undo.restored.append(
            f"alter table {self.own(table)} {'' if forced else 'no '}force row level security"
        )

    # Rows of tables that stay --------------------------------------------------------------------

    def _rows(self) -> None:
        for name, table in self._before.tables.items():
            new = self._after.tables.get(name)
            if new is None or new.rows == table.rows:
                continue
            if table.is_referenced and new.rows.keys() - table.rows.keys():
                self._undo.by_hand.append(f"rows added to {name}, which others refer to")
                continue
            guard = "current_schema() = 'public' and " if self._tenant else ""
            columns = table.key[0] if len(table.key) == 1 else f"({', '.join(table.key)})"
            removed = [_tuple(key) for key in sorted(new.rows.keys() - table.rows.keys())]
            if removed:
                listed = ",\n  ".join(removed)
                self._undo.restored_first.append(
                    f"delete from {name} where {guard}{columns} in (\n  {listed})"  # noqa: S608
                )
            for key in sorted(table.rows.keys() & new.rows.keys()):
                old_row, new_row = table.rows[key], new.rows[key]
                changed = {c: v for c, v in old_row.items() if new_row.get(c) != v}
                if changed:
                    values = ", ".join(f"{c} = {_literal(v)}" for c, v in changed.items())
                    self._undo.restored.append(
                        f"update {name} set {values} where {guard}{columns} = {_tuple(key)}"  # noqa: S608
                    )
            for key in sorted(table.rows.keys() - new.rows.keys()):
                row = table.rows[key]
                values = ", ".join(_literal(value) for value in row.values())
                self._undo.restored.append(
                    f"insert into {name} ({', '.join(row)}) select {values}"
                    + (f" where {guard[:-5]}" if guard else "")
                )


def _drop_with_guests(function: Object, triggers: list[Object]) -> list[str]:
    listed = " or ".join(
        "t.tgrelid = '{1}'::regclass and t.tgname = '{0}'".format(*one.identity.split(" on ", 1))
        for one in sorted(triggers, key=lambda one: one.identity)
    )
    return [
        "-- Only the owner of a table drops its triggers: these go with their function,\n"  # noqa: S608
        "-- and nothing else may.\n"
        "do $$ begin\n"
        "  if exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass\n"
        f"      and d.refobjid = '{function.identity}'::regprocedure and d.deptype = 'n'\n"
        "      and (d.classid <> 'pg_trigger'::regclass or not exists (select from pg_trigger t\n"
        f"        where t.oid = d.objid and ({listed})))) then\n"
        f"    raise exception 'something else uses {function.identity}';\n"
        "  end if;\n"
        "end $$",
        f"drop {function.kind} {function.identity} cascade",
    ]


def _privileges(text: str | None) -> set[str]:
    return set(text.split(", ")) if text else set()


def _column(name: str) -> tuple[str, str]:
    """`public.calls(notes)` as its table and its column."""
    table, _, column = name.rpartition("(")
    return table, column.removesuffix(")")


def _literal(value: str | None) -> str:
    return sql.Literal(value).as_string(None)


def _tuple(values: tuple[str, ...]) -> str:
    listed = ", ".join(_literal(value) for value in values)
    return listed if len(values) == 1 else f"({listed})"
