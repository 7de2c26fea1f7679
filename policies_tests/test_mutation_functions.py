"""Every single fault in functions, and in the view that policies read, is noticed."""

from __future__ import annotations

from .function_mutants import function_mutants
from .mutant import Mutant
from .mutation import Laboratory, MutantTests


class TestFunctions(MutantTests):
    kinds = 17

    @staticmethod
    def make(laboratory: Laboratory) -> list[Mutant]:
        return function_mutants(laboratory.stage.world.specification, laboratory.connection)
