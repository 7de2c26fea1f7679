"""Which operating-system account runs Postgres.

Postgres refuses to run as root, so root lends it an unprivileged account and lets that account
reach exactly the directories it needs. Any other user runs Postgres plainly as itself.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.errors import TenantryError

ACCOUNT_NAME = "tenantry"

# Linux keeps POSIX access lists in this attribute: a version word, then (tag, permissions, id).
_ACL_ATTRIBUTE = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 0o1


class AccountError(TenantryError):
    """Postgres cannot run under its own account; the message says what to do."""


@dataclass(frozen=True)
class Account:
    """An unprivileged account that root lends to Postgres."""

    name: str
    uid: int
    gid: int


def postgres_account(data: Path) -> Account | None:
    """The account Postgres must switch to, or None where the current user will do.

    Data that exists decides: Postgres runs only as the owner of its data directory.
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise AccountError(
                f"{data} belongs to user {owner}: run as that user or as root, or start afresh "
                "elsewhere with TENANTRY_HOME"
            )
        return None
    if owner:
        entry = pwd.getpwuid(owner)
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        _create_account()
        entry = pwd.getpwnam(ACCOUNT_NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_account() -> None:
    if useradd := shutil.which("useradd"):
        command = [useradd, "--system", "--user-group", "--no-create-home"]
        command += ["--shell", "/usr/sbin/nologin", ACCOUNT_NAME]
    elif adduser := shutil.which("adduser"):  # BusyBox
        command = [adduser, "-S", "-D", "-H", ACCOUNT_NAME]
    else:
        raise AccountError(
            "Postgres does not run as root and neither useradd nor adduser exists: create a system "
            f"account named {ACCOUNT_NAME}, or run as an ordinary user."
        )
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    # Another start may have created it in the meantime; the caller looks the name up again.
    if result.returncode != 0 and not _exists(ACCOUNT_NAME):
        raise AccountError(f"creating the account {ACCOUNT_NAME} failed: {result.stderr.strip()}")


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def let_reach(account: Account | None, path: Path) -> None:
    """Let `account` walk down to `path`, and no more: it may not list the directories on the way.

    Each closed directory above `path` gets one access-list entry for this account alone, so that
    nobody else gains anything. Raises AccountError where the file system keeps no access lists.
    """
    if account is None:
        return
    for directory in reversed(path.resolve().parents):
        if not _may_search(account, directory):
            _grant_search(account, directory)


def _may_search(account: Account, directory: Path) -> bool:
    status = directory.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & 0o100)
    entries = _access_entries(directory)
    mask = entries.get((_MASK, _NO_ID), 0o7)
    if (_USER, account.uid) in entries:
        return bool(entries[(_USER, account.uid)] & mask & _SEARCH)
    if status.st_gid == account.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _grant_search(account: Account, directory: Path) -> None:
    entries = _access_entries(directory)
    entries[(_USER, account.uid)] = _SEARCH
    # The mask bounds named entries and the group; widened by this one bit, nothing else changes.
    mask = entries.get((_MASK, _NO_ID), entries[(_GROUP_OBJ, _NO_ID)])
    entries[(_MASK, _NO_ID)] = mask | _SEARCH
    packed = b"".join(
        _ACL_ENTRY.pack(tag, permissions, identity)
        for (tag, identity), permissions in sorted(entries.items())
    )
    try:
        os.setxattr(directory, _ACL_ATTRIBUTE, _ACL_VERSION + packed)
    except (OSError, AttributeError) as error:
        raise AccountError(
            f"Postgres runs as {account.name} here and cannot pass through {directory}: allow it "
            f"with `chmod o+x {directory}`, or move the project below a directory others may enter."
        ) from error


def _access_entries(directory: Path) -> dict[tuple[int, int], int]:
    """The directory's access list; one made from its mode bits where it has none."""
    try:
        packed = os.getxattr(directory, _ACL_ATTRIBUTE)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        mode = directory.stat().st_mode
        return {
            (_USER_OBJ, _NO_ID): mode >> 6 & 7,
            (_GROUP_OBJ, _NO_ID): mode >> 3 & 7,
            (_OTHER, _NO_ID): mode & 7,
        }
    return {
        (tag, identity): permissions
        for tag, permissions, identity in _ACL_ENTRY.iter_unpack(packed[len(_ACL_VERSION) :])
    }
