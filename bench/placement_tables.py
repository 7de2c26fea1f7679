"""The results of placements, moves and migrations as tables, for the console and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bench.homes import PLACEMENTS

Found = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """A table of text."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def placements_tables(found: Found) -> list[Rows]:
    """Of the JSON of bench.placements.Report."""
    steps = found["steps"]
    return [_cost(steps), _latency(steps), _shelf(steps)]


def _cost(steps: Sequence[Found]) -> Rows:
    rows = []
    for step in steps:
        pooled_ms = median(step["provision_ms"]["pooled"])
        for placement in PLACEMENTS:
            milliseconds = step["provision_ms"][placement]
            backends, serving = step["backends"][placement], step["serving"][placement]
            rows.append(
                [
                    f"{step['tenants']}",
                    placement,
                    f"{median(milliseconds):.0f}",
                    f"{median(milliseconds) / pooled_ms:.1f}",
                    f"{max(milliseconds):.0f}",
                    f"{step['disk_mb'][placement]:.2f} ({step['tables_mb'][placement]:.2f})",
                    f"{len(backends)} x {fmean(one['anonymous_mb'] for one in backends):.1f}",
                    f"{_backend_mb(step, placement):.2f}",
                    f"{serving['start_mb']:.0f} / {serving['used_mb']:.0f}",
                    f"{serving['ready_ms']:.0f}",
                ]
            )
    return Rows(
        "Cost of a tenant",
        [
            "tenants",
            "placement",
            "to make, ms",
            "against pooled",
            "worst",
            "disk MB each (tables)",
            "backends x MB",
            "MB per tenant",
            "PostgREST MB, start / used",
            "ready ms",
        ],
        rows,
    )


def _backend_mb(step: Found, placement: str) -> float:
    """Per tenant, of one backend: all of it where it is the tenant's own, else what it added."""
    shared = 0.0 if placement == "database" else float(step["idle"]["anonymous_mb"])
    backends = step["backends"][placement]
    return float(sum(one["anonymous_mb"] - shared for one in backends) / step["tenants"])


def _latency(steps: Sequence[Found]) -> Rows:
    rows = [
        [
            f"{step['tenants']}",
            one["door"],
            one["shape"],
            f"{one['median_ms']['pooled']:.2f}",
            *(_ratio(one["ratios"][name]) for name in ("schema", "database", "control")),
        ]
        for step in steps
        for one in step["latencies"]
    ]
    heads = ["tenants", "through", "request", "pooled ms", "schema", "database", "A/A"]
    return Rows("Time per request against pooled", heads, rows)


def _ratio(ratio: Found) -> str:
    return f"{ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"


def _shelf(steps: Sequence[Found]) -> Rows:
    rows = [
        [
            f"{step['tenants']}",
            f"{step['serving']['schema']['ready_ms']:.0f}",
            f"{step['serving']['schema']['used_mb']:.0f}",
            f"{step['reload']['reload_ms']:.0f}",
            f"{step['reload']['worst_embed_ms']:.0f}",
            f"{step['reload']['worst_point_ms']:.0f}",
            f"{step['reload']['quiet_embed_ms']:.0f} / {step['reload']['quiet_point_ms']:.0f}",
            f"{step['reload']['refused']}",
        ]
        for step in steps
    ]
    heads = [
        "schemas",
        "ready ms",
        "MB",
        "reload ms",
        "worst embed ms",
        "worst plain ms",
        "the same without a reload",
        "refused",
    ]
    return Rows("One schema, by how many its shelf has", heads, rows)


def moves_table(moves: Sequence[Found]) -> Rows:
    """Of the JSON of bench.moves.Moved."""
    rows = [
        [
            f"{move['source']} -> {move['target']}",
            f"{move['rows']:,}",
            f"{move['whole_ms']:,.0f}",
            f"{move['write_pause_ms']:,.0f}",
            f"{move['longest_gap_ms']:,.0f}",
            f"{move['rows_per_second']:,.0f}",
            f"{move['acknowledged']:,}",
            f"{move['refused']:,}",
            f"**{move['lost']}**",
        ]
        for move in moves
    ]
    heads = [
        "move",
        "rows",
        "whole ms",
        "write pause ms",
        "longest gap ms",
        "rows/s",
        "writes",
        "refused",
        "lost",
    ]
    return Rows("Moves with a writer", heads, rows)


def migrations_table(runs: Sequence[Found]) -> Rows:
    """Of the JSON of bench.fleet_migrations.Run: medians over the rounds."""
    workers = list(dict.fromkeys(run["workers"] for run in runs))
    times = {one: [run["seconds"] for run in runs if run["workers"] == one] for one in workers}
    rows = [
        [
            f"{one}",
            f"{runs[0]['places']}",
            f"{median(times[one]):.2f}",
            f"{median(times[one]) / median(times[workers[0]]):.2f}",
            f"{sum(run['failed'] for run in runs if run['workers'] == one)}",
        ]
        for one in workers
    ]
    heads = ["workers", "places", "seconds", "against one worker", "failed"]
    return Rows("One migration of the whole fleet", heads, rows)
