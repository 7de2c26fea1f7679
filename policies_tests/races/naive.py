"""Naive versions: the product's own functions with a lock or a check taken out.

They are rewritten from the text that the database holds, so they follow the product; a rewrite that
finds nothing to take out fails.
"""

from __future__ import annotations

import re

from .crew import Session

#: What stands in for a lock: long enough for the others to read the same.
PAUSE = "perform pg_sleep(0.004);"
LOCK_ROW = (r" for no key update;", f"; {PAUSE}")


def rewrite(session: Session, function: str, *changes: tuple[str, str]) -> None:
    """Replaces regular expressions in the text of a function (schema.name, not overloaded)."""
    row = session.execute(
        "select pg_get_functiondef(p.oid) as text from pg_proc p where p.oid = %s::regproc",
        [function],
    ).fetchone()
    assert row is not None
    text = str(row["text"])
    for pattern, replacement in changes:
        text, found = re.subn(pattern, replacement.replace("\\", r"\\"), text)
        assert found, f"{function} has no {pattern}"
    session.execute(text.encode())


def without_business_lock(session: Session) -> None:
    """Functions that change members lock nothing first."""
    rewrite(session, "private.lock_business", LOCK_ROW)
