"""Rates of several variants of the same work, measured in rounds of random order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rates:
    """One kind of load at one number of clients: transactions per second of each variant."""

    load: str
    clients: int
    #: One figure per round, by variant; the first variant is the baseline.
    per_second: dict[str, list[float]]

    def median(self, variant: str) -> float:
        return float(np.median(self.per_second[variant]))

    def share(self, variant: str) -> float:
        """Median over rounds of the variant's rate as a share of the baseline's in that round."""
        return float(np.median(self._shares(variant)))

    def spread(self, variant: str) -> tuple[float, float]:
        """The smallest and the largest share of any round."""
        shares = self._shares(variant)
        return float(min(shares)), float(max(shares))

    def _shares(self, variant: str) -> list[float]:
        baseline = next(iter(self.per_second.values()))
        return [a / b for a, b in zip(self.per_second[variant], baseline, strict=True)]

    def as_json(self) -> dict[str, object]:
        """Plain data, shares included."""
        return {
            "load": self.load,
            "clients": self.clients,
            "per_second": self.per_second,
            "share": {variant: self.share(variant) for variant in self.per_second},
            "spread": {variant: self.spread(variant) for variant in self.per_second},
        }


def compare(
    load: str,
    clients: int,
    variants: Sequence[str],
    rounds: int,
    measure: Callable[[str], float],
) -> Rates:
    """Call `measure` for each variant once per round, in random order."""
    chance = random.Random(f"{load} {clients}")
    per_second: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in chance.sample(list(variants), len(variants)):
            per_second[variant].append(measure(variant))
    return Rates(load, clients, per_second)
