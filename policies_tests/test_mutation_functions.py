"""Every single fault in functions, and in the view that policies read, is noticed.

`--all-mutants -s` tries all of them and prints what noticed them; the ordinary run takes one of
every kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Stage
from .evidence import Evidence
from .function_mutants import function_mutants
from .mutant import Mutant
from .mutation import Laboratory, of_each_kind, open_laboratory, survivors


@pytest.fixture(scope="module")
def laboratory(stage: Stage) -> Iterator[Laboratory]:
    with open_laboratory(stage) as opened:
        yield opened


@pytest.fixture(scope="module")
def mutants(laboratory: Laboratory) -> list[Mutant]:
    made = function_mutants(laboratory.stage.world.specification, laboratory.connection)
    laboratory.connection.rollback()
    return made


@pytest.mark.slow
def test_a_sample_of_mutants_is_noticed(
    laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
) -> None:
    chosen = of_each_kind(mutants)
    assert not survivors(laboratory, chosen, evidence)
    assert len(chosen) > 14


def test_every_mutant_is_noticed(
    laboratory: Laboratory, mutants: list[Mutant], evidence: Evidence
) -> None:
    assert not survivors(laboratory, mutants, evidence)
