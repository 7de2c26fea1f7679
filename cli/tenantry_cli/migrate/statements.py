"""Splitting a migration file into statements, exactly where Supabase's CLI splits it.

The CLI stores the statements of a file in its ledger and runs them one by one; a ledger that both
can read needs the same cuts. Like the CLI's tokenizer this knows quotes, dollar quotes, comments,
parentheses and BEGIN ATOMIC bodies, and like it, it does not know backslash escapes (E'\\'') or a
CASE ... END inside BEGIN ATOMIC. A file that trips over this fails here as it would fail there.
"""

from __future__ import annotations

import re

_MARK = re.compile(
    r"""
      (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<quote>'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>\$\w*\$)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<atomic>(?<![\w$])BEGIN\s+ATOMIC(?![\w$]))
    | (?P<end>(?<![\w$])END(?![\w$]))
    | (?P<semicolon>;)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


def split_statements(text: str) -> list[str]:
    """The statements of `text`, without their final semicolons and outer white space.

    Comments stay with the statement that follows them; a comment at the very end is its own entry.
    """
    statements = []
    start = position = depth = 0
    in_atomic = False
    while mark := _MARK.search(text, position):
        position = mark.end()
        match mark.lastgroup:
            case "block":
                position = _block_end(text, position)
            case "dollar":
                closing = text.find(mark[0], position)
                position = len(text) if closing < 0 else closing + len(mark[0])
            case "open":
                depth += 1
            case "close":
                depth = max(0, depth - 1)
            case "atomic":
                in_atomic = depth == 0
            case "end" if depth == 0:
                in_atomic = False
            case "semicolon" if depth == 0 and not in_atomic:
                statements.append(text[start:position])
                start = position
    statements.append(text[start:])
    trimmed = (statement.rstrip(";").strip() for statement in statements)
    return [statement for statement in trimmed if statement]


def _block_end(text: str, position: int) -> int:
    depth = 1
    while depth and (edge := _BLOCK_EDGE.search(text, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return len(text) if depth else position
