"""Applies stored webhooks that failed before, every few seconds, as long as the app runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenantry_functions.errors import Unavailable
from tenantry_functions.inbox import Inbox
from tenantry_functions.metrics import Metrics

_log = logging.getLogger("tenantry.functions.worker")
_MAX_PAUSE_SECONDS = 60.0


class RetryWorker:
    """Asks the inbox to retry.

    Args:
        interval_seconds: between two rounds, give or take half, so that several processes do not
            ask at once. While the database is down the pause doubles, up to a minute.
        batch: events per round; a full round is followed by the next at once.
    """

    def __init__(
        self, inbox: Inbox, metrics: Metrics, *, interval_seconds: float, batch: int
    ) -> None:
        self._inbox = inbox
        self._metrics = metrics
        self._interval = interval_seconds
        self._batch = batch
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run in the background inside the block; a round under way is finished at its end."""
        task = asyncio.create_task(self._run(), name="webhook-retries")
        try:
            yield
        finally:
            self._stopping.set()
            await task

    async def _run(self) -> None:
        pause = self._interval
        while not await self._stopped_within(pause * random.uniform(0.5, 1.5)):  # noqa: S311
            try:
                while await self._round() >= self._batch and not self._stopping.is_set():
                    pass
                pause = self._interval
            except Unavailable:
                pause = min(pause * 2, max(_MAX_PAUSE_SECONDS, self._interval))
            except Exception:
                # The worker outlives whatever a round meets; the next one may succeed.
                _log.exception("a round of retries failed")
                pause = min(pause * 2, max(_MAX_PAUSE_SECONDS, self._interval))

    async def _round(self) -> int:
        count = await self._inbox.retry(self._batch)
        if count:
            self._metrics.retried(count)
            _log.info("retried %d stored webhooks", count)
        return count

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True
