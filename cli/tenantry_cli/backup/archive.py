"""The file of one organization: a tar of gzipped members, with manifest.json as its last."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, cast

from tenantry_cli.backup.manifest import BackupError, Manifest, SavedTable, names, sha256_of

MANIFEST = "manifest.json"
REGISTRY = "registry.json.gz"
#: What is still being written; never taken for an archive.
UNFINISHED = ".partial"
_BLOCK = 1 << 20
_LEVEL = 6


class Writer:
    """Writes an archive beside its final name, which it gets when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unfinished = path.with_name(path.name + UNFINISHED)
        self.sha256: dict[str, str] = {}

    def __enter__(self) -> Writer:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = private_file(self._unfinished)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._file.close()
            self._unfinished.unlink(missing_ok=True)

    def add(self, member: str, blocks: Iterable[bytes]) -> None:
        """Add a compressed member. It is spooled on disk first: a tar says its size beforehand."""
        with tempfile.TemporaryFile(dir=self.path.parent) as spool:
            with gzip.GzipFile("", "wb", _LEVEL, spool, mtime=0) as packed:
                for block in blocks:
                    packed.write(block)
            spool.seek(0)
            self.sha256[member] = sha256_of(spool)
            self._put(member, spool, spool.tell())

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest and give the file its name, on disk for sure."""
        text = manifest.to_json()
        self._put(MANIFEST, io.BytesIO(text), len(text))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.rename(self.path)
        sync_directory(self.path.parent)

    def _put(self, member: str, stream: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(member)
        entry.size, entry.mode = size, 0o600
        stream.seek(0)
        self._tar.addfile(entry, stream)


class Archive:
    """An archive that is open for reading. Raises BackupError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")  # closed by close()
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        path = self.path
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115  # closed by close()
            self._entries = {one.name: one for one in self._tar.getmembers()}
        except (tarfile.TarError, OSError) as error:
            raise BackupError(f"{path} is no archive, or cut off: {error}") from error
        if MANIFEST not in self._entries:
            raise BackupError(f"{path} is cut off: {MANIFEST} is missing. Take another backup")
        self.manifest = Manifest.from_json(self._read(MANIFEST), path)
        expected = {MANIFEST, REGISTRY, *(one.member for one in self.manifest.tables)}
        if different := sorted(expected ^ set(self._entries)):
            raise BackupError(f"{path} is not what its manifest says: {names(different)}")

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def registry(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(gzip.decompress(self._read(REGISTRY)))
        return content

    def rows(self, table: SavedTable) -> Iterator[bytes]:
        """The rows of a table as COPY's text, in blocks. Call `check` before trusting them."""
        with self._unpacked(table.member) as stream:
            while block := stream.read(_BLOCK):
                yield block

    def check(self) -> None:
        """Read everything: each member's SHA-256, and how many rows each table has."""
        for member in self._entries:
            if member != MANIFEST and self._sha256(member) != self.manifest.sha256.get(member):
                raise BackupError(f"{self.path}: {member} is damaged: take another backup")
        for table in self.manifest.tables:
            # COPY writes a line per row, whatever is in it.
            found = sum(block.count(b"\n") for block in self.rows(table))
            if found != table.rows:
                raise BackupError(
                    f"{self.path}: {table.member} has {found} rows, its manifest says {table.rows}"
                )

    def _member(self, name: str) -> BinaryIO:
        entry = self._entries.get(name)
        stream = self._tar.extractfile(entry) if entry is not None and entry.isfile() else None
        if stream is None:
            raise BackupError(f"{self.path}: {name} is missing: take another backup")
        return cast(BinaryIO, stream)

    def _sha256(self, name: str) -> str:
        try:
            return sha256_of(self._member(name))
        except tarfile.TarError as error:
            raise BackupError(f"{self.path}: {name} is cut off: take another backup") from error

    def _read(self, name: str) -> bytes:
        try:
            return self._member(name).read()
        except tarfile.TarError as error:
            raise BackupError(f"{self.path}: {name} is cut off: take another backup") from error

    @contextmanager
    def _unpacked(self, name: str) -> Iterator[gzip.GzipFile]:
        try:
            with gzip.open(self._member(name)) as stream:
                yield stream
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise BackupError(f"{self.path}: {name} is damaged: take another backup") from error


def private_file(path: Path) -> IO[bytes]:
    """A new file that only its owner reads."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")


def sync_directory(directory: Path) -> None:
    """Make sure that names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
