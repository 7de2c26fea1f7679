# ruff: noqa: RUF001
"""Telephone numbers as people write them: correct, sloppy and broken, for every region.

Deterministic for a seed, so that a difference found once can be found again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache

import phonenumbers
from phonenumbers import PhoneNumberFormat as Format
from phonenumbers import PhoneNumberType as Type
from phonenumbers.phonemetadata import PhoneMetadata
from phonenumbers.phonenumberutil import COUNTRY_CODE_TO_REGION_CODE

Case = tuple[str, str | None]  # what was written, the region in which it was written

TYPES = [kind for kind in Type.values() if kind not in (Type.UNKNOWN, Type.FIXED_LINE_OR_MOBILE)]
REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
PUNCTUATION = "-x‐‑‒–—―−ー－．／ \u00a0\u00ad\u200b\u2060\u3000()（）［］.[]/~⁓∼～*"
EXTENSION_LABELS = (
    ";ext=", " ext ", " ext. ", "ext:", " Ext.", " EXT", " extension ", " extensión ",
    " extensio\u0301n ", "xtn", " x", " X", "x", " #", "#", " ~", " ｘ", "＃", "～", " int ",
    "int.", "ｉｎｔ", "ｅｘｔ", "ＥＸＴＮ", " доб ", " ДОБ. ", " anexo ", ",", ",,", ";", " ;",
    " , ", ", ext ", ",,,", "-", " ", " - ", "\text ", " x/x", "x:", " extn", "e xt", "exten",
    " ext-", "  #  ", "EXTENſION",
)  # fmt: skip
ZEROS = "０٠۰०০๐၀០᠐𝟎𞥐𑁦"
NOISE_BEFORE = (
    "",
    " ",
    "Tel: ",
    "tel:",
    "+",
    "++",
    "＋",
    "(",
    "call me ",
    "٠",
    "phone #",
    "\n",
    "é",
)
NOISE_AFTER = (
    "", " ", "\n", ".", ",", " (home)", " é", "é", "…", "。", " 😀", "\u0301", "²", "½", "_",
    "#", " #", ";isub=12", ";phone-context=+1", ";phone-context=example.com", " x", " /x12",
    "/ x 5", "\\x1", "ー", " or 12345", "\u200e", "₂", "ª", "Ⅷ", "x ", "*", "+", ";", "ſ", "K",
    "ab", "abc", "\u0660",
)  # fmt: skip


def idd_of(plan: PhoneMetadata, rng: random.Random) -> str:
    """Something that the region's international prefix matches, often."""
    pattern = plan.international_prefix or "00"
    if plan.preferred_international_prefix and rng.random() < 0.5:
        return plan.preferred_international_prefix.replace("~", "")
    candidates = ("00", "011", "0011", "810", "010", "000", "009", "119", "001", "14", "0015", "99")
    return pattern if pattern.isdigit() else rng.choice(candidates)


def prefix_of(plan: PhoneMetadata, rng: random.Random) -> str:
    choices = [plan.national_prefix or "0", "0", "1", "8", "06", "15", "0015", "041", "90", "183"]
    return rng.choice(choices)


def spaced(digits: str, rng: random.Random) -> str:
    return "".join(d + (rng.choice(PUNCTUATION) if rng.random() < 0.3 else "") for d in digits)


def foreign(digits: str, rng: random.Random) -> str:
    zero = ord(rng.choice(ZEROS))
    return "".join(
        chr(zero + int(c)) if c in "0123456789" and rng.random() < 0.9 else c for c in digits
    )


def mutated(digits: str, rng: random.Random) -> str:
    at = rng.randrange(len(digits))
    return digits[:at] + rng.choice("0123456789") + digits[at + 1 :]


def vanity(digits: str, rng: random.Random) -> str:
    keys = ["+", "", "ABCabc", "DEF", "GHIghiı", "JKL", "MNO", "PQRSſs", "TUV", "WXYZx"]
    return "".join(
        rng.choice(keys[int(d)]) if d in "23456789" and rng.random() < 0.6 else d for d in digits
    )


