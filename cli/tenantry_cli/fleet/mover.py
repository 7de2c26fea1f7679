"""Moving an organization from one home to another, under live traffic, with proof.

    planned    the new home is made, many rows are copied ahead; members still write at the old one
    copying    nobody writes; rows are copied, or those that changed meanwhile
    verifying  rows are counted and hashed on both sides, references are checked
    cutover    the registry points to the new home
    done       members write there; the old rows stay, inert, for a grace period

Reads go on all the time. A crash at any point leaves the state of the last finished step in
`placement_moves`, exactly one home that may be written (none while a move is under way), and
`resume` takes it up. An error before the cutover undoes the move.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tenantry_cli.fleet import provision
from tenantry_cli.fleet.ahead import Ahead, catch_up, oldest_unseen
from tenantry_cli.fleet.fleet import Connection, Fleet, FleetError, Home
from tenantry_cli.fleet.registry import send
from tenantry_cli.fleet.rows import (
    ACCESS_LISTS,
    Digest,
    Table,
    as_they_are,
    copy_rows,
    count_rows,
    digest,
    indexed_afterwards,
    orphans,
    plain_text,
    remove_rows,
    require_same_tables,
    same_partitions,
    tables_at,
)
from tenantry_cli.migrate.locks import keep_migrations_away

GRACE_HOURS = 24
#: More are copied ahead, and indexed afterwards where nobody uses the tables yet.
LARGE_ROWS = 5_000
#: How long transactions that were open at the freeze may take to end before the move is given up.
DRAIN_SECONDS = 10.0

# Backends that may still write by what they saw before the freeze: they hold a snapshot or have
# written. An idle transaction without either takes a new snapshot and finds the home frozen.
_OPEN_TRANSACTIONS = """
select pid, backend_start, xact_start from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
  and (backend_xid is not null or backend_xmin is not null)
  and backend_type in ('client backend', 'parallel worker')
