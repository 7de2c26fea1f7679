"""Webhooks of businesses that live elsewhere: stored at one home, once, wherever that is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row, scalar_row
from psycopg.types.json import Jsonb

from tenantry_cli.migrate import read_migrations
from tenantry_cli.migrate.tenant_plane import create_tenant_schema
from tenantry_cli.project import find_project
from tenantry_cli.testing import Database
from tenantry_functions.database import PostgresInbox
from tenantry_functions.errors import Unavailable
from tenantry_functions.inbox import Home
from tenantry_functions.places import checked_name
from tenantry_functions.providers import Reading
from tenantry_functions.testing import Answer, FunctionHost

FIXTURES = Path(__file__).parent / "fixtures"
Host = FunctionHost[None]
Tenant = Any  # the class of the fixture `tenant`, see conftest.py


def message(number: int = 1, **more: str) -> dict[str, str]:
    return {
        "AccountSid": "AC00000000000000000000000000000001",
        "MessageSid": f"SM{number:032}",
        "SmsStatus": "received",
        "From": "+14155550123",
        "To": "+14155550199",
        "Body": f"hello {number}",
        **more,
    }


@dataclass(frozen=True)
class Place:
    """One schema of one database, with the tenant plane in it."""

    database: Database
    schema: str = "public"

    def connect(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(
            self.database.url("postgres"),
            autocommit=True,
            row_factory=dict_row,
            options=f"-c search_path={self.schema},extensions",
        )

    def rows(self, table: str, business_id: Any = None) -> list[dict[str, Any]]:
        text = sql.SQL("select * from {} where business_id = coalesce(%s, business_id)")
        query = text.format(sql.Identifier(self.schema, table))
        with self.connect() as connection:
            return connection.execute(query, [business_id]).fetchall()

    def execute(self, query: str, *arguments: object) -> None:
        with self.connect() as connection:
            connection.execute(query.encode(), arguments)


class Fleet:
    """Moves tenants of one main database as the operator's worker does, without their rows."""

    def __init__(self, main: Database) -> None:
        self.main = Place(main)
        self._version = 0

    def organization_of(self, tenant: Tenant) -> Any:
        return tenant.one(
            "select organization_id as id from businesses where id = %s", tenant.business_id
        )["id"]

    def declare(self, tenant: Tenant, place: Place, state: str = "active") -> None:
        """Change the registry of the main database alone."""
        tenant.admin.execute(
            "update organization_placements set database_name = %s, schema_name = %s, state = %s,"
            " isolation = 'schema', epoch = epoch + 1 where organization_id = %s",
            (place.database.name, place.schema, state, self.organization_of(tenant)),
        )

    def push(self, tenant: Tenant, place: Place) -> None:
        """Send the registry of the main database to a place."""
        if place.database.name == self.main.database.name:
            return
        self._version += 1
        with self.main.database.connect() as main, place.database.connect() as other:
            snapshot = main.cursor(row_factory=scalar_row).execute(
                "select private.registry_snapshot(%s)", [self.organization_of(tenant)]
            )
            other.execute(
                "select private.receive_registry(%s, %s)",
                [Jsonb(snapshot.fetchone()), self._version],
            )

    def settle(self, tenant: Tenant, place: Place, state: str = "active") -> None:
        """Make a place the home of a tenant, with channels there."""
        self.declare(tenant, place, state)
        self.push(tenant, place)
        if state == "active":
            for kind in ("voice", "sms", "whatsapp"):
                self.add_channel(tenant, place, kind)

    def add_channel(
        self, tenant: Tenant, place: Place, kind: str, address: str = "+14155550199"
    ) -> None:
        place.execute(
            "insert into channels (business_id, connection_id, kind, name, address, provider)"
            " values (%s, %s, %s, 'Desk', %s, 'twilio') on conflict do nothing",
            tenant.business_id, tenant.connection.id, kind, address,
        )  # fmt: skip


@pytest.fixture(scope="module")
def shelf(new_database: Callable[[], Database]) -> Callable[[], Place]:
    """Call it for a fresh schema of one shelf database."""
    database = new_database()

    def create() -> Place:
        schema = f"tenant_{uuid4().hex}"
        with database.connect() as connection:
            create_tenant_schema(connection, schema, read_migrations(find_project().migrations))
        return Place(database, schema)

    return create


@pytest.fixture
def fleet(module_database: Database) -> Fleet:
    return Fleet(module_database)


@pytest.fixture(params=["schema", "database"])
def place(
    request: pytest.FixtureRequest,
    shelf: Callable[[], Place],
    new_database: Callable[[], Database],
) -> Place:
    """A home elsewhere, of either kind."""
    return shelf() if request.param == "schema" else Place(new_database())


