"""Reading CSV files as they come: from spreadsheets, exports, and people."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tenantry_cli.importing.problems import BadRow, ImportRefused, shown, write_report
from tenantry_cli.importing.table import Table, read_table


def read(tmp_path: Path, content: bytes | str, delimiter: str | None = None) -> Table:
    path = tmp_path / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, delimiter)


def rows(table: Table) -> list[tuple[int, tuple[str, ...]]]:
    return [(row.line, row.values) for row in table.rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_delimiters_line_ends_and_byte_order_marks(tmp_path, delimiter, ending, mark):
    lines = ["name;phone", "Zoë;+1 415", '"a;b";2', ""]
    text = ending.join(lines).replace(";", delimiter)
    table = read(tmp_path, mark + text.encode())
    assert table.columns == ("name", "phone")
    assert rows(table) == [(2, ("Zoë", "+1 415")), (3, (f"a{delimiter}b", "2"))]


def test_lines_are_those_of_the_file_also_after_quoted_newlines_and_blank_lines(tmp_path):
    text = 'name,note\n"Ana","one\ntwo\r\nthree"\n\n\nBob,x\n,\nCyd,"y\n"\nDan\n'
    table = read(tmp_path, text)
    assert rows(table) == [
        (2, ("Ana", "one\ntwo\r\nthree")),
        (7, ("Bob", "x")),
        (9, ("Cyd", "y\n")),
    ]
    assert [(one.line, one.problem) for one in table.bad] == [
        (11, "The line has 1 values, the header has 2.")
    ]


def test_ragged_rows_are_set_aside_but_empty_values_too_many_are_not(tmp_path):
    table = read(tmp_path, "a,b\n1,2,,\n1,2,3\n1\n3,4\n")
    assert rows(table) == [(2, ("1", "2")), (5, ("3", "4"))]
    assert [one.line for one in table.bad] == [3, 4]
    assert all("quote a value" in one.remedy for one in table.bad)


def test_values_keep_every_character(tmp_path):
    odd = '  "x" it\'s 5" — «é» \U0001f600 \u2028 \x1f  '
    content = io.StringIO(newline="")
    csv.writer(content).writerows([["n", "text"], ["1", odd]])
    assert read(tmp_path, content.getvalue()).rows[0].values == ("1", odd)


def test_quotes_inside_an_unquoted_value_are_characters(tmp_path):
    assert read(tmp_path, 'a,b\n5" nail,say "yes" now\n').rows[0].values == (
        '5" nail',
        'say "yes" now',
    )


def test_a_nul_byte_is_a_bad_row_that_names_the_column(tmp_path):
    table = read(tmp_path, b"name,phone\nAna,1\x002\nBob,3\n")
    assert rows(table) == [(3, ("Bob", "3"))]
    assert table.bad == (
        BadRow(2, "phone", "1\\x002", "The value has a NUL byte.", "Remove the NUL byte."),
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the first line must name the columns"),
        (b"\n \n", "the first line must name the columns"),
        (b"name\n", "no rows"),
        ("name\nAna".encode("utf-16"), "iconv -f UTF-16"),
        ("name\nAna".encode("utf-32"), "iconv -f UTF-32"),
        (b"name\nAna\nJos\xe9\n", "line 3 has the byte 0xE9"),
        (b"\xef\xbb\xbfname\r\nAna\r\nJos\xe9\r\n", "line 3 has the byte 0xE9"),
        (b'a,b\n1,2\n3,"open\n5,6\n', "line 3: a quoted value begins here and is never closed"),
        (b'a,b\n1,"x"y\n', "line 2: something follows a closing quote"),
        (b"Name,phone, name \n1,2,3\n", "columns 1 and 3 are both named 'name'"),
        (b"na\x00me\n1\n", "the name of column 1 has a NUL"),
        (b"a\n" + b"x" * 140_000, "more than 131072 characters"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_the_place_and_the_remedy(
    tmp_path, content, told
):
    with pytest.raises(ImportRefused) as refused:
        read(tmp_path, content)
    assert told in str(refused.value)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(ImportRefused, match="cannot read"):
            read_table(path)


def test_the_delimiter_can_be_said(tmp_path):
    text = "name, first;phone, office\nAna;1\n"
    assert read(tmp_path, text, ";").columns == ("name, first", "phone, office")


_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(_TEXT, _TEXT, _TEXT), min_size=1, max_size=8), st.sampled_from(",;\t"))
@example([("\r", "\n", "a"), ('"', '""', ","), ("\x85", "\u2028", "\x0b")], ",")
def test_what_a_writer_wrote_is_read_back(tmp_path, written, delimiter):
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(("first", "second", "third"))
    writer.writerows(written)
    expected = [values for values in written if any(value.strip() for value in values)]
    if not expected:
        with pytest.raises(ImportRefused):
            read(tmp_path, content.getvalue())
        return
    table = read(tmp_path, content.getvalue())
    assert [row.values for row in table.rows] == expected
    assert not table.bad
    # The file from the line that a row says reads as that row.
    lines = list(io.StringIO(content.getvalue(), newline=""))
    for row in table.rows:
        rest = io.StringIO("".join(lines[row.line - 1 :]), newline="")
        assert tuple(next(csv.reader(rest, delimiter=delimiter))) == row.values


def test_shown_values_are_short_and_cannot_move_the_cursor():
    assert shown("a\x1b[2J\x00b") == "a\\x1b[2J\\x00b"
    assert len(shown("x" * 500)) == 60


def test_a_report_opens_in_a_spreadsheet_without_running_anything(tmp_path):
    path = tmp_path / "report.csv"
    write_report(path, [BadRow(7, "phone", "=HYPERLINK(1)", "Bad.", "Mend it.")])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    written = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
    assert list(csv.reader(written))[1] == [
        "7",
        "phone",
        "'=HYPERLINK(1)",
        "Bad.",
        "Mend it.",
    ]
    with pytest.raises(ImportRefused, match="cannot write"):
        write_report(tmp_path / "no" / "report.csv", [])
