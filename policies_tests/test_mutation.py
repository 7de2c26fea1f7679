"""Every single fault in policies, grants, keys, triggers and views is noticed.

`--all-mutants -s` tries all of them and prints what noticed them.
"""

from __future__ import annotations

import pytest

from .mutant import Mutant
from .mutants import object_mutants
from .mutation import Laboratory, MutantTests


class TestObjects(MutantTests):
    kinds = 29

    @staticmethod
    def make(laboratory: Laboratory) -> list[Mutant]:
        return object_mutants(laboratory.stage.world, laboratory.connection)

    @pytest.mark.slow
    def test_the_sound_database_is_not_noticed(self, laboratory: Laboratory) -> None:
        """A detector that always calls says nothing. (test_ranks asks about ranks.)"""
        slices = (
            "public.channels", "public.businesses", "public.create_customer", "ends of rights",
        )  # fmt: skip
        assert laboratory.notices(Mutant("none", "sound", "select 1", slices)) is None