def send(host: Host, tenant: Tenant, number: int = 1, **more: str) -> Answer:
    return host.twilio("twilio-messaging", tenant.connection, message(number, **more))


def inbox_of(host: Host) -> PostgresInbox:
    inbox = host.app.state.services.receiver.inbox
    assert isinstance(inbox, PostgresInbox)
    return inbox


def test_stored_at_home_once(
    served: Host, tenant: Tenant, fleet: Fleet, place: Place, shelf: Callable[[], Place]
) -> None:
    neighbour = shelf()
    fleet.settle(tenant, place)
    first = send(served, tenant)
    assert first.status == 200
    assert {send(served, tenant).body for _ in range(3)} == {first.body}
    (event,) = place.rows("webhook_events", tenant.business_id)
    assert (event["status"], event["error"]) == ("processed", None)
    (stored,) = place.rows("messages", tenant.business_id)
    assert stored["body"] == "hello 1"
    for other in (fleet.main, neighbour):
        for table in ("webhook_events", "messages", "customers"):
            assert other.rows(table, tenant.business_id) == []


def test_recorded_requests_are_applied(
    served: Host, tenant: Tenant, fleet: Fleet, place: Place
) -> None:
    fleet.settle(tenant, place)
    fleet.add_channel(tenant, place, "voice", "+14155550123")
    order = {"inbound": 0, "status": 1, "dial": 2, "recording": 3, "transcribe": 4}
    files = [*FIXTURES.glob("twilio_voice/*.json"), *FIXTURES.glob("twilio_messaging/*.json")]
    for file in sorted(files, key=lambda f: min(order[w] for w in order if w in f.stem)):
        request = json.loads(file.read_text())["request"]
        function = file.parent.name.replace("_", "-")
        for _ in range(2):  # Twilio may always send again
            answer = served.twilio(function, tenant.connection, request["body"].encode())
            assert answer.status == 200, file.stem
    events = place.rows("webhook_events", tenant.business_id)
    assert len(events) == len(files)
    assert {(e["status"], e["error"]) for e in events} == {("processed", None)}
    assert tenant.rows("webhook_events") == []


def test_each_in_its_own_home(
    served: Host,
    tenant: Tenant,
    new_tenant: Any,
    fleet: Fleet,
    shelf: Callable[[], Place],
    new_database: Callable[[], Database],
) -> None:
    pooled = tenant
    homes = {id(pooled): fleet.main}
    others = [new_tenant(tenant.database, tenant.admin) for _ in range(3)]
    for one, home in zip(others, (shelf(), shelf(), Place(new_database())), strict=True):
        fleet.settle(one, home)
        homes[id(one)] = home
    for one in (pooled, *others):
        assert send(served, one).status == 200
    for one in (pooled, *others):
        for other, home in homes.items():
            count = len(home.rows("messages", one.business_id))
            assert count == (1 if other == id(one) else 0)


