"""E-mail addresses in the database agree with email-validator, where that is safe.

TENANTRY_TEST_FULL=1 runs every generated case and every code point; otherwise a part of them.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Normalizer
from .email_cases import addresses

FULL = bool(os.environ.get("TENANTRY_TEST_FULL"))
COUNTRY_DOMAIN = re.compile(r"[^@]+@[a-z]{2}\Z")


def by_library(address: str) -> str | None:
    """The key that the library's normal form makes."""
    try:
        found = validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return None
    assert found.local_part is not None
    return f"{found.local_part.lower()}@{found.domain}"


def differences(
    normalizer: Normalizer, texts: Iterable[str]
) -> list[tuple[str, str | None, str | None]]:
    """Where the two differ, but for the one intended difference: ana@io is an address."""
    texts = list(texts)
    found = normalizer.each("private.email_key(a)", [(text, None) for text in texts])
    return [
        (ascii(text), library, ours)
        for text, (ours,) in zip(texts, found, strict=True)
        if ours != (library := by_library(text))
        and not (library is None and ours is not None and COUNTRY_DOMAIN.match(ours))
    ]


def isemail_tests() -> list[tuple[str, str]]:
    """Addresses and categories; pictures of control characters stand for themselves."""
    root = ElementTree.parse(Path(__file__).parent / "data/isemail_tests.xml").getroot()  # noqa: S314
    found = []
    for test in root.findall("test"):
        text = test.findtext("address") or ""
        address = "".join(
            chr(ord(letter) - 0x2400) if 0x2400 <= ord(letter) <= 0x2420 else letter
            for letter in text
        )
        found.append((address, test.findtext("category") or ""))
    return found


def test_isemail(normalizer: Normalizer) -> None:
    accepted = 0
    for address, category in isemail_tests():
        if "\0" in address:  # PostgreSQL has no such text
            assert by_library(address) is None
            continue
        is_valid = normalizer.one("select public.is_valid_email(%s)", address)
        accepted += is_valid
        if category == "ISEMAIL_ERR":
            assert not is_valid, address
            assert normalizer.one("select public.normalize_email(%s)", address) is None
        elif category in ("ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN"):
            assert is_valid, address
        else:
            assert is_valid == (by_library(address) is not None), address
    assert accepted == 23


def test_generated_addresses(normalizer: Normalizer) -> None:
    texts = list(addresses(seed=1, count=100_000 if FULL else 4_000))
    assert sum(by_library(text) is not None for text in texts[::10]) > 500
    assert differences(normalizer, texts if FULL else texts[::2]) == []


@pytest.mark.parametrize("form", ["a@{}.de", "{}@c.de", "a@b{}c.de", "a{}b@c.de"])
def test_every_character(normalizer: Normalizer, form: str) -> None:
    points = [*range(1, 0xD800), *range(0xE000, 0x33480), *range(0xE0000, 0xE0200)]
    step = 1 if FULL else 37
    texts = [form.format(chr(point)) for point in points[::step]]
    assert differences(normalizer, texts) == []


def test_ascii_and_latin_characters(normalizer: Normalizer) -> None:
    texts = [form.format(chr(point)) for point in range(1, 0x250)
             for form in ("a{}b@c.de", "{}@c.de", "a@b{}c.de", "a@c.de{}", "{}a@c.de")]  # fmt: skip
    assert differences(normalizer, texts) == []


@settings(
    max_examples=20_000 if FULL else 500, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    text=st.one_of(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80),
        st.emails(),
        st.builds(
            "{}@{}.{}".format,
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=9),
            st.text(st.characters(categories=["L", "M", "N"]), min_size=1, max_size=9),
            st.sampled_from(("com", "рф", "xn--p1ai", "中国")),
        ),
        st.builds(
            "a@xn--{}.com".format,
            st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20),
        ),
        st.builds(
            "a@xn--{}.com".format,
            st.text(
                st.characters(categories=["Ll", "Lo", "Mn", "Nd"]), min_size=1, max_size=12
            ).map(lambda label: label.encode("punycode").decode("ascii")),
        ),
    )
)
def test_any_text(normalizer: Normalizer, text: str) -> None:
    assert differences(normalizer, [text]) == []
    key = normalizer.one("select public.normalize_email(%s)", text)
    assert key == normalizer.one("select private.email_key(%s)", text.strip(" "))
    if key is not None:
        assert normalizer.one("select public.normalize_email(%s)", key) == key


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("  Ana@Example.COM ", "ana@example.com"),
        ("Ana@BÜCHER.example", "ana@bücher.example"),
        ("ana@xn--bcher-kva.example", "ana@bücher.example"),
        ("ana@bu\u0308cher。example", "ana@bücher.example"),
        ("jose\u0301@c.de", "josé@c.de"),
        ("a.n.a+tag@gmail.com", "a.n.a+tag@gmail.com"),  # who owns dots and tags is not ours to say
        ("ΟΔΟΣ@c.gr", "οδος@c.gr"),
        ("mar\u212a@c.de", "mark@c.de"),  # the Kelvin sign is canonically a K
        ("test@io", "test@io"),
        ("owner@bluebird.example", "owner@bluebird.example"),
        ("a" * 64 + "@c.de", "a" * 64 + "@c.de"),
        ("ana@c.de\n", None),
        ("\tana@c.de", None),
        ("ana@c.de\r\nBcc: x@y.de", None),
        ("ana@localhost", None),
        ("ana@host.test", None),
        ("Ana <ana@c.de>", None),
        ('"ana"@c.de', None),
        ("ana@[127.0.0.1]", None),
        ("a\u202eb@c.de", None),
        ("ana@c.de\u200b", None),
        ("ana@a⒈de", None),
        ("ana@xn--a.de", None),
        ("a" * 249 + "@c.de", "a" * 249 + "@c.de"),
        ("a" * 250 + "@c.de", None),
        ("é" * 125 + "@c.de", None),
        ("x" * 5_000_000 + "@c.de", None),
        ("@" * 200, None),
        ("", None),
        (None, None),
    ],
)
def test_addresses_that_matter(normalizer: Normalizer, raw: str | None, key: str | None) -> None:
    assert normalizer.one("select public.normalize_email(%s)", raw) == key
    is_valid = normalizer.one("select public.is_valid_email(%s)", raw)
    assert is_valid is (key is not None and raw == (raw or "").strip(" "))
