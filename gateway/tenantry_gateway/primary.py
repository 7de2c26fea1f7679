"""What the primary says of itself: how far it has written, and which rights callers hold now."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from tenantry_gateway.positions import parse_position
from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.settings import Settings

_TARGET = "/rpc/wal_position"
_REMEMBERED_RIGHTS = 10_000
_MOST_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """The primary had written up to `position`, or further, at the time `asked_at`."""

    asked_at: float
    position: int


@dataclass(slots=True)
class _Question:
    answer: asyncio.Future[tuple[int, dict[str, str]]]
    principals: set[str] = field(default_factory=set)


class Primary:
    """Asks one question at a time. Whoever comes while it is under way is part of the next, so an
    answer is never older than the request it is for, and a busy gateway asks no more often than a
    question takes."""

    def __init__(self, settings: Settings, postgrest: Postgrest) -> None:
        self._postgrest = postgrest
        self._max_lag = settings.replica_max_lag_seconds
        self._rights_seconds = settings.replica_rights_seconds
        self._sample_seconds = settings.replica_max_lag_seconds / _MOST_SAMPLES
        self._next: _Question | None = None
        self._asker: asyncio.Task[None] | None = None
        self._samples: deque[Sample] = deque()
        self._rights: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self.system = ""
        """The system identifier, which its replicas share."""

    async def close(self) -> None:
        """End the question under way."""
        if self._asker is not None:
            self._asker.cancel()
            await asyncio.gather(self._asker, return_exceptions=True)

    async def position(self) -> int:
        """A position after all commits until now. Raises PostgrestUnavailable."""
        return (await self._ask())[0]

    async def rights(self, principal: str) -> str:
        """The version of a principal's rights, at most `replica_rights_seconds` old.

        Raises PostgrestUnavailable.
        """
        known = self._rights.get(principal)
        asked_at = time.monotonic()
        if known is not None and asked_at < known[0] + self._rights_seconds:
            return known[1]
        version = (await self._ask(principal))[1][principal]
        if self._rights_seconds:
            self._rights[principal] = (asked_at, version)
            self._rights.move_to_end(principal)
            if len(self._rights) > _REMEMBERED_RIGHTS:
                self._rights.popitem(last=False)
        return version

    def newest(self) -> Sample | None:
        """The last look at the primary."""
        return self._samples[-1] if self._samples else None

    def floor(self) -> int | None:
        """What a state of the permitted age contains; None where too little is known."""
        oldest = time.monotonic() - self._max_lag
        while self._samples and self._samples[0].asked_at < oldest:
            self._samples.popleft()
        return self._samples[0].position if self._samples else None

    def lag_seconds(self, position: int) -> float:
        """How old the state at `position` is, at most; infinity where too little is known."""
        for sample in reversed(self._samples):
            if sample.position <= position:
                return time.monotonic() - sample.asked_at
        return float("inf")

    async def _ask(self, principal: str | None = None) -> tuple[int, dict[str, str]]:
        if self._next is None:
            self._next = _Question(asyncio.get_running_loop().create_future())
        question = self._next
        if principal is not None:
            question.principals.add(principal)
        if self._asker is None or self._asker.done():
            self._asker = asyncio.create_task(self._answer_questions())
        # The question goes on for the others when this client leaves.
        return await asyncio.shield(question.answer)

    async def _answer_questions(self) -> None:
        while (question := self._next) is not None:
            self._next = None
            try:
                question.answer.set_result(await self._send(question.principals))
            except PostgrestUnavailable as error:
                question.answer.set_exception(error)
                question.answer.exception()  # whoever still waits has it
            except BaseException:
                question.answer.cancel()
                raise

    async def _send(self, principals: set[str]) -> tuple[int, dict[str, str]]:
        asked_at = time.monotonic()
        reply = await self._postgrest.ask("POST", _TARGET, body={"principals": sorted(principals)})
        if reply.status != 200:
            raise PostgrestUnavailable(f"{_TARGET}: status {reply.status}")
        try:
            answer = json.loads(reply.body)
            position, rights = parse_position(answer["position"]), answer["rights"]
            system = answer["system"]
            if not principals <= rights.keys():
                raise ValueError("not about everybody")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PostgrestUnavailable(f"{_TARGET}: {type(error).__name__}") from None
        self._remember(Sample(asked_at, position), system)
        return position, rights

    def _remember(self, sample: Sample, system: str) -> None:
        newest = self.newest()
        if system != self.system or (newest is not None and sample.position < newest.position):
            # Another server, or one that has lost writes: what was known of it means nothing.
            self._samples.clear()
            self._rights.clear()
            self.system = system
        elif newest is not None and sample.asked_at < newest.asked_at + self._sample_seconds:
            return
        self._samples.append(sample)
