"""The operator's worker: sends changes of the registry on, does jobs, and cleans up.

Changes are sent by a thread of their own, so that a right that was taken away is gone everywhere
within a second, whatever job is running. Several workers may be started: one works, the others wait
for it to end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.fleet.invitations import collect_invitations
from tenantry_cli.fleet.jobs import requeue_interrupted, run_next_job
from tenantry_cli.fleet.mover import clean_moves
from tenantry_cli.fleet.registry import reconcile, send_due
from tenantry_cli.operations.maintenance import run_due_maintenance

RECONCILE_SECONDS = 300.0
COLLECT_SECONDS = 5.0
CLEAN_SECONDS = 60.0
MAINTENANCE_SECONDS = 60.0
#: Also without a notification: one may be lost with its connection.
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 1.0

log = logging.getLogger("tenantry_fleet")


class Worker:
    """Runs until `stop` is called from another thread or a signal handler."""

    def __init__(self, make_fleet: Callable[[], Fleet]) -> None:
        self._make_fleet = make_fleet
        self._stopping = threading.Event()
        self.ready = threading.Event()

    def stop(self) -> None:
        """Ask both threads to end after what they are doing."""
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped. Whatever fails is logged and tried again."""
        while not self._stopping.is_set():
            try:
                self._work()
            except (psycopg.Error, TenantryError):
                log.exception("the main database is lost; looking for it again")
                self._stopping.wait(_AGAIN_SECONDS)

    def _work(self) -> None:
        fleet = self._make_fleet()
        lost = threading.Event()
        try:
            with fleet.connect() as turn:
                while not self._take_turn(turn):
                    if self._stopping.wait(_AGAIN_SECONDS):
                        return
                requeue_interrupted(fleet)
                jobs = threading.Thread(target=self._jobs, args=(lost,), name="jobs", daemon=True)
                jobs.start()
                self.ready.set()
                try:
                    self._registry(fleet, turn)
                finally:
                    self.ready.clear()
                    lost.set()
                    jobs.join(timeout=30)
        finally:
            fleet.close()

    def _take_turn(self, connection: Connection) -> bool:
        row = connection.execute(
            "select pg_try_advisory_lock(hashtext('tenantry:worker')) as mine"
        ).fetchone()
        return bool(row and row["mine"])

    def _registry(self, fleet: Fleet, turn: Connection) -> None:
        reconciled = collected = 0.0
        turn.execute("listen tenantry_registry")
        while not self._stopping.is_set():
            try:
                for sent in send_due(fleet):
                    if sent.error:
                        log.warning("registry of %s: %s", sent.database, sent.error)
                if time.monotonic() - reconciled > RECONCILE_SECONDS:
                    reconcile(fleet)
                    reconciled = time.monotonic()
                if time.monotonic() - collected > COLLECT_SECONDS:
                    collect_invitations(fleet)
                    collected = time.monotonic()
                next(turn.notifies(timeout=_LOOK_SECONDS, stop_after=1), None)
            except psycopg.Error:
                if turn.closed:
                    raise  # the turn is lost with its connection
                log.exception("the registry could not be sent on; it is tried again")
                self._stopping.wait(_AGAIN_SECONDS)

    def _jobs(self, lost: threading.Event) -> None:
        fleet = self._make_fleet()
        cleaned = maintained = 0.0
        while not self._stopping.is_set() and not lost.is_set():
            try:
                if not run_next_job(fleet):
                    self._stopping.wait(_LOOK_SECONDS)
                if time.monotonic() - cleaned > CLEAN_SECONDS:
                    clean_moves(fleet)
                    cleaned = time.monotonic()
                if time.monotonic() - maintained > MAINTENANCE_SECONDS:
                    for database, problem in run_due_maintenance(fleet).failed.items():
                        log.warning("maintenance of %s: %s", database, problem)
                    maintained = time.monotonic()
            except Exception:
                log.exception("work was interrupted; it goes on")
                self._stopping.wait(_AGAIN_SECONDS)
        fleet.close()
