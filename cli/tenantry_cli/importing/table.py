"""Reading a CSV file without trusting it: encoding, delimiter, quotes, ragged rows, NUL bytes.

A row that is bad by itself is set aside. A file whose structure is broken (an unclosed quote) is
refused as a whole: nobody can know which values the rows after the break would have had.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantry_cli.importing.problems import BadRow, ImportRefused, shown

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
MAX_BYTES = 200 * 2**20

_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True)
class Row:
    """The values of one record, as many as the header has. `line` is where it begins."""

    line: int
    values: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A file that could be read. Column names are as in the file, without white space around."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...]


def read_table(path: Path, delimiter: str | None = None) -> Table:
    """Read a file; `delimiter` by default is the one that gives its header most columns.

    Raises ImportRefused, naming the line, for a file that is not CSV in UTF-8.
    """
    text = _decode(path, _read(path))
    if delimiter is None:
        delimiter = max(DELIMITERS.values(), key=lambda one: _width(text, one))
    records = _records(text, delimiter)
    header = next(records, None)
    if header is None:
        raise ImportRefused(f"{path.name} is empty: the first line must name the columns")
    columns = _check_header(path, header)
    rows: list[Row] = []
    bad: list[BadRow] = []
    for line, values in records:
        values = _trim(values, len(columns))
        problem = _problem_of(line, values, columns)
        if problem is None:
            rows.append(Row(line, tuple(values)))
        else:
            bad.append(problem)
    if not rows and not bad:
        raise ImportRefused(f"{path.name} has a header and no rows")
    return Table(path.name, columns, tuple(rows), tuple(bad))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImportRefused(f"{path.name} has more than {MAX_BYTES >> 20} MB: split it")
        return path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"cannot read {path}: {error.strerror}") from error


def _decode(path: Path, content: bytes) -> str:
    for mark, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise ImportRefused(
                f"{path.name} is encoded in {encoding}, not in UTF-8. Convert it: "
                f"iconv -f {encoding} -t UTF-8 {path.name} > utf8.csv"
            )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `start` counts from behind the byte order mark.
        skipped = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
        before = content[: skipped + error.start]
        raise ImportRefused(
            f"{path.name} is not encoded in UTF-8: line {_lines(before)} has the byte "
            f"0x{error.object[error.start]:02X}. Often it is Windows-1252; then convert it: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.csv"
        ) from None


def _lines(before: bytes) -> int:
    return before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1


def _width(text: str, delimiter: str) -> int:
    try:
        first = next(_records(text, delimiter), None)
    except ImportRefused:
        return 0
    return len(first[1]) if first else 0


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, with the line at which each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ImportRefused(_broken(line, reader.line_num, str(error))) from None
        if any(value.strip() for value in values):
            yield line, values


def _broken(start: int, end: int, message: str) -> str:
    if "unexpected end of data" in message:
        return f"line {start}: a quoted value begins here and is never closed. Close the quote."
    if "field limit" in message:
        return (
            f"line {start}: a value has more than {csv.field_size_limit()} characters. "
            "Perhaps a quote is not closed."
        )
    if "expected after" in message:
        return (
            f"line {end}: something follows a closing quote. Write a quote inside a quoted value "
            'twice: "say ""yes"" now".'
        )
    return f"line {end}: {message}"


def _check_header(path: Path, header: tuple[int, list[str]]) -> tuple[str, ...]:
    line, names = header
    columns = tuple(name.strip() for name in names)
    for number, name in enumerate(columns, 1):
        if "\0" in name:
            raise ImportRefused(f"{path.name}, line {line}: the name of column {number} has a NUL")
    counts = Counter(name.casefold() for name in columns if name)
    for key, count in counts.items():
        if count > 1:
            places = [str(n) for n, name in enumerate(columns, 1) if name.casefold() == key]
            raise ImportRefused(
                f"{path.name}, line {line}: columns {' and '.join(places)} are both named "
                f"{shown(key)!r}. Give each its own name."
            )
    return columns


def _trim(values: Sequence[str], width: int) -> list[str]:
    """Spreadsheets end some lines with delimiters more than the header has."""
    kept = list(values)
    while len(kept) > width and not kept[-1].strip():
        kept.pop()
    return kept


def _problem_of(line: int, values: Sequence[str], columns: Sequence[str]) -> BadRow | None:
    if len(values) != len(columns):
        return BadRow(
            line,
            "",
            shown(values[-1]),
            f"The line has {len(values)} values, the header has {len(columns)}.",
            "Add the missing values, or quote a value that contains the delimiter.",
        )
    for name, value in zip(columns, values, strict=True):
        if "\0" in value:
            remedy = "Remove the NUL byte."
            return BadRow(line, name, shown(value), "The value has a NUL byte.", remedy)
    return None
