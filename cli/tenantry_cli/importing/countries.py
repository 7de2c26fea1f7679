"""Country names as people write them, to ISO 3166-1 codes."""

from __future__ import annotations

import functools
import unicodedata

from phonenumbers.geodata.locale import LOCALE_DATA

#: Names in common use beside those of the list (java.util.Locale, as libphonenumber has it).
_OTHER_NAMES = {
    "america": "US", "burma": "MM", "cabo verde": "CV", "czech republic": "CZ", "czechia": "CZ",
    "east timor": "TL", "england": "GB", "eswatini": "SZ", "great britain": "GB", "holland": "NL",
    "hong kong": "HK", "hong kong sar": "HK", "ivory coast": "CI", "korea": "KR", "laos": "LA",
    "macao": "MO", "macau": "MO", "moldova": "MD", "north korea": "KP", "north macedonia": "MK",
    "northern ireland": "GB", "palestine": "PS", "republic of ireland": "IE",
    "republic of korea": "KR", "russia": "RU", "russian federation": "RU", "scotland": "GB",
    "south korea": "KR", "swaziland": "SZ", "syria": "SY", "tanzania": "TZ", "the bahamas": "BS",
    "the gambia": "GM", "the netherlands": "NL", "the philippines": "PH", "turkiye": "TR",
    "u k": "GB", "u s": "US", "u s a": "US", "uae": "AE", "uk": "GB",
    "united states of america": "US", "usa": "US", "vatican": "VA", "vatican city": "VA",
    "viet nam": "VN", "wales": "GB",
}  # fmt: skip


def country_code(value: str) -> str | None:
    """The ISO 3166-1 alpha-2 code of a code or name, in whatever language; None if unknown."""
    given = value.strip()
    if given.upper() in LOCALE_DATA:
        return given.upper()
    return _codes_by_name().get(_key(given))


def _key(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return " ".join(letters.split())


@functools.cache
def _codes_by_name() -> dict[str, str]:
    codes = dict(_OTHER_NAMES)
    # English first: where two countries share a name in some languages, English decides.
    for english in (True, False):
        for code, names in LOCALE_DATA.items():
            for language, name in names.items():
                # "*de" means: as in German.
                plain = names[name[1:]] if name.startswith("*") else name
                if plain and (language == "en") is english:
                    codes.setdefault(_key(plain), code)
    codes.pop("", None)
    return codes
