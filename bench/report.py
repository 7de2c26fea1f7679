"""docs/performance.md and its plots, written from the results of one run."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.placement_tables import Rows, migrations_table, moves_table, placements_tables
from bench.plots import plot_metrics, plot_placements, plot_row_security
from bench.rls import GOAL
from bench.words import PERSONA_TITLES, SHAPE_TITLES, VARIANT_TITLES
from tenantry_cli.fleet.fleet import TENANTS_PER_SHELF

Found = dict[str, Any]

_SECTION_START = re.compile(r"(?m)^(?=## )")


def write_report(found: Found, docs: Path) -> list[Path]:
    """Write performance.md and its plots to `docs`. Returns the files.

    Sections that this run did not measure stay as they are.
    """
    (docs / "performance").mkdir(exist_ok=True)
    document = docs / "performance.md"
    text = [_template("head").format(machine=_machine(found))]
    written = []
    if "rls" in found:
        text.append(_row_security(found["rls"]))
        written.append(plot_row_security(found["rls"], docs / "performance" / "row_security.svg"))
    if "metrics" in found:
        text.append(_metrics(found))
        written.append(plot_metrics(found["metrics"], docs / "performance" / "metrics.svg"))
    if "ingest" in found:
        text.append(_ingest(found))
    if "triggers" in found:
        text.append(
            _template("triggers").format(
                run=_run(found), table=_rates_table(found["triggers"]["rates"])
            )
        )
    if "placements" in found:
        text.append(_placements(found))
        written.append(plot_placements(found["placements"], docs / "performance/placements.svg"))
    if "moves" in found:
        text.append(
            _template("moves").format(
                run=_run(found), table=_markdown(moves_table(found["moves"]["moves"]))
            )
        )
    if "fleet" in found:
        text.append(
            _template("fleet").format(
                run=_run(found), table=_markdown(migrations_table(found["fleet"]["runs"]))
            )
        )
    if document.exists():
        text = _merged(document.read_text(encoding="utf-8"), text)
    document.write_text("\n".join(text), encoding="utf-8")
    return [document, *written]


def _merged(old: str, new: Sequence[str]) -> list[str]:
    """The old document with the sections of this run in the place of its own.

    The head tells of the run that measured row security, and stays when this one did not.
    """
    parts = {_heading(part): part.rstrip("\n") + "\n" for part in _SECTION_START.split(old)}
    found = {_heading(part): part for part in new}
    if "## Row security" not in found:
        found.pop("# Performance")
    return list((parts | found).values())


def _heading(section: str) -> str:
    return section.partition("\n")[0].strip()


def _run(found: Found) -> str:
    """Of which run a section is, where the head tells of another."""
    load = found["load_average"]
    return (
        f"Measured {found['started_at']}, scale `{found['scale']}`, commit {found['commit']};"
        f" load average {load['before']} before and {load['after']} after, on"
        f" {found['machine']['cores']} cores."
    )


def _placements(found: Found) -> str:
    cost, latency, shelf = placements_tables(found["placements"])
    return _template("placements").format(
        run=_run(found),
        counts=", ".join(str(step["tenants"]) for step in found["placements"]["steps"]),
        template_ms=f"{found['placements']['template_ms']:,.0f}",
        shelf_ms=f"{found['placements']['shelf_ms']:,.0f}",
        limit=TENANTS_PER_SHELF,
        cost=_markdown(cost),
        latency=_markdown(latency),
        shelf=_markdown(shelf),
    )


def _markdown(table: Rows) -> str:
    return _table(table.heads, table.rows)


def _template(name: str) -> str:
    return files("bench").joinpath("templates", f"{name}.md").read_text(encoding="utf-8")


def _machine(found: Found) -> str:
    machine, versions, load = found["machine"], found["versions"], found["load_average"]
    rest = (found.get("rls") or found.get("placements") or {}).get("postgrest", "PostgREST")
    settings = ", ".join(
        f"`{name} = {setting}`" for name, setting in sorted(found["settings"].items())
    )
    return "\n".join(
        [
            f"- Machine: {machine['processor']}, {machine['cores']} cores,"
            f" {machine['memory_gb']} GB, {machine['system']}; server and client share it.",
            f"- Load average {load['before']} before and {load['after']} after (the benchmark's own"
            f" included): above {machine['cores']} means that somebody waited.",
            f"- Postgres {versions['postgres']}, {rest}, Python {versions['python']};"
            f" scale `{found['scale']}`, {found['started_at']}, commit {found['commit']}.",
            f"- Settings: {settings}.",
        ]
    )


def _row_security(rls: Found) -> str:
    cells = rls["cells"]
    noise = sorted(cell["noise"]["value"] for cell in cells)
    verdicts = [cell["verdict"] for cell in cells]
    within = sum(verdict in ("yes", "probably") for verdict in verdicts)
    ratios = sorted(cell["overhead"]["value"] for cell in cells)
    owner = sorted(cell["against_default"]["value"] for cell in cells)
    cut = len(noise) // 20
    summary = (
        f"{within} of {len(cells)} cells are within 1.10 ({verdicts.count('yes')} of them surely,"
        f" {verdicts.count('no')} surely not); the median cell is"
        f" {ratios[len(ratios) // 2]:.2f}, the worst {ratios[-1]:.2f}. Against the role that plans"
        f" by default, {sum(one <= GOAL for one in owner)} are; median"
        f" {owner[len(owner) // 2]:.2f}, worst {owner[-1]:.2f}."
    )
    return _template("row_security").format(
        counts="Rows: " + ", ".join(f"{count:,} {table}" for table, count in rls["rows"].items()),
        callers=", ".join(PERSONA_TITLES.values()),
        verdict=summary,
        noise=f"{noise[cut]:.2f} to {noise[-1 - cut]:.2f} (nine of ten cells)",
        shapes=_shapes_table(cells),
        tables="\n\n".join(_cells_table(cells, count) for count in (1, 8)),
        plans=_plans(rls["plans"]),
    )


def _shapes_table(cells: Sequence[Found]) -> str:
    """Of each shape the geometric mean over the callers, which a slow minute moves less."""

    def mean(shape: str, ratio: str, connections: int) -> str:
        one = [
            cell[ratio]["value"]
            for cell in cells
            if cell["shape"] == shape and cell["connections"] == connections
        ]
        return f"{statistics.geometric_mean(one):.2f}" if one else ""

    ratios = ("overhead", "against_default", "noise")
    rows = [
        [SHAPE_TITLES[shape], *(mean(shape, ratio, count) for ratio in ratios for count in (1, 8))]
        for shape in dict.fromkeys(cell["shape"] for cell in cells)
    ]
    heads = ["shape", "ratio, 1", "8", "default, 1", "8", "A/A, 1", "8"]
    return _table(heads, rows)


def _cells_table(cells: Sequence[Found], connections: int) -> str:
    rows = [
        [
            SHAPE_TITLES[cell["shape"]],
            PERSONA_TITLES[cell["persona"]],
            f"{cell['baseline_ms']:.2f}",
            f"**{cell['overhead']['value']:.2f}**",
            _interval(cell["overhead"]),
            f"{cell['noise']['value']:.2f} ({_interval(cell['noise'])})",
            f"{cell['against_default']['value']:.2f}",
            f"{cell['requests']:,}",
            cell["verdict"],
        ]
        for cell in cells
        if cell["connections"] == connections
    ]
    heads = [
        "shape",
        "caller",
        "baseline ms",
        "ratio",
        "95 %",
        "A/A",
        "default",
        "requests",
        "<= 1.10",
    ]
    title = f"### {connections} connection{'s' if connections > 1 else ''}"
    return f"{title}\n\n{_table(heads, rows)}"


def _interval(ratio: Found) -> str:
    return f"{ratio['low']:.2f}-{ratio['high']:.2f}"


def _plans(plans: Iterable[Found]) -> str:
    parts = []
    for plan in plans:
        if plan["persona"] == "large" and plan["variant"] == "rls":
            lines = [_plan_line(line) for line in plan["text"].splitlines() if _tells(line)]
            body = "\n".join(lines) or "(a function: see its body)"
            parts.append(f"{SHAPE_TITLES[plan['shape']]}:\n\n```\n{body}\n```")
    return "\n\n".join(parts)


def _tells(line: str) -> bool:
    """Scans and what they look for; of the lookup of rights, always the same, the scan alone."""
    scans = " on public." in line or " on private.user_access" in line
    found = scans or "Index Cond" in line or "Removed by" in line
    return found and "Result" not in line and "request.jwt.claims" not in line


def _plan_line(line: str) -> str:
    return line.strip().removeprefix("->").strip().split("  (cost")[0]


def _metrics(found: Found) -> str:
    metrics = found["metrics"]
    rates = metrics["rates"]
    return _template("metrics").format(
        run=_run(found),
        rounds=len(next(iter(rates[0]["per_second"].values()))),
        table=_rates_table(rates),
        drift=", ".join(f"{VARIANT_TITLES[v]} {count}" for v, count in metrics["drift"].items()),
    )


def _ingest(found: Found) -> str:
    ingest = found["ingest"]
    rows = [
        [
            VARIANT_TITLES[latency["load"]],
            str(latency["clients"]),
            *(f"{latency['latency_ms'][p]:.1f}" for p in ("p50", "p95", "p99")),
        ]
        for latency in sorted(ingest["latencies"], key=_by_clients)
        if latency["load"] != "control"
    ]
    return _template("ingest").format(
        run=_run(found),
        table=_rates_table(ingest["rates"]),
        latency=_table(["event", "clients", "p50", "p95", "p99"], rows),
        broken=", ".join(f"{name}: {count}" for name, count in ingest["broken"].items()),
    )


def _by_clients(latency: Found) -> tuple[int, list[str]]:
    return latency["clients"], list(latency["load"])


def _rates_table(rates: Sequence[Found]) -> str:
    variants = list(rates[0]["share"])
    rows = [
        [rate["load"], str(rate["clients"])]
        + [f"{_median(rate['per_second'][variants[0]]):,.0f}/s"]
        + [
            f"{_median(rate['per_second'][v]):,.0f}/s **{rate['share'][v]:.2f}**"
            f" ({rate['spread'][v][0]:.2f}-{rate['spread'][v][1]:.2f})"
            for v in variants[1:]
        ]
        for rate in rates
    ]
    return _table(["load", "clients", *(VARIANT_TITLES[v] for v in variants)], rows)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
