"""Metrics: exact daily figures, in the local days of the business."""

from __future__ import annotations

import datetime
from typing import Literal
from uuid import UUID

from tenantry._async.resource import AsyncResource, check_id, matching
from tenantry._keyset import LARGEST_PAGE_SIZE, Keyset
from tenantry._reply import columns_of
from tenantry.errors import InvalidArgument, NotFound
from tenantry.models import BusinessDashboardData, DailyMetric

_BY_DAY = Keyset(("metric_date", "metric", "dimension", "dimension_id"), descending=False)


class AsyncMetrics(AsyncResource):
    """Figures of the business in use."""

    async def daily(
        self,
        *,
        from_: datetime.date,
        to: datetime.date,
        metric: str | None = None,
        dimension: Literal["business", "channel", "staff"] = "business",
        dimension_id: UUID | str | None = None,
    ) -> list[DailyMetric]:
        """Figures per day, by day and metric. A day without a value has no row.

        Args:
            from_: First local day.
            to: Last local day, included.
            metric: Such as `calls_inbound`, `messages_outbound`, `new_customers`, `call_seconds`.
            dimension: Of the whole business, per channel, or per member.
            dimension_id: One channel or one membership.
        """
        first, last = _day("from_", from_), _day("to", to)
        if first > last:
            raise InvalidArgument("to", f"{to} is before {from_}", hint="Swap the two.")
        query = matching(
            self._rows("daily_metrics", DailyMetric),
            metric=metric,
            dimension=dimension,
            dimension_id=None if dimension_id is None else check_id(dimension_id, "dimension_id"),
        )
        query = query.gte("metric_date", first).lte("metric_date", last)
        pages = self._pages(
            query, DailyMetric, keyset=_BY_DAY, page_size=LARGEST_PAGE_SIZE, after=None
        )
        return await pages.all()

    async def dashboard(self) -> BusinessDashboardData:
        """The figures of today and the last 30 days. Raises NotFound without `business.read`."""
        query = self._table("business_dashboard_data").select(columns_of(BusinessDashboardData))
        reply = await self._send(query.eq("business_id", self._business_id))
        rows = reply.many(BusinessDashboardData)
        if not rows:
            raise NotFound(
                "There are no figures for this business.",
                status=404,
                code="PT404",
                request_id=reply.request_id,
            )
        return rows[0]


def _day(field: str, value: datetime.date) -> str:
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date):
        raise InvalidArgument(
            field, f"{value!r} is no date", hint="Give a datetime.date: a local day."
        )
    return value.isoformat()
