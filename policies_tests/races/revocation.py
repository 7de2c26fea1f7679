"""A right is taken away while its holder works: what the statements after the commit still get.

The holder's statements run on one open connection, prepared by the server before the right goes
(psycopg prepares a statement after five executions; ten run first), as through a pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from uuid import UUID

import psycopg

from tenantry_cli.testing import Database

from .crew import Session, enter, open_session
from .scenery import Office, Scenery

_WARM = 10
_MOST_STATEMENTS = 2000


@dataclass(frozen=True)
class Work:
    """What a member repeats. `gets` says whether the statement still gave something."""

    name: str
    statement: str
    #: All statements in one open transaction (READ COMMITTED) instead of one each.
    in_transaction: bool = False


@dataclass(frozen=True)
class Right:
    """Somebody (a user or an API key) who may do something, and how that is taken away."""

    principal_id: UUID
    revoke: Callable[[], object]


@dataclass(frozen=True)
class Revocation:
    """Gives a right in the office, which has an owner and an admin and one customer."""

    name: str
    arrange: Callable[[Scenery, Office], Right]


@dataclass
class Delay:
    """Statements begun after the commit that still got something, per trial; and the time."""

    statements: list[int] = field(default_factory=list)
    #: From the return of the commit to the end of the first statement that got nothing.
    milliseconds: list[float] = field(default_factory=list)
    #: Statements that ran before the right was gone, so that there was something to lose.
    before: int = 0

    @property
    def violations(self) -> int:
        return sum(count > 0 for count in self.statements)


def of_the_admin(statement: str) -> Callable[[Scenery, Office], Right]:
    """The owner calls a function with the business and the admin's membership."""

    def arrange(scenery: Scenery, office: Office) -> Right:
        owner, admin = office.people
        return Right(
            admin.user_id,
            lambda: scenery.as_person(owner, statement, office.business_id, admin.membership_id),
        )

    return arrange


def _suspended(scenery: Scenery, office: Office) -> Right:
    admin = office.people[1]
    return Right(
        admin.user_id,
        lambda: scenery.rows(
            "update business_memberships set status = 'suspended'"
            " where business_id = %s and id = %s",
            *(office.business_id, admin.membership_id),
        ),
    )


REVOCATIONS = (
    Revocation("removal", of_the_admin("select remove_member(%s, %s)")),
    Revocation("change of role", of_the_admin("select change_member_roles(%s, %s, '{customer}')")),
    Revocation("suspension", _suspended),
)
WORKS = (
    Work("reads", "select id from customers where business_id = %s"),
    Work("reads in an open transaction", "select id from customers where business_id = %s", True),
    Work("inserts", "insert into customers (business_id, first_name) values (%s, 'Zoe')"),
    Work("updates", "update customers set notes = 'x' where business_id = %s"),
    Work("calls a function", "select create_customer(business_id => %s, first_name => 'Zoe')"),
)


def remembered_rights(session: Session) -> None:
    """The naive version: rights are looked up once for each connection and then carried.

    The guard, which asks once more for each row, is a second layer and goes too.
    """
    session.execute("drop trigger _010_guard on customers")
    session.execute(
        """
        create function private.carried_ids(permission text) returns uuid[]
        language plpgsql stable security definer set search_path = '' as $$
        declare
          name text := 'carried.' || replace(carried_ids.permission, '.', '_');
        begin
          if coalesce(current_setting(name, true), '') = '' then
            perform set_config(name, coalesce((select a.business_ids::text
              from private.user_access a where a.user_id = private.current_user_id()
                and a.permission = carried_ids.permission), '{}'), false);
          end if;
          return current_setting(name)::uuid[];
        end $$;
        grant execute on function private.carried_ids(text) to authenticated;
        create or replace view private.my_rights with (security_barrier) as
        select p.code collate "C" as permission, 'public'::text collate "C" as home_schema,
          private.carried_ids(p.code) as business_ids,
          true as is_whole
        from public.permissions p
        """
    )


class _Worker(Thread):
    """Repeats its work until a statement gets nothing, and counts those begun after `gone`."""

    def __init__(
        self, database: Database, office: Office, principal_id: UUID, work: Work, gone: Event
    ) -> None:
        super().__init__(daemon=True)
        self._database, self._office, self._work, self._gone = database, office, work, gone
        self._principal_id = principal_id
        self.warm = Event()
        self.before = self.after = 0
        self.ended = 0.0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            with open_session(self._database, "authenticator") as session:
                if self._work.in_transaction:
                    with session.transaction():
                        enter(session, self._principal_id)
                        self._repeat(session, lambda: self._gets(session))
                else:
                    self._repeat(session, lambda: self._request(session))
        except BaseException as error:
            self.problem = error
        finally:
            self.warm.set()

    def _repeat(self, session: Session, once: Callable[[], bool]) -> None:
        for number in range(_MOST_STATEMENTS):
            is_gone = self._gone.is_set()
            if not once():
                self.ended = time.monotonic()
                return
            self.after += is_gone
            self.before += not is_gone
            if number == _WARM:
                self.warm.set()
            if self.after >= _WARM:
                return

    def _request(self, session: Session) -> bool:
        try:
            with session.transaction():
                enter(session, self._principal_id)
                return self._gets(session)
        except psycopg.errors.InsufficientPrivilege:
            return False

    def _gets(self, session: Session) -> bool:
        cursor = session.execute(self._work.statement.encode(), [self._office.business_id])
        return cursor.rowcount > 0


def measure(scenery: Scenery, revocation: Revocation, work: Work, trials: int) -> Delay:
    """Runs trials. A member without a first success is an error, not a proof."""
    delay = Delay()
    for _ in range(trials):
        office = scenery.office("owner", "admin")
        scenery.rows(
            "insert into customers (business_id, first_name) values (%s, 'Ana')", office.business_id
        )
        gone = Event()
        right = revocation.arrange(scenery, office)
        worker = _Worker(scenery.database, office, right.principal_id, work, gone)
        worker.start()
        assert worker.warm.wait(30)
        right.revoke()
        gone.set()
        committed = time.monotonic()
        worker.join(30)
        if worker.problem is not None:
            raise worker.problem
        assert worker.before > _WARM
        delay.before += worker.before
        delay.statements.append(worker.after)
        delay.milliseconds.append(max(0.0, worker.ended - committed) * 1000)
    return delay