def written(number: phonenumbers.PhoneNumber, rng: random.Random) -> Iterator[str]:
    """The ways to write one number."""
    assert number.country_code is not None
    code, national = str(number.country_code), phonenumbers.national_significant_number(number)
    plan = PhoneMetadata.metadata_for_region_or_calling_code(
        number.country_code, COUNTRY_CODE_TO_REGION_CODE[number.country_code][0]
    )
    assert plan is not None
    plain = [
        phonenumbers.format_number(number, style)
        for style in (Format.E164, Format.INTERNATIONAL, Format.NATIONAL, Format.RFC3966)
    ]
    yield from plain
    yield national
    yield code + national
    yield prefix_of(plan, rng) + national
    yield f"+{code} (0) {national}"
    yield f"+{code}{prefix_of(plan, rng)}{national}"
    yield f"{code}{prefix_of(plan, rng)}{national}"
    digits = rng.choice([f"+{code}{national}", national, f"0{national}", f"{code}{national}"])
    yield digits[:-1]
    yield digits[: rng.randrange(1, len(digits) + 1)]
    yield digits + rng.choice("0123456789")
    yield digits + "".join(rng.choices("0123456789", k=rng.randrange(1, 9)))
    yield mutated(national, rng)
    yield f"+{code}{mutated(national, rng)}"
    yield spaced(digits, rng)
    yield foreign(digits, rng)
    yield vanity(digits, rng)
    yield vanity(spaced(foreign(digits, rng), rng), rng)
    base = rng.choice([*plain, digits])
    extension = "".join(rng.choices("0123456789", k=rng.choice((1, 2, 3, 4, 6, 7, 9, 10, 15, 20))))
    yield base + rng.choice(EXTENSION_LABELS) + extension + rng.choice(("", "", "#", " ", "##"))
    yield base + rng.choice(EXTENSION_LABELS) + foreign(extension, rng)
    yield rng.choice(NOISE_BEFORE) + base + rng.choice(NOISE_AFTER)
    yield rng.choice(NOISE_BEFORE) + spaced(digits, rng) + rng.choice(NOISE_AFTER)
    context = rng.choice(
        (
            f"+{code}",
            f"+{code}{national[:3]}",
            "example.com",
            "a.b-c.d",
            "",
            "+",
            "-a",
            "+1;x",
            "1a",
        )
    )
    yield f"{rng.choice(('tel:', ''))}{national[-7:]};phone-context={context}"
    yield f"tel:{national};ext={extension};phone-context={context}{rng.choice(('', ';isub=1'))}"


def example_numbers() -> Iterator[tuple[phonenumbers.PhoneNumber, str | None]]:
    """Every example of every region, and of the codes that belong to no country."""
    for region in REGIONS:
        for kind in TYPES:
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                yield number, region
        broken = phonenumbers.invalid_example_number(region)
        if broken is not None:
            yield broken, region
    for code in sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS):
        number = phonenumbers.example_number_for_non_geo_entity(code)
        if number is not None:
            yield number, None


def example_cases(seed: int) -> Iterator[Case]:
    """Each way to write each example, in its own region, in a wrong one and in none."""
    rng = random.Random(seed)
    for number, region in example_numbers():
        plan = PhoneMetadata.metadata_for_region(region, None) if region else None
        for text in written(number, rng):
            yield text, region
            yield text, rng.choice(REGIONS)
            yield text, rng.choice((None, "ZZ", "001", "", "us", (region or "US").lower()))
        for caller in (region, rng.choice(REGIONS)):
            home = PhoneMetadata.metadata_for_region(caller, None) if caller else plan
            if home is not None:
                digits = phonenumbers.format_number(number, Format.E164)[1:]
                yield idd_of(home, rng) + rng.choice(("", " ", "-", "+")) + digits, caller
                yield "+" + idd_of(home, rng) + digits, caller


@cache
def matched_by(pattern: str) -> list[str]:
    """Short digit strings that a prefix pattern matches to their end."""
    texts = [f"{number:0{size}d}" for size in (1, 2, 3, 4, 5) for number in range(10**size)]
    found = [(text, re.match(pattern, text)) for text in texts]
    return [text for text, match in found if match and match.end() == len(text)] or [""]


def prefixed_cases(seed: int) -> Iterator[Case]:
    """Every example behind what is dialled before it: trunk prefix, carrier, way abroad."""
    rng = random.Random(seed)
    for number, region in example_numbers():
        for caller in (region, rng.choice(REGIONS)):
            if caller is None:
                continue
            home = PhoneMetadata.metadata_for_region(caller, None)
            assert home is not None
            national = phonenumbers.national_significant_number(number)
            for _ in range(3):
                prefix = rng.choice(matched_by(home.national_prefix_for_parsing or "0"))
                yield prefix + national, caller
                yield prefix + national[-rng.randrange(5, 9) :], caller
                yield f"+{home.country_code}{prefix}{national}", rng.choice((None, caller))
                idd = rng.choice(matched_by(home.international_prefix or "00"))
                yield f"{idd}{number.country_code}{national}", caller
                yield f"{idd}{home.country_code}{prefix}{national}", caller


def digit_cases(seed: int, count: int) -> Iterator[Case]:
    """Digits at random: mostly wrong numbers, in every region, with and without a plus."""
    rng = random.Random(seed)
    codes = [str(code) for code in COUNTRY_CODE_TO_REGION_CODE]
    for _ in range(count):
        digits = "".join(rng.choices("0123456789", k=rng.randrange(1, 20)))
        start = rng.choice(
            ("", "+", "0", "00", "+" + rng.choice(codes), rng.choice(codes), "8", "1")
        )
        yield start + digits, rng.choice(REGIONS)
