"""Moves between all placements, under live writes, and killed at every step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet import mover
from tenantry_cli.fleet.fleet import Connection, Fleet, FleetError
from tenantry_cli.fleet.mover import clean_moves, move_tenant, resume_move, unfinished_move
from tenantry_cli.fleet.provision import ISOLATIONS, NewTenant, create_tenant
from tenantry_cli.fleet.registry import send_due
from tenantry_cli.fleet.rows import digest, plain_text, tables_at

from .conftest import MANAGER, OWNER, STRANGER, VIEWER, Place, until

DENTAL = "select id from public.businesses where slug = 'bluebird-dental'"


def digests(fleet: Fleet, key: str) -> dict[str, tuple[int, str]]:
    tenant = fleet.tenant(key)
    businesses = mover.businesses_of(fleet, tenant.id)
    with fleet.connect(tenant.home.database) as place:
        plain_text(place)
        found = {one.name: digest(place, one, businesses) for one in tables_at(place, tenant.home)}
    return {name: (one.rows, one.checksum) for name, one in found.items()}


def routes() -> list[tuple[str, str]]:
    """A round trip through every pair of placements."""
    return [(a, b) for a in ISOLATIONS for b in ISOLATIONS if a != b]


@pytest.mark.parametrize(("here", "there"), routes())
def test_a_move_takes_everything(
    fleet: Fleet, place_of: Callable[[str], Place], here: str, there: str
) -> None:
    if fleet.tenant("bluebird").home.isolation != here:
        move_tenant(fleet, "bluebird", here)
    before = digests(fleet, "bluebird")
    old = place_of("bluebird")
    epoch = fleet.tenant("bluebird").epoch

    move = move_tenant(fleet, "bluebird", there)

    after = digests(fleet, "bluebird")
    assert after == before
    assert before["customers"][0] > 10
    assert move.row_counts == {name: rows for name, (rows, _) in before.items()}
    assert move.write_pause_ms is not None
    tenant = fleet.tenant("bluebird")
    assert (tenant.home.isolation, tenant.state, tenant.epoch) == (there, "active", epoch + 1)
    new = place_of("bluebird")
    business = new.value(OWNER, DENTAL)
    count = "select count(*) from customers where business_id = %s"
    assert new.value(VIEWER, count, business) == new.value(OWNER, count, business) > 10
    assert new.value(STRANGER, count, business) == 0
    new.all(MANAGER, "update customers set notes = 'moved' where business_id = %s", business)

    # The old home is inert, for members and for jobs, though its rows are still there.
    assert old.value(OWNER, count, business) == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        old.all(OWNER, "insert into customers (business_id, first_name) values (%s, 'x')", business)
    with pytest.raises(psycopg.Error, match="does not live here"):
        old.all(None, "insert into customers (business_id, first_name) values (%s, 'x')", business)
    # The metrics are still exact: nothing was counted twice.
    assert new.all(OWNER, "select * from metric_drift where business_id = %s", business) == []


def test_old_homes_are_cleaned(fleet: Fleet) -> None:
    move_tenant(fleet, "copperline", "schema", grace_hours=1)
    move_tenant(fleet, "copperline", "database", grace_hours=0)
    tenant = fleet.tenant("copperline")
    (cleaned,) = [m for m in clean_moves(fleet) if m.organization_id == tenant.id]
    assert cleaned.source.isolation == "schema"
    with fleet.connect(cleaned.source.database) as shelf:
        assert shelf.execute(
            "select to_regnamespace(%s) as gone", (cleaned.source.schema,)
        ).fetchone() == {"gone": None}
        assert shelf.execute(
            "select count(*) as n from public.organizations where id = %s", (tenant.id,)
        ).fetchone() == {"n": 0}
    left = "select count(*) as n from public.customers where business_id = any (%s)"
    businesses = mover.businesses_of(fleet, tenant.id)
    with fleet.connect() as main:
        rows = main.execute(left, (businesses,)).fetchone()
        assert rows
        assert rows["n"] > 0, "the grace period is not over"
        clean_moves(fleet, now=True)
        assert main.execute(left, (businesses,)).fetchone() == {"n": 0}
    assert digests(fleet, "copperline")["customers"][0] > 0


class Killed(BaseException):
    """Ends a move as a killed process would: nothing after it runs, sessions break off."""


STEPS = [
    "make the new home", "freeze", "wait for open transactions", "copy audit_logs",
    "copy messages", "compare access_control_lists", "check references", "switch",
    "open the new home",
]  # fmt: skip


@pytest.fixture(scope="module")
def _tenant(fleet: Fleet) -> str:
    create_tenant(fleet, NewTenant("Crash", "owner@bluebird.example", slug="crash"))
    place = Place(fleet, fleet.tenant("crash"))
    business = place.value(
        OWNER,
        "select b.id from public.businesses b join public.organizations o "
        "on o.id = b.organization_id where o.slug = 'crash'",
    )
    for number in range(30):
        place.all(
            OWNER,
            "select create_customer(business_id => %s, first_name => %s)",
            business,
            f"C{number}",
        )
    place.close()
    return "crash"


@pytest.fixture
def moved_tenant(fleet: Fleet, _tenant: str) -> str:
    """A tenant with 30 customers, whatever the test before left."""
    if unfinished_move(fleet, fleet.tenant(_tenant).id):
        resume_move(fleet, _tenant)
    return _tenant


# Each step in one direction, the last ones, where the home changes, in all.
CRASHES = {(step, ISOLATIONS[number % 3]) for number, step in enumerate(STEPS)} | {
    (step, there) for step in STEPS[-2:] for there in ISOLATIONS
}


@pytest.mark.parametrize(("step", "there"), sorted(CRASHES))
def test_a_killed_move_is_taken_up(
    fleet: Fleet, moved_tenant: str, place_of: Callable[[str], Place], step: str, there: str
) -> None:
    if fleet.tenant(moved_tenant).home.isolation == there:
        move_tenant(fleet, moved_tenant, "database" if there != "database" else "schema")
    before = digests(fleet, moved_tenant)

    def kill(now: str, done: float) -> None:
        if now == step:
            raise Killed

    with pytest.raises(Killed):
        move_tenant(fleet, moved_tenant, there, progress=kill)
    tenant = fleet.tenant(moved_tenant)
    assert unfinished_move(fleet, tenant.id) is not None
    # Whatever happened, the rows are at the one home that the registry names, and can be read.
    assert digests(fleet, moved_tenant) == before
    place = place_of(moved_tenant)
    count = (
        "select count(*) from customers c join public.businesses b on b.id = c.business_id "
        "where b.organization_id = %s"
    )
    assert place.value(OWNER, count, tenant.id) == 30
    with pytest.raises(FleetError, match=r"interrupted|takes it up"):
        move_tenant(fleet, moved_tenant, there)

    resume_move(fleet, moved_tenant)

    tenant = fleet.tenant(moved_tenant)
    assert (tenant.home.isolation, tenant.state) == (there, "active")
    assert digests(fleet, moved_tenant) == before
    assert unfinished_move(fleet, tenant.id) is None
    with pytest.raises(FleetError, match="no move"):
        resume_move(fleet, moved_tenant)


@pytest.mark.parametrize(
    ("step", "there"),
    [
        ("copy ahead customers", "pooled"),
        ("build indexes", "schema"),
        ("freeze", "database"),
        ("catch up audit_logs", "schema"),
        ("catch up customers", "pooled"),
        ("switch", "database"),
    ],
)
def test_a_killed_move_that_had_copied_ahead_is_taken_up(
    fleet: Fleet,
    moved_tenant: str,
    place_of: Callable[[str], Place],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    there: str,
) -> None:
    monkeypatch.setattr(mover, "LARGE_ROWS", 0)
    test_a_killed_move_is_taken_up(fleet, moved_tenant, place_of, step, there)


@pytest.mark.parametrize("there", ["schema", "database", "pooled"])
def test_what_changes_after_it_was_copied_ahead_arrives(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """New, changed and removed rows, a new business, and one that is gone with its rows."""
    monkeypatch.setattr(mover, "LARGE_ROWS", 0)
    slug = f"ahead-{there}"
    tenant = create_tenant(fleet, NewTenant(slug, "owner@bluebird.example", slug=slug))
    if there == "pooled":
        move_tenant(fleet, slug, "schema")
    with fleet.connect() as main:
        main.execute(
            "update public.subscriptions set plan_id = (select id from public.subscription_plans "
            "order by (limits ->> 'businesses')::integer desc nulls first limit 1) "
            "where organization_id = %s",
            (tenant.id,),
        )
        first = main.execute(
            "select id from public.businesses where organization_id = %s", (tenant.id,)
        ).fetchone()
        assert first
        doomed = _found_business(main, tenant.id, "Doomed")
    send_due(fleet)
    place = Place(fleet, fleet.tenant(slug))
    create = "select (create_customer(business_id => %s, email => %s)).id"
    kept, changed, removed = (
        place.value(OWNER, create, first["id"], f"{name}@people.example") for name in "abc"
    )
    place.value(OWNER, create, doomed, "d@people.example")
    late: list[object] = []

    def meanwhile(step: str, done: float) -> None:
        if step != "freeze" or late:
            return
        place.all(
            OWNER, "update customers set notes = 'changed' where business_id = %s and id = %s",
            first["id"], changed,
        )  # fmt: skip
        place.all(
            None, "delete from customers where business_id = %s and id = %s", first["id"], removed
        )
        # A new one has the address of the one that is gone.
        late.append(place.value(OWNER, create, first["id"], "c@people.example"))
        with fleet.connect() as main:
            late.append(_found_business(main, tenant.id, "New"))
            main.execute("delete from public.businesses where id = %s", (doomed,))
        send_due(fleet)
        late.append(place.value(OWNER, create, late[1], "c@people.example"))
        place.close()

    move_tenant(fleet, slug, there, progress=meanwhile)

    moved = Place(fleet, fleet.tenant(slug))
    rows = moved.all(
        None,
        "select id, notes from customers where business_id = any (%s)",
        [first["id"], doomed, late[1]],
    )
    assert {row["id"]: row["notes"] for row in rows} == {
        kept: None, changed: "changed", late[0]: None, late[2]: None,
    }  # fmt: skip
    moved.close()


def _found_business(main: Connection, organization_id: UUID, name: str) -> UUID:
    row = main.execute(
        "insert into public.businesses (organization_id, name, slug, country, currency) "
        "values (%s, %s, %s, 'US', 'USD') returning id",
        (organization_id, name, f"{name.lower()}-{organization_id.hex[-8:]}"),
    ).fetchone()
    assert row
    found: UUID = row["id"]
    return found


@pytest.mark.parametrize("there", ["schema", "database"])
def test_an_error_undoes_the_move(
    fleet: Fleet, moved_tenant: str, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    if fleet.tenant(moved_tenant).home.isolation != "pooled":
        move_tenant(fleet, moved_tenant, "pooled")
    before = digests(fleet, moved_tenant)

    def lossy(*arguments: object) -> list[str]:
        return ["calls.calls_customer_fkey: 3 rows"]

    monkeypatch.setattr(mover, "orphans", lossy)
    with pytest.raises(FleetError, match=r"undone.*calls_customer_fkey"):
        move_tenant(fleet, moved_tenant, there)
    tenant = fleet.tenant(moved_tenant)
    assert (tenant.home.isolation, tenant.state) == ("pooled", "active")
    assert digests(fleet, moved_tenant) == before
    with fleet.connect() as main:
        last = main.execute(
            "select state, error from public.placement_moves where organization_id = %s "
            "order by created_at desc limit 1",
            (tenant.id,),
        ).fetchone()
    assert last
    assert last["state"] == "rolled_back"
    assert "calls_customer_fkey" in last["error"]


@pytest.mark.parametrize("there", ["pooled", "schema"])
def test_an_error_while_copying_ahead_undoes_the_move_and_nobody_waited(
    fleet: Fleet, moved_tenant: str, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    if fleet.tenant(moved_tenant).home.isolation != "database":
        move_tenant(fleet, moved_tenant, "database")
    before = digests(fleet, moved_tenant)
    states: set[str] = set()
    copy = mover.copy_rows

    def broken(*arguments: Any) -> None:
        states.add(fleet.tenant(moved_tenant).state)
        copy(*arguments)
        if arguments[3].name == "customers":
            raise FleetError("the disk is full")

    monkeypatch.setattr(mover, "LARGE_ROWS", 0)
    monkeypatch.setattr(mover, "copy_rows", broken)
    with pytest.raises(FleetError, match=r"undone.*the disk is full"):
        move_tenant(fleet, moved_tenant, there)
    tenant = fleet.tenant(moved_tenant)
    assert (tenant.home.isolation, tenant.state, states) == ("database", "active", {"active"})
    assert digests(fleet, moved_tenant) == before
    if there == "pooled":
        with fleet.connect() as main:
            left = main.execute(
                "select count(*) as rows from public.customers where business_id = any (%s)",
                (mover.businesses_of(fleet, tenant.id),),
            ).fetchone()
        assert left == {"rows": 0}


INDEXES = """
select replace(pg_get_indexdef(i.indexrelid), %(schema)s || '.', '') as definition
from pg_index i join pg_class c on c.oid = i.indrelid
where c.relnamespace = %(schema)s::regnamespace and c.relname = any (%(tables)s) order by 1
"""


def test_indexes_that_were_built_afterwards_are_all_there(
    fleet: Fleet, moved_tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fleet.tenant(moved_tenant).home.isolation == "schema":
        move_tenant(fleet, moved_tenant, "pooled")
    dropped: list[str] = []
    build = mover.indexed_afterwards

    def watched(connection, tables):  # type: ignore[no-untyped-def]
        dropped.extend(one.name for one in tables)
        return build(connection, tables)

    monkeypatch.setattr(mover, "indexed_afterwards", watched)
    monkeypatch.setattr(mover, "LARGE_ROWS", 0)
    move_tenant(fleet, moved_tenant, "schema")
    assert "customers" in dropped
    home = fleet.tenant(moved_tenant).home
    with fleet.connect(home.database) as place:
        place.execute("set search_path = pg_catalog")
        names = [
            r["table_name"] for r in place.execute("select table_name from private.tenant_tables")
        ]
        here, pooled = (
            place.execute(INDEXES, {"schema": schema, "tables": names}).fetchall()
            for schema in (home.schema, "public")
        )
    assert len(here) > 60
    assert here == pooled


def test_a_lost_row_is_noticed(
    fleet: Fleet, moved_tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is what stands between a bug in copying and a loss."""
    if fleet.tenant(moved_tenant).home.isolation != "pooled":
        move_tenant(fleet, moved_tenant, "pooled")
    copy = mover.copy_rows

    def lossy(source, target, from_table, to_table, businesses) -> None:  # type: ignore[no-untyped-def]
        copy(source, target, from_table, to_table, businesses)
        if to_table.name == "customers":
            target.execute(
                f"delete from {to_table.schema}.customers where id = (select min(id::text)::uuid "
                f"from {to_table.schema}.customers)"
            )

    monkeypatch.setattr(mover, "copy_rows", lossy)
    with pytest.raises(FleetError, match=r"customers differs: 30 rows.* 29 rows"):
        move_tenant(fleet, moved_tenant, "schema")
    assert fleet.tenant(moved_tenant).home.isolation == "pooled"


