"""What a run found, where it ran, and the file that keeps it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import psutil

from bench.environment import Environment, fetch
from tenantry_cli.project import find_project

Results = dict[str, object]


def describe(environment: Environment) -> Results:
    """The machine, the versions, and the settings that are not Postgres's own."""
    with environment.administer("postgres") as connection:
        version = str(fetch(connection, "show server_version")[0][0])
        settings = fetch(
            connection,
            "select name, setting from pg_settings"
            " where source = 'command line' and name !~ 'directories|port|listen|log_|timezone'",
        )
    return {
        "scale": environment.scale.name,
        "businesses": environment.scale.businesses,
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"postgres": version, "python": platform.python_version()},
        "settings": {str(name): str(setting) for name, setting in settings},
    }


def busy() -> float:
    """Processes that want to run, on average over the last minute: above the cores is noise."""
    return round(os.getloadavg()[0], 1)


def save(results: Results) -> Path:
    """Write the results to bench/results/ under the time they started."""
    name = str(results["started_at"]).replace(":", "").replace("+0000", "Z")
    path = find_project().root / "bench" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return path


def newest() -> Path:
    """The last saved results. Raises FileNotFoundError when there are none."""
    saved = sorted((find_project().root / "bench" / "results").glob("*.json"))
    if not saved:
        raise FileNotFoundError("there are no results yet: run `python -m bench run` first")
    return saved[-1]


def _commit() -> str:
    root = find_project().root

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
        return result.stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "supabase/migrations") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
