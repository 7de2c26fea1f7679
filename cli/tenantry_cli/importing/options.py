"""The options that all imports share, written once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tenantry_cli.options import Connection, with_options


@dataclass(frozen=True, kw_only=True)
class Common(Connection):
    """Options of every import: parameters of a command through `with_common_options`."""

    file: Annotated[Path, typer.Argument(help="CSV in UTF-8; the first line names the columns.")]
    column: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=COLUMN, where a name does not match; FIELD= for no column."),
    ] = None
    region: Annotated[
        str | None,
        typer.Option(help="Country of numbers without a country code. Default: the business's."),
    ] = None
    source: Annotated[
        str, typer.Option(help="The system the file is from; ids are unique in it.")
    ] = "import"
    delimiter: Annotated[
        str | None, typer.Option(help="comma, semicolon or tab. Default: as in the header.")
    ] = None
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Import the good rows although others are bad.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")] = (
        False
    )
    in_parts: Annotated[
        bool, typer.Option("--in-parts", help="Store a large file in parts, each as a whole.")
    ] = False
    report: Annotated[Path | None, typer.Option(help="Write all bad rows to this CSV file.")] = None


with_common_options = with_options(Common, "file", "business")
