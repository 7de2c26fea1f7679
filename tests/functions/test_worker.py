"""The worker that applies stored webhooks again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from tenantry_functions import worker
from tenantry_functions.errors import Unavailable
from tenantry_functions.inbox import MemoryInbox
from tenantry_functions.metrics import Metrics
from tenantry_functions.testing import FunctionHost, local_settings
from tenantry_functions.worker import RetryWorker


class Script(MemoryInbox):
    """Answers each round as told, then with nothing to do."""

    def __init__(self, answers: Sequence[int | Exception], pause: float = 0.0) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[tuple[float, int]] = []
        self.finished = 0
        self.pause = pause

    async def retry(self, limit: int) -> int:
        self.asked.append((time.monotonic(), limit))
        await asyncio.sleep(self.pause)
        self.finished += 1
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        return answer


async def run(inbox: Script, seconds: float, interval: float = 0.01) -> Metrics:
    metrics = Metrics()
    work = RetryWorker(inbox, metrics, interval_seconds=interval, batch=10)
    async with work.running():
        await asyncio.sleep(seconds)
    return metrics


def test_it_asks_again_and_again_and_stops() -> None:
    async def scenario() -> None:
        inbox = Script([3])
        metrics = await run(inbox, 0.2)
        asked = len(inbox.asked)
        assert asked >= 5
        assert {limit for _, limit in inbox.asked} == {10}
        assert b"tenantry_functions_webhook_retries_total 3.0" in metrics.exposition()
        await asyncio.sleep(0.05)
        assert len(inbox.asked) == asked

    asyncio.run(scenario())


def test_a_full_round_is_followed_at_once() -> None:
    async def scenario() -> None:
        inbox = Script([10, 10, 10, 4])
        await run(inbox, 1.0, interval=0.4)
        moments = [moment for moment, _ in inbox.asked[:4]]
        assert moments[3] - moments[0] < 0.1

    asyncio.run(scenario())


def test_trouble_slows_it_down_and_does_not_end_it() -> None:
    async def scenario() -> None:
        troubles: list[int | Exception] = [Unavailable("down")] * 2
        inbox = Script([*troubles, RuntimeError("odd"), 1])
        await run(inbox, 1.0, interval=0.02)
        assert inbox.finished > 4
        moments = [moment for moment, _ in inbox.asked]
        # Pauses of 0.02, 0.04, 0.08, 0.16, each give or take half.
        assert moments[3] - moments[0] >= 0.5 * (0.04 + 0.08 + 0.16)

    asyncio.run(scenario())


def test_the_longest_pause_is_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[float]:
        work = RetryWorker(
            Script([Unavailable("down")] * 12), Metrics(), interval_seconds=5, batch=10
        )
        pauses: list[float] = []

        async def note(seconds: float) -> bool:
            pauses.append(seconds)
            return len(pauses) > 10

        monkeypatch.setattr(work, "_stopped_within", note)
        monkeypatch.setattr(worker.random, "uniform", lambda low, high: 1.0)
        await work._run()
        return pauses

    assert asyncio.run(scenario()) == [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60]


def test_a_round_under_way_is_finished() -> None:
    async def scenario() -> None:
        inbox = Script([], pause=0.3)
        await run(inbox, 0.1, interval=0.01)
        assert len(inbox.asked) == inbox.finished == 1

    asyncio.run(scenario())


def test_it_runs_with_the_app_and_leaves_nothing() -> None:
    inbox = MemoryInbox()
    settings = local_settings(retry_interval_seconds=0.01)
    with FunctionHost(inbox, settings=settings) as host:
        host.run(asyncio.sleep(0.1))
        assert inbox.retries_asked > 1
    asked = inbox.retries_asked
    time.sleep(0.05)
    assert inbox.retries_asked == asked
