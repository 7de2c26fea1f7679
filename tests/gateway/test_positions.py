"""Who has written up to where, and what the primary is asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.positions import (
    UNKNOWN_SECONDS,
    PositionTokens,
    Writers,
    parse_position,
    print_position,
)
from tenantry_gateway.postgrest import PostgrestUnavailable, Reply
from tenantry_gateway.primary import Primary
from tenantry_gateway.settings import Settings, SettingsError

pytestmark = pytest.mark.anyio
SECRET = "a-secret-of-the-tests-only-with-enough-bytes"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def writers(capacity: int = 100) -> tuple[Writers, Clock]:
    clock = Clock()
    return Writers(clock, capacity), clock


def test_positions_are_written_as_postgres_writes_them():
    for text in ("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"):
        assert print_position(parse_position(text)) == text
    for text in ("", "16", "16/", "g/0", "16/b374d848", "123456789/0", "0/0 "):
        with pytest.raises(ValueError, match="position"):
            parse_position(text)


def test_tokens_hide_the_position_and_are_the_projects_own():
    tokens = PositionTokens(SECRET)
    token = tokens.seal(0x16B374D848)
    assert tokens.open(token) == PositionTokens(SECRET).open(token) == 0x16B374D848
    assert token != tokens.seal(0x16B374D848)
    for other in (PositionTokens(SECRET + "!").seal(1), "16/B374D848", "", "ü"):
        with pytest.raises(GatewayError) as refused:
            tokens.open(other)
        assert refused.value.reason == "bad_position"


def test_a_caller_waits_for_its_own_writes_alone():
    some, _ = writers()
    some.begin("user:a")
    assert some.position("user:a", 1000.0, 50) is None
    assert some.position("user:b", 1000.0, 50) == 0
    some.begin("user:a")
    some.end("user:a", 70)
    assert some.position("user:a", 1000.0, 50) is None  # the other one is still on its way
    some.end("user:a", 60)
    assert some.position("user:a", 1000.0, 50) == 70


def test_an_unknown_outcome_is_settled_by_a_later_look_at_the_primary():
    some, clock = writers()
    some.begin("user:a")
    some.end("user:a", None)
    settled = clock.now + UNKNOWN_SECONDS
    assert some.position("user:a", settled - 0.1, 80) is None
    assert some.position("user:a", settled, 80) == 80
    assert some.position("user:a", settled + 1, 90) == 80


def test_what_everybody_may_have_written():
    some, _ = writers()
    some.everybody_wrote(40)
    some.everybody_wrote(30)
    assert some.position("user:a", 0.0, 50) == 40


def test_writers_are_forgotten_when_every_read_sees_their_writes():
    some, _ = writers()
    for number in range(10):
        some.begin(f"user:{number}")
        some.end(f"user:{number}", number)
    some.forget(5)
    assert len(some) == 4
    assert some.position("user:7", 0.0, 50) == 7
    some.begin("user:6")
    some.forget(100)
    assert some.position("user:6", 0.0, 50) is None


def test_too_many_writers_become_everybody():
    some, clock = writers(capacity=2)
    for number in range(4):
        some.begin(f"user:{number}")
        some.end(f"user:{number}", number if number else None)
    some.forget(0)
    assert len(some) == 2
    assert some.position("stranger", clock.now, 50) is None  # what the first wrote is not known
    assert some.position("stranger", clock.now + UNKNOWN_SECONDS, 50) == 50


class Database:
    """Answers as `wal_position` does."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.position, self.system, self.is_up = 100, "1", True
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, method: str, target: str, *, body: Any) -> Reply:
        assert (method, target) == ("POST", "/rpc/wal_position")
        self.asked.append(body["principals"])
        await self.may_answer.wait()
        if not self.is_up:
            raise PostgrestUnavailable("gone")
        answer = {
            "system": self.system,
            "position": print_position(self.position),
            "rights": {one: f"rights of {one}" for one in body["principals"]},
        }
        return Reply(200, {}, json.dumps(answer).encode())


def primary(database: Database, **changes: str) -> Primary:
    needed = {
        "GATEWAY_POSTGREST_URL": "http://127.0.0.1:1",
        "GATEWAY_AUTH_URL": "http://127.0.0.1:1",
        "GATEWAY_FUNCTIONS_URL": "http://127.0.0.1:1",
        "GATEWAY_JWT_SECRET": SECRET,
        "GATEWAY_ANON_KEY": "anon-" + "a" * 20,
        "GATEWAY_SERVICE_ROLE_KEY": "service-" + "a" * 20,
        "GATEWAY_PUBLISHABLE_KEY": "publishable-" + "a" * 20,
        "GATEWAY_SECRET_KEY": "secret-" + "a" * 20,
    }
    return Primary(Settings.from_environment(needed | changes), database)  # type: ignore[arg-type]


async def test_an_answer_is_never_older_than_its_request():
    database = Database()
    one = primary(database)
    database.may_answer.clear()
    first = asyncio.create_task(one.rights("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = [asyncio.create_task(one.rights(name)) for name in ("b", "c", "b")]
    await asyncio.sleep(0)
    assert database.asked == [["a"]]
    database.may_answer.set()
    assert await first == "rights of a"
    assert await asyncio.gather(*later) == ["rights of b", "rights of c", "rights of b"]
    assert database.asked == [["a"], ["b", "c"]]
    await one.close()


async def test_rights_are_remembered_only_where_that_is_set():
    database = Database()
    strict = primary(database)
    await strict.rights("a")
    await strict.rights("a")
    relaxed = primary(database, GATEWAY_REPLICA_RIGHTS_SECONDS="30")
    await relaxed.rights("a")
    await relaxed.rights("a")
    assert database.asked == [["a"]] * 3


async def test_a_lost_primary_is_told_to_everybody_who_waits():
    database = Database()
    database.is_up = False
    one = primary(database)
    for answer in await asyncio.gather(one.rights("a"), one.position(), return_exceptions=True):
        assert isinstance(answer, PostgrestUnavailable)
    assert one.floor() is None
    database.is_up = True
    assert await one.position() == 100
    assert one.floor() == 100


@pytest.mark.parametrize("change", [{"position": 90}, {"system": "2"}])
async def test_another_primary_begins_anew(change):
    database = Database()
    one = primary(database, GATEWAY_REPLICA_MAX_LAG_SECONDS="3600")
    await one.position()
    vars(database).update(change)
    await one.position()
    assert one.floor() == database.position


def test_settings_of_the_replica_name_what_is_wrong():
    with pytest.raises(SettingsError) as wrong:
        primary(
            Database(),
            GATEWAY_REPLICA_URL="postgres://replica",
            GATEWAY_REPLICA_RELATIONS="calls,Robert'); --",
            GATEWAY_REPLICA_RIGHTS_SECONDS="61",
        )
    for name in ("REPLICA_URL", "REPLICA_RELATIONS", "REPLICA_RIGHTS_SECONDS"):
        assert f"GATEWAY_{name} " in str(wrong.value)
