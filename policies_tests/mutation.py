"""Tries single faults: what notices each of them.

By behaviour first (cells of the matrix, and rules that are more than one cell), else a golden file
or a gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import psycopg
import pytest

from .catalog import Connection
from .conftest import Stage
from .evidence import Evidence
from .gates import GATES, find
from .mutant import Mutant
from .people import TELLING, Persona, rights_personas
from .probe import differences
from .snapshots import SNAPSHOTS, snapshot
from .test_ranks import grant_errors, rank_errors
from .test_rights_view import end_errors
from .test_shared_records import sharing_errors

#: Rules that are more than one cell: each is a slice of its own.
_RULES: dict[str, Callable[[Stage, Connection], Iterator[str]]] = {
    "ranks": rank_errors,
    "ends of rights": end_errors,
    "shared records": sharing_errors,
}


@dataclass
class Laboratory:
    """The owner's connection, and what everything says of the sound database."""

    stage: Stage
    connection: Connection
    golden: dict[str, str]
    found: dict[str, set[str]]
    facts: frozenset[tuple[str, ...]]

    def notices(self, mutant: Mutant) -> str | None:
        """What notices the mutant; None for nothing."""
        connection = self.connection
        try:
            connection.execute(mutant.statements.encode())
            if self._rules_differ(mutant) or self._behaves_differently(mutant):
                return "matrix"
            return self._structure()
        except psycopg.errors.UniqueViolation:
            return "world"  # tenants have equal natural values: the fault cannot even be made
        finally:
            connection.rollback()

    def _rules_differ(self, mutant: Mutant) -> bool:
        rules = [_RULES[label] for label in mutant.slices if label in _RULES]
        if rank_errors in rules and mutant.kind.startswith("grant"):
            rules.insert(0, grant_errors)  # what notices these, before what takes long
        errors = chain.from_iterable(rule(self.stage, self.connection) for rule in rules)
        return next(errors, None) is not None

    def _behaves_differently(self, mutant: Mutant) -> bool:
        labels = [label for label in mutant.slices if label not in _RULES]
        if not labels:
            return False
        for persona in self._personas(mutant):
            cells = self.stage.cells_of(persona)
            slice_ = chain(*(cells[label] for label in labels))
            if next(differences(self.connection, persona, slice_), None) is not None:
                return True
        return False

    def _personas(self, mutant: Mutant) -> list[Persona]:
        """Those who differ, and those who hold one single permission that the slices name; for
        faults in how rights add up, also those whose rights come from everywhere.
        """
        slices = mutant.slices
        specification, cast = self.stage.world.specification, self.stage.world.cast
        named: set[str | None] = {"business.read", "members.read"}
        for label in slices:
            if table := specification.tables.get(label):
                named |= set(table.rules.values())
            elif function := specification.functions.get(label):
                named.add(function.requires)
            elif view := specification.views.get(label):
                named |= set(view.needs)
        single = [f"only {code}" for code in specification.permissions if code in named]
        names = ["stranger", *TELLING, "removed organization owner", "sibling owner", *single]
        if mutant.kind in ("rights clause", "record clause", "record not checked"):
            names = [*(one.name for one in rights_personas()), *names]  # who notice soonest
        elif mutant.kind == "guard clause dropped":
            names = ["service_role", *names]  # whom neither grants nor policies stop
        return [one for one in cast.choose(dict.fromkeys(names)) if one.login == "authenticator"]

    def _structure(self) -> str | None:
        for name, text in self.golden.items():
            if snapshot(self.connection, name) != text:
                return "golden file"
        for gate in GATES:
            if find(self.connection, gate) != self.found[gate.name]:
                return "gate"
        # Masked by a second check that holds: the gateway serves no database with another text.
        return "boot gate alone" if boot_facts(self.connection) != self.facts else None


def boot_facts(connection: Connection) -> frozenset[tuple[str, ...]]:
    return frozenset(connection.execute("select * from public.boot_facts()").fetchall())


def of_each_kind(mutants: Iterable[Mutant]) -> list[Mutant]:
    """The first mutant of each kind."""
    first: dict[str, Mutant] = {}
    for mutant in mutants:
        first.setdefault(mutant.kind, mutant)
    return list(first.values())


def survivors(laboratory: Laboratory, mutants: Iterable[Mutant], evidence: Evidence) -> list[str]:
    """Those that nothing notices. Prints and notes what notices the others."""
    by_kind: dict[str, Counter[str]] = {}
    alive = []
    for mutant in mutants:
        by = laboratory.notices(mutant) or "nothing"
        by_kind.setdefault(mutant.kind, Counter())[by] += 1
        evidence.by_kind[f"{mutant.kind}\t{by}"] += 1
        if by == "nothing":
            alive.append(str(mutant))
    print()
    for kind, noticed in by_kind.items():
        print(f"{kind:40} {noticed.total():5}  {dict(noticed)}")
    total = sum(by_kind.values(), Counter[str]())
    print(f"{'all':40} {total.total():5}  {dict(total)}")
    evidence.mutants += total
    evidence.survivors += alive
    return alive


class MutantTests:
    """Tests of one family of mutants. A subclass says how they are made, and of how many kinds."""

    kinds: ClassVar[int]

    @staticmethod
    def make(laboratory: Laboratory) -> list[Mutant]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def laboratory(cls, stage: Stage) -> Iterator[Laboratory]:
        with stage.database.connect() as connection:
            golden = {name: snapshot(connection, name) for name in SNAPSHOTS}
            found = {gate.name: find(connection, gate) for gate in GATES}
            connection.rollback()
            facts = boot_facts(connection)
            yield Laboratory(stage, connection, golden, found, facts)
            connection.rollback()

    @pytest.fixture(scope="class")
    @classmethod
    def mutants(cls, laboratory: Laboratory) -> list[Mutant]:
        made = cls.make(laboratory)
        laboratory.connection.rollback()
        return made

    @pytest.mark.slow
    def test_a_sample_of_mutants_is_noticed(
        self, laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
    ) -> None:
        """One of every kind."""
        chosen = of_each_kind(mutants)
        assert not survivors(laboratory, chosen, evidence)
        assert len(chosen) == self.kinds

    def test_every_mutant_is_noticed(
        self, laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
    ) -> None:
        assert not survivors(laboratory, mutants, evidence)