class Writer(threading.Thread):
    """A member who keeps adding customers wherever the registry says their home is."""

    def __init__(self, fleet: Fleet, key: str, business: UUID) -> None:
        super().__init__(daemon=True)
        self._fleet, self._key, self._business = fleet, key, business
        self.acknowledged: list[UUID] = []
        self.refused = 0
        self.unexpected: list[str] = []
        self.longest_pause_seconds = 0.0
        self.ending = threading.Event()

    def run(self) -> None:
        fleet = Fleet(self._fleet.server, self._fleet.main, self._fleet.migrations)
        place: Place | None = None
        last = time.monotonic()
        while not self.ending.is_set():
            place = place or Place(fleet, fleet.tenant(self._key))
            row_id = uuid4()
            try:
                place.all(
                    None if len(self.acknowledged) % 3 == 0 else OWNER,
                    "select create_customer(business_id => %s, first_name => %s)",
                    self._business,
                    str(row_id),
                )
            except psycopg.Error as error:
                if not isinstance(error, psycopg.errors.InsufficientPrivilege) and (
                    error.sqlstate not in ("PT409", "PT404")
                ):
                    self.unexpected.append(f"{error.sqlstate} {error}")
                self.refused += 1
                place.close()
                place = None
                time.sleep(0.005)
            else:
                self.acknowledged.append(row_id)
                self.longest_pause_seconds = max(
                    self.longest_pause_seconds, time.monotonic() - last
                )
                last = time.monotonic()
        if place:
            place.close()
        fleet.close()


