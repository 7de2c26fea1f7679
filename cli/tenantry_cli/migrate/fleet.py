"""Migrating a fleet: all databases, and the schemas of organizations in them.

Forwards the template goes first (whatever is made from now on is new), then the main database, then
a few tenants as canaries, then everybody else. Backwards it is the other way round. A place is
changed in one transaction; one that fails is noted and left as it was, the others go on, and the
next run visits only what is behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from tenantry_cli.migrate.execution import StatementError
from tenantry_cli.migrate.files import Migration, MigrationError
from tenantry_cli.migrate.locks import keep_moves_away, lock_place
from tenantry_cli.migrate.place import DatabaseState, Ledger, bring_up, read_state, roll_back
from tenantry_cli.migrate.report import Options, Outcome, Report
from tenantry_cli.migrate.run import Run, States, canaries
from tenantry_cli.migrate.targets import (
    Connect,
    Connection,
    Target,
    Targets,
    read_targets,
    set_open,
)
from tenantry_cli.migrate.tenant_plane import tenant_migrations

_LOCK_NOT_AVAILABLE = "55P03"


class Busy(MigrationError):
    """Another run is working on the same place."""


@dataclass
class FleetMigration:
    """Migrations of one fleet.

    Args:
        connect: opens a connection to a database of the fleet, as its owner.
        main: the database that holds the registry.
        rollbacks: by version, see `read_rollbacks`.
        on_outcome: told of every place as it is left, in the thread that called.
    """

    connect: Connect
    main: str
    migrations: Sequence[Migration]
    rollbacks: dict[str, Migration] = field(default_factory=dict)
    template: str = "tenantry_template"
    options: Options = field(default_factory=Options)
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    on_plan: Callable[[int], None] = lambda count: None

    # The three commands ---------------------------------------------------------------------------

    def up(self, tenant: str | None = None, *, dry_run: bool = False) -> Report:
        """Apply what is missing everywhere, or at the home of one organization (id as text).

        Raises MigrationError when nothing was begun: a home is being moved, the tenant is unknown.
        """
        started = time.monotonic()
        with self._session() as (main, targets):
            if dry_run:
                report = self._dry(main, targets, tenant, lambda t, s: self._pending(t, s))
            else:
                with keep_moves_away(main):
                    report = self._up(main, targets, tenant)
        report.seconds = time.monotonic() - started
        return report

    def rollback(self, goal: str, tenant: str | None = None, *, dry_run: bool = False) -> Report:
        """Take back everything after version `goal`, everywhere or of one organization.

        Raises MigrationError when nothing was begun, as for a migration without a rollback.
        """
        started = time.monotonic()
        with self._session() as (main, targets):
            if dry_run:
                report = self._dry(main, targets, tenant, lambda t, s: self._undo(t, s, goal))
            else:
                with keep_moves_away(main):
                    report = self._rollback(main, targets, tenant, goal)
        report.seconds = time.monotonic() - started
        return report

    # Forwards -------------------------------------------------------------------------------------

    def _up(self, main: Connection, targets: Targets, tenant: str | None) -> Report:
        report = Report()
        chosen = self._chosen(targets, tenant)
        states = self._survey(targets, chosen)
        work = {one: self._pending(one, states) for one in chosen if not states.is_unfinished(one)}
        due = [one for one, files in work.items() if files is None or files]
        self.on_plan(len(due))
        run = Run(self, main, report, states)
        run.note_current([one for one in work if one not in due], tenant is None)

        for target in (targets.template, targets.main):
            if target in due and not run.now(target, self._bring_up):
                report.stopped = f"{target.name} failed: nothing after it was begun"
                return run.finish(targets)
        rest = [one for one in due if one not in (targets.template, targets.main)]
        for canary in canaries(rest, self.options.canaries if tenant is None else 0):
            for target in (
                *(
                    d
                    for d in rest
                    if canary.schema and d.schema is None and d.database == canary.database
                ),
                canary,
            ):
                if target in run.done:
                    continue
                if not run.now(target, self._bring_up):
                    report.stopped = (
                        f"{target.name}, a canary, failed: the other tenants were left alone"
                    )
                    run.leave([one for one in rest if one not in run.done])
                    return run.finish(targets)
        run.fan_out(
            [one for one in rest if one not in run.done], self._bring_up, databases_first=True
        )
        return run.finish(targets)

    def _bring_up(self, target: Target) -> Outcome:
        def apply(connection: Connection, ledger: Ledger) -> tuple[Migration, ...]:
            pending = self._checked(target, ledger)
            bring_up(connection, target.schema, pending)
            return tuple(pending)

        return self._at(target, apply)

    def _checked(self, target: Target, ledger: Ledger) -> list[Migration]:
        """What is pending; raises MigrationError where it may not be applied."""
        pending = ledger.pending(self._files(target))
        newest = ledger.newest or ""
        late = [one.label for one in pending if one.version < newest]
        if late and not self.options.include_all:
            raise MigrationError(
                f"older than the newest applied migration: {', '.join(late)}. Give them a later "
                "time stamp, or apply them anyway with --include-all"
            )
        return pending

    # Backwards ------------------------------------------------------------------------------------

    def _rollback(
        self, main: Connection, targets: Targets, tenant: str | None, goal: str
    ) -> Report:
        report = Report()
        chosen = self._chosen(targets, tenant, with_shelf=False)
        states = self._survey(targets, chosen)
        due = [
            one
            for one in chosen
            if not states.is_unfinished(one) and self._undo(one, states, goal) != []
        ]
        self.on_plan(len(due))
        run = Run(self, main, report, states)

        def take_back(target: Target) -> Outcome:
            def undo(connection: Connection, ledger: Ledger) -> tuple[Migration, ...]:
                pairs = self.pairs(ledger.applied_after(goal, self._files(target)))
                remaining = [one for one in self._files(target) if one.version <= goal]
                roll_back(connection, target.schema, pairs, remaining)
                return tuple(migration for migration, _ in pairs)

            return self._at(target, undo)

        last = [one for one in (targets.main, targets.template) if one in due]
        rest = [one for one in due if one not in last]
        for canary in canaries(rest, self.options.canaries if tenant is None else 0):
            if not run.now(canary, take_back):
                report.stopped = f"{canary.name}, a canary, failed: everybody else was left alone"
                run.leave([one for one in due if one not in run.done])
                return run.finish(targets)
        run.fan_out([one for one in rest if one not in run.done], take_back, databases_first=False)
        if report.failed and last:
            report.stopped = "the main database and the template wait until no place fails"
            run.leave(last)
            return run.finish(targets)
        for target in last:
            run.now(target, take_back)
        return run.finish(targets)

    def pairs(self, undo: Sequence[Migration]) -> list[tuple[Migration, Migration]]:
        """Each migration with its rollback. Raises MigrationError where one is missing."""
        if missing := [one.label for one in undo if one.version not in self.rollbacks]:
            raise MigrationError(
                f"no rollback for {', '.join(missing)}: run `python tools/generate_rollbacks.py`"
            )
        return [(one, self.rollbacks[one.version]) for one in undo]

    # Places ---------------------------------------------------------------------------------------

    def _files(self, target: Target) -> Sequence[Migration]:
        return tenant_migrations(self.migrations) if target.schema else self.migrations

    def _pending(self, target: Target, states: States) -> list[str] | None:
        ledger = states.ledger(target)
        return (
            None if ledger is None else [one.label for one in ledger.pending(self._files(target))]
        )

    def _undo(self, target: Target, states: States, goal: str) -> list[str] | None:
        ledger = states.ledger(target)
        if ledger is None:
            return None
        undo = ledger.applied_after(goal, self._files(target))
        return [one.label for one, _ in self.pairs(undo)]

    def _chosen(
        self, targets: Targets, tenant: str | None, *, with_shelf: bool = True
    ) -> list[Target]:
        if tenant is None:
            return targets.all()
        own = [one for one in targets.all() if str(one.organization_id) == tenant]
        if not own:
            raise MigrationError(
                f"organization {tenant} has no place of its own: pooled tenants are migrated with "
                "the main database, by `tenantry migrate up` or --all"
            )
        shelves = [
            one for one in targets.databases if one.database == own[0].database and own[0].schema
        ]
        return [*(shelves if with_shelf else []), *own]

    def _survey(self, targets: Targets, chosen: Sequence[Target]) -> States:
        """One query per database: what each has."""
        schemas: dict[str, list[str]] = {one.database: [] for one in chosen}
        for one in chosen:
            if one.schema:
                schemas[one.database].append(one.schema)

        def ask(database: str) -> DatabaseState | str:
            try:
                with self.opened(database, targets) as connection:
                    return read_state(connection, schemas[database])
            except psycopg.Error as error:
                return str(error).strip()

        with ThreadPoolExecutor(self.options.workers) as pool:
            states = States(dict(zip(schemas, pool.map(ask, schemas), strict=True)))
        self._refuse_old_code(states)
        return states

    def _refuse_old_code(self, states: States) -> None:
        newest = max((one.version for one in self.migrations), default="0", key=int)
        for database, state in states.by_database.items():
            if isinstance(state, DatabaseState) and int(state.compatible_from) > int(newest):
                raise MigrationError(
                    f"{database} needs code that knows migration {state.compatible_from}, and this "
                    f"one knows no later than {newest}: install a newer version"
                )

    def _dry(
        self,
        main: Connection,
        targets: Targets,
        tenant: str | None,
        files: Callable[[Target, States], list[str] | None],
    ) -> Report:
        chosen = self._chosen(targets, tenant)
        states = self._survey(targets, chosen)
        report = Report()
        for target in chosen:
            listed, ledger = files(target, states), states.ledger(target)
            state = "failed" if listed is None else "behind" if listed else "current"
            version = ledger.newest if ledger else None
            report.outcomes.append(
                Outcome(target, state, version, tuple(listed or ()), states.error(target))
            )
        return report

    def _at(
        self, target: Target, act: Callable[[Connection, Ledger], tuple[Migration, ...]]
    ) -> Outcome:
        """Do something to one place, again while its locks are taken. Runs in a worker."""
        started = time.monotonic()
        version: str | None = None
        for attempt in range(1, self.options.attempts + 1):
            try:
                with closing(self.connect(target.database)) as connection:
                    connection.autocommit = True
                    connection.execute(
                        sql.SQL("set lock_timeout = {}").format(
                            sql.Literal(self.options.lock_timeout)
                        )
                    )
                    if not lock_place(connection, target.schema):
                        raise Busy("another run is working on it")
                    state = read_state(connection, [target.schema] if target.schema else [])
                    ledger = state.schemas.get(target.schema) if target.schema else state.ledger
                    if ledger is None:
                        raise MigrationError(
                            f"there is no schema {target.schema}, or it has no ledger"
                        )
                    version = ledger.newest
                    files = act(connection, ledger)
                    state = read_state(connection, [target.schema] if target.schema else [])
                    ledger = state.schemas[target.schema] if target.schema else state.ledger
                    labels = tuple(one.label for one in files)
                    seconds = time.monotonic() - started
                    current = "behind" if ledger.pending(self._files(target)) else "current"
                    return Outcome(target, current, ledger.newest, labels, None, seconds)
            except (MigrationError, psycopg.Error) as error:
                waits = isinstance(error, Busy) or _sqlstate(error) == _LOCK_NOT_AVAILABLE
                if not waits or attempt == self.options.attempts:
                    seconds = time.monotonic() - started
                    return Outcome(target, "failed", version, (), str(error).strip(), seconds)
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("the last attempt returned")

    @contextmanager
    def _session(self) -> Iterator[tuple[Connection, Targets]]:
        with closing(self.connect(self.main)) as main:
            main.autocommit = True
            yield main, read_targets(main, self.template)

    @contextmanager
    def opened(self, database: str, targets: Targets) -> Iterator[Connection]:
        """A connection for reading, also to a database that is closed to others."""
        with self.admitted(database, targets), closing(self.connect(database)) as connection:
            connection.autocommit = True
            yield connection

    @contextmanager
    def admitted(self, database: str, targets: Targets) -> Iterator[None]:
        """Keep a closed database open inside the block."""
        if database not in targets.closed:
            yield
            return
        with closing(self.connect(self.main)) as main:
            main.autocommit = True
            set_open(main, database, True)
            try:
                yield
            finally:
                set_open(main, database, False)


def _sqlstate(error: Exception) -> str | None:
    return (
        getattr(error, "sqlstate", None)
        if isinstance(error, (psycopg.Error, StatementError))
        else None
    )
