"""Regular expressions over digits, compiled into ranges of numbers.

A numbering plan describes its numbers with regular expressions whose language is finite. Reading
them digit by digit (derivatives, Brzozowski 1964) gives the sorted ranges that they accept.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# A language is a nested tuple: ("none",) | ("empty",) | ("digit", {..}) | ("then", a, b) |
# ("either", {a, b, ..}). Tuples hash and compare, so equal states meet in the caches.
Language = tuple[Any, ...]
NONE: Language = ("none",)
EMPTY: Language = ("empty",)


def then(first: Language, second: Language) -> Language:
    if NONE in (first, second):
        return NONE
    if first == EMPTY or second == EMPTY:
        return second if first == EMPTY else first
    if first[0] == "then":  # keep the nesting to the right, so that equal languages look equal
        return then(first[1], then(first[2], second))
    return ("then", first, second)


def either(choices: list[Language]) -> Language:
    flat: set[Language] = set()
    for choice in choices:
        flat |= choice[1] if choice[0] == "either" else {choice}
    flat -= {NONE}
    if len(flat) < 2:
        return flat.pop() if flat else NONE
    return ("either", frozenset(flat))


@cache
def accepts_empty(language: Language) -> bool:
    kind = language[0]
    if kind == "then":
        return accepts_empty(language[1]) and accepts_empty(language[2])
    if kind == "either":
        return any(accepts_empty(choice) for choice in language[1])
    return bool(kind == "empty")


@cache
def after(language: Language, digit: int) -> Language:
    """What may follow once `digit` has been read."""
    kind = language[0]
    if kind == "digit":
        return EMPTY if digit in language[1] else NONE
    if kind == "then":
        rest = then(after(language[1], digit), language[2])
        if accepts_empty(language[1]):
            return either([rest, after(language[2], digit)])
        return rest
    if kind == "either":
        return either([after(choice, digit) for choice in language[1]])
    return NONE


SYMBOL = re.compile(r"\(\?:|\)|\||\?|\{(\d+)(?:,(\d+))?\}|\[([\d-]|\\d)+\]|\\d|\d")


@cache
def compile_pattern(pattern: str) -> Language:
    """The language of a metadata pattern; any syntax beyond digits, [..], (?:..), |, ? and {m,n}
    stops the generation, so that a new release cannot slip through misread."""
    tokens = [match.group() for match in SYMBOL.finditer(pattern)]
    if "".join(tokens) != pattern:
        raise ValueError(f"pattern {pattern!r} uses syntax that this tool does not know")
    tokens.reverse()

    def choices() -> Language:
        found = [sequence()]
        while tokens and tokens[-1] == "|":
            tokens.pop()
            found.append(sequence())
        return either(found)

    def sequence() -> Language:
        items: list[Language] = []
        while tokens and tokens[-1] not in "|)":
            items.append(repeated(atom()))
        result = EMPTY
        for item in reversed(items):
            result = then(item, result)
        return result

    def atom() -> Language:
        symbol = tokens.pop()
        if symbol == "(?:":
            inner = choices()
            if tokens.pop() != ")":
                raise ValueError(f"unbalanced group in {pattern!r}")
            return inner
        return ("digit", frozenset(d for d in range(10) if re.fullmatch(symbol, str(d))))

    def repeated(item: Language) -> Language:
        if not tokens or tokens[-1][0] not in "?{":
            return item
        count = tokens.pop()
        bounds = [0, 1] if count == "?" else [int(part) for part in count[1:-1].split(",")]
        result = EMPTY
        for _ in range(bounds[-1] - bounds[0]):
            result = either([EMPTY, then(item, result)])
        for _ in range(bounds[0]):
            result = then(item, result)
        return result

    language = choices()
    if tokens:
        raise ValueError(f"unbalanced group in {pattern!r}")
    return language


# A contender is what one region still asks of the digits to come: (its general description, any
# of its number types, its leading digits). Leading digits are None where the region has none to
# ask for, EMPTY once they have been read.
Contender = tuple[Language, Language, Language | None]
Range = tuple[int, int, int]  # first number, last number (both included), index of the contender


def advance(contender: Contender, digit: int) -> Contender:
    general, types, leading = contender
    if leading is not None and leading != EMPTY:
        leading = after(leading, digit)
        leading = EMPTY if accepts_empty(leading) else leading
    return after(general, digit), after(types, digit), leading


def winner(contenders: tuple[Contender, ...]) -> int | None:
    """The contender whose number this is, as region_code_for_number and is_valid_number decide:
    the first that matches by its leading digits, or, where it has none, by its number types."""
    for index, (general, types, leading) in enumerate(contenders):
        valid = accepts_empty(general) and accepts_empty(types)
        if leading == EMPTY or (leading is None and valid):
            return index if valid else None
    return None


@cache
def owned_ranges(contenders: tuple[Contender, ...], length: int) -> tuple[Range, ...]:
    """Who owns which of the numbers of exactly `length` digits; unowned numbers are left out."""
    if all(NONE in (general, types) for general, types, _ in contenders):
        return ()
    if length == 0:
        owner = winner(contenders)
        return () if owner is None else ((0, 0, owner),)
    found: list[Range] = []
    for digit in range(10):
        rest = owned_ranges(tuple(advance(each, digit) for each in contenders), length - 1)
        for first, last, owner in rest:
            first += digit * 10 ** (length - 1)
            last += digit * 10 ** (length - 1)
            if found and found[-1][1] == first - 1 and found[-1][2] == owner:
                found[-1] = (found[-1][0], last, owner)
            else:
                found.append((first, last, owner))
    return tuple(found)


def token(first: int, last: int, length: int) -> str:
    """A range as its prefixes: 2012000000 to 2019999999 is `2012-9`, 7000000 to 7999999 is `7`."""
    low, high = f"{first:0{length}d}", f"{last:0{length}d}"
    while low and low[-1] == "0" and high[-1] == "9":
        low, high = low[:-1], high[:-1]
    if not low:
        return "0-9"
    if low == high:
        return low
    differs = next(i for i in range(len(low)) if low[i] != high[i])
    return f"{low}-{high[differs:]}"
