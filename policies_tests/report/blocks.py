"""What a page is made of, and its two forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Literal

#: A section that is not known to have passed is never shown as if it had.
State = Literal["passed", "failed", "missing"]


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Figure:
    """An SVG drawing; the page holds it, the Markdown text names its file."""

    name: str
    title: str
    draw: Callable[[], str]

    @cached_property
    def svg(self) -> str:
        """Drawn when it is needed: drawing is what takes the time."""
        return self.draw()


@dataclass(frozen=True)
class Items:
    items: Sequence[str]


Block = str | Table | Figure | Items


@dataclass(frozen=True)
class Section:
    title: str
    state: State
    blocks: Sequence[Block] = field(default_factory=list)


def number(value: object) -> str:
    """Thousands with commas; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def markdown(
    title: str, facts: Table, sections: Iterable[Section], after: Iterable[Section]
) -> str:
    parts = [f"# {title}", _markdown(facts)]
    for section in sections:
        parts += [f"## {section.title}: {section.state}", *map(_markdown, section.blocks)]
    for section in after:
        parts += [f"## {section.title}", *map(_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Table():
            lines = [[number(cell).replace("|", "\\|") for cell in row] for row in block.rows]
            lines = [list(block.head), ["---"] * len(block.head), *lines]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
        case Figure():
            return f"![{block.title}]({block.name}.svg)"
        case Items():
            return "\n".join(f"- {item}" for item in block.items)
        case _:
            return block


def html(title: str, facts: Table, sections: Sequence[Section], after: Iterable[Section]) -> str:
    body = [f"<h1>{escape(title)}</h1>", _html(facts), "<ul class=states>"]
    body += [
        f'<li class="{one.state}"><a href="#{_anchor(one)}">{escape(one.title)}</a>'
        f" <b>{one.state}</b></li>"
        for one in sections
    ]
    body.append("</ul>")
    for one in sections:
        body.append(
            f'<h2 id="{_anchor(one)}">{escape(one.title)}'
            f' <span class="state {one.state}">{one.state}</span></h2>'
        )
        body += map(_html, one.blocks)
    for one in after:
        body.append(f'<h2 id="{_anchor(one)}">{escape(one.title)}</h2>')
        body += map(_html, one.blocks)
    return _PAGE.format(title=escape(title), body="\n".join(body))


def _anchor(section: Section) -> str:
    return re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")


def _html(block: Block) -> str:
    match block:
        case Table():
            head = "".join(f"<th>{escape(cell)}</th>" for cell in block.head)
            rows = "\n".join(
                "<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in block.rows
            )
            return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"
        case Figure():
            return f'<figure role="img" aria-label="{escape(block.title)}">{block.svg}</figure>'
        case Items():
            return "<ul>" + "".join(f"<li>{_words(item)}</li>" for item in block.items) + "</ul>"
        case _:
            return f"<p>{_words(block)}</p>"


def _cell(value: object) -> str:
    kind = ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        kind = ' class="number"'
    elif value in ("passed", "failed", "missing", "not run"):
        kind = f' class="{str(value).replace(" ", "-")}"'
    return f"<td{kind}>{_words(number(value))}</td>"


def _words(text: str) -> str:
    """Code and bold of Markdown, everything else escaped."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem;
  padding: 0 1rem; color: #1c1c1c; background: #fff; }}
h1 {{ margin-bottom: .5rem; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .3rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-size: 14px; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .7rem;
  border-bottom: 1px solid #e4e4e4; }}
th {{ background: #f5f5f5; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
figure {{ margin: 1rem 0; overflow-x: auto; }}
svg {{ max-width: 100%; height: auto; }}
code {{ background: #f2f2f2; padding: 0 .25rem; font-size: 13px; }}
ul.states {{ list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .6rem; }}
ul.states li {{ border: 1px solid; border-radius: 6px; padding: .3rem .8rem; }}
ul.states a {{ color: inherit; }}
span.state {{ font-size: .6em; border: 1px solid; border-radius: 6px; padding: .15rem .6rem;
  vertical-align: middle; }}
.passed {{ color: #176b37; }}
.failed {{ color: #b3261e; }}
.missing, .not-run {{ color: #8a5a00; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
