"""The course of one run over a fleet: who is done, who waits for whom, and what is noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantry_cli.migrate.drift import note_catalogs
from tenantry_cli.migrate.place import DatabaseState, Ledger
from tenantry_cli.migrate.report import Outcome, Report
from tenantry_cli.migrate.targets import Connection, Target, Targets, read_targets
from tenantry_cli.migrate.targets_record import forget_others, read_rows, write_row

if TYPE_CHECKING:
    from tenantry_cli.migrate.fleet import FleetMigration


@dataclass(frozen=True)
class States:
    """What the survey found; a text is why a database could not be asked."""

    by_database: dict[str, DatabaseState | str]

    def ledger(self, target: Target) -> Ledger | None:
        state = self.by_database[target.database]
        if isinstance(state, str):
            return None
        return state.schemas.get(target.schema) if target.schema else state.ledger

    def is_unfinished(self, target: Target) -> bool:
        """A home that is still being made, or was given up: nothing is missing there."""
        return target.may_be_missing and self.ledger(target) is None

    def error(self, target: Target) -> str | None:
        state = self.by_database[target.database]
        if isinstance(state, str):
            return state
        missing = target.schema and target.schema not in state.schemas
        return "there is no such schema, or it has no ledger" if missing else None


class Run:
    """One run: what is done, and what was noted of it."""

    def __init__(
        self, fleet: FleetMigration, main: Connection, report: Report, states: States
    ) -> None:
        self._fleet, self._main, self._report, self._states = fleet, main, report, states
        self.done: set[Target] = set()

    def note_current(self, current: Sequence[Target], all_of_them: bool) -> None:
        """What has nothing to do; written down only where that is news."""
        rows = read_rows(self._main)
        for target in current:
            ledger = self._states.ledger(target)
            outcome = Outcome(target, "current", ledger.newest if ledger else None)
            row = rows.get(target.name)
            if row is None or (row.state, row.version) != (outcome.state, outcome.version):
                write_row(self._main, target, outcome.version, "current", None)
            self._report.outcomes.append(outcome)

    def now(self, target: Target, act: Callable[[Target], Outcome]) -> bool:
        """Do one place, in this thread. False when it failed."""
        targets = read_targets(self._main, self._fleet.template)
        with self._fleet.admitted(target.database, targets):
            return self._note(act(target))

    def fan_out(
        self, targets: Sequence[Target], act: Callable[[Target], Outcome], *, databases_first: bool
    ) -> None:
        """Do many at once; a database before the schemas in it, or after them."""
        waiting = {one: _blockers(one, targets, databases_first) for one in targets}
        running: dict[Future[Outcome], Target] = {}
        failed: set[Target] = set()
        with ThreadPoolExecutor(self._fleet.options.workers) as pool:
            while waiting or running:
                for target in [one for one, blockers in waiting.items() if blockers & failed]:
                    del waiting[target]
                    failed.add(target)
                    self.leave([target])
                for target in [
                    one for one, blockers in waiting.items() if not blockers - self.done
                ]:
                    del waiting[target]
                    running[pool.submit(act, target)] = target
                if not running:
                    continue
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    target = running.pop(future)
                    if not self._note(future.result()):
                        failed.add(target)

    def leave(self, targets: Sequence[Target]) -> None:
        """Not their turn any more."""
        for target in targets:
            ledger = self._states.ledger(target)
            self._report.outcomes.append(
                Outcome(target, "behind", ledger.newest if ledger else None)
            )
            write_row(self._main, target, ledger.newest if ledger else None, "behind", None)

    def finish(self, targets: Targets) -> Report:
        """Once per database that changed: PostgREST reads its catalog again, and we note it."""
        changed = {one.target.database for one in self._report.changed}
        if changed:
            note_catalogs(self._fleet, self._main, targets, changed)
            forget_others(self._main, [one.name for one in targets.all()])
        return self._report

    def _note(self, outcome: Outcome) -> bool:
        self.done.add(outcome.target)
        self._report.outcomes.append(outcome)
        write_row(self._main, outcome.target, outcome.version, outcome.state, outcome.error)
        self._fleet.on_outcome(outcome)
        return outcome.error is None


def _blockers(target: Target, targets: Sequence[Target], databases_first: bool) -> set[Target]:
    is_blocked = (target.schema is not None) == databases_first
    return {
        one
        for one in targets
        if is_blocked
        and one.database == target.database
        and (one.schema is None) == databases_first
    } - {target}


def canaries(due: Sequence[Target], count: int) -> list[Target]:
    """The first tenants to go: one of each kind before a second of any."""
    tenants = [one for one in due if one.is_tenant]
    firsts = {one.kind: one for one in reversed(tenants)}
    ordered = [*firsts.values(), *(one for one in tenants if one not in firsts.values())]
    # With few tenants there is nobody to protect by going first; the order does no harm.
    return ordered[:count]
