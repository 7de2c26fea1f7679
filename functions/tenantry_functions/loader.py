"""Finds the functions: every folder with a `main.py` is one, its `function.toml` says what it is.

`auth` stands in both, and must be the same: the file is what a reviewer and a deployment read,
the code is what runs. A folder that does not fit stops the start.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tenantry_functions.kernel import EdgeFunction, Limits

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_KEYS: dict[str, type | tuple[type, ...]] = {
    "description": str,
    "auth": str,
    "max_body_bytes": int,
    "timeout_seconds": (int, float),
}


class LoadError(RuntimeError):
    """A function folder is wrong; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A function ready to serve."""

    name: str
    description: str
    function: EdgeFunction
    limits: Limits


def load_functions(folder: Path, only: Sequence[str] = ("*",)) -> dict[str, LoadedFunction]:
    """All functions in a folder whose names match one of the patterns.

    Raises:
        LoadError: a folder is not a proper function, or no folder matches.
    """
    found = {}
    for main in sorted(folder.glob("*/main.py")):
        name = main.parent.name
        if any(fnmatch(name, pattern) for pattern in only):
            found[name] = _load(name, main)
    if not found:
        raise LoadError(f"No function matches {', '.join(only)} in {folder}.")
    return found


def _load(name: str, main: Path) -> LoadedFunction:
    if not _NAME.fullmatch(name):
        raise LoadError(f"{main.parent}: name the folder in lower case with hyphens: send-message")
    manifest = _manifest(main.with_name("function.toml"))
    function = getattr(_module(name, main), "handler", None)
    if not isinstance(function, EdgeFunction):
        raise LoadError(f"{main}: define `handler` and decorate it with @edge(...).")
    if manifest["auth"] != function.auth:
        raise LoadError(
            f"{main.parent}: function.toml says auth = {manifest['auth']!r}, "
            f"@edge says {function.auth!r}; make them the same."
        )
    limits = {
        key: manifest[key] for key in ("max_body_bytes", "timeout_seconds") if key in manifest
    }
    return LoadedFunction(name, manifest["description"], function, Limits(**limits))


def _manifest(file: Path) -> dict[str, Any]:
    try:
        manifest = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LoadError(f"{file} is missing: add it with description and auth.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LoadError(f"{file}: {error}") from None
    for key, value in manifest.items():
        if not isinstance(value, _KEYS.get(key, ())):
            raise LoadError(f"{file}: {key} is unknown or has the wrong type; use {list(_KEYS)}.")
    if missing := {"description", "auth"} - manifest.keys():
        raise LoadError(f"{file}: add {', '.join(sorted(missing))}.")
    return manifest


def _module(name: str, main: Path) -> object:
    module_name = "tenantry_function_" + name.replace("-", "_")
    spec = importlib.util.spec_from_file_location(module_name, main)
    if spec is None or spec.loader is None:
        raise LoadError(f"{main} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
