"""Sends probes and judges the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp

from policies_tests.oracle import REFUSED, Expectation
from policies_tests.people import Persona

from .probes import Probe
from .server import Api

#: A statement that ran into its time limit; it says nothing about rights.
_TIMEOUT = "57014"
#: One that waited too long for what a probe beside it has locked, as happens on a busy machine.
_LOCKED = "55P03"
_AT_ONCE = 8


@dataclass(frozen=True)
class Caller:
    """Somebody who sends probes, and what no answer to him may contain."""

    persona: Persona
    canaries: tuple[str, ...]


@dataclass
class Tally:
    """What a run has seen."""

    requests: int = 0
    server_errors: int = 0
    canary_hits: int = 0
    #: Answers by status.
    statuses: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: str
    content_range: str
    body: str

    @property
    def code(self) -> str | None:
        """The error's code; None for a success."""
        if self.status < 300:
            return None
        try:
            return str(json.loads(self.body)["code"])
        except (ValueError, KeyError, TypeError):
            return f"HTTP {self.status}"

    @property
    def total(self) -> int | None:
        count = self.content_range.rpartition("/")[2]
        return int(count) if count.isdigit() else None


def fault(probe: Probe, persona: Persona, answer: Answer) -> str | None:
    """What is wrong with an answer; None for nothing."""
    expected = probe.predict(persona)
    if answer.code != expected.sqlstate:
        return f"expected {expected.sqlstate or 'success'}, got {answer.status} {answer.body[:300]}"
    if expected.sqlstate == REFUSED:
        status = 401 if persona.role == "anon" else 403
        return None if answer.status == status else f"refused with {answer.status}"
    if expected.sqlstate is not None:
        return None
    return _wrong_rows(probe, persona, expected, answer)


def _wrong_rows(
    probe: Probe, persona: Persona, expected: Expectation, answer: Answer
) -> str | None:
    if "count=exact" in probe.prefer and expected.rows not in (None, answer.total):
        return f"expected a count of {expected.rows}, got {answer.content_range}"
    if probe.keys is None:
        return None
    rows = json.loads(answer.body)
    keys = probe.keys(rows)
    if keys != expected.keys:
        excess = sorted(keys - (expected.keys or frozenset()), key=str)[:3]
        return f"expected {len(expected.keys or ())} rows, got {len(keys)}, too many: {excess}"
    if probe.embedded is not None and probe.may_embed is not None:
        excess = sorted(probe.embedded(rows) - probe.may_embed(persona), key=str)[:3]
        return f"embeds {excess}" if excess else None
    return None


class Client:
    """Sends to one PostgREST."""

    def __init__(self, api: Api, session: aiohttp.ClientSession, tally: Tally) -> None:
        self._api = api
        self._session = session
        self._tally = tally
        self._headers: dict[str, dict[str, str]] = {}

    async def alternate(self, probe: Probe, callers: Iterable[Caller], times: int) -> None:
        """Send a probe as each caller in turn, `times` over, on the same connections."""
        asked = f"{probe.path} {probe.body or ''}"
        turns = [
            (one.persona, [text for text in one.canaries if text not in asked]) for one in callers
        ]
        for _ in range(times):
            for persona, forbidden in turns:
                answer = await self.send(probe, persona)
                for _ in range(5):
                    if answer.code == _LOCKED:
                        answer = await self.send(probe, persona)
                self._judge(probe, persona, forbidden, answer)

    async def send(self, probe: Probe, persona: Persona) -> Answer:
        if persona.name not in self._headers:
            self._headers[persona.name] = self._api.headers(persona)
        headers = {**self._headers[persona.name], "Content-Type": "application/json"}
        if probe.prefer:
            headers["Prefer"] = probe.prefer
        async with self._session.request(
            probe.method, self._api.origin + probe.path, data=probe.body, headers=headers
        ) as response:
            body = await response.text()
            listed = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
            content_range = response.headers.get("Content-Range", "")
            return Answer(response.status, listed, content_range, body)

    def _judge(
        self, probe: Probe, persona: Persona, forbidden: Iterable[str], answer: Answer
    ) -> None:
        tally = self._tally
        tally.requests += 1
        tally.statuses[answer.status] = tally.statuses.get(answer.status, 0) + 1
        said = f"{persona.name} / {probe.label} ({probe.method} {probe.path})"
        if answer.status >= 500 and answer.code != _TIMEOUT:
            tally.server_errors += 1
            tally.problems.append(f"{said}: {answer.status} {answer.body[:300]}")
            return
        text = f"{answer.headers}\n{answer.body}"
        seen = [one for one in forbidden if one in text]
        if seen:
            tally.canary_hits += 1
            tally.problems.append(f"{said}: contains {seen[:3]} of another tenant")
        wrong = fault(probe, persona, answer)
        if wrong is not None:
            tally.problems.append(f"{said}: {wrong}")


async def run_probes(
    api: Api, rounds: Iterable[tuple[Probe, tuple[Caller, Caller], int]], tally: Tally
) -> None:
    """Send each probe as its two callers alternately, so many times; several probes at once."""
    queue = iter(rounds)
    connector = aiohttp.TCPConnector(limit=_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(api, session, tally)

        async def work() -> None:
            for probe, callers, times in queue:
                await client.alternate(probe, callers, times)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
