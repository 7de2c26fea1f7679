"""Migrations over HTTP: who may ask, what is put into the line, what is answered when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from tenantry_cli.commands.migrate_fleet import fleet_of
from tenantry_cli.migrate import MigrationError, read_migrations
from tenantry_cli.migrate.files import read_rollbacks
from tenantry_cli.migrate.jobs import run_migration_job
from tenantry_cli.migrate.report import Options
from tenantry_cli.project import find_project
from tenantry_cli.stack.control import RunningStack
from tenantry_functions.testing import SECRET_KEY, Answer, FunctionHost, local_settings, memory_host

JOB = "018f0000-0000-7000-8000-000000000001"


class Api:
    """PostgREST with one job, whose states are told one after the other."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: set[str | None] = set()

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.asked.append((request.method, request.path, json.loads(text) if text else None))
        self.tokens.add(request.headers.get("apikey"))
        if request.path == "/migration_targets":
            return web.json_response([{"target": "postgres", "state": "current"}])
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        job = {"id": JOB, "kind": "migrate_up", "state": state, "result": {"failed": []}}
        job["progress"] = {"seconds": 0.125}
        return web.json_response(job if request.path.startswith("/rpc/") else [job])

    @asynccontextmanager
    async def running(self) -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def call(
    api: Api,
    target: str,
    *,
    method: str = "POST",
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {SECRET_KEY}"),),
) -> Answer:
    settings = local_settings(secret_keys=(SECRET_KEY,))

    async def ask(host: FunctionHost[Any]) -> Answer:
        async with api.running() as url:
            object.__setattr__(host.settings, "rest_url", url)
            target_url = f"/functions/v1/admin-migrations/{target}"
            return await host.send(method, target_url, body, headers)

    with memory_host(settings=settings) as host:
        return host.run(ask(host))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("authorization", "Bearer sb_publishable_for_tests"),),
        (("apikey", "sb_publishable_for_tests"), ("authorization", f"Bearer {SECRET_KEY}")),
        (("apikey", "wrong"),),
    ],
)
def test_only_the_secret_key_opens(headers: tuple[tuple[str, str], ...]) -> None:
    api = Api("queued")
    assert call(api, "run", headers=headers).status == 401
    assert api.asked == []


def test_a_run_is_put_into_the_line_and_waited_for() -> None:
    api = Api("queued", "running", "done")
    answer = call(api, "run", body=b'{"workers": 2}')
    assert answer.status == 200
    assert answer.json()["result"] == {"failed": []}
    assert api.asked[0] == (
        "POST",
        "/rpc/request_fleet_job",
        {
            "kind": "migrate_up",
            "arguments": {"workers": 2},
            "requested_by": "admin-migrations",
        },
    )
    # As the caller, who showed this key; nobody else comes this far.
    assert api.tokens == {SECRET_KEY}


def test_what_takes_longer_is_answered_with_its_number() -> None:
    answer = call(Api("queued"), "run?wait=0")
    assert answer.status == 202
    assert answer.json()["id"] == JOB
    assert answer.headers["retry-after"] == "2"


def test_a_rollback_names_its_migration() -> None:
    api = Api("done")
    assert call(api, "rollback/20261121001130").status == 200
    assert api.asked[0][2]["arguments"] == {"version": "20261121001130"}
    assert api.asked[0][2]["kind"] == "migrate_rollback"


def test_a_refused_job_is_a_conflict() -> None:
    assert call(Api("failed"), "rollback/003").status == 409


def test_the_status_starts_no_job() -> None:
    api = Api("done")
    answer = call(api, "status", method="GET")
    assert answer.status == 200
    assert answer.json()["counts"] == {"current": 1, "behind": 0, "failed": 0}
    assert {method for method, _, _ in api.asked} == {"GET"}


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("nonsense", b"", 404),
        ("rollback/12x", b"", 404),
        ("run", b"[]", 400),
        ("run", b'{"tenant": "x; drop"}', 400),
        ("run", b'{"workers": true}', 400),
        ("run", b'{"to": "1"}', 400),
        ("run?wait=51", b"", 400),
        ("run?wait=-1", b"", 400),
    ],
)
def test_bad_requests_reach_nobody(target: str, body: bytes, status: int) -> None:
    api = Api("queued")
    assert call(api, target, body=body).status == status
    assert api.asked == []


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("drop", {}, "is none"),
        ("migrate_up", {"steps": 1}, "no argument of migrate_up"),
        ("migrate_up", {"dry_run": "yes"}, "must be bool"),
        ("migrate_up", {"workers": 99}, "1 to 32"),
        ("migrate_rollback", {"version": "1; drop"}, "digits alone"),
        ("migrate_rollback", {"version": "20261121000100"}, "later migrations are built on"),
        ("migrate_rollback", {"to": "5"}, "is not applied"),
    ],
)
def test_jobs_refuse_what_they_do_not_know(
    module_database: Any, kind: str, arguments: dict[str, Any], message: str
) -> None:
    project = find_project()
    migrations = read_migrations(project.migrations)
    rollbacks = read_rollbacks(project.root / "supabase" / "rollbacks", migrations)
    fleet = fleet_of(module_database.url(), migrations, rollbacks, Options())
    with pytest.raises(MigrationError, match=message):
        run_migration_job(kind, arguments, fleet)


@pytest.fixture
def operator(local_stack: RunningStack) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{local_stack.origin}/functions/v1/admin-migrations",
        headers={"Authorization": f"Bearer {local_stack.keys.secret_key}"},
        timeout=60,
    ) as client:
        yield client


@pytest.mark.stack
def test_through_the_gateway_and_a_worker(
    local_stack: RunningStack, operator: httpx.Client
) -> None:
    assert httpx.post(f"{operator.base_url}run").status_code == 401
    asked = operator.post("run", params={"wait": "0"})
    assert asked.status_code == 202, asked.text
    job = asked.json()["id"]

    # The stack's own worker does it.
    deadline = time.monotonic() + 30
    while (done := operator.get(f"jobs/{job}")).json().get("state") != "done":
        assert time.monotonic() < deadline, done.text
        time.sleep(0.1)
    assert done.status_code == 200, done.text
    assert done.json()["result"]["failed"] == []
    status = operator.get("status").json()
    assert status["counts"]["current"] == 1
    assert status["last_job"]["id"] == job
