# ruff: noqa: RUF001
"""Telephone numbers in the database agree with libphonenumber.

TENANTRY_TEST_FULL=1 runs every generated case; otherwise a part of them, for time.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat as Format
from phonenumbers.phonemetadata import PhoneMetadata
from phonenumbers.phonenumberutil import COUNTRY_CODE_TO_REGION_CODE

from .conftest import Normalizer, Row
from .phone_cases import (
    NOISE_AFTER,
    PUNCTUATION,
    REGIONS,
    Case,
    digit_cases,
    example_cases,
    prefixed_cases,
)

PARSED = "p.e164, p.extension, p.calling_code, p.region, p.is_valid, p.is_possible"
FULL = bool(os.environ.get("TENANTRY_TEST_FULL"))
FORMATS = {
    "international": Format.INTERNATIONAL,
    "national": Format.NATIONAL,
    "rfc3966": Format.RFC3966,
    "e164": Format.E164,
}


def by_library(case: Case) -> Row:
    """What parse_phone must give."""
    try:
        number = phonenumbers.parse(*case)
    except phonenumbers.NumberParseException:
        return (None,) * 6
    is_valid = phonenumbers.is_valid_number(number)
    extension = number.extension and phonenumbers.normalize_digits_only(number.extension)
    return (
        phonenumbers.format_number(number, Format.E164),
        extension,
        number.country_code,
        phonenumbers.region_code_for_number(number) if is_valid else None,
        is_valid,
        phonenumbers.is_possible_number(number),
    )


def differences(normalizer: Normalizer, cases: Iterable[Case]) -> list[tuple[Case, Row, Row]]:
    cases = list(cases)
    found = normalizer.each(PARSED, cases, "cross join lateral private.parse_phone(a, b) as p")
    pairs = zip(cases, map(by_library, cases), found, strict=True)
    return [(case, library, ours) for case, library, ours in pairs if library != ours]


def shared_rows() -> list[dict[str, str]]:
    path = Path(__file__).parent / "data/phone_numbers.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plans() -> list[PhoneMetadata]:
    found = [
        PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        for code, regions in COUNTRY_CODE_TO_REGION_CODE.items()
        for region in regions
    ]
    return [plan for plan in found if plan is not None]


def test_the_shared_file(normalizer: Normalizer) -> None:
    rows = shared_rows()
    cases = [(row["raw"], row["default_region"] or None) for row in rows]
    found = normalizer.each("public.normalize_phone(a, b), public.is_valid_phone(a, b)", cases)
    wanted = [(row["e164"], True) if row["valid"] == "1" else (None, False) for row in rows]
    assert sum(is_valid for _, is_valid in wanted) > 1200
    assert [
        (row["raw"], *ours, *want)
        for row, ours, want in zip(rows, found, wanted, strict=True)
        if ours != want
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9) if FULL else [1])
def test_every_example_of_every_region_as_people_write_it(
    normalizer: Normalizer, seed: int
) -> None:
    cases = list(example_cases(seed))
    assert len(cases) > 100_000
    assert differences(normalizer, cases if FULL else cases[::3]) == []


def test_every_prefix_that_people_dial(normalizer: Normalizer) -> None:
    cases = list(prefixed_cases(seed=6))
    assert len(cases) > 20_000
    assert differences(normalizer, cases if FULL else cases[::3]) == []


def test_random_digits(normalizer: Normalizer) -> None:
    count = 400_000 if FULL else 10_000
    assert differences(normalizer, digit_cases(seed=3, count=count)) == []


@pytest.mark.slow
def test_both_sides_of_every_range(normalizer: Normalizer) -> None:
    rows = normalizer.connection.execute(
        "select calling_code, first_number, last_number from private.phone_ranges"
    ).fetchall()
    assert len(rows) > 15_000
    numbers = {
        f"+{code}{str(edge)[1:]}"
        for code, first, last in (rows if FULL else rows[::3])
        for edge in (first - 1, first, last, last + 1)
    }
    cases = [(number, None) for number in sorted(numbers)]
    assert differences(normalizer, cases) == []
    # A valid number in E.164 form is its own normal form: what is stored can be looked up.
    valid = [case for case in cases if phonenumbers.is_valid_number(phonenumbers.parse(*case))]
    found = normalizer.each("public.normalize_phone(a, null)", valid)
    changed = {case[0]: ours for case, (ours,) in zip(valid, found, strict=True) if case[0] != ours}
    for number, ours in changed.items():  # the library strips these too
        library = phonenumbers.parse(number)
        assert ours == phonenumbers.format_number(library, Format.E164)
    assert len(changed) < len(valid) / 1000


def test_prefixes_match_as_in_python(normalizer: Normalizer) -> None:
    """Python takes the first alternative that fits, PostgreSQL the longest: no prefix may care."""
    patterns = {plan.national_prefix_for_parsing for plan in plans()}
    patterns |= {plan.international_prefix for plan in plans()}
    starts = [f"{number:0{size}d}" for size in (1, 2, 3) for number in range(10**size)]
    texts = [start + rest for start in starts for rest in ("", "1512345", "89012345", "0123456789")]
    for pattern in sorted(filter(None, patterns)):
        ascii_pattern = pattern.replace(r"\d", "[0-9]")
        found = normalizer.connection.execute(
            "select regexp_match(text, %s) from unnest(%s::text[]) with ordinality as t (text, at)"
            " order by at",
            (f"^({ascii_pattern})", texts),
        ).fetchall()
        for text, (ours,) in zip(texts, found, strict=True):
            library = re.match(f"({ascii_pattern})", text)
            assert ours == (list(library.groups()) if library else None), (pattern, text)


def test_formats(normalizer: Normalizer) -> None:
    numbers: list[phonenumbers.PhoneNumber] = []
    cases = [*example_cases(seed=4), *digit_cases(seed=5, count=20_000)]
    for case in cases if FULL else cases[::6]:
        try:
            numbers.append(phonenumbers.parse(*case))
        except phonenumbers.NumberParseException:
            continue
    texts = sorted({phonenumbers.format_number(number, Format.E164) for number in numbers})
    assert len(texts) > 10_000
    parsed = {}
    for text in texts:  # the digits behind the calling code, whatever parse() would strip
        for code in (text[1:2], text[1:3], text[1:4]):
            if int(code) in COUNTRY_CODE_TO_REGION_CODE and len(text) > len(code) + 1:
                rest = text[len(code) + 1 :]
                zeros = len(rest) - len(rest.lstrip("0")) - (rest.strip("0") == "")
                parsed[text] = phonenumbers.PhoneNumber(
                    country_code=int(code), national_number=int(rest),
                    italian_leading_zero=zeros > 0 or None, number_of_leading_zeros=zeros or None,
                )  # fmt: skip
                break
    for name, style in FORMATS.items():
        found = normalizer.each("public.format_phone(a, b)", [(text, name) for text in parsed])
        assert [
            (text, ours)
            for (text, number), (ours,) in zip(parsed.items(), found, strict=True)
            if ours != phonenumbers.format_number(number, style)
        ] == []


@pytest.mark.parametrize(
    ("e164", "style"),
    [
        (None, "national"), ("+14155550123", None), ("+14155550123", "pretty"), ("", "national"),
        ("14155550123", "national"), ("+1 415 555 0123", "e164"), ("+999123456", "national"),
        ("+1", "national"), ("+0123456", "e164"), ("+14155550123\n", "e164"),
        ("+" + "1" * 40, "e164"),
    ],
)  # fmt: skip
def test_no_format_for_what_is_no_number(
    normalizer: Normalizer, e164: str | None, style: str | None
) -> None:
    assert normalizer.one("select public.format_phone(%s, %s)", e164, style) is None


def test_the_international_format_is_the_default(normalizer: Normalizer) -> None:
    assert normalizer.one("select public.format_phone('+442079460018')") == "+44 20 7946 0018"


TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=300),
    st.text(alphabet="0123456789+-() .x#,;ext~*/abcABC" + PUNCTUATION, max_size=60),
    st.from_regex(
        r"[+0]?[1-9][0-9]{1,3}[ -]?[0-9 ()-]{3,18}( ?(x|ext|#|;ext=) ?[0-9]{1,10})?", fullmatch=True
    ),
    st.builds(
        "{}{}{}".format, st.sampled_from(("+1415", "tel:", "0", "(415) ")),
        st.text(alphabet="0123456789", max_size=12), st.sampled_from(NOISE_AFTER),
    ),
    st.builds("{};phone-context={}".format, st.text(max_size=20), st.text(max_size=20)).filter(
        lambda text: "\0" not in text
    ),
)  # fmt: skip


@settings(
    max_examples=20_000 if FULL else 800,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    raw=TEXTS, region=st.one_of(st.none(), st.sampled_from(REGIONS), st.sampled_from(("ZZ", "us")))
)
def test_any_text_gives_null_or_a_valid_number(
    normalizer: Normalizer, raw: str, region: str | None
) -> None:
    found = normalizer.one("select public.normalize_phone(%s, %s)", raw, region)
    *_, is_valid, _ = library = by_library((raw, region))
    assert found == (library[0] if is_valid else None)
    if found is not None:
        assert re.fullmatch(r"\+[1-9][0-9]{4,16}", found)
        assert phonenumbers.is_valid_number(phonenumbers.parse(found))


@pytest.mark.parametrize("region", [None, "", "ZZ", "001", "us", "USA", "U", "é", "'", "US "])
def test_a_region_that_is_none_reads_international_numbers_only(
    normalizer: Normalizer, region: str | None
) -> None:
    assert normalizer.one("select public.normalize_phone('4155550123', %s)", region) is None
    assert normalizer.one("select public.normalize_phone('+14155550123', %s)", region) == (
        "+14155550123"
    )


@pytest.mark.parametrize("raw", [None, "", "+", "++", "0", "x" * 100_000, "1" * 251, "+1" * 5_000])
def test_extremes_are_no_numbers(normalizer: Normalizer, raw: str | None) -> None:
    assert normalizer.one("select public.normalize_phone(%s, 'US')", raw) is None
    assert normalizer.one("select public.is_valid_phone(%s, 'US')", raw) is False


def test_hostile_input_costs_little(normalizer: Normalizer) -> None:
    """Text that makes a backtracking engine slow is answered within one API statement."""
    hostile = ("1" + " " * 248, "+" * 249 + "1", "1,1," * 62, "(" * 249, "1x" * 124, "-1" * 124,
               "1;phone-context=" + "a-" * 116, "1;phone-context=+" + "1-" * 116, "~" * 200 + "1#",
               "+1" + "/ x" * 80, "ー" * 248 + "1", "１" * 250)  # fmt: skip
    normalizer.connection.execute("set statement_timeout = '1s'")
    try:
        for raw in hostile:
            normalizer.one("select public.normalize_phone(%s, 'US')", raw)
    finally:
        normalizer.connection.execute("reset statement_timeout")
