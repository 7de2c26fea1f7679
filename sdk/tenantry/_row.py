"""What the generated models stand on."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict

#: A JSON value: None, bool, str, int, Decimal (for any number with a fraction), list, dict.
JSON: TypeAlias = Any


class Row(BaseModel):
    """A row as the server gave it: never changes, and keeps columns this version does not know.

    Columns that a name of Python or pydantic would hide have an underscore behind them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        populate_by_name=True,
        # Each validator is built when its first row comes: all at once would make the import slow.
        defer_build=True,
    )
