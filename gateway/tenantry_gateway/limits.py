"""Fairness in memory: a rate for each sender, and a share of each service for each tenant."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tenantry_gateway.errors import GatewayError


class TokenBuckets:
    """One bucket per sender: `burst` requests at once, then `rate` per second.

    A rate of 0 switches it off. At most `capacity` senders are remembered; the one that has been
    quiet longest is forgotten first, and its bucket is nearly always full again by then.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        capacity: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._capacity = capacity
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, sender: str) -> None:
        """Count one request. Raises 429 with the seconds until the next one is welcome."""
        if self._rate <= 0:
            return
        now = self._clock()
        tokens, since = self._buckets.get(sender, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        if tokens < 1:
            raise _too_many("rate_limit", "Too many requests", (1 - tokens) / self._rate)
        self._buckets[sender] = (tokens - 1, now)
        self._buckets.move_to_end(sender)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)

    def give_back(self, sender: str) -> None:
        """Undo one `take`."""
        if known := self._buckets.get(sender):
            self._buckets[sender] = (min(self._burst, known[0] + 1), known[1])


class FairSlots:
    """At most `slots` requests at a service at once, at most `share` of them for one tenant.

    Requests that find no slot wait in a line of their tenant, and the tenants take turns, so that
    a tenant with a hundred waiting requests delays another tenant by one request, not a hundred.
    """

    def __init__(self, slots: int, share: int, waiting: int, seconds: float) -> None:
        self._slots = slots
        self._share = min(share, slots)
        self._waiting = waiting
        self._seconds = seconds
        self._busy = 0
        self._held: Counter[str] = Counter()
        # In the order in which the tenants are served next.
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def busy(self) -> int:
        """Slots taken now."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Requests in line now."""
        return sum(len(line) for line in self._lines.values())

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[Callable[[], None]]:
        """Hold a slot inside the block; the yielded function gives it back earlier.

        Raises 429 when the tenant's line is full, 503 when its turn does not come in time.
        """
        await self._acquire(tenant)
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._release(tenant)

        try:
            yield release
        finally:
            release()

    async def _acquire(self, tenant: str) -> None:
        # No line of this tenant, so nobody of it is overtaken; other tenants' lines exist only
        # while the slots are all taken or those tenants hold their share.
        if self._busy < self._slots and self._held[tenant] < self._share:
            self._take(tenant)
            return
        line = self._lines.get(tenant)
        if (line is not None and len(line) >= self._waiting) or self._waiting == 0:
            raise _too_many("concurrency_limit", "Too many requests at once", 1.0)
        turn = asyncio.get_running_loop().create_future()
        if line is None:
            line = self._lines[tenant] = deque()
        line.append(turn)
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release(tenant)  # the slot came at the same moment
            else:
                self._leave(tenant, turn)
            if isinstance(error, TimeoutError):
                raise GatewayError(
                    503,
                    "service_busy",
                    "The service is busy",
                    "Try again in a moment.",
                    headers={"Retry-After": "1"},
                ) from None
            raise

    def _take(self, tenant: str) -> None:
        self._busy += 1
        self._held[tenant] += 1

    def _release(self, tenant: str) -> None:
        self._busy -= 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._serve()

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant)
        if line is None or turn not in line:
            return  # already skipped while it was being cancelled
        line.remove(turn)
        if not line:
            del self._lines[tenant]

    def _serve(self) -> None:
        while self._busy < self._slots:
            tenant = next((one for one in self._lines if self._held[one] < self._share), None)
            if tenant is None:
                return
            line = self._lines[tenant]
            turn = line.popleft()
            if line:
                self._lines.move_to_end(tenant)
            else:
                del self._lines[tenant]
            if not turn.done():
                self._take(tenant)
                turn.set_result(None)


def _too_many(reason: str, message: str, seconds: float) -> GatewayError:
    return GatewayError(
        429,
        reason,
        message,
        "Wait for the time in Retry-After; send fewer requests at once.",
        headers={"Retry-After": str(max(1, round(seconds + 0.5)))},
    )
