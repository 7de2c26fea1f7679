"""After the commit that takes a right away, the holder's next statement gets nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import pytest

from policies_tests.evidence import Evidence
from tenantry_cli.testing import Database

from .revocation import REVOCATIONS, WORKS, Delay, Revocation, Work, measure, remembered_rights
from .scenery import Scenery

each_work = pytest.mark.parametrize("work", [pytest.param(one, id=one.name) for one in WORKS])


@pytest.fixture(scope="module")
def scenery(race_database: Callable[[], Database]) -> Iterator[Scenery]:
    one = Scenery(race_database())
    yield one
    one.close()


@pytest.fixture(scope="module")
def naive(race_database: Callable[[], Database]) -> Iterator[Scenery]:
    one = Scenery(race_database(), is_naive=True)
    remembered_rights(one.session)
    yield one
    one.close()


def _figures(delay: Delay, prefix: str = "") -> dict[str, object]:
    return {
        f"{prefix}trials": len(delay.statements),
        f"{prefix}violations": delay.violations,
        f"{prefix}statements_after": max(delay.statements),
    }


def note(evidence: Evidence, revocation: Revocation, work: Work, delay: Delay) -> None:
    evidence.note_race(
        f"{revocation.name} while somebody {work.name}",
        invariant="nothing seen or written by a statement begun after the commit",
        workers=2,
        statements_before=delay.before,
        milliseconds=round(median(delay.milliseconds), 2),
        **_figures(delay),
    )


@each_work
@pytest.mark.parametrize("revocation", [pytest.param(one, id=one.name) for one in REVOCATIONS])
def test_the_next_statement_gets_nothing(
    scenery: Scenery, revocation: Revocation, work: Work, trials: int, evidence: Evidence
) -> None:
    delay = measure(scenery, revocation, work, trials // 3)
    note(evidence, revocation, work, delay)
    assert delay.violations == 0


@pytest.mark.parametrize(
    "work",
    # Functions ask otherwise than policies do, so the naive policies do not reach them.
    [pytest.param(one, id=one.name) for one in WORKS if one.name != "calls a function"],
)
def test_rights_that_a_connection_remembers_are_seen(
    naive: Scenery, work: Work, trials: int, evidence: Evidence
) -> None:
    delay = measure(naive, REVOCATIONS[0], work, max(1, trials // 40))
    evidence.note_race(f"removal while somebody {work.name}", **_figures(delay, "naive_"))
    assert delay.violations == len(delay.statements)