class TestMoves:
    @pytest.mark.parametrize("state", ["moving", "read_only"])
    def test_refused_meanwhile_and_taken_later(
        self, served: Host, tenant: Tenant, fleet: Fleet, place: Place, state: str
    ) -> None:
        fleet.settle(tenant, place)
        assert send(served, tenant).status == 200
        fleet.declare(tenant, place, state)
        for number in (1, 2):  # one known before, one new
            answer = send(served, tenant, number)
            assert (answer.status, answer.json()["code"]) == (503, "moving")
            assert int(answer.headers["retry-after"]) > 0
        forged = served.twilio("twilio-messaging", tenant.connection, message(), secret="other")
        assert forged.status == 401
        assert len(place.rows("webhook_events", tenant.business_id)) == 1
        fleet.settle(tenant, place)
        assert send(served, tenant, 2).status == 200
        assert len(place.rows("messages", tenant.business_id)) == 2
        assert tenant.rows("webhook_events") == []

    def test_pooled_tenants_too(self, served: Host, tenant: Tenant, fleet: Fleet) -> None:
        fleet.declare(tenant, fleet.main, "moving")
        assert send(served, tenant).status == 503
        fleet.declare(tenant, fleet.main)
        assert send(served, tenant).status == 200
        assert len(tenant.rows("messages")) == 1

    def test_the_place_learns_of_it_first(
        self, served: Host, tenant: Tenant, fleet: Fleet, place: Place
    ) -> None:
        """What was looked up says active; the home knows better."""
        fleet.settle(tenant, place, "moving")
        fleet.declare(tenant, place)
        answer = send(served, tenant)
        assert (answer.status, answer.json()["code"]) == (503, "moving")
        assert place.rows("webhook_events", tenant.business_id) == []

    def test_the_next_one_goes_to_the_new_home(
        self, served: Host, tenant: Tenant, fleet: Fleet, place: Place, shelf: Callable[[], Place]
    ) -> None:
        assert send(served, tenant, 1).status == 200
        fleet.settle(tenant, place)
        assert send(served, tenant, 2).status == 200
        fleet.settle(tenant, new := shelf())
        fleet.push(tenant, place)
        assert send(served, tenant, 3).status == 200
        fleet.settle(tenant, fleet.main)
        assert send(served, tenant, 4).status == 200
        bodies = [
            sorted(row["body"] for row in home.rows("messages", tenant.business_id))
            for home in (fleet.main, place, new)
        ]
        assert bodies == [["hello 1", "hello 4"], ["hello 2"], ["hello 3"]]

    @pytest.mark.parametrize("is_left_in_main", [True, False])
    def test_a_home_that_is_left_in_between(
        self, served: Host, tenant: Tenant, fleet: Fleet, place: Place, is_left_in_main: bool,
        shelf: Callable[[], Place],
    ) -> None:  # fmt: skip
        """Looked up, moved, then stored: the old place refuses, the new one takes it."""
        if not is_left_in_main:
            fleet.settle(tenant, place)
        inbox = inbox_of(served)
        found = served.run(inbox.connection(tenant.connection.id))
        assert found is not None
        new = shelf()
        fleet.settle(tenant, new)
        fleet.push(tenant, place)
        receipt = served.run(inbox.ingest(found, Reading("test", "event-1"), {"a": "b"}))
        assert not receipt.duplicate
        (event,) = new.rows("webhook_events", tenant.business_id)
        assert event["provider_event_id"] == "event-1"
        for old in (fleet.main, place):
            assert old.rows("webhook_events", tenant.business_id) == []

    def test_sent_again_after_the_move(
        self, served: Host, tenant: Tenant, fleet: Fleet, place: Place
    ) -> None:
        first = send(served, tenant)
        (event,) = tenant.rows("webhook_events")
        fleet.settle(tenant, place)
        # The mover takes the rows along, without triggers.
        with place.connect() as connection, connection.transaction():
            connection.execute("set local session_replication_role = replica")
            connection.execute(
                "insert into webhook_events select * from jsonb_populate_recordset("
                "null::webhook_events, %s)",
                [Jsonb([event], dumps=lambda rows: json.dumps(rows, default=str))],
            )
        again = send(served, tenant)
        assert (again.status, again.body) == (200, first.body)
        assert len(place.rows("webhook_events", tenant.business_id)) == 1
        assert place.rows("messages", tenant.business_id) == []

    def test_a_home_that_has_not_heard_of_the_connection(
        self, served: Host, tenant: Tenant, fleet: Fleet, place: Place
    ) -> None:
        fleet.declare(tenant, place)
        answer = send(served, tenant)
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        fleet.settle(tenant, place)
        assert send(served, tenant).status == 200
        assert len(place.rows("messages", tenant.business_id)) == 1


def failed_event(host: Host, fleet: Fleet, tenant: Tenant, home: Place) -> None:
    """An event that waits for its channel, and then the channel; due now."""
    assert send(host, tenant, To="+14155550111").status == 200
    (event,) = home.rows("webhook_events", tenant.business_id)
    assert event["status"] == "failed"
    fleet.add_channel(tenant, home, "sms", "+14155550111")
    home.execute(
        "update webhook_events set next_attempt_at = now() where business_id = %s",
        tenant.business_id,
    )


