"""One Postgres server: its data directory, and the process that runs on it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tenantry_cli.stack.account import Account, let_reach, postgres_account
from tenantry_cli.stack.installation import PostgresError, Programs, find_programs
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.process import die_with_parent, last_lines

SUPERUSER = "supabase_admin"

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the final NUL included.
_SOCKET_PATH_LIMIT = 103
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_ORPHAN_SECONDS = 1.0

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
    "autovacuum_naptime": "10s",  # plans are generic: they want fresh statistics soon
    "shared_preload_libraries": "pg_stat_statements",  # as hosted; `tenantry monitor queries`
}

#: For databases that a test run throws away.
THROWAWAY_SETTINGS: Mapping[str, str] = {
    **DURABLE_SETTINGS,
    "shared_preload_libraries": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
}


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

    def prepare(self) -> None:
        """Everything before the server process: the data directory, and no traces of a dead one."""
        self.create()
        self.clear_stale_lock()

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
            self.programs.make_readable()

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
        self.prepare()
        self.spawn(log, port)
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready():
            if self.exit_code() is not None or time.monotonic() > deadline:
                reason = last_lines(log)
                self.stop(signal.SIGQUIT)
                raise PostgresError(f"Postgres did not start on {self.data}:\n{reason}")
            time.sleep(0.02)

    def spawn(self, log: Path, port: int | None = None) -> subprocess.Popen[bytes]:
        """Start the server process of a prepared cluster, without waiting until it is ready.

        Call it from the main thread: on Linux the server stops when the starting thread ends.
        """
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
        """Wait for a server that is just stopping here; remove the lock of a dead one.

        Postgres takes a dead server that nobody waited for (a zombie) for a living one and would
        refuse to start for ever. Raises PostgresError if another server keeps running here.
        """
        started = time.monotonic()
        while processes := self._server_processes():
            waited = time.monotonic() - started
            main = [process for process in processes if not _is_backend(process)]
            if not main and waited > _ORPHAN_SECONDS:
                # Their server was killed, so recovery follows anyway: nothing more can be lost.
                for process in processes:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
            if waited > _STOP_SECONDS:
                pid = (main or processes)[0].pid
                raise PostgresError(
                    f"another Postgres (process {pid}) still runs on {self.data}: stop it with "
                    f"`kill -INT {pid}`"
                )
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for lock in self.socket_directory.glob(".s.PGSQL.*"):
            lock.unlink(missing_ok=True)

    def _server_processes(self) -> list[psutil.Process]:
        """Every live process of a server on this data directory."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if Path(process.cwd()) == self.data.resolve():
                    found.append(process)
        return found


def _is_backend(process: psutil.Process) -> bool:
    """Whether it is a server's child, which Postgres renames to what it does."""
    with contextlib.suppress(psutil.Error, IndexError):
        return process.cmdline()[0].startswith("postgres: ")
    return True


def _socket_directory(data: Path) -> Path:
    """Beside the data where the path is short enough, else under /tmp."""
    beside = data.parent / "socket"
    if len(os.fsencode(beside / ".s.PGSQL.65535.lock")) <= _SOCKET_PATH_LIMIT:
        return beside
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    return Path("/tmp") / f"tenantry-{os.getuid()}-{digest}"  # noqa: S108  # mode 0700, ours
