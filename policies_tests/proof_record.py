"""Keeps the figures of a proof run as JSON, where TENANTRY_PROOF_DIR says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def record(name: str, figures: dict[str, Any]) -> None:
    """Write `figures` (with their `seed`) to `<TENANTRY_PROOF_DIR>/<name>.json`.

    Does nothing without the variable. Figures of the same name from the same run are merged.
    """
    directory = os.environ.get("TENANTRY_PROOF_DIR")
    if not directory:
        return
    path = Path(directory) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = json.dumps({**known, **figures}, indent=2, default=str)
    path.write_text(f"{text}\n", encoding="utf-8")
