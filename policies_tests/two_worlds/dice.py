"""Choices out of a few random bytes: one draw from hypothesis per step instead of a dozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: Bytes per step: more than the choices of the longest one use up.
SIZE = 16


class Dice:
    """Choices that depend on `seed` alone. Fewer and smaller bytes give the first of each."""

    def __init__(self, seed: bytes) -> None:
        self._rest = int.from_bytes(seed, "big")

    def below(self, count: int) -> int:
        self._rest, chosen = divmod(self._rest, count)
        return chosen

    def choose(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def is_one_in(self, count: int) -> bool:
        """True for one throw in `count`; never when the bytes are used up."""
        return self.below(count) == count - 1
