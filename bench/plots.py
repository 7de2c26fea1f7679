"""The plots of docs/performance.md, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

from bench.homes import PLACEMENTS
from bench.words import PERSONA_TITLES, SHAPE_TITLES, VARIANT_TITLES

_GOAL = 1.10
_WIDEST = 2.0
_COLORS = ("#1b6ca8", "#d1495b", "#3a9d5d", "#8e5ea2")
#: The same bytes for the same results.
_STYLE: Any = {"svg.hashsalt": "tenantry", "svg.fonttype": "none", "font.size": 9}


def plot_row_security(rls: dict[str, Any], path: Path) -> Path:
    """Ratio and interval of each shape and caller, one panel per number of connections."""
    shapes = list(dict.fromkeys(cell["shape"] for cell in rls["cells"]))
    with mpl.rc_context(_STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(10, 0.5 * len(shapes) + 1.6), sharey=True)
        for panel, connections in zip(panels, (1, 8), strict=True):
            _panel(panel, [c for c in rls["cells"] if c["connections"] == connections], shapes)
            panel.set_title(f"{connections} connection{'s' if connections > 1 else ''}")
        panels[0].set_yticks(range(len(shapes)), [SHAPE_TITLES[shape] for shape in shapes])
        panels[0].invert_yaxis()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        return _save(figure, path)


def _panel(panel: Any, cells: list[dict[str, Any]], shapes: list[str]) -> None:
    noise = sorted(cell["noise"]["value"] for cell in cells)
    cut = len(noise) // 20
    panel.axvspan(noise[cut], noise[-1 - cut], color="#000000", alpha=0.06, linewidth=0)
    panel.axvline(1, color="#555555", linewidth=0.8)
    panel.axvline(_GOAL, color="#d1495b", linewidth=0.8, linestyle="--")
    for index, (persona, title) in enumerate(PERSONA_TITLES.items()):
        mine = [cell for cell in cells if cell["persona"] == persona]
        values = [min(cell["overhead"]["value"], _WIDEST) for cell in mine]
        panel.errorbar(
            values,
            [shapes.index(cell["shape"]) + (index - 1.5) * 0.18 for cell in mine],
            xerr=[
                [max(0, v - cell["overhead"]["low"]) for v, cell in zip(values, mine, strict=True)],
                [
                    max(0, cell["overhead"]["high"] - v)
                    for v, cell in zip(values, mine, strict=True)
                ],
            ],
            fmt="o",
            markersize=3.5,
            linewidth=1,
            color=_COLORS[index],
            label=title,
        )
    panel.set_xlim(0.7, _WIDEST)
    panel.set_xlabel("time against no row security (grey: A/A noise, dashed: goal 1.10)")
    panel.grid(axis="x", alpha=0.2)


def plot_metrics(metrics: dict[str, Any], path: Path) -> Path:
    """Share of the rate without metrics, for each load and variant."""
    rates = metrics["rates"]
    variants = [variant for variant in rates[0]["share"] if variant != "none"]
    with mpl.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(10, 4.2))
        for index, variant in enumerate(variants):
            shares = [rate["share"][variant] for rate in rates]
            spreads = [rate["spread"][variant] for rate in rates]
            panel.bar(
                [place + (index - 1.5) * 0.2 for place in range(len(rates))],
                shares,
                0.18,
                yerr=[
                    [share - low for share, (low, _) in zip(shares, spreads, strict=True)],
                    [high - share for share, (_, high) in zip(shares, spreads, strict=True)],
                ],
                error_kw={"linewidth": 0.8},
                color="#b8b8b8" if variant == "control" else _COLORS[index - 1],
                label=VARIANT_TITLES[variant],
            )
        panel.axhline(1, color="#555555", linewidth=0.8)
        panel.set_xticks(
            range(len(rates)),
            [f"{rate['load'].replace(', ', chr(10))}\n{rate['clients']} clients" for rate in rates],
            fontsize=7,
        )
        panel.set_ylabel("rate against no metrics")
        panel.legend(frameon=False, ncols=4, loc="upper right")
        figure.tight_layout()
        return _save(figure, path)


def plot_placements(found: dict[str, Any], path: Path) -> Path:
    """Time to make a tenant, memory of a backend that touched all, and the reload of a schema."""
    steps = found["steps"]
    counts = [step["tenants"] for step in steps]
    with mpl.rc_context(_STYLE):
        figure, (making, memory, shelf) = plt.subplots(1, 3, figsize=(10, 3.4))
        making.boxplot(
            [[ms for step in steps for ms in step["provision_ms"][one]] for one in PLACEMENTS],
            tick_labels=list(PLACEMENTS),
            showfliers=False,
        )
        making.set_title("making a tenant, ms")
        for one, color in zip(PLACEMENTS, _COLORS, strict=False):
            sums = [sum(m["anonymous_mb"] for m in step["backends"][one]) for step in steps]
            memory.plot(counts, sums, marker="o", color=color, label=one)
        memory.set_title("memory of backends, MB")
        memory.set_xlabel("tenants touched")
        for key, color, label in (
            ("worst_embed_ms", _COLORS[1], "worst embed during a reload"),
            ("reload_ms", _COLORS[0], "reload"),
        ):
            values = [step["reload"][key] for step in steps]
            shelf.plot(counts, values, marker="o", color=color, label=label)
        starts = [step["serving"]["schema"]["ready_ms"] for step in steps]
        shelf.plot(counts, starts, marker="o", color=_COLORS[2], label="start to ready")
        shelf.set_title("PostgREST of a schema, ms")
        shelf.set_xlabel("schemas on its shelf")
        for panel in (memory, shelf):
            panel.set_ylim(bottom=0)
            panel.legend(frameon=False, fontsize=7)
        figure.tight_layout()
        return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
