"""Ratios, intervals and verdicts of samples whose truth is known."""

import numpy as np
import pytest
from bench.comparison import compare
from bench.ratios import Ratio, ratio

NOISE = np.random.default_rng(1)


def test_ratio_finds_the_truth_within_its_interval() -> None:
    baseline = NOISE.lognormal(0, 0.1, (300, 2))
    found = ratio(1.2 * NOISE.lognormal(0, 0.1, 300), baseline)
    assert found.low < 1.2 < found.high
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.1


def test_more_rounds_make_the_interval_narrower() -> None:
    few, many = (
        ratio(NOISE.lognormal(0, 0.2, count), NOISE.lognormal(0, 0.2, (count, 2)))
        for count in (20, 2000)
    )
    assert many.high - many.low < (few.high - few.low) / 3


def test_what_disturbs_a_whole_round_cancels() -> None:
    disturbed = np.repeat(NOISE.lognormal(0, 1, 400)[:, None], 3, axis=1)
    found = ratio(disturbed[:, 0] * 1.5, disturbed[:, 1:])
    assert found.low == pytest.approx(1.5)
    assert found.high == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (1.0, 1.05, 1.1, "yes"),
        (1.0, 1.05, 1.2, "probably"),
        (1.0, 1.15, 1.2, "probably not"),
        (1.11, 1.15, 1.2, "no"),
    ],
)
def test_verdict(low: float, value: float, high: float, verdict: str) -> None:
    assert Ratio(value, low, high).verdict(1.10) == verdict


def test_shares_are_of_the_same_round() -> None:
    speed = iter(range(1, 100))
    order: list[str] = []

    def measure(variant: str) -> float:
        order.append(variant)
        return float(next(speed)) * (2 if variant == "fast" else 1)

    rates = compare("load", 1, ["base", "fast"], 20, measure)
    low, high = rates.spread("fast")
    assert rates.share("base") == 1
    assert low <= rates.share("fast") <= high
    assert sorted(order[:2]) == ["base", "fast"]
    assert len({tuple(order[i : i + 2]) for i in range(0, 40, 2)}) == 2, "always the same order"