"""

#: Told of each step ("freeze", "copy customers", ...), with how much of the whole is done, 0 to 1.
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Move:
    """One row of placement_moves."""

    id: UUID
    organization_id: UUID
    source: Home
    target: Home
    state: str
    row_counts: dict[str, int]
    write_pause_ms: int | None
    error: str | None


def _quiet(step: str, done: float) -> None:
    """Tell nobody."""


def move_tenant(
    fleet: Fleet,
    key: str | UUID,
    isolation: str,
    *,
    progress: Progress = _quiet,
    grace_hours: float = GRACE_HOURS,
    drain_seconds: float = DRAIN_SECONDS,
) -> Move:
    """Move an organization into another placement. Raises FleetError; then it is where it was."""
    tenant = fleet.tenant(key)
    provision.check_isolation(isolation)
    if tenant.state != "active":
        raise FleetError(
            f"{tenant.slug} is in state {tenant.state}: only an active tenant can be moved. "
            f"`tenantry tenant resume {tenant.slug}` takes up what was interrupted"
        )
    if tenant.home.isolation == isolation:
        raise FleetError(f"{tenant.slug} is in placement {isolation} already")
    target = provision.new_home(fleet, tenant.id, isolation)
    with fleet.session() as main:
        row = main.execute(
            "insert into public.placement_moves (organization_id, from_isolation, from_database, "
            "from_schema, to_isolation, to_database, to_schema) "
            "values (%s, %s, %s, %s, %s, %s, %s) "
            "on conflict (organization_id) where state in ('planned', 'copying', 'verifying', "
            "'cutover') do nothing returning id",
            (
                tenant.id,
                tenant.home.isolation,
                tenant.home.database,
                tenant.home.schema,
                target.isolation,
                target.database,
                target.schema,
            ),
        ).fetchone()
    if row is None:
        raise FleetError(
            f"{tenant.slug} is being moved: `tenantry tenant resume {tenant.slug}` takes it up"
        )
    return _Runner(fleet, row["id"], progress, grace_hours, drain_seconds).run()


def resume_move(
    fleet: Fleet,
    key: str | UUID,
    *,
    progress: Progress = _quiet,
    grace_hours: float = GRACE_HOURS,
    drain_seconds: float = DRAIN_SECONDS,
) -> Move:
    """Take up a move that was interrupted. Raises FleetError where there is none."""
    tenant = fleet.tenant(key)
    move = unfinished_move(fleet, tenant.id)
    if move is None:
        raise FleetError(f"no move of {tenant.slug} was interrupted")
    return _Runner(fleet, move.id, progress, grace_hours, drain_seconds).run()


def unfinished_move(fleet: Fleet, organization_id: UUID) -> Move | None:
    """The move of an organization that is under way or was interrupted."""
    with fleet.session() as main:
        row = main.execute(
            "select * from public.placement_moves where organization_id = %s "
            "and state in ('planned', 'copying', 'verifying', 'cutover')",
            (organization_id,),
        ).fetchone()
    return _move(row) if row else None


def clean_moves(fleet: Fleet, *, now: bool = False) -> list[Move]:
    """Remove what finished moves left at the old homes, once their grace period is over."""
    with fleet.session() as main:
        rows = main.execute(
            "select * from public.placement_moves where state = 'done' and cleaned_at is null "
            "and (%s or clean_after <= now()) order by finished_at",
            (now,),
        ).fetchall()
    cleaned = []
    for move in map(_move, rows):
        with fleet.session() as main, alone(main, move.organization_id):
            # Somebody may have moved back in the meantime: then it is no old home.
            if fleet.tenant(move.organization_id).home != move.source:
                _clear(fleet, move.organization_id, move.source)
            main.execute(
                "update public.placement_moves set cleaned_at = now() where id = %s", (move.id,)
            )
        cleaned.append(move)
    return cleaned


@contextmanager
def alone(main: Connection, organization_id: UUID) -> Iterator[None]:
    """Only one process moves, saves or restores an organization, and none migrates the fleet."""
    key = f"tenantry:move:{organization_id}"
    got = main.execute(
        "select pg_try_advisory_lock(hashtextextended(%s, 0)) as own", (key,)
    ).fetchone()
    if not (got and got["own"]):
        raise FleetError("another process is moving, saving or restoring this tenant: wait for it")
    try:
        with keep_migrations_away(main):
            yield
    finally:
        if not main.closed:
            main.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


def drain(fleet: Fleet, database: str, seconds: float = DRAIN_SECONDS) -> None:
    """Wait for the transactions that may still write by what they saw before a home was closed.

    Raises FleetError when they take longer.
    """
    with fleet.connect(database) as connection:
        waiting = {tuple(row.values()) for row in connection.execute(_OPEN_TRANSACTIONS)}
        deadline = time.monotonic() + seconds
        while waiting:
            if time.monotonic() > deadline:
                pids = ", ".join(str(pid) for pid, *_ in waiting)
                raise FleetError(
                    f"transactions that were open before the freeze did not end within "
                    f"{seconds:g} seconds (pid {pids}): end them and try again"
                )
            time.sleep(0.02)
            waiting &= {tuple(row.values()) for row in connection.execute(_OPEN_TRANSACTIONS)}


def _clear(fleet: Fleet, organization_id: UUID, home: Home) -> None:
    """Remove the rows at a home that is not the organization's own."""
    if home.isolation != "pooled":
        provision.remove_place(fleet, organization_id, home)
        return
    businesses = businesses_of(fleet, organization_id)
    with fleet.session(home.database) as place, as_they_are(place):
        remove_rows(place, tables_at(place, home), businesses)


def businesses_of(fleet: Fleet, organization_id: UUID) -> list[UUID]:
    """The ids of the businesses of an organization."""
    with fleet.session() as main:
        rows = main.execute(
            "select id from public.businesses where organization_id = %s order by id",
            (organization_id,),
        )
        return [row["id"] for row in rows]


def _move(row: dict[str, Any]) -> Move:
    return Move(
        id=row["id"],
        organization_id=row["organization_id"],
        source=Home(row["from_isolation"], row["from_database"], row["from_schema"]),
        target=Home(row["to_isolation"], row["to_database"], row["to_schema"]),
        state=row["state"],
        row_counts=row["row_counts"],
        write_pause_ms=row["write_pause_ms"],
        error=row["error"],
    )


