"""The generated migrations are what their tools write, and say what their sources say."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from .conftest import Normalizer

ROOT = Path(__file__).parents[2]
FROZEN = "14.0.0"


@pytest.mark.parametrize(
    ("tool", "migration"),
    [
        ("generate_phone_metadata.py", "20261121000300_platform_phone_metadata.sql"),
        pytest.param(
            "generate_character_classes.py",
            "20261121000305_platform_character_classes.sql",
            marks=pytest.mark.skipif(
                unicodedata.unidata_version != FROZEN, reason=f"needs Python with Unicode {FROZEN}"
            ),
        ),
    ],
)
def test_the_migration_is_up_to_date(tool: str, migration: str, tmp_path: Path) -> None:
    output = tmp_path / migration
    subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--output", output], check=True, capture_output=True
    )
    assert output.read_bytes() == (ROOT / "supabase/migrations" / migration).read_bytes()


def test_classes_are_those_of_unicode(normalizer: Normalizer) -> None:
    """Newer versions of Unicode add characters; they never move one to another class."""
    classes = {"letter_or_number": "LN", "symbol": "PS"}
    for name, kinds in classes.items():
        rows = normalizer.connection.execute(
            "select lower(span), upper(span) from private.character_classes,"
            " unnest(characters) as span where class = %s",
            (name,),
        ).fetchall()
        ours = {point for first, end in rows for point in range(first, end)}
        wrong = [
            hex(point)
            for point in range(0x80, 0x110000)
            if (unicodedata.category(chr(point))[0] in kinds) != (point in ours)
            and (unicodedata.unidata_version == FROZEN or point in ours)
        ]
        assert wrong == []


def test_lower_case_is_that_of_unicode(normalizer: Normalizer) -> None:
    points = [*range(1, 0xD800), *range(0xE000, 0x20000)]
    found = normalizer.each("private.lower_case(a)", [(chr(point), None) for point in points])
    wrong = [
        hex(point)
        for point, (ours,) in zip(points, found, strict=True)
        if ours != chr(point).lower()
        and (unicodedata.unidata_version == FROZEN or ours != chr(point))
    ]
    assert wrong == []


def test_digits_are_those_of_unicode(normalizer: Normalizer) -> None:
    points = [*range(0x80, 0xD800), *range(0xE000, 0x20000)]
    cases = [(chr(point), None) for point in points if unicodedata.category(chr(point)) == "Nd"]
    assert len(cases) >= 650
    found = normalizer.each("private.folded(a, 'digit')", cases)
    for (letter, _), (ours,) in zip(cases, found, strict=True):
        known = ours != letter or unicodedata.unidata_version == FROZEN
        assert not known or ours == str(unicodedata.digit(letter))
