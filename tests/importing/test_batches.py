"""Staging and committing: who may, all or nothing, once, and what happens meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

NOBODY = {"customers": 0, "contact_points": 0, "conversations": 0, "messages": 0, "calls": 0}
STAGED = "select count(*) as n from import_rows where batch_id = %s"


def people(count, start=0):
    return [
        {"external_id": f"p{n}", "line": n - start + 2, "first_name": f"P{n}",
         "phone": f"+1212{2000000 + n}", "email": f"p{n}@shop.example.com"}
        for n in range(start, start + count)
    ]  # fmt: skip


def staged(world, batch):
    return world.operator.execute(STAGED, (batch,)).fetchone()["n"]


def as_visitor(member, function, **arguments):
    """Calls a function without a token."""
    values = [Jsonb(v) if isinstance(v, list) else v for v in arguments.values()]
    names = ", ".join(f"{name} => %s" for name in arguments)
    with member.connection.transaction():
        member.connection.execute("set local role anon")
        member.connection.execute(f"select {function}({names})", values)


# Who may ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["customers", "messages", "calls"])
@pytest.mark.parametrize(
    ("role", "refusal"),
    [("admin", None), ("manager", None), ("staff", None), ("sales_rep", "scope_too_narrow"),
     ("director", "permission_missing"), ("viewer", "permission_missing")],
)  # fmt: skip
def test_roles(world, owner, sms, refused, kind, role, refusal):
    """An import writes for the whole business: who may write their own records alone may not."""
    member = world.colleague(owner, role)
    arguments = {"kind": kind, "row_count": 1}
    if kind == "messages":
        arguments["channel_id"] = sms
    if refusal is None:
        assert member.call("start_import", **arguments)["batch_id"]
    else:
        error = refused(member.call, "start_import", **arguments)
        assert (error["code"], error["reason"]) == ("42501", refusal)


def test_strangers_and_visitors_are_refused_everywhere(world, owner, refused):
    stranger = world.owner()
    batch = owner.stage("customers", people(1))
    calls = [
        ("start_import", {"kind": "customers", "row_count": 1}),
        ("add_import_rows", {"batch_id": batch, "rows": []}),
        ("check_import", {"batch_id": batch}),
        ("commit_import", {"batch_id": batch}),
        ("discard_import", {"batch_id": batch}),
        ("import_customers", {"rows": people(1)}),
        ("import_messages", {"rows": [{"body": "x"}], "channel_id": uuid4()}),
        ("import_calls", {"rows": []}),
    ]
    for function, arguments in calls:
        error = refused(stranger.call, function, business_id=owner.business_id, **arguments)
        assert (error["code"], error["reason"]) == ("42501", "permission_missing"), function
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_visitor(stranger, function, business_id=owner.business_id, **arguments)
    assert owner.counts() == NOBODY
    assert staged(world, batch) == 1


def test_a_batch_is_its_makers_alone(world, owner, refused):
    batch = owner.stage("customers", people(1))
    colleague = world.colleague(owner, "admin")
    for function, more in (
        ("add_import_rows", {"rows": people(1)}),
        ("check_import", {}),
        ("commit_import", {}),
    ):
        error = refused(colleague.call, function, batch_id=batch, **more)
        assert (error["code"], error["reason"]) == ("PT404", "not_found"), function
    colleague.call("discard_import", batch_id=batch)
    assert staged(world, batch) == 1


def test_staged_rows_can_be_seen_by_nobody(owner):
    owner.stage("customers", people(1))
    for table in ("import_batches", "import_rows", "customer_import_keys"):
        for query in (f"select 1 from {table}", f"delete from {table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.all(query)


def test_a_right_that_is_taken_away_ends_the_import(world, owner, refused):
    member = world.colleague(owner, "staff")
    batch = member.stage("customers", people(3))
    membership = owner.value(
        "select id from business_memberships where business_id = %s and user_id = %s",
        *(owner.business_id, member.user_id),
    )
    owner.all("select change_member_roles(%s, %s, array['viewer'])", owner.business_id, membership)
    error = refused(member.call, "commit_import", batch_id=batch)
    assert error["reason"] == "permission_missing"
    assert owner.counts() == NOBODY


# All or nothing -----------------------------------------------------------------------------------


def test_until_commit_nothing_is_in_the_business(world, owner):
    batch = owner.stage("customers", people(5))
    assert owner.counts() == NOBODY
    result = owner.call("commit_import", batch_id=batch)
    assert (result["created"], result["remaining"]) == (5, 0)
    assert owner.counts()["customers"] == 5
    assert staged(world, batch) == 0
    # The answer got lost: it is the same again, and nothing is done twice.
    assert owner.call("commit_import", batch_id=batch) == result
    owner.call("discard_import", batch_id=batch)
    assert owner.counts()["customers"] == 5


def test_a_bad_row_stops_the_commit_and_leaves_the_rows_for_skip_bad(owner, refused):
    rows = [*people(3), {"line": 9, "phone": "12"}]
    batch = owner.stage("customers", rows)
    error = refused(owner.call, "commit_import", batch_id=batch)
    assert error["reason"] == "bad_rows"
    assert error["message"] == "1 of 4 rows cannot be imported; nothing was."
    assert owner.counts() == NOBODY
    result = owner.call("commit_import", batch_id=batch, skip_bad=True)
    assert (result["created"], result["bad"]) == (3, 1)


def test_a_session_killed_in_the_middle_of_a_commit_leaves_nothing(world, owner):
    batch = owner.stage("customers", people(400))
    # Holding the last table that the commit writes to, so that it has done the most it can.
    with psycopg.connect(world.database.url("postgres")) as blocker:
        blocker.execute("lock table customer_import_keys in exclusive mode")
        pid = owner.connection.info.backend_pid
        failures = []

        def commit():
            try:
                owner.call("commit_import", batch_id=batch)
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=commit)
        thread.start()
        deadline = time.monotonic() + 20
        waiting = "select 1 from pg_locks where pid = %s and not granted"
        while not world.operator.execute(waiting, (pid,)).fetchone():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        world.operator.execute("select pg_terminate_backend(%s)", (pid,))
        thread.join()
    assert len(failures) == 1
    owner.close()
    owner.connection = psycopg.connect(
        world.database.url("authenticator"), autocommit=True, row_factory=world.operator.row_factory
    )
    assert owner.counts() == NOBODY
    assert owner.drift() == []
    assert owner.call("commit_import", batch_id=batch)["created"] == 400


def test_the_plan_refuses_the_whole_import_before_anything_is_stored(world, owner, refused):
    world.operator.execute(
        "insert into customers (business_id, first_name)"
        " select %s, 'x' from generate_series(1, 4990)",
        (owner.business_id,),
    )
    error = refused(owner.import_, "customers", people(11))
    assert (error["code"], error["reason"]) == ("PT402", "plan_limit")
    assert (error["details"]["limit"], error["details"]["used"]) == (5000, 4990)
    assert owner.counts()["customers"] == 4990
    assert owner.import_("customers", people(10))["created"] == 10
    # Messages of strangers would be customers, too: then not even a message is stored.
    channel = owner.value(
        "select id from channels where business_id = %s and kind = 'sms'", owner.business_id
    )
    rows = [{"body": "Hi", "peer": "+12125559999"}, {"body": "Ho"}]
    error = refused(owner.import_, "messages", rows, channel_id=channel)
    assert error["code"] == "PT402"
    assert owner.counts()["messages"] == 0
    # Known rows are free.
    assert owner.import_("customers", people(10))["already_there"] == 10


def test_rows_that_did_not_arrive_stop_the_commit(owner, refused):
    rows = people(4)
    batch = owner.call("start_import", kind="customers", row_count=4)["batch_id"]
    owner.call("add_import_rows", batch_id=batch, rows=rows[:3])
    owner.call("check_import", batch_id=batch)
    error = refused(owner.call, "commit_import", batch_id=batch)
    assert (error["code"], error["reason"]) == ("PT409", "incomplete")
    assert error["message"] == "3 of 4 rows have arrived."
    # Sent again after a lost answer, and then the rest.
    owner.call("add_import_rows", batch_id=batch, rows=rows[:3])
    owner.call("add_import_rows", batch_id=batch, rows=rows[3:])
    assert refused(owner.call, "commit_import", batch_id=batch)["reason"] == "unchecked"
    owner.call("check_import", batch_id=batch)
    assert owner.call("commit_import", batch_id=batch)["created"] == 4
    error = refused(owner.call, "add_import_rows", batch_id=batch, rows=people(1, 50))
    assert (error["code"], error["reason"]) == ("PT409", "committed")


def test_more_rows_than_announced_are_refused(owner, refused):
    batch = owner.call("start_import", kind="customers", row_count=2)["batch_id"]
    error = refused(owner.call, "add_import_rows", batch_id=batch, rows=people(3))
    assert error["reason"] == "too_many_rows"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"kind": "invoices"}, "bad_choice"),
        ({"row_count": 0}, "out_of_range"),
        ({"row_count": 200_001}, "out_of_range"),
        ({"row_count": 2501}, "too_many_rows"),
        ({"options": {"color": "red"}}, "bad_option"),
        ({"options": {"keep_invalid_phones": "perhaps"}}, "bad_type"),
        ({"options": {"source": "My CRM"}}, "bad_source"),
        ({"options": {"country": "usa"}}, "bad_country"),
        ({"options": {"stage": "vip"}}, "bad_choice"),
        ({"kind": "messages"}, "wrong_channel"),
        ({"kind": "messages", "channel_id": str(uuid4())}, "not_found"),
    ],
)
def test_imports_that_cannot_be_started(owner, refused, arguments, reason):
    error = refused(
        owner.call, "start_import", **{"kind": "customers", "row_count": 1, **arguments}
    )
    assert error["reason"] == reason
    assert error["hint"]


def test_channels_and_peers_must_fit(owner, sms, refused):
    error = refused(owner.call, "start_import", kind="calls", row_count=1, channel_id=sms)
    assert error["reason"] == "wrong_channel"
    error = refused(
        owner.call, "start_import", kind="messages", row_count=1, channel_id=sms,
        options={"peer": "a name that is too long"},
    )  # fmt: skip
    assert error["reason"] == "invalid_address"
    rows = [{"body": "Hi"}, {"body": "Ho", "peer": "+12125550124"}]
    owner.import_("messages", rows, channel_id=sms, options={"peer": "(212) 555-0123"})
    peers = owner.all("select peer from conversations where business_id = %s", owner.business_id)
    assert {one["peer"] for one in peers} == {"+12125550123", "+12125550124"}


@pytest.mark.parametrize("rows", [{"a": 1}, ["x"], [{"line": 0}], [{"line": "x"}], [[]]])
def test_rows_of_the_wrong_shape_are_refused(owner, refused, rows):
    batch = owner.call("start_import", kind="customers", row_count=1)["batch_id"]
    error = refused(owner.call, "add_import_rows", batch_id=batch, rows=rows)
    assert (error["code"], error["reason"]) == ("22023", "bad_type")
    if isinstance(rows, dict):
        assert refused(owner.import_, "customers", rows)["reason"] == "bad_type"


# In parts -----------------------------------------------------------------------------------------


def test_parts_are_whole_and_can_be_taken_up_again(world, owner):
    rows = people(10)
    rows[7]["phone"] = rows[1]["phone"]  # a duplicate across parts
    batch = owner.stage("customers", rows, in_parts=True)
    first = owner.call("commit_import", batch_id=batch, skip_bad=True, max_rows=4)
    assert (first["created"], first["remaining"]) == (4, 6)
    assert owner.counts()["customers"] == 4
    owner.call("discard_import", batch_id=batch)
    # Started anew, the first part is known.
    batch = owner.stage("customers", rows, in_parts=True)
    for expected in (7, 4, 1, 0):
        result = owner.call("commit_import", batch_id=batch, skip_bad=True, max_rows=3)
        assert result["remaining"] == expected
    assert (result["created"], result["already_there"], result["bad"]) == (5, 4, 1)
    assert owner.counts()["customers"] == 9
    assert owner.drift() == []


def test_without_parts_a_commit_is_whole(owner, refused):
    batch = owner.stage("customers", people(5))
    error = refused(owner.call, "commit_import", batch_id=batch, max_rows=2)
    assert error["reason"] == "out_of_range"
    assert owner.counts() == NOBODY


def test_a_check_in_steps_sees_what_lies_in_other_steps(world, owner):
    world.operator.execute(
        "update subscriptions s set plan_id = p.id from subscription_plans p, businesses b"
        " where p.code = 'scale' and b.organization_id = s.organization_id and b.id = %s",
        (owner.business_id,),
    )
    owner.all(
        "select create_customer(%s, first_name => 'Ana', phone => '2125550100',"
        " email => 'ana@shop.example.com')",
        owner.business_id,
    )
    rows = [{"line": n, "first_name": f"x{n}"} for n in range(1, 5011)]
    rows[9] |= {"phone": "2125550100"}
    rows[5004] |= {"email": "ana@shop.example.com"}
    rows[19] |= {"phone": "2125550111"}
    rows[5005] |= {"phone": "2125550111"}
    batch = owner.call("start_import", kind="customers", row_count=5010, in_parts=True)["batch_id"]
    owner.call("add_import_rows", batch_id=batch, rows=rows)
    found = []
    while True:
        answer = owner.call("check_import", batch_id=batch)
        found += answer["problems"]
        if not answer["remaining"]:
            break
    assert [(one["line"], one["field"], one["reason"]) for one in found] == [
        (5005, "email", "duplicate"),
        (5006, "phone", "duplicate"),
    ]
    assert "Line 10 is about the same customer" in found[0]["problem"]
    assert (answer["create"], answer["complete"], answer["bad"]) == (5007, 1, 2)


# Meanwhile ----------------------------------------------------------------------------------------


def test_imports_of_the_same_file_at_once_make_each_customer_once(world, owner):
    colleagues = [owner, *(world.colleague(owner, "admin") for _ in range(3))]
    rows = people(60)
    batches = [member.stage("customers", rows) for member in colleagues]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(
                lambda pair: pair[0].call("commit_import", batch_id=pair[1]),
                zip(colleagues, batches, strict=True),
            )
        )
    assert sorted(result["created"] for result in results) == [0, 0, 0, 60]
    assert owner.counts()["customers"] == 60
    assert owner.counts()["contact_points"] == 120
    assert owner.drift() == []


def test_calls_that_come_in_meanwhile_find_the_imported_customer_or_are_found(world, owner):
    rows = people(80)
    batch = owner.stage("customers", rows)
    others = [world.colleague(owner, "staff") for _ in range(3)]

    def ring(member, offset):
        for row in rows[offset::3]:
            member.all("select log_call(%s, 'inbound', %s)", owner.business_id, row["phone"])

    with ThreadPoolExecutor(4) as pool:
        ringing = [pool.submit(ring, member, n) for n, member in enumerate(others)]
        time.sleep(0.05)
        result = pool.submit(owner.call, "commit_import", batch_id=batch).result()
        for one in ringing:
            one.result()
    assert result["created"] + result["completed"] == 80
    assert owner.counts()["customers"] == 80
    nameless = "select count(*) from customers where business_id = %s and first_name is null"
    assert owner.value(nameless, owner.business_id) == 0
    linked = "select count(distinct customer_id) from calls where business_id = %s"
    assert owner.value(linked, owner.business_id) == 80
    assert owner.drift() == []


def test_a_number_taken_after_the_check_is_completed_and_not_doubled(owner):
    batch = owner.stage("customers", [{"first_name": "Ana", "phone": "2125550123"}])
    owner.all("select log_call(%s, 'inbound', '2125550123')", owner.business_id)
    assert owner.call("commit_import", batch_id=batch)["completed"] == 1
    assert owner.counts()["customers"] == 1


def test_what_was_broken_off_is_forgotten_after_a_day(world, owner):
    old = owner.stage("customers", people(3))
    kept = owner.stage("customers", people(3))
    committed = owner.stage("customers", people(1, 90))
    owner.call("commit_import", batch_id=committed)
    world.operator.execute("alter table import_batches disable trigger _010_guard")
    world.operator.execute(
        "update import_batches set created_at = now() - interval '25 hours' where id = any (%s)",
        ([old, committed],),
    )
    world.operator.execute("alter table import_batches enable trigger _010_guard")
    owner.call("start_import", kind="customers", row_count=1)
    assert (staged(world, old), staged(world, kept)) == (0, 3)
    record = world.operator.execute(
        "select result, created_by from import_batches where id = %s", (committed,)
    ).fetchone()
    assert (record["result"]["created"], record["created_by"]) == (1, owner.user_id)
    owner.call("discard_import", batch_id=kept)
    assert staged(world, kept) == 0


def test_a_full_import_stays_well_below_the_time_a_statement_has(owner, sms):
    """Guards against plans that grow with the square of the rows: those took minutes."""
    rows = [{"external_id": f"m{n}", "body": f"text {n}", "peer": f"+1212{2000000 + n % 50}"}
            for n in range(6000)]  # fmt: skip
    batch = owner.stage("messages", rows, channel_id=sms)
    assert owner.call("commit_import", batch_id=batch)["created"] == 6000
    assert owner.drift() == []
