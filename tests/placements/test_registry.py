"""Members follow their organization: what changes in the registry holds at every home."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from psycopg.types.json import Jsonb

from tenantry_cli.fleet.fleet import Fleet, Tenant
from tenantry_cli.fleet.jobs import requeue_interrupted, run_next_job
from tenantry_cli.fleet.mover import clean_moves, move_tenant
from tenantry_cli.fleet.registry import reconcile, send, send_due
from tenantry_cli.fleet.worker import Worker

from .conftest import MANAGER, OWNER, STAFF, STRANGER, VIEWER, Place, until

DENTAL = "select id from public.businesses where slug = 'bluebird-dental'"
COUNT = "select count(*) from customers where business_id = %s"


@pytest.fixture(scope="module", params=["schema", "database"])
def elsewhere(fleet: Fleet, request: pytest.FixtureRequest) -> Tenant:
    with fleet.session() as main:  # whatever a test before left
        main.execute(
            "update public.business_memberships set status = 'active' where status <> 'active'"
        )
        main.execute("delete from public.fleet_jobs")
    if fleet.tenant("bluebird").home.isolation != request.param:
        move_tenant(fleet, "bluebird", request.param)
    clean_moves(fleet, now=True)
    return fleet.tenant("bluebird")


def at_main(fleet: Fleet, statement: str, *values: object) -> None:
    with fleet.session() as main:
        main.execute(statement, values)  # type: ignore[arg-type]


def set_member_status(fleet: Fleet, status: str) -> None:
    at_main(
        fleet,
        "update public.business_memberships set status = %s where user_id = %s",
        status,
        VIEWER,
    )


def test_a_removed_member_is_removed_there(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    place = place_of("bluebird")
    business = place.value(OWNER, DENTAL)
    assert place.value(VIEWER, COUNT, business) > 0
    set_member_status(fleet, "suspended")
    assert [one.error for one in send_due(fleet)] == [None]
    assert place.value(VIEWER, COUNT, business) == 0
    set_member_status(fleet, "active")
    send_due(fleet)
    assert place.value(VIEWER, COUNT, business) > 0
    assert send_due(fleet) == [], "what was sent is not sent again"


def test_roles_departments_and_single_permissions_follow(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    place = place_of("bluebird")
    business = place.value(OWNER, DENTAL)
    change = "update customers set notes = 'x' where business_id = %s returning id"
    assert place.all(VIEWER, change, business) == []
    member = place.value(
        OWNER,
        "select id from public.business_memberships where user_id = %s and business_id = %s",
        VIEWER, business,
    )  # fmt: skip
    at_main(
        fleet,
        "insert into public.user_permissions (business_id, membership_id, permission_code, effect) "
        "values (%s, %s, 'customers.write', 'allow')", business, member,
    )  # fmt: skip
    send_due(fleet)
    assert place.all(VIEWER, change, business) != []
    at_main(fleet, "delete from public.user_permissions where membership_id = %s", member)
    send_due(fleet)
    assert place.all(VIEWER, change, business) == []

    # A department that is deleted leaves nobody pointing to it.
    at_main(
        fleet, "insert into public.departments (business_id, id, name, kind) values "
        "(%s, '00000000-0000-4000-8000-00000000dddd', 'Short-lived', 'sales')", business,
    )  # fmt: skip
    send_due(fleet)
    place.all(
        OWNER, "update customers set department_id = '00000000-0000-4000-8000-00000000dddd' "
        "where business_id = %s", business,
    )  # fmt: skip
    at_main(fleet, "delete from public.departments where name = 'Short-lived'")
    send_due(fleet)
    assert place.value(
        OWNER, "select count(*) from customers where business_id = %s "
        "and department_id is not null",
        business,
    ) == 0  # fmt: skip


def test_rights_are_the_same_as_in_the_main_database(fleet: Fleet, elsewhere: Tenant) -> None:
    query = (
        "select user_id, permission, home_schema, business_ids, limited_business_ids, record_keys, "
        "denied_ids from private.user_access where home_database = %s and home_schema = %s "
        "order by 1, 2"
    )
    home = (elsewhere.home.database, elsewhere.home.schema)
    with fleet.connect() as main, fleet.connect(elsewhere.home.database) as place:
        there = place.execute(query, home).fetchall()
        assert there == main.execute(query, home).fetchall()
        assert len(there) > 50


def test_a_new_business_and_a_new_time_zone_arrive(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    place = place_of("bluebird")
    business = place.value(OWNER, DENTAL)
    at_main(fleet, "update public.businesses set timezone = 'Asia/Tokyo' where id = %s", business)
    send_due(fleet)
    assert (
        place.value(OWNER, "select timezone from public.businesses where id = %s", business)
        == "Asia/Tokyo"
    )
    # Past days were moved with the zone, at home.
    assert place.all(OWNER, "select * from metric_drift where business_id = %s", business) == []
    at_main(
        fleet, "update public.businesses set timezone = 'America/New_York' where id = %s", business
    )
    send_due(fleet)
    assert place.all(OWNER, "select * from metric_drift where business_id = %s", business) == []


def test_an_older_state_is_refused(fleet: Fleet, elsewhere: Tenant) -> None:
    with fleet.connect() as main:
        old = main.execute(
            "select private.registry_snapshot(%s) as snapshot, version "
            "from private.registry_places "
            "where organization_id = %s and database_name = %s",
            (elsewhere.id, elsewhere.id, elsewhere.home.database),
        ).fetchone()
    assert old
    set_member_status(fleet, "suspended")
    send_due(fleet)
    receive = "select private.receive_registry(%s, %s) as taken"
    with fleet.connect(elsewhere.home.database) as place:
        taken = place.execute(receive, (Jsonb(old["snapshot"]), old["version"])).fetchone()
        assert taken == {"taken": False}
    set_member_status(fleet, "active")
    send_due(fleet)


def test_reconcile_mends_what_was_changed_by_hand(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    place = place_of("bluebird")
    business = place.value(OWNER, DENTAL)
    with fleet.connect(elsewhere.home.database) as there:
        there.execute("set session_replication_role = replica")
        there.execute("delete from public.membership_roles")
        there.execute("delete from private.user_access")
    assert place.value(MANAGER, COUNT, business) == 0
    assert {one.error for one in reconcile(fleet)} == {None}
    assert place.value(MANAGER, COUNT, business) > 0


def test_a_place_that_cannot_be_reached_is_told_later(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    fleet.close()
    with fleet.connect() as main:
        main.execute(f'alter database "{elsewhere.home.database}" allow_connections false')
    try:
        set_member_status(fleet, "suspended")
        (sent,) = send_due(fleet)
        assert sent.error
        assert "not currently accepting connections" in sent.error
    finally:
        with fleet.connect() as main:
            main.execute(f'alter database "{elsewhere.home.database}" allow_connections true')
    (sent,) = send_due(fleet)
    assert sent.error is None
    place = place_of("bluebird")
    assert place.value(VIEWER, COUNT, place.value(OWNER, DENTAL)) == 0
    set_member_status(fleet, "active")
    send_due(fleet)


def test_access_lists_are_kept_where_the_records_are(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    place = place_of("bluebird")
    business = place.value(OWNER, DENTAL)
    customer = place.value(
        OWNER, "select id from customers where business_id = %s limit 1", business
    )
    member = place.value(
        OWNER, "select id from public.business_memberships where user_id = %s and business_id = %s",
        STAFF, business,
    )  # fmt: skip
    place.all(
        OWNER, "select share_record(%s, 'customers', %s, array['read'], membership_id => %s, "
        "effect => 'deny')", business, customer, member,
    )  # fmt: skip
    seen = "select count(*) from customers where id = %s"
    assert place.value(STAFF, seen, customer) == 0
    reconcile(fleet)
    assert place.value(STAFF, seen, customer) == 0
    move_tenant(fleet, "bluebird", "pooled")
    assert place_of("bluebird").value(STAFF, seen, customer) == 0
    move_tenant(fleet, "bluebird", elsewhere.home.isolation)
    place = place_of("bluebird")
    assert place.value(STAFF, seen, customer) == 0
    share = place.value(
        OWNER, "select id from public.access_control_lists where resource_id = %s", customer
    )
    place.all(OWNER, "select unshare_record(%s, %s)", business, share)
    assert place.value(STAFF, seen, customer) == 1


@contextmanager
def working(fleet: Fleet) -> Iterator[Worker]:
    def again() -> Fleet:
        return Fleet(fleet.server, fleet.main, fleet.migrations, prefix=fleet.prefix)

    worker = Worker(again)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    assert worker.ready.wait(20)
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_the_worker_does_it_all(
    fleet: Fleet, elsewhere: Tenant, place_of: Callable[[str], Place]
) -> None:
    place = place_of("bluebird")
    business = place.value(OWNER, DENTAL)
    customer = place.value(
        OWNER, "select id from customers where business_id = %s limit 1", business
    )
    with working(fleet):
        # A right that is taken away is gone there within a second, also while a job is running.
        until(lambda: place.value(VIEWER, COUNT, business) > 0)
        set_member_status(fleet, "suspended")
        seconds = until(lambda: place.value(VIEWER, COUNT, business) == 0)
        print(f"revocation reached {elsewhere.home.isolation} after {seconds * 1000:.0f} ms")
        set_member_status(fleet, "active")

        # Invited where the customer is, accepted where accounts are.
        invited = place.all(
            OWNER, "select * from invite_portal_customer(%s, %s, 'portal@customers.example')",
            business, customer,
        )[0]  # fmt: skip
        pooled = Place(fleet, fleet.tenant("copperline"))
        until(
            lambda: pooled.all(
                None, "select 1 from public.invitations where id = %s", invited["invitation_id"]
            )
        )
        at_main(
            fleet, "insert into auth.users (id, email, email_confirmed_at) values "
            "(%s, 'portal@customers.example', now()) on conflict do nothing", business,
        )  # fmt: skip
        pooled.all(business, "select accept_invitation(token => %s)", invited["token"])
        until(
            lambda: (
                place.value(
                    OWNER,
                    "select count(*) from public.business_memberships where customer_id = %s",
                    customer,
                )
                == 1
            )
        )
        assert place.all(None, "select 1 from public.invitations") == []
        at_main(fleet, "delete from auth.users where id = %s", business)

        job = pooled.all(
            None, "select * from move_business(%s, 'pooled', 'tests')", business
        )[0]  # fmt: skip
        row = "select state, result, error from public.fleet_jobs where id = %s"
        until(lambda: pooled.all(None, row, job["id"])[0]["state"] in ("done", "failed"), 60)
        done = pooled.all(None, row, job["id"])[0]
        assert done["state"] == "done", done
        assert fleet.tenant("bluebird").home.isolation == "pooled"

        bad = pooled.all(
            None, "select * from request_fleet_job('suspend', '{\"tenant\": \"nobody\"}')"
        )[0]
        until(lambda: pooled.all(None, row, bad["id"])[0]["state"] == "failed", 60)
        assert "there is no tenant 'nobody'" in pooled.all(None, row, bad["id"])[0]["error"]
        pooled.close()
    move_tenant(fleet, "bluebird", elsewhere.home.isolation)


def test_an_interrupted_job_is_done_again(fleet: Fleet, elsewhere: Tenant) -> None:
    at_main(
        fleet, "insert into public.fleet_jobs (kind, arguments, state, attempts) "
        "values ('suspend', '{\"tenant\": \"copperline\"}', 'running', 1), "
        "('suspend', '{\"tenant\": \"copperline\"}', 'running', 3)",
    )  # fmt: skip
    requeue_interrupted(fleet)
    assert run_next_job(fleet) is True
    assert run_next_job(fleet) is False
    assert fleet.tenant("copperline").status == "suspended"
    place = Place(fleet, fleet.tenant("copperline"))
    assert place.all(STRANGER, "select 1 from customers") == []
    place.close()
    at_main(fleet, "update public.organizations set status = 'active' where status <> 'active'")
    with fleet.session() as main:
        states = main.execute(
            "select state, error from public.fleet_jobs "
            "where arguments ->> 'tenant' = 'copperline' order by attempts"
        ).fetchall()
    assert [row["state"] for row in states] == ["done", "failed"]


def test_nothing_is_sent_to_the_main_database(fleet: Fleet, elsewhere: Tenant) -> None:
    send(fleet, fleet.tenant("copperline").id, fleet.main)
    with fleet.session() as main:
        assert main.execute("select count(*) as n from private.received_registries").fetchone() == {
            "n": 0
        }
