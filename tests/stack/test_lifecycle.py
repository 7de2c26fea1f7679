"""up, status, logs, down, reset: what a person does with the stack."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import jwt
import psutil
import psycopg
import pytest

from tenantry_cli.stack.control import RunningStack

from .conftest import Bench

pytestmark = pytest.mark.stack

PARTS = {"postgres", "postgrest", "lite", "functions", "fleet", "gateway"}
NAMES = {
    *("API_URL", "DB_URL", "ANON_KEY", "SERVICE_ROLE_KEY", "PUBLISHABLE_KEY", "SECRET_KEY"),
    *("JWT_SECRET", "CONSOLE_URL"),
}


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # our own origin
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def post(url: str, body: dict[str, str], **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(  # noqa: S310
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return answer.status, json.load(answer)


def test_a_life_from_first_start_to_reset(empty_bench: Bench) -> None:
    bench = empty_bench
    first = bench.run("up")
    assert first.returncode == 0, first.stderr
    assert "Tenantry ready in" in first.stdout
    assert "owner@bluebird.example" in first.stdout
    assert {line.split()[-1] for line in first.stderr.splitlines() if "✓" in line} == PARTS
    stack = bench.stack()
    assert set(stack.state.parts) == PARTS
    assert get(f"{stack.origin}/healthz")[0] == 200

    again = bench.run("up")
    assert again.returncode == 0
    assert "was already running" in again.stdout
    assert bench.state().pid == stack.state.pid

    with stack.server.connect(autocommit=True) as connection:
        connection.execute("create table private.mine (id int)")
    warm_is_the_same(bench, stack)

    down = bench.run("down")
    assert (down.returncode, down.stdout.strip()) == (0, "stopped")
    assert bench.processes() == []
    assert bench.run("down").stdout.strip() == "nothing was running"

    refused = bench.run("reset")
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert bench.home.postgres.exists()
    assert bench.run("reset", "--yes").returncode == 0
    assert not bench.home.postgres.exists()
    fresh = bench.up()
    with fresh.server.connect() as connection:
        assert connection.execute("select to_regclass('private.mine')").fetchone() == (None,)
    assert fresh.keys == stack.keys, "reset deletes data, not keys"


def warm_is_the_same(bench: Bench, before: RunningStack) -> None:
    """Stop and start: same data, same keys, same database port, and under five seconds."""
    # Five seconds of a machine of our own: others' load on it is not ours to answer for.
    share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert any(warm_start_seconds(bench) < 5 * share for _ in range(3))
    after = bench.stack()
    assert after.variables() == before.variables()
    with after.server.connect() as connection:
        assert connection.execute("select count(*) from private.mine").fetchone() == (0,)
        seeds = connection.execute("select path from supabase_migrations.seed_files").fetchall()
        assert seeds == [("supabase/seed.sql",)]


def warm_start_seconds(bench: Bench) -> float:
    assert bench.run("down").returncode == 0
    result = bench.run("up")
    assert result.returncode == 0, result.stderr
    took = re.search(r"ready in ([\d.]+) s", result.stdout)
    assert took is not None
    return float(took[1])


def test_without_a_stack_status_says_so(empty_bench: Bench) -> None:
    result = empty_bench.run("status", "-o", "env")
    assert (result.returncode, result.stdout) == (1, "")
    assert "tenantry up" in result.stderr
    assert not empty_bench.home.directory.exists(), "asking leaves nothing behind"


def test_status_in_three_forms(running: Bench) -> None:
    bench, stack = running, running.stack()
    env = bench.run("status", "-o", "env").stdout
    lines = dict(line.split("=", 1) for line in env.splitlines())
    assert set(lines) == NAMES
    assert all(value[0] == value[-1] == '"' for value in lines.values())
    shell = subprocess.run(
        ["sh", "-c", f'{env}\nprintf %s "$DB_URL"'], capture_output=True, text=True, check=True
    )
    values = json.loads(bench.run("status", "-o", "json").stdout)
    assert values == {name: value.strip('"') for name, value in lines.items()}
    assert shell.stdout == values["DB_URL"]
    assert values["API_URL"] == f"http://127.0.0.1:{bench.settings['TENANTRY_PORT']}"
    with psycopg.connect(values["DB_URL"]) as connection:
        assert connection.execute("select current_user").fetchone() == ("postgres",)
    for name, role in (("ANON_KEY", "anon"), ("SERVICE_ROLE_KEY", "service_role")):
        claims = jwt.decode(values[name], values["JWT_SECRET"], algorithms=["HS256"])
        assert claims["role"] == role
    pretty = bench.run("status").stdout
    assert all(name.replace("_", " ") in pretty for name in NAMES)
    assert all(re.search(rf"^\s*{part}\s+ready\s", pretty, re.M) for part in PARTS)
    assert stack.keys.jwt_secret in pretty


def test_everything_listens_on_this_machine_only_and_secrets_are_private(running: Bench) -> None:
    bench, stack = running, running.stack()
    addresses = {
        connection.laddr[0]
        for part in stack.state.parts.values()
        for connection in psutil.Process(part.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
    assert bench.home.directory.stat().st_mode & 0o007 == 0
    for path in (bench.home.secrets, bench.home.state, bench.home.lite / "supabase/config.toml"):
        assert path.stat().st_mode & 0o777 == 0o600
    # No secret in a command line, where every user of the machine could read it.
    secrets = [stack.keys.jwt_secret, stack.keys.secret_key, *stack.keys.passwords.values()]
    for process in bench.processes():
        line = " ".join(process.cmdline())
        assert not any(secret in line for secret in secrets)


def test_sign_up_signs_in_at_once_and_the_database_knows_who_asks(running: Bench) -> None:
    stack = running.stack()
    key = {"apikey": stack.keys.publishable_key}
    status, session = post(
        f"{stack.origin}/auth/v1/signup",
        {"email": "new@person.example", "password": "long-enough-1"},
        **key,
    )
    assert status == 200
    token = str(session["access_token"])
    subject = jwt.decode(
        token, stack.keys.jwt_secret, algorithms=["HS256"], audience="authenticated"
    )["sub"]
    with stack.server.connect(autocommit=True) as connection:
        connection.execute(
            "create function public.who() returns text language sql stable as 'select auth.uid()'"
        )
        connection.execute("grant execute on function public.who() to authenticated")
    answer = (0, "")
    for _ in range(50):  # PostgREST learns of the new function in a moment
        answer = get(f"{stack.origin}/rest/v1/rpc/who", Authorization=f"Bearer {token}", **key)
        if answer[0] == 200:
            break
    assert answer == (200, f'"{subject}"')


def test_a_database_that_was_changed_by_hand_is_not_served(running: Bench) -> None:
    stack = running.stack()
    health = f"{stack.origin}/healthz"
    plans = f"{stack.origin}/rest/v1/subscription_plans?select=code"
    key = {"apikey": stack.keys.publishable_key}
    gateway = running.state().parts["gateway"].pid
    assert gateway is not None
    assert get(plans, **key)[0] == 200
    with stack.server.connect(autocommit=True) as connection:
        connection.execute("alter table public.calls no force row level security")
        os.kill(gateway, signal.SIGHUP)
        running.wait_until(lambda: get(health)[0] == 503)
        assert json.loads(get(health)[1])["differences"] == ["policies: public.calls differs"]
        assert get(plans, **key)[0] == 503
        told = running.run("up")
        assert told.returncode == 0
        assert "policies: public.calls differs" in told.stdout
        assert "make expected" in told.stdout
        connection.execute("alter table public.calls force row level security")
    running.wait_until(lambda: get(health)[0] == 200)
    assert get(plans, **key)[0] == 200


def test_a_taken_port_is_refused_with_the_setting_to_change(bench: Bench) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(bench.settings["TENANTRY_PORT"])))
        other.listen()
        result = bench.run("up")
        assert result.returncode == 1
        port = bench.settings["TENANTRY_PORT"]
        assert f"port {port} is taken" in result.stderr
        assert f"process {os.getpid()}" in result.stderr
        assert re.search(r"TENANTRY_PORT=\d+ tenantry up", result.stderr)
        assert "Traceback" not in result.stderr
        assert bench.processes() == []
    assert bench.run("up", TENANTRY_PORT="no").returncode == 1
    assert "TENANTRY_PORT must be a port" in bench.run("up", TENANTRY_PORT="70000").stderr


def test_in_the_foreground_it_stops_on_each_signal(bench: Bench) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        bench.home.state.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-m", "tenantry_cli", "up", "--foreground"],
            env={**os.environ, **bench.settings},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            bench.wait_until(lambda: bench.home.state.exists() and bench.state().phase == "ready")
            process.send_signal(number)
            assert process.stderr is not None
            log = process.stderr.read()
            assert process.wait(30) == 0, log
        assert bench.processes() == []
        assert bench.state().phase == "stopped"
        assert "ERROR" not in log


def test_logs_of_each_part(running: Bench) -> None:
    bench = running
    assert "ready after" in bench.run("logs").stdout
    assert "ready to accept connections" in bench.run("logs", "postgres").stdout
    assert bench.run("logs", "postgres", "-n", "1").stdout.count("\n") == 1
    unknown = bench.run("logs", "nonsense")
    assert unknown.returncode == 1
    assert "postgrest" in unknown.stderr


def test_doctor_finds_what_is_wrong_and_says_how_to_mend_it(running: Bench) -> None:
    during = json.loads(running.run("doctor", "-o", "json").stdout)
    assert [one for one in during if one["verdict"] != "good"] == []
    assert {"port", "migrations", "stack"} <= {one["subject"] for one in during}
    running.home.secrets.chmod(0o644)
    complaint = running.run("doctor")
    running.home.secrets.chmod(0o600)
    assert complaint.returncode == 1
    assert f"chmod 600 {running.home.secrets}" in complaint.stdout


def test_doctor_works_before_the_first_start(empty_bench: Bench) -> None:
    result = empty_bench.run("doctor", "-o", "json")
    assert result.returncode == 0, result.stdout
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(empty_bench.settings["TENANTRY_PORT"])))
        other.listen()
        result = empty_bench.run("doctor")
        assert result.returncode == 1
        assert "TENANTRY_PORT" in result.stdout
