"""Ratios of paired samples: medians, and how sure they are (bootstrap over rounds)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 2000

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """A ratio with the interval that holds 95 % of its resamples."""

    value: float
    low: float
    high: float

    def verdict(self, goal: float) -> str:
        """`yes` or `no` when the whole interval is on one side of the goal, else `probably`."""
        if self.high <= goal:
            return "yes"
        if self.low > goal:
            return "no"
        return "probably" if self.value <= goal else "probably not"


def ratio(samples: Samples, baseline: Samples) -> Ratio:
    """Median of `samples` over median of `baseline`.

    Both have one row per round (of one or more samples); a round is drawn whole, because what
    disturbed one side of it disturbed the other.
    """
    rounds = len(samples)
    generator = np.random.default_rng(7)
    drawn = generator.integers(0, rounds, (_RESAMPLES, rounds))
    over = np.median(samples.reshape(rounds, -1)[drawn].reshape(_RESAMPLES, -1), axis=1)
    under = np.median(baseline.reshape(rounds, -1)[drawn].reshape(_RESAMPLES, -1), axis=1)
    low, high = np.percentile(over / under, [2.5, 97.5])
    return Ratio(float(np.median(samples) / np.median(baseline)), float(low), float(high))