@pytest.mark.parametrize("large", [False, True], ids=["at once", "ahead"])
@pytest.mark.parametrize(
    ("here", "there"), [("pooled", "schema"), ("schema", "database"), ("database", "pooled")]
)
def test_no_acknowledged_write_is_lost(
    fleet: Fleet,
    place_of: Callable[[str], Place],
    monkeypatch: pytest.MonkeyPatch,
    here: str,
    there: str,
    large: bool,
) -> None:
    if large:
        monkeypatch.setattr(mover, "LARGE_ROWS", 0)
    if fleet.tenant("bluebird").home.isolation != here:
        move_tenant(fleet, "bluebird", here)
    business = place_of("bluebird").value(OWNER, DENTAL)
    writers = [Writer(fleet, "bluebird", business) for _ in range(2)]
    for writer in writers:
        writer.start()
    # A transaction that was open before the freeze and commits late, as by a slow request.
    slow = place_of("bluebird")
    late, is_open = uuid4(), threading.Event()

    def commit_late() -> None:
        with slow.request(OWNER) as connection:
            connection.execute(
                "select create_customer(business_id => %s, first_name => %s)",
                (business, str(late)),
            )
            is_open.set()
            time.sleep(0.5)

    commit = threading.Thread(target=commit_late)
    try:
        until(lambda: min(len(one.acknowledged) for one in writers) > 3)
        commit.start()
        assert is_open.wait(20)
        move_tenant(fleet, "bluebird", there)
        before = [len(one.acknowledged) for one in writers]
        until(lambda: all(len(w.acknowledged) > n for w, n in zip(writers, before, strict=True)))
        commit.join()
    finally:
        for writer in writers:
            writer.ending.set()
            writer.join()
    for writer in writers:
        assert writer.unexpected == []
        assert writer.refused > 0, "nobody wrote during the move"
    with fleet.connect(fleet.tenant("bluebird").home.database) as home:
        schema = fleet.tenant("bluebird").home.schema
        names = {
            row["first_name"]
            for row in home.execute(
                f"select first_name from {schema}.customers where business_id = %s", (business,)
            )
        }
    assert {str(late)} <= names
    for writer in writers:
        assert {str(one) for one in writer.acknowledged} - names == set()
    assert (
        place_of("bluebird").all(
            OWNER, "select * from metric_drift where business_id = %s", business
        )
        == []
    )


