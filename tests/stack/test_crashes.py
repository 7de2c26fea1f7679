"""Violent ends: of each part, of the supervisor, of the program that owns the stack."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request

import psutil
import psycopg
import pytest

from tenantry_cli.stack.control import RunningStack
from tenantry_cli.stack.home import Home, find_process

from .conftest import Bench

pytestmark = pytest.mark.stack

PARTS = ("postgres", "postgrest", "lite", "functions", "fleet", "gateway")


def serves(stack: RunningStack) -> bool:
    """Whether a stranger can sign up and the API answers: every part but functions takes part."""
    try:
        email = f"{os.urandom(6).hex()}@person.example"
        request = urllib.request.Request(  # noqa: S310  # our own origin
            f"{stack.origin}/auth/v1/signup",
            json.dumps({"email": email, "password": "long-enough-1"}).encode(),
            {"apikey": stack.keys.publishable_key, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            token = json.load(answer)["access_token"]
        request = urllib.request.Request(  # noqa: S310
            f"{stack.origin}/rest/v1/businesses?select=id",
            headers={"apikey": stack.keys.publishable_key, "Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status == 200 and json.load(answer) == []
    except (OSError, KeyError):
        return False


def test_every_part_that_is_killed_comes_back_with_its_reason(bench: Bench) -> None:
    stack = bench.up()
    assert serves(stack)
    for name in PARTS:
        before = bench.state().parts[name]
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        bench.wait_until(lambda name=name: bench.state().parts[name].restarts == 1)
        bench.wait_until(lambda name=name: bench.state().parts[name].status == "ready")
        after = bench.state().parts[name]
        assert after.pid != before.pid
        assert after.port == before.port
        assert after.reason == "killed by SIGKILL"
        bench.wait_until(lambda: serves(stack))
    log = bench.home.log("supervisor").read_text()
    for name in PARTS:
        assert f"{name} killed by SIGKILL; starting it again" in log
    assert {part.restarts for part in bench.state().parts.values()} == {1}, "one crash, one restart"
    status = bench.run("status").stdout
    assert status.count("killed by SIGKILL") == len(PARTS)


def test_auth_functions_are_compatible_again_after_each_start_of_auth(bench: Bench) -> None:
    stack = bench.up()
    pid = bench.state().parts["lite"].pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    bench.wait_until(lambda: bench.state().parts["lite"].restarts == 1)
    bench.wait_until(lambda: bench.state().parts["lite"].status == "ready")
    with stack.server.connect() as connection:
        connection.execute("""select set_config('request.jwt.claims', '{"role": "x"}', true)""")
        assert connection.execute("select auth.role()").fetchone() == ("x",)


def test_a_part_that_cannot_start_is_tried_with_growing_pauses(bench: Bench) -> None:
    bench.up()
    state = bench.state().parts["lite"]
    manifest = bench.home.lite / "supabase"
    os.kill(state.pid or 0, signal.SIGKILL)
    # Its directory becomes a file, so its configuration cannot be written.
    bench.wait_until(lambda: bench.state().parts["lite"].status == "restarting")
    subprocess.run(["rm", "-r", manifest], check=True)
    manifest.write_text("in the way")
    bench.wait_until(lambda: bench.state().parts["lite"].restarts >= 3)
    log = bench.home.log("supervisor").read_text()
    assert "starting it again in 0.2 s" in log
    assert "starting it again in 0.4 s" in log
    assert "lite did not start" in log
    doctor = bench.run("doctor")
    assert doctor.returncode == 1
    manifest.unlink()
    bench.wait_until(lambda: bench.state().parts["lite"].status == "ready")


def test_nothing_acknowledged_is_lost_when_postgres_is_killed_in_a_burst(bench: Bench) -> None:
    stack = bench.up()
    with stack.server.connect(autocommit=True) as connection:
        connection.execute("create table private.burst (writer int, number int)")
    acknowledged: list[tuple[int, int]] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            try:
                with stack.server.connect(autocommit=True) as connection:
                    while not stop.is_set():
                        connection.execute(
                            "insert into private.burst values (%s, %s)", (writer, number)
                        )
                        acknowledged.append((writer, number))
                        number += 1
            except psycopg.Error:
                number += 1  # unknown whether it was stored: never count it, never reuse it
                stop.wait(0.05)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    for kill in (1, 2):
        bench.wait_until(lambda kill=kill: len(acknowledged) > 300 * kill)
        # The server and all its helpers at once, as an out-of-memory killer would.
        main = psutil.Process(bench.state().parts["postgres"].pid)
        for process in (main, *main.children()):
            process.kill()
        bench.wait_until(
            lambda kill=kill: (
                bench.state().parts["postgres"].restarts == kill
                and bench.state().parts["postgres"].status == "ready"
            )
        )
    seen = len(acknowledged)
    bench.wait_until(lambda: len(acknowledged) > seen + 100)
    stop.set()
    for thread in writers:
        thread.join()
    with stack.server.connect() as connection:
        stored = set(connection.execute("select writer, number from private.burst").fetchall())
    assert set(acknowledged) <= stored
    bench.wait_until(lambda: serves(stack))


def test_when_the_supervisor_is_killed_everything_ends_and_up_works_again(bench: Bench) -> None:
    stack = bench.up()
    with stack.server.connect(autocommit=True) as connection:
        connection.execute("create table private.kept (id int)")
        connection.execute("insert into private.kept values (1)")
    os.kill(stack.state.pid, signal.SIGKILL)
    if sys.platform == "linux":  # elsewhere the next start sweeps up
        bench.wait_until(lambda: bench.processes() == [])
    assert bench.run("status").returncode == 1
    again = bench.up()
    assert again.variables() == stack.variables()
    with again.server.connect() as connection:
        assert connection.execute("select id from private.kept").fetchall() == [(1,)]
    assert serves(again)


def test_up_sweeps_away_what_outlived_its_supervisor(bench: Bench, prepared_home: Home) -> None:
    shutil.copy(prepared_home.state, bench.home.state)
    # As if the parent-death signal did not exist: a part that still runs, noted in the state.
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as survivor:
        state = bench.state()
        state.phase = "ready"
        state.parts["gateway"].pid = survivor.pid
        state.parts["gateway"].created = psutil.Process(survivor.pid).create_time()
        # A process number that another program has got in the meantime must be left alone.
        state.parts["lite"].pid = os.getpid()
        state.parts["lite"].created = psutil.Process().create_time() - 1000
        state.write(bench.home.state)
        assert find_process(os.getpid(), state.parts["lite"].created) is None
        assert bench.up()
        assert survivor.wait(10) == -signal.SIGTERM
    assert "left behind: gateway" in bench.home.log("supervisor").read_text()


def test_the_stack_of_a_test_run_ends_with_it(bench: Bench) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as owner:
        result = bench.run("up", TENANTRY_STOP_WITH=str(owner.pid))
        assert result.returncode == 0, result.stderr
        owner.kill()
    bench.wait_until(lambda: bench.processes() == [])
    assert bench.state().phase == "stopped"


def test_a_start_that_was_killed_half_way_is_finished_by_the_next(empty_bench: Bench) -> None:
    bench = empty_bench
    with subprocess.Popen(
        [sys.executable, "-m", "tenantry_cli.stack.supervisor"],
        env={**os.environ, **bench.settings},
        stderr=subprocess.DEVNULL,
    ) as supervisor:
        bench.wait_until(
            lambda: bench.home.state.exists() and bench.state().message.startswith("applying")
        )
        supervisor.kill()
    stack = bench.up()
    status = json.loads(bench.run("migrate", "status", "-o", "json").stdout)
    assert status["pending"] == status["changed"] == []
    with stack.server.connect() as connection:
        seeds = connection.execute("select count(*) from supabase_migrations.seed_files").fetchone()
    assert seeds == (1,)
    assert serves(stack)


def test_two_starts_at_once_share_one_stack(bench: Bench) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: results.append(bench.run("up"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [0, 0, 0], results
    supervisors = [
        process
        for process in bench.processes()
        if "tenantry_cli.stack.supervisor" in process.cmdline()
    ]
    assert [process.pid for process in supervisors] == [bench.state().pid]


def test_down_in_the_middle_of_a_start_stops_it(bench: Bench) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tenantry_cli", "up"],
        env={**os.environ, **bench.settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as start:
        bench.wait_until(bench.home.is_claimed)
        assert bench.run("down").stdout.strip() == "stopped"
        assert start.stderr is not None
        assert "stopped while it started" in start.stderr.read()
        assert start.wait(30) == 1
    assert bench.processes() == []
    assert bench.up()
