"""What a race is, and running its trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tenantry_cli.testing import Database

from .crew import Call, Crew, Outcome, Session
from .scenery import Scenery


@dataclass(frozen=True)
class Trial:
    """Calls that start together, and the question afterwards: None when the invariant holds."""

    calls: list[Call]
    violation: Callable[[list[Outcome]], str | None]


@dataclass(frozen=True)
class Race:
    """Conflicting calls, and a naive version of the product that must be seen to lose."""

    name: str
    invariant: str
    prepare: Callable[[Scenery], Trial]
    #: Makes the database naive: reads first, then writes, without the lock or the constraint.
    naive: Callable[[Session], None]


@dataclass
class Result:
    """Figures of a race. `violations` are trials."""

    workers: int = 0
    trials: int = 0
    retries: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Track:
    """A database with its scenery and its crew."""

    scenery: Scenery
    crew: Crew

    def run(self, race: Race, trials: int, *, find_one: bool = False) -> Result:
        """Runs all trials, or until `find_one` violation is seen."""
        result = Result()
        for _ in range(trials):
            trial = race.prepare(self.scenery)
            outcomes = self.crew.run(trial.calls)
            result.workers = max(result.workers, len(trial.calls))
            result.trials += 1
            result.retries += sum(one.retries for one in outcomes)
            if (what := trial.violation(outcomes)) is not None:
                result.violations.append(what)
                if find_one:
                    break
        return result


@contextmanager
def track(database: Database, *, is_naive: bool = False) -> Iterator[Track]:
    scenery, crew = Scenery(database, is_naive=is_naive), Crew(database)
    try:
        yield Track(scenery, crew)
    finally:
        crew.close()
        scenery.close()


def complaint(
    outcomes: list[Outcome], refusals: Collection[str], *, winners: int | None = None
) -> str | None:
    """Says when another number than `winners` got through, or somebody was refused otherwise."""
    others = {error for one in outcomes for error in one.errors} - set(refusals)
    if others:
        return f"unexpected errors {sorted(others)}"
    done = sum(one.is_done for one in outcomes)
    if winners is not None and done != winners:
        return f"{done} got through instead of {winners}"
    return None
