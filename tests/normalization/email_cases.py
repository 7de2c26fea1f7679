# ruff: noqa: RUF001
"""E-mail addresses, plausible and not, built from parts that decide. Deterministic for a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

LOCALS = (
    "ana", "Ana.Maria", "a", "a.b.c", "ana+tag", "o'hara", "x_y-z", "!#$%&'*+-/=?^_`{|}~",
    "a" * 64, "a" * 65, "INFO", "Postmaster", ".ana", "ana.", "a..b", "", "a b", "a\tb", "a\n",
    '"ana"', '"a b"', '"a@b"', '"', "a\\b", "a(b)", "a,b", "a:b", "a;b", "a<b", "<ana", "a[b]",
    "a\x7f", "a\x01", "a\x85b", "a\xa0b", "a\u2028b", "a\u200bb", "a\u200db", "a\u202eb",
    "a\ufeffb", "a\ue000b", "a\u0378b", "josé", "jose\u0301", "\u0301jose", "ÉLODIE", "Ünal",
    "иван", "ИВАН", "李四", "用户.名", "δοκιμή", "ΔΟΚΙΜΉ", "ΟΔΟΣ", "पता", "אבא", "محمد",
    "ac\u212a", "ac\u1fef", "a\u037eb", "İbo", "ırmak", "ﬁn", "①", "😀", "a😀b", "a\u0338",
    "<\u0338", "@\u0338", "ẞ", "straße", "\U0001e900b", "Ꭰ", "ꭰ", "a．b", "a＠b", "a﹫b", "Dž",
    "ǅ", "x\u0323\u0307", "é" * 100, "日" * 70, "Å", "\u212b", "\u2126",
)  # fmt: skip
LABELS = (
    "example", "EXAMPLE", "a", "1", "1a", "a1", "a-b", "-a", "a-", "a--b", "ab--c", "xn--",
    "xn--a", "xn--bcher-kva", "XN--BCHER-KVA", "xn--bcher-KVA", "xn--bchxer-", "xn---bbk",
    "xn--bbk", "xn--4dbc", "xn--fiqs8s", "xn--p1ai", "xn--90ais", "xn--zckzah", "xn--ls8h",
    "xn--a-ecp", "a_b", "a b", "a\n", "\n", "a\x01", "*", "a" * 63, "a" * 64, "é" * 30,
    "日" * 15, "日" * 20, "日" * 40, "bücher", "BÜCHER", "bu\u0308cher", "straße", "STRAẞE",
    "faß", "σίγμας", "ΣΊΓΜΑΣ", "日本語", "пример", "ПРИМЕР", "उदाहरण", "מבחן", "אב", "אב1",
    "1אב", "אב-a", "aאב", "مثال", "مثال١", "١", "۱۲", "١۲", "ا۱", "l·l", "a·b", "·l", "͵α",
    "͵a", "א׳", "a׳", "ア・イ", "a・b", "・", "\u0301a", "a\u0301", "ｅｘａｍｐｌｅ", "ⓔxample",
    "ﬁ", "ª", "½", "①", "⒈", "a⒈b", "…", "‥", "a\u00adb", "a\u200bb", "a\u200db", "a\u200cb",
    "क्\u200dष", "a\ufe0f", "❤", "❤️", "😀", "K", "\u212a", "Å", "ſ", "ϲ", "ς", "Σ", "İ", "ı",
    "ᾳ", "ᾼ", "Ꭰ", "ꭰ", "ᏸ", "ᲀ", "ǆ", "ǅ", "⁄", "`", "\u1fef", "（", "ａ－ｂ", "ㄱ", "\u3164",
    "ᄀ", "가", "\u1160", "𐐀", "𝟎", "𝐚", "🄰", "㍿", "℀", "ℂ", "\u0378", "\ue000", "ཀ་", "۽",
    "߀", "ހ", "\U0001e900", "ⴰ",
)  # fmt: skip
ENDS = (
    "com", "COM", "io", "de", "c", "1", "c1", "museum", "xn--p1ai", "рф", "中国", "example",
    "test", "local", "localhost", "invalid", "onion", "arpa", "рф。", "", "com.", "co.uk",
    "إيران", "xn--mgba3a4f16a",
)  # fmt: skip
DOTS = (
    ".",
    ".",
    ".",
    ".",
    "。",
    "．",
    "｡",
    "..",
    "․",
)
BEFORE = ("",) * 12 + (" ", "\t", "\n", "\r\n", "Ana <", "<", '"', "mailto:", "\ufeff", "(c)")
AFTER = ("",) * 12 + (
    " ",
    "\n",
    "\r",
    "\r\n ",
    ">",
    ".",
    "\x00"[1:],
    "(c)",
    ";",
    ",b@c.de",
    "\u200b",
    "\u0301",
)
AT = ("@",) * 14 + ("@@", "", "＠", "﹫", " @ ", "@ ", "@\u0338")


def addresses(seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    for local in LOCALS:
        yield f"{local}@example.com"
    for label in LABELS:
        yield from (f"a@{label}.com", f"a@{label}", f"a@b.{label}", f"a@{label}.{label}.org")
    for first in LABELS:
        for second in LABELS:
            yield f"a@{first}.{second}.net"
    for size in range(50, 70):
        yield f"a@{'b' * size}.com"
        yield f"{'a' * size}@b.com"
        yield f"a@{'é' * size}.com"
        yield f"a@{'日本' * (size // 2 - 22)}.com"
    for size in range(225, 262):
        domain = ".".join(["d" * 49] * 5)[-(size % 200 + 1) :].strip(".")
        yield f"{'a' * (size - len(domain))}@{domain}.com"
        yield f"{'é' * ((size - len(domain)) // 2)}@{domain}.com"
        yield f"a@{('d' * 49 + '.') * 5}"[: size - 4] + ".com"
        yield f"a@{('ü' * 20 + '.') * 9}"[: size - 150] + ".com"
    for _ in range(count):
        labels = [rng.choice(LABELS) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))]
        domain = "".join(label + rng.choice(DOTS) for label in labels) + rng.choice(ENDS)
        yield "".join(
            (rng.choice(BEFORE), rng.choice(LOCALS), rng.choice(AT), domain, rng.choice(AFTER))
        )
    for _ in range(count):  # any character at all, before and after the @
        limit = rng.choice((0x250, 0x3000, 0xD800, 0x20000))
        letter = chr(rng.randrange(0xE000 if limit == 0x20000 else 1, limit))
        other = chr(rng.randrange(0x80, 0x2000))
        yield rng.choice(
            (
                f"a{letter}b@c.de",
                f"{letter}@c.de",
                f"a@{letter}.de",
                f"a@b{letter}c.de",
                f"a@b.{letter}",
                f"a@{letter}{other}.org",
                f"{other}{letter}@b.org",
                f"a@{letter}b.{other}c.org",
            )
        )
