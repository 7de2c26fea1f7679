"""Every single fault is noticed: by behaviour first, else by a golden file or a gate.

`pytest policies_tests/test_mutation.py --all-mutants -s` tries all of them and prints what noticed
them; the ordinary run takes a sample of every kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import psycopg
import pytest

from .catalog import Connection
from .conftest import Stage
from .evidence import Evidence
from .gates import GATES, find
from .mutant import Mutant
from .mutants import make_mutants
from .people import TELLING, Persona, rights_personas
from .probe import differences
from .snapshots import SNAPSHOTS, snapshot
from .test_ranks import rank_errors

#: Of each kind, so many in the ordinary run.
_SAMPLE = 1


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
            is_about_ranks = "ranks" in mutant.slices
            if is_about_ranks and next(rank_errors(self.stage, connection), None) is not None:
                return "matrix"
            return "matrix" if self._behaves_differently(mutant) else self._structure()
        except psycopg.errors.UniqueViolation:
            return "world"  # tenants have equal natural values: the fault cannot even be made
        finally:
            connection.rollback()

    def _behaves_differently(self, mutant: Mutant) -> bool:
        labels = [label for label in mutant.slices if label != "ranks"]
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
        if mutant.kind in ("rights clause", "record clause", "record not checked"):
            single += [one.name for one in rights_personas()]
        names = ["stranger", *TELLING, "removed organization owner", "sibling owner", *single]
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


@pytest.fixture(scope="module")
def laboratory(stage: Stage) -> Iterator[Laboratory]:
    with stage.database.connect() as connection:
        golden = {name: snapshot(connection, name) for name in SNAPSHOTS}
        found = {gate.name: find(connection, gate) for gate in GATES}
        connection.rollback()
        facts = boot_facts(connection)
        yield Laboratory(stage, connection, golden, found, facts)
        connection.rollback()


@pytest.fixture(scope="module")
def mutants(laboratory: Laboratory) -> list[Mutant]:
    made = make_mutants(laboratory.stage.world, laboratory.connection)
    laboratory.connection.rollback()
    return made


def _run(
    laboratory: Laboratory, chosen: list[Mutant], evidence: Evidence
) -> tuple[Counter[str], list[str]]:
    noticed: Counter[str] = Counter()
    survivors = []
    for mutant in chosen:
        by = laboratory.notices(mutant)
        noticed[by or "nothing"] += 1
        evidence.by_kind[f"{mutant.kind}\t{by or 'nothing'}"] += 1
        if by is None:
            survivors.append(str(mutant))
    evidence.mutants += noticed
    evidence.survivors += survivors
    return noticed, survivors


@pytest.mark.slow
def test_the_sound_database_is_not_noticed(laboratory: Laboratory) -> None:
    """A detector that always calls says nothing."""
    sound = Mutant("none", "sound", "select 1", ("public.customers", "public.businesses", "ranks"))
    assert laboratory.notices(sound) is None
    sound = Mutant("none", "sound", "select 1", ("public.customers", "public.create_customer"))
    assert laboratory.notices(sound) is None


@pytest.mark.slow
def test_a_sample_of_mutants_is_noticed(
    laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
) -> None:
    chosen = []
    for kind in dict.fromkeys(one.kind for one in mutants):
        of_kind = [one for one in mutants if one.kind == kind]
        step = max(1, len(of_kind) // _SAMPLE)
        chosen += of_kind[::step][:_SAMPLE]
    _, survivors = _run(laboratory, chosen, evidence)
    assert not survivors
    assert len(chosen) > 35


def test_every_mutant_is_noticed(
    laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
) -> None:
    by_kind: dict[str, Counter[str]] = {}
    survivors: list[str] = []
    for kind in dict.fromkeys(one.kind for one in mutants):
        of_kind = [one for one in mutants if one.kind == kind]
        by_kind[kind], alive = _run(laboratory, of_kind, evidence)
        survivors += alive
    print()
    for kind, noticed in by_kind.items():
        print(f"{kind:40} {sum(noticed.values()):5}  {dict(noticed)}")
    total = sum(by_kind.values(), Counter())
    print(f"{'all':40} {total.total():5}  {dict(total)}")
    assert not survivors