def test_a_transaction_that_does_not_end_undoes_the_move(
    fleet: Fleet, moved_tenant: str, place_of: Callable[[str], Place]
) -> None:
    there = "schema" if fleet.tenant(moved_tenant).home.isolation == "pooled" else "pooled"
    here = fleet.tenant(moved_tenant).home
    place = place_of(moved_tenant)
    with place.request(OWNER) as connection:
        connection.execute("update customers set notes = 'slow' where first_name = 'C1'")
        with pytest.raises(FleetError, match=r"did not end within 0.5 seconds \(pid"):
            move_tenant(fleet, moved_tenant, there, drain_seconds=0.5)
    assert fleet.tenant(moved_tenant).home == here
    assert fleet.tenant(moved_tenant).state == "active"
    place.all(OWNER, "update customers set notes = 'again' where first_name = 'C1'")


def test_a_move_waits_for_migrations_and_for_itself(fleet: Fleet, moved_tenant: str) -> None:
    isolation = fleet.tenant(moved_tenant).home.isolation
    there = "schema" if isolation != "schema" else "pooled"
    with fleet.connect() as other:
        other.execute("select pg_advisory_lock(hashtext('tenantry:moves'))")
        with pytest.raises(TenantryError, match="fleet is being migrated"):
            move_tenant(fleet, moved_tenant, there)
    assert fleet.tenant(moved_tenant).state == "active"
    with pytest.raises(FleetError, match=f"placement {isolation} already"):
        move_tenant(fleet, moved_tenant, isolation)
