"""Running one Postgres server: its rights, its settings, and getting over violent ends."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tenantry_cli.stack.database import Server
from tenantry_cli.stack.installation import PostgresError
from tenantry_cli.stack.postgres import SUPERUSER, Cluster

PASSWORD = "only-for-this-test"


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: its name is long and private to root, and both matter here.
    with tempfile.TemporaryDirectory(prefix="tenantry-test-") as name:
        yield Path(name)


@pytest.fixture
def cluster(directory: Path) -> Iterator[Cluster]:
    one = Cluster(directory / "postgres", PASSWORD)
    one.start(directory / "postgres.log")
    yield one
    one.stop()


def server(cluster: Cluster) -> Server:
    assert cluster.port is not None
    return Server("127.0.0.1", cluster.port, {SUPERUSER: PASSWORD})


def postmaster(cluster: Cluster) -> psutil.Process:
    return psutil.Process(int((cluster.data / "postmaster.pid").read_text().split()[0]))


def test_it_is_durable_and_speaks_only_to_this_machine(cluster: Cluster) -> None:
    with server(cluster).administer() as connection:
        settings = dict(connection.execute("select name, setting from pg_settings").fetchall())
    assert settings["data_checksums"] == "on"
    assert settings["fsync"] == settings["synchronous_commit"] == "on"
    assert settings["full_page_writes"] == "on"
    assert settings["wal_level"] == "logical"
    assert settings["max_locks_per_transaction"] == "256"
    assert settings["listen_addresses"] == "127.0.0.1"
    listening = {
        connection.laddr[0]
        for connection in postmaster(cluster).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_it_never_runs_as_root_and_its_data_are_private(cluster: Cluster) -> None:
    owner = postmaster(cluster).uids().effective
    assert owner != 0
    assert cluster.data.stat().st_uid == owner
    assert cluster.data.stat().st_mode & 0o077 == 0


def test_no_password_no_entry(cluster: Cluster) -> None:
    wrong = Server("127.0.0.1", cluster.port or 0, {SUPERUSER: "wrong"})
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        wrong.administer()
    socket = f"host={cluster.socket_directory} port={cluster.port} user={SUPERUSER}"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"{socket} dbname=postgres")


def test_nothing_committed_is_lost_by_a_kill_and_the_zombie_does_not_block(
    cluster: Cluster, directory: Path
) -> None:
    with server(cluster).administer(autocommit=True) as connection:
        connection.execute("create table kept (id int)")
        for number in range(50):
            connection.execute("insert into kept values (%s)", (number,))
        victim = postmaster(cluster)
        victim.kill()
    # Nobody waits for the killed server here: it stays a zombie with its lock file in place.
    deadline = time.monotonic() + 10
    while victim.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert (cluster.data / "postmaster.pid").exists()
    again = Cluster(cluster.data, PASSWORD)
    again.start(directory / "again.log")
    try:
        with server(again).administer() as connection:
            assert connection.execute("select count(*) from kept").fetchone() == (50,)
        assert "automatic recovery in progress" in (directory / "again.log").read_text()
    finally:
        again.stop()


def test_a_second_server_on_the_same_data_is_refused(
    cluster: Cluster, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry_cli.stack.postgres._STOP_SECONDS", 0.5)
    with pytest.raises(PostgresError, match=r"still runs on .*kill -INT"):
        Cluster(cluster.data, PASSWORD).start(directory / "second.log")
    with server(cluster).administer() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_half_made_data_directory_is_made_again(directory: Path) -> None:
    unfinished = directory / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    cluster = Cluster(directory / "postgres", PASSWORD)
    cluster.start(directory / "postgres.log")
    cluster.stop()
    assert not unfinished.exists()


def test_a_long_path_still_has_a_socket(directory: Path) -> None:
    deep = directory / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    cluster = Cluster(deep / "postgres", PASSWORD)
    assert len(str(cluster.socket_directory)) < 80
    cluster.start(deep / "postgres.log")
    assert (cluster.socket_directory / f".s.PGSQL.{cluster.port}").is_socket()
    cluster.stop()
    assert not cluster.socket_directory.exists()


def test_a_failing_start_shows_what_postgres_said(directory: Path) -> None:
    cluster = Cluster(directory / "postgres", PASSWORD, settings={"shared_buffers": "nonsense"})
    with pytest.raises(PostgresError, match='invalid value for parameter "shared_buffers"'):
        cluster.start(directory / "postgres.log")


def test_data_of_another_major_version_is_refused(directory: Path) -> None:
    cluster = Cluster(directory / "postgres", PASSWORD)
    cluster.create()
    (cluster.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresError, match=r"made by Postgres 9 .*TENANTRY_POSTGRES_BIN"):
        cluster.create()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_it_stops_when_its_parent_is_killed(directory: Path) -> None:
    program = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from tenantry_cli.stack.postgres import Cluster
        cluster = Cluster(Path({str(directory)!r}) / "postgres", {PASSWORD!r})
        cluster.start(Path({str(directory)!r}) / "postgres.log")
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
        parent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=20)
        running = [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        assert running == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends Postgres another account")
def test_root_opens_a_private_directory_to_postgres_alone(directory: Path) -> None:
    private = directory / "private"
    private.mkdir(mode=0o700)
    (private / "other").write_text("not for postgres")
    (private / "other").chmod(0o600)
    cluster = Cluster(private / "postgres", PASSWORD)
    cluster.start(private / "postgres.log")
    try:
        assert pwd.getpwuid(cluster.data.stat().st_uid).pw_name == "tenantry"
        assert private.stat().st_mode & 0o007 == 0
        nobody = pwd.getpwnam("nobody")
        for user in (nobody.pw_uid, cluster.data.stat().st_uid):
            listing = subprocess.run(
                ["ls", private], user=user, group=nobody.pw_gid, capture_output=True, check=False
            )
            assert listing.returncode != 0, "it may pass through, not look around"
        passing = subprocess.run(
            ["ls", private / "postgres"],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            capture_output=True,
            check=False,
        )
        assert passing.returncode != 0
    finally:
        cluster.stop()
