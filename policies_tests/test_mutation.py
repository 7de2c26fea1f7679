"""Every single fault in policies, grants, keys, triggers and views is noticed.

`--all-mutants -s` tries all of them and prints what noticed them; the ordinary run takes one of
every kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Stage
from .evidence import Evidence
from .mutant import Mutant
from .mutants import object_mutants
from .mutation import Laboratory, of_each_kind, open_laboratory, survivors


@pytest.fixture(scope="module")
def laboratory(stage: Stage) -> Iterator[Laboratory]:
    with open_laboratory(stage) as opened:
        yield opened


@pytest.fixture(scope="module")
def mutants(laboratory: Laboratory) -> list[Mutant]:
    made = object_mutants(laboratory.stage.world, laboratory.connection)
    laboratory.connection.rollback()
    return made


@pytest.mark.slow
def test_the_sound_database_is_not_noticed(laboratory: Laboratory) -> None:
    """A detector that always calls says nothing. (test_ranks asks about ranks.)"""
    slices = ("public.customers", "public.businesses", "public.create_customer", "ends of rights")
    assert laboratory.notices(Mutant("none", "sound", "select 1", slices)) is None


@pytest.mark.slow
def test_a_sample_of_mutants_is_noticed(
    laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
) -> None:
    chosen = of_each_kind(mutants)
    assert not survivors(laboratory, chosen, evidence)
    assert len(chosen) > 22


def test_every_mutant_is_noticed(
    laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
) -> None:
    assert not survivors(laboratory, mutants, evidence)