def test_the_worker_visits_every_home(
    served: Host,
    tenant: Tenant,
    new_tenant: Any,
    fleet: Fleet,
    shelf: Callable[[], Place],
    new_database: Callable[[], Database],
) -> None:
    tenants = [tenant, *(new_tenant(tenant.database, tenant.admin) for _ in range(4))]
    own, left = new_database(), Place(new_database())
    homes = [fleet.main, shelf(), shelf(), Place(own), left]
    for one, home in list(zip(tenants, homes, strict=True))[1:]:
        fleet.settle(one, home)
    for one, home in zip(tenants, homes, strict=True):
        failed_event(served, fleet, one, home)
    nowhere = new_tenant(tenant.database, tenant.admin)
    fleet.declare(nowhere, Place(Database(own.server, "tenantry_test_of_nobody")))
    fleet.declare(tenants[4], left, "moving")
    fleet.push(tenants[4], left)
    fleet.declare(tenants[2], homes[2], "moving")  # its place has not heard of it

    settings = tenant.settings(
        retry_interval_seconds=0.05, elsewhere_retry_seconds=0.2, pool_wait_seconds=0.3
    )

    def statuses() -> list[str]:
        return [
            home.rows("webhook_events", one.business_id)[0]["status"]
            for one, home in zip(tenants, homes, strict=True)
        ]

    def worked(host: Host, expected: list[str]) -> bool:
        deadline = time.monotonic() + 10
        while statuses() != expected and time.monotonic() < deadline:
            host.run(asyncio.sleep(0.1))
        return statuses() == expected

    with FunctionHost(None, settings=settings) as host:
        assert worked(host, ["processed", "processed", "failed", "processed", "failed"])
        # And when the moves are over, from the same rounds.
        for one, home in ((tenants[2], homes[2]), (tenants[4], left)):
            fleet.declare(one, home)
            fleet.push(one, home)
        assert worked(host, ["processed"] * 5)
    tenant.admin.execute(
        "delete from organizations where id = %s", (fleet.organization_of(nowhere),)
    )


def test_a_database_that_is_gone(
    served: Host, tenant: Tenant, fleet: Fleet, new_tenant: Any, place: Place
) -> None:
    """Nothing is stored, and the others go on."""
    gone = Place(Database(tenant.database.server, "tenantry_test_of_nobody"))
    fleet.declare(tenant, gone)
    with FunctionHost(None, settings=tenant.settings(pool_wait_seconds=0.3)) as host:
        answer = send(host, tenant)
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert gone.database.name not in answer.text
        other = new_tenant(tenant.database, tenant.admin)
        fleet.settle(other, place)
        failed_event(host, fleet, other, place)
        # The worker's round is no failure for that: it would slow down for everybody.
        assert host.run(inbox_of(host).retry(10)) == 1
        assert host.request("GET", "/readyz", b"", []).status == 200
    tenant.admin.execute(
        "delete from organizations where id = %s", (fleet.organization_of(tenant),)
    )


def test_connections_to_other_databases_are_few(
    tenant: Tenant, new_tenant: Any, fleet: Fleet, new_database: Callable[[], Database]
) -> None:
    tenants = [tenant, new_tenant(tenant.database, tenant.admin)]
    homes = [Place(new_database()), Place(new_database())]
    for one, home in zip(tenants, homes, strict=True):
        fleet.settle(one, home)
    names = [home.database.name for home in homes]

    def connections() -> list[int]:
        query = "select count(*) as n from pg_stat_activity where datname = %s and usename = %s"
        return [tenant.one(query, name, "integrator")["n"] for name in names]

    with FunctionHost(None, settings=tenant.settings(elsewhere_databases_max=1)) as host:
        for number in range(3):
            for turn, one in enumerate(tenants):
                assert send(host, one, number).status == 200
                deadline = time.monotonic() + 5
                while connections()[1 - turn] and time.monotonic() < deadline:
                    host.run(asyncio.sleep(0.1))
                here = connections()
                assert 1 <= here[turn] <= 3
                assert here[1 - turn] == 0
    deadline = time.monotonic() + 5
    while any(connections()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert connections() == [0, 0]


@pytest.mark.parametrize("name", ["", "A", "a-b", 'a"b', "a b", "1a", "host=evil", "a" * 64, "é"])
def test_names_that_no_place_has(served: Host, tenant: Tenant, name: str) -> None:
    with pytest.raises(Unavailable):
        checked_name(name)
    inbox = inbox_of(served)
    found = served.run(inbox.connection(tenant.connection.id))
    assert found is not None
    for home in (Home(name, "public"), Home(tenant.database.name, name)):
        strange = type(found)(
            found.id, found.business_id, "twilio", found.account_ref, found.secrets, home
        )
        with pytest.raises(Unavailable):
            served.run(inbox.ingest(strange, Reading("test", "event"), {}))
    assert tenant.rows("webhook_events") == []


def test_the_role_reads_nothing_at_a_place(tenant: Tenant, fleet: Fleet, place: Place) -> None:
    fleet.settle(tenant, place)
    with psycopg.connect(place.database.url("integrator"), autocommit=True) as connection:
        for table in ("messages", "customers", "webhook_events"):
            query = sql.SQL("select * from {}").format(sql.Identifier(place.schema, table))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)
        secrets = "select secrets from public.webhook_connection(%s)"
        assert connection.execute(secrets, [tenant.connection.id]).fetchall() == [([],)]
