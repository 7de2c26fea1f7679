"""The figures of the report, drawn as SVG without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.colors import LogNorm

_COLORS = {"matrix": "#1b6ca8", "golden file": "#8e5ea2", "gate": "#3a9d5d", "world": "#c98a1b"}
_BAD = "#b3261e"
#: The same bytes for the same figures; text is drawn, so that every viewer shows the same.
_STYLE: Any = {"svg.hashsalt": "tenantry", "svg.fonttype": "path", "font.size": 8}


def heat_map(rows: Sequence[str], columns: Sequence[str], cells: Mapping[str, int]) -> str:
    """Cells tried for each table or function (row) and persona (column)."""
    values = [[cells.get(f"{row}\t{column}", 0) for column in columns] for row in rows]
    with mpl.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(3 + 0.2 * len(columns), 2.2 + 0.17 * len(rows)))
        highest = max([2, *(value for line in values for value in line)])
        colors = mpl.colormaps["YlGnBu"].with_extremes(bad="#ffffff")
        image = panel.imshow(
            [[value or float("nan") for value in line] for line in values],
            norm=LogNorm(1, highest), aspect="auto", cmap=colors,
        )  # fmt: skip
        panel.set_xticks(range(len(columns)), columns, rotation=90)
        panel.set_yticks(range(len(rows)), [row.removeprefix("public.") for row in rows])
        panel.set_xticks([at - 0.5 for at in range(1, len(columns))], minor=True)
        panel.set_yticks([at - 0.5 for at in range(1, len(rows))], minor=True)
        panel.grid(which="minor", color="white", linewidth=0.5)
        panel.tick_params(which="both", length=0)
        panel.spines[:].set_visible(False)
        figure.colorbar(image, ax=panel, label="cells tried", fraction=0.02, pad=0.01)
        return _svg(figure)


def stacked_bars(by_kind: Mapping[str, Mapping[str, int]]) -> str:
    """Mutants of each kind by what noticed them; survivors in red."""
    kinds = sorted(by_kind, key=lambda kind: sum(by_kind[kind].values()))
    seen = {by for counts in by_kind.values() for by in counts}
    with mpl.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(9, 1 + 0.22 * len(kinds)))
        left = [0] * len(kinds)
        for by in [*(one for one in _COLORS if one in seen), *sorted(seen - set(_COLORS))]:
            widths = [by_kind[kind].get(by, 0) for kind in kinds]
            color = _BAD if by == "nothing" else _COLORS.get(by, "#6b6b6b")
            panel.barh(range(len(kinds)), widths, left=left, color=color, label=by, height=0.75)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for at, total in enumerate(left):
            panel.text(total, at, f" {total}", va="center")
        panel.set_yticks(range(len(kinds)), kinds)
        panel.set_ylim(-0.6, len(kinds) - 0.4)
        panel.margins(x=0.06)
        panel.set_xlabel("mutants, by what noticed them")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, loc="lower right")
        return _svg(figure)


def race_shares(races: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each race, the share of trials that broke the invariant: product and naive version."""
    names = list(races)[::-1]
    with mpl.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(9, 1.1 + 0.26 * len(names)))
        for prefix, color, label, shift in (
            ("naive_", "#c9c9c9", "naive version", -0.18),
            ("", "#1b6ca8", "product", 0.18),
        ):
            shares = [_share(races[name], prefix) for name in names]
            places = [at + shift for at in range(len(names))]
            colors = [_BAD if prefix == "" and share else color for share in shares]
            panel.barh(places, shares, 0.34, color=colors)
            panel.plot([], [], "s", color=color, label=label)
            if _BAD in colors:
                panel.plot([], [], "s", color=_BAD, label="product, lost")
            for place, share in zip(places, shares, strict=True):
                panel.text(share, place, f" {share:.0f} %", va="center", fontsize=6.5)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(-0.6, len(names) - 0.4)
        panel.set_xlim(0, 112)
        panel.set_xlabel("trials that broke the invariant, %")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        return _svg(figure)


def _share(race: Mapping[str, Any], prefix: str) -> float:
    trials = race.get(f"{prefix}trials") or 0
    return 100 * race.get(f"{prefix}violations", 0) / trials if trials else 0.0


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
