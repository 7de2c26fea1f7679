"""One cell of the matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .oracle import Expectation
from .people import Persona

Predict = Callable[[Persona], Expectation]


@dataclass(frozen=True)
class Cell:
    """One statement against one table. `predict` says what it must give to a persona."""

    table: str
    operation: str
    statement: bytes
    predict: Predict

    @property
    def label(self) -> str:
        return f"{self.table}: {self.operation}"