class _Runner:
    def __init__(
        self, fleet: Fleet, move_id: UUID, progress: Progress, grace_hours: float, drain: float
    ) -> None:
        self._fleet, self._id, self._progress = fleet, move_id, progress
        self._grace_hours, self._drain_seconds = grace_hours, drain
        self._done = 0.0
        self._rows: dict[str, int] = {}
        #: Known to this process alone: whoever takes up an interrupted move copies everything.
        self._ahead: Ahead | None = None

    def run(self) -> Move:
        move = self._read()
        with self._fleet.connect() as guard, alone(guard, move.organization_id):
            try:
                while move.state not in ("done", "rolled_back"):
                    _STEPS[move.state](self, move)
                    move = self._read()
            except (psycopg.Error, FleetError) as error:
                move = self._read()
                if move.state not in ("planned", "copying", "verifying"):
                    raise FleetError(
                        f"the tenant lives at its new home, but the move was not finished: "
                        f"{error}. `tenantry tenant resume` finishes it"
                    ) from error
                self._undo(move, str(error).strip())
                raise FleetError(f"the move was undone: {error}") from error
        return move

    # The steps. Each may be repeated from its beginning.

    def _prepare(self, move: Move) -> None:
        self._say("make the new home", 0.02)
        provision.make_place(self._fleet, move.organization_id, move.target)
        # Members and rights go ahead; the place knows that it is not home yet.
        send(self._fleet, move.organization_id, move.target.database)
        with (
            self._fleet.session(move.source.database) as source,
            self._fleet.session(move.target.database) as target,
        ):
            here = tables_at(source, move.source)
            require_same_tables(here, tables_at(target, move.target))
            self._count(source, here, businesses_of(self._fleet, move.organization_id))
        if sum(self._rows.values()) > LARGE_ROWS:
            self._ahead = self._copy_ahead(move)
        self._say("freeze", 0.1)
        with self._fleet.session() as main, main.transaction():
            provision.set_state(main, move.organization_id, "moving")
            main.execute(
                "update public.placement_moves set state = 'copying', "
                "frozen_at = clock_timestamp() where id = %s",
                (self._id,),
            )

    def _copy_ahead(self, move: Move) -> Ahead:
        businesses = businesses_of(self._fleet, move.organization_id)
        with self._sides(move) as (source, target):
            same_partitions(source, target, move.source, move.target)
            with source.transaction(), as_they_are(target):
                source.execute("set transaction isolation level repeatable read read only")
                ahead = Ahead(businesses, oldest_unseen(source))
                self._copy_all(source, target, move, businesses, "ahead ")
            self._analyze(target, move)
        return ahead

    def _copy(self, move: Move) -> None:
        # The source is told before anything is copied, however this process got here.
        send(self._fleet, move.organization_id, move.source.database)
        self._say("wait for open transactions", 0.12)
        drain(self._fleet, move.source.database, self._drain_seconds)
        businesses = businesses_of(self._fleet, move.organization_id)
        with self._sides(move) as (source, target):
            same_partitions(source, target, move.source, move.target)
            with source.transaction(), as_they_are(target):
                source.execute("set transaction isolation level repeatable read read only")
                if self._ahead is None:
                    self._copy_all(source, target, move, businesses)
                else:
                    done = 0.6
                    for here, there in self._tables(source, target, move):
                        self._say(f"catch up {here.name}", done)
                        catch_up(source, target, here, there, businesses, self._ahead)
                        done += 0.05 * self._share(here)
            if self._ahead is None:
                self._analyze(target, move)
        self._step("verifying")

    def _copy_all(
        self,
        source: Connection,
        target: Connection,
        move: Move,
        businesses: Sequence[UUID],
        how: str = "",
    ) -> None:
        pairs = self._tables(source, target, move)
        self._count(source, [here for here, _ in pairs], businesses)
        # What an interrupted copy, or an earlier stay, has left.
        remove_rows(target, [there for _, there in pairs], businesses)
        # What the pooled tables hold is in use, and a few rows are not worth it.
        fresh = move.target.isolation != "pooled" and sum(self._rows.values()) > LARGE_ROWS
        own = [there for _, there in pairs if there.name != ACCESS_LISTS]
        done = 0.15
        with indexed_afterwards(target, own if fresh else []):
            for here, there in pairs:
                self._say(f"copy {how}{here.name}", done)
                copy_rows(source, target, here, there, businesses)
                done += 0.45 * self._share(here)
            self._say("build indexes", done)

    @contextmanager
    def _sides(self, move: Move) -> Iterator[tuple[Connection, Connection]]:
        """Both homes; the new one by a session of its own, for both may be in one database."""
        with (
            self._fleet.session(move.source.database) as source,
            self._fleet.connect(move.target.database) as target,
        ):
            yield source, target

    def _tables(
        self, source: Connection, target: Connection, move: Move
    ) -> list[tuple[Table, Table]]:
        """Each table at the old home with itself at the new one."""
        there = {one.name: one for one in tables_at(target, move.target)}
        return [(one, there[one.name]) for one in tables_at(source, move.source)]

    def _analyze(self, target: Connection, move: Move) -> None:
        for table in tables_at(target, move.target) if move.target.isolation != "pooled" else ():
            target.execute(sql.SQL("analyze {}").format(table.identifier))

    def _verify(self, move: Move) -> None:
        businesses = businesses_of(self._fleet, move.organization_id)
        digests: dict[str, Digest] = {}
        with (
            # Sessions of their own: their settings are not those of others.
            self._fleet.connect(move.source.database) as source,
            self._fleet.connect(move.target.database) as target,
            ThreadPoolExecutor(2) as pool,
        ):
            from_tables = tables_at(source, move.source)
            to_tables = {one.name: one for one in tables_at(target, move.target)}
            self._count(source, from_tables, businesses)
            plain_text(source)
            plain_text(target)
            done = 0.65
            for table in from_tables:
                self._say(f"compare {table.name}", done)
                # Both sides at once: members wait.
                sides = ((source, table), (target, to_tables[table.name]))
                here, there = pool.map(lambda side: digest(side[0], side[1], businesses), sides)
                if here != there:
                    raise FleetError(
                        f"{table.name} differs: {here.rows} rows, checksum {here.checksum} at the "
                        f"old home, {there.rows} rows, checksum {there.checksum} at the new one"
                    )
                digests[table.name] = here
                done += 0.25 * self._share(table)
            self._say("check references", 0.9)
            broken = orphans(target, list(to_tables.values()), businesses)
            if broken:
                raise FleetError(f"references would point to nothing: {'; '.join(broken)}")
        self._say("switch", 0.96)
        with self._fleet.session() as main, main.transaction():
            main.execute(
                "update public.placement_moves set state = 'cutover', row_counts = %s, "
                "checksums = %s where id = %s",
                (
                    Jsonb({name: one.rows for name, one in digests.items()}),
                    Jsonb({name: one.checksum for name, one in digests.items()}),
                    self._id,
                ),
            )
            main.execute(
                "update public.organization_placements set isolation = %s, database_name = %s, "
                "schema_name = %s, epoch = epoch + 1 where organization_id = %s",
                (
                    move.target.isolation,
                    move.target.database,
                    move.target.schema,
                    move.organization_id,
                ),
            )
            # The new home knows before anybody is sent there.
            send(self._fleet, move.organization_id, move.target.database, main=main)

    def _finish(self, move: Move) -> None:
        self._say("open the new home", 0.98)
        with self._fleet.session() as main, main.transaction():
            provision.set_state(main, move.organization_id, "active")
            send(self._fleet, move.organization_id, move.target.database, main=main)
            main.execute(
                "update public.placement_moves set state = 'done', finished_at = clock_timestamp(),"
                " clean_after = clock_timestamp() + make_interval(secs => %s), "
                "write_pause_ms = extract(epoch from clock_timestamp() - frozen_at) * 1000 "
                "where id = %s",
                (self._grace_hours * 3600, self._id),
            )
        # The old home has been read-only since the freeze; now it learns that it is none.
        with self._fleet.session() as main:
            try:
                send(self._fleet, move.organization_id, move.source.database, main=main)
            except psycopg.Error:
                self._say("the old home cannot be reached; the worker will tell it", 0.99)
        self._say("done", 1.0)

    def _undo(self, move: Move, error: str) -> None:
        with self._fleet.session() as main, main.transaction():
            provision.set_state(main, move.organization_id, "active")
            send(self._fleet, move.organization_id, move.source.database, main=main)
            main.execute(
                "update public.placement_moves set state = 'rolled_back', error = left(%s, 2000), "
                "finished_at = clock_timestamp(), cleaned_at = clock_timestamp() where id = %s",
                (error, self._id),
            )
        _clear(self._fleet, move.organization_id, move.target)

    def _read(self) -> Move:
        with self._fleet.session() as main:
            row = main.execute(
                "select * from public.placement_moves where id = %s", (self._id,)
            ).fetchone()
        assert row is not None
        return _move(row)

    def _count(
        self, source: Connection, tables: Sequence[Table], businesses: Sequence[UUID]
    ) -> None:
        """Before the freeze where that is possible: nobody waits for a progress bar."""
        if not self._rows:
            self._rows = {one.name: count_rows(source, one, businesses) for one in tables}

    def _share(self, table: Table) -> float:
        """Which part of the work a table is, 0 to 1."""
        return (self._rows[table.name] + 1) / (sum(self._rows.values()) + len(self._rows))

    def _step(self, state: str) -> None:
        with self._fleet.session() as main:
            main.execute(
                "update public.placement_moves set state = %s where id = %s", (state, self._id)
            )

    def _say(self, step: str, done: float) -> None:
        self._done = max(self._done, done)
        self._progress(step, self._done)


_STEPS: dict[str, Callable[[_Runner, Move], None]] = {
    "planned": _Runner._prepare,
    "copying": _Runner._copy,
    "verifying": _Runner._verify,
    "cutover": _Runner._finish,
}
