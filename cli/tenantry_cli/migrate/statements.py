"""Splitting a migration file into statements, exactly where Supabase's CLI (3.1) splits it.

The CLI stores the statements of a file in its ledger and runs them one by one; a ledger that both
can read needs the same cuts. A semicolon ends a statement unless it stands in a quote, a dollar
quote, a comment, parentheses or the body of a BEGIN ATOMIC function.
"""

from __future__ import annotations

import re

_MARK = re.compile(
    r"""
      (?P<comment>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<quote>
          (?<![\w$])[Ee]'(?:[^'\\]|''|\\.)*(?:'|\Z)
        | '(?:[^']|'')*(?:'|\Z)
        | "(?:[^"]|"")*(?:"|\Z)
      )
    | (?P<dollar>(?<![\w$])\$\w*\$)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<atomic>(?<![\w$])BEGIN\s+ATOMIC(?![\w$]))
    | (?P<end>(?<![\w$])END(?![\w$]))
    | (?P<semicolon>;)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


def split_statements(text: str) -> list[str]:
    """The statements of `text`, without their final semicolons and outer white space.

    Comments stay with the statement that follows them; a comment at the very end is its own entry.
    """
    statements = []
    start = position = depth = 0
    in_body = False
    at_start_of_inner = False  # inside a body: nothing but comments since its last semicolon
    while mark := _MARK.search(text, position):
        if text[position : mark.start()].strip():
            at_start_of_inner = False
        position = mark.end()
        match mark.lastgroup:
            case "comment":
                continue
            case "block":
                position = _block_end(text, position)
                continue
            case "dollar":
                closing = text.find(mark[0], position)
                position = len(text) if closing < 0 else closing + len(mark[0])
            case "open":
                depth += 1
            case "close":
                depth = max(0, depth - 1)
            case "atomic" if depth == 0:
                in_body = at_start_of_inner = True
                continue
            case "end" if in_body and at_start_of_inner:  # any other END closes a CASE
                in_body = False
            case "semicolon" if depth == 0 and in_body:
                at_start_of_inner = True
                continue
            case "semicolon" if depth == 0:
                statements.append(text[start:position])
                start = position
        at_start_of_inner = False
    statements.append(text[start:])
    trimmed = (statement.rstrip(";").strip() for statement in statements)
    return [statement for statement in trimmed if statement]


def _block_end(text: str, position: int) -> int:
    depth = 1
    while depth and (edge := _BLOCK_EDGE.search(text, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return len(text) if depth else position
