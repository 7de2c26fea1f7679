"""Daily metrics of the fake, counted from its rows whenever they are asked for."""

from __future__ import annotations

import collections
from typing import Any
from uuid import UUID

from tenantry.testing._world import Row, World


def daily_metrics(world: World) -> list[Row]:
    """The rows of the view daily_metrics."""
    figures: collections.Counter[tuple[Any, ...]] = collections.Counter()
    for table, member, worth in (
        ("customers", "owner_membership_id", lambda r: {"new_customers": 1}),
        ("conversations", None, lambda r: {"conversations_opened": 1}),
        ("messages", "sender_membership_id", lambda r: {f"messages_{r['direction']}": 1}),
        ("calls", "handled_by_membership_id", _worth_of_call),
    ):
        for row in world.rows[table]:
            for metric, value in worth(row).items():
                day = (row["business_id"], row["metric_date"], metric)
                figures[*day, "business", row["business_id"]] += value
                if channel := row.get("channel_id"):
                    figures[*day, "channel", channel] += value
                if member and row[member]:
                    figures[*day, "staff", row[member]] += value
    names = ("business_id", "metric_date", "metric", "dimension", "dimension_id")
    return [
        {**dict(zip(names, key, strict=True)), "value": value}
        for key, value in figures.items()
        if value
    ]


def _worth_of_call(call: Row) -> dict[str, int]:
    ended = call["status"] not in ("queued", "initiated", "ringing", "in_progress")
    missed = call["direction"] == "inbound" and call["answered_at"] is None and ended
    return {
        f"calls_{call['direction']}": 1,
        "calls_answered": int(call["answered_at"] is not None),
        "calls_missed": int(missed),
        "call_seconds": call["duration_seconds"] or 0,
    }


def customer_summary(world: World) -> list[Row]:
    """The rows of the view customer_summary."""
    found = []
    for customer in world.rows["customers"]:
        if customer["deleted_at"] or customer["merged_into_id"]:
            continue
        calls = list(world.find("calls", customer_id=customer["id"]))
        threads = list(world.find("conversations", customer_id=customer["id"]))
        last_call = max((c["started_at"] for c in calls), default=None)
        last_message = max(
            (t["last_message_at"] for t in threads if t["last_message_at"]), default=None
        )
        row = {**customer}
        row.update(
            call_count=len(calls),
            answered_call_count=sum(c["answered_at"] is not None for c in calls),
            call_seconds=sum(c["duration_seconds"] or 0 for c in calls),
            last_call_at=last_call,
            conversation_count=len(threads),
            message_count=sum(t["message_count"] for t in threads),
            unread_count=sum(t["unread_count"] for t in threads),
            last_message_at=last_message,
            last_interaction_at=max(filter(None, (last_call, last_message)), default=None),
        )
        found.append(row)
    return found


def dashboard(world: World) -> list[Row]:
    """The rows of the view business_dashboard_data."""
    found = []
    for business in world.rows["businesses"]:
        today = world.local_day(business["id"], world.now())
        figures = [
            m for m in daily_metrics(world)
            if m["dimension"] == "business" and m["business_id"] == business["id"]
        ]  # fmt: skip

        def total(
            *metrics: str, days: int = 10**6, figures: list[Row] = figures, today: Any = today
        ) -> int:
            return sum(
                f["value"] for f in figures
                if f["metric"] in metrics and 0 <= (today - f["metric_date"]).days < days
            )  # fmt: skip

        threads = [
            c for c in world.find("conversations", business_id=business["id"])
            if c["status"] in ("open", "pending", "snoozed")
        ]  # fmt: skip
        calls, messages = (
            ("calls_inbound", "calls_outbound"),
            ("messages_inbound", "messages_outbound"),
        )
        found.append({
            "business_id": business["id"], "name": business["name"],
            "timezone": business["timezone"], "today": today,
            "customer_count": total("new_customers"),
            "new_customers_today": total("new_customers", days=1),
            "new_customers_30_days": total("new_customers", days=30),
            "calls_today": total(*calls, days=1), "calls_30_days": total(*calls, days=30),
            "calls_answered_30_days": total("calls_answered", days=30),
            "calls_missed_today": total("calls_missed", days=1),
            "call_seconds_30_days": total("call_seconds", days=30),
            "messages_today": total(*messages, days=1),
            "messages_30_days": total(*messages, days=30),
            "open_conversations": len(threads),
            "unread_messages": sum(c["unread_count"] for c in threads),
        })  # fmt: skip
    return found


VIEWS = {
    "daily_metrics": daily_metrics,
    "customer_summary": customer_summary,
    "business_dashboard_data": dashboard,
}


def is_in(row: Row, businesses: set[UUID]) -> bool:
    """Whether a row belongs to one of these businesses."""
    return row.get("business_id", row.get("id")) in businesses
