"""`python -m tenantry_gateway` as a process: starts, answers, stops, and says what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

ENVIRONMENT = {
    "GATEWAY_POSTGREST_URL": "http://127.0.0.1:1",
    "GATEWAY_AUTH_URL": "http://127.0.0.1:1",
    "GATEWAY_FUNCTIONS_URL": "http://127.0.0.1:1",
    "GATEWAY_JWT_SECRET": "s" * 32,
    "GATEWAY_ANON_KEY": "a" * 30,
    "GATEWAY_SERVICE_ROLE_KEY": "b" * 30,
    "GATEWAY_PUBLISHABLE_KEY": "c" * 30,
    "GATEWAY_SECRET_KEY": "d" * 30,
    "GATEWAY_PORT": "0",
    "GATEWAY_BOOT_GATE": "off",
}


def start(**changes: str) -> subprocess.Popen[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**inherited, **ENVIRONMENT, **changes}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tenantry_gateway"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_start_answer_stop(stop):
    process = start()
    try:
        assert process.stdout is not None
        origin = re.search(r"http://\S+", process.stdout.readline())
        assert origin is not None
        with urllib.request.urlopen(  # noqa: S310 - the origin just printed
            origin[0] + "/healthz", timeout=5
        ) as answer:
            assert json.load(answer) == {"status": "ok"}
        process.send_signal(signal.SIGHUP)  # looks at the database again and goes on
        with urllib.request.urlopen(  # noqa: S310
            origin[0] + "/healthz", timeout=5
        ) as answer:
            assert answer.status == 200
        started = time.monotonic()
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors == ""
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start(GATEWAY_PORT=port)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert port in errors
    assert "GATEWAY_PORT" in errors
    assert "Traceback" not in errors


def test_wrong_settings():
    process = start(GATEWAY_JWT_SECRET="", GATEWAY_RATE="fast")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "GATEWAY_JWT_SECRET is not set" in errors
    assert "GATEWAY_RATE must be a number" in errors
    assert "Traceback" not in errors


def test_help():
    done = subprocess.run(
        [sys.executable, "-m", "tenantry_gateway", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "GATEWAY_MAX_BODY_BYTES" in done.stdout
