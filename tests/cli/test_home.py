"""The state directory: its secrets, its lock, its state file, its ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jwt
import psutil
import pytest

from tenantry_cli.stack.home import Busy, Home, PartState, StackState, find_process
from tenantry_cli.stack.keys import load_or_create_keys, write_private
from tenantry_cli.stack.ports import PortError, configured_port, free_ports


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_keys_are_made_once_are_private_and_differ_between_stacks(home: Home) -> None:
    home.create()
    keys = load_or_create_keys(home.secrets)
    assert load_or_create_keys(home.secrets) == keys
    assert home.secrets.stat().st_mode & 0o777 == 0o600
    other = load_or_create_keys(home.directory / "other.json")
    ours = {keys.jwt_secret, keys.publishable_key, keys.secret_key, *keys.passwords.values()}
    theirs = {other.jwt_secret, other.publishable_key, other.secret_key, *other.passwords.values()}
    assert len(ours) == len(theirs) == 3 + len(keys.passwords)
    assert not ours & theirs
    assert keys.publishable_key.startswith("sb_publishable_")
    assert keys.secret_key.startswith("sb_secret_")
    assert len(keys.jwt_secret.encode()) >= 32  # RFC 7518, 3.2: as long as the hash


def test_a_key_of_one_stack_is_worthless_in_another(home: Home) -> None:
    home.create()
    keys = load_or_create_keys(home.secrets)
    other = load_or_create_keys(home.directory / "other.json")
    claims = jwt.decode(keys.service_role_key, keys.jwt_secret, algorithms=["HS256"])
    assert claims["role"] == "service_role"
    assert "sub" not in claims
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(keys.service_role_key, other.jwt_secret, algorithms=["HS256"])


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and longer")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_one_supervisor_at_a_time_and_a_killed_one_lets_go(home: Home) -> None:
    assert not home.is_claimed()
    program = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from tenantry_cli.stack.home import Home
        with Home(Path({str(home.directory)!r})).claim():
            print("claimed", flush=True)
            time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"claimed\n"
        assert home.is_claimed()
        with pytest.raises(Busy, match="in use by a running stack"), home.claim():
            pass
        holder.kill()
    assert not home.is_claimed()
    with home.claim():
        assert home.is_claimed()


def test_the_state_survives_the_file_and_nonsense_is_no_state(home: Home) -> None:
    home.create()
    me = psutil.Process()
    state = StackState(me.pid, me.create_time(), "ready", "ready after 2 s", 54321, 1.5, 2.0)
    state.parts["lite"] = PartState("restarting", 7, 1.25, 4000, 3, "killed by SIGKILL")
    state.write(home.state)
    assert StackState.read(home.state) == state
    home.state.write_text('{"pid": 1')
    assert StackState.read(home.state) is None
    home.state.unlink()
    assert StackState.read(home.state) is None


def test_a_process_number_that_was_given_away_again_is_not_the_process() -> None:
    me = psutil.Process()
    found = find_process(me.pid, me.create_time())
    assert found is not None
    assert found.pid == os.getpid()
    assert find_process(me.pid, me.create_time() - 60) is None
    assert find_process(None, None) is None


def test_free_ports_are_different_and_the_preferred_ones_where_they_are_free() -> None:
    ports = free_ports(*[None] * 50)
    assert len(set(ports)) == 50
    assert free_ports(*ports) == ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        taken.listen()
        assert ports[0] not in free_ports(ports[0], ports[0])
    assert len(set(free_ports(ports[1], ports[1]))) == 2


@pytest.mark.parametrize("text", ["", "no", "0", "65536", "-1", "8080.5", "\uff18\uff10"])
def test_a_bad_port_names_its_setting(text: str) -> None:
    with pytest.raises(PortError, match="TENANTRY_PORT must be a port from 1 to 65535"):
        configured_port({"TENANTRY_PORT": text})


def test_the_port_is_supabases_unless_said_otherwise() -> None:
    assert configured_port({}) == 54321
    assert configured_port({"TENANTRY_PORT": "8080"}) == 8080
