"""Races about roles, departments, keys and shared records; see test_races.py for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from policies_tests.evidence import Evidence
from tenantry_cli.testing import Database

from .race import Race, Track, track
from .revocation import Revocation, Work, measure
from .rights import READS, RIGHTS, TAKEN_AWAY
from .test_revocation_races import note

each_race = pytest.mark.parametrize("race", [pytest.param(one, id=one.name) for one in RIGHTS])


@pytest.fixture(scope="module")
def sound(race_database: Callable[[], Database]) -> Iterator[Track]:
    with track(race_database()) as one:
        yield one


@pytest.mark.parametrize(
    "race",
    [pytest.param(one, id=one.name) for one in RIGHTS],
)
def test_the_invariant_holds(sound: Track, race: Race, trials: int, evidence: Evidence) -> None:
    result = sound.run(race, trials)
    evidence.race(race, result)
    assert not result.violations, race.invariant


@each_race
def test_the_naive_version_loses(
    race_database: Callable[[], Database], race: Race, trials: int, evidence: Evidence
) -> None:
    is_full = trials > 50
    with track(race_database(), is_naive=True) as naive:
        race.naive(naive.scenery.session)
        result = naive.run(race, trials // 4 if is_full else 100, find_one=not is_full)
    evidence.race(race, result, is_naive=True)
    assert result.violations, f"the harness cannot see: {race.invariant}"


@pytest.mark.parametrize("work", [pytest.param(one, id=one.name) for one in READS])
@pytest.mark.parametrize("revocation", [pytest.param(one, id=one.name) for one in TAKEN_AWAY])
def test_the_next_statement_gets_nothing(
    sound: Track, revocation: Revocation, work: Work, trials: int, evidence: Evidence
) -> None:
    delay = measure(sound.scenery, revocation, work, trials // 3)
    note(evidence, revocation, work, delay)
    assert delay.violations == 0
