"""One import from the command line: read, connect, check, store, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tenantry.errors import APIError, TenantryError
from tenantry_cli.importing.columns import Kind, map_columns
from tenantry_cli.importing.connection import (
    choose_business,
    choose_channel,
    connect,
    login_of,
)
from tenantry_cli.importing.countries import country_code
from tenantry_cli.importing.options import Common
from tenantry_cli.importing.problems import ImportRefused, write_report
from tenantry_cli.importing.summary import Summary, print_summary
from tenantry_cli.importing.table import DELIMITERS, read_table
from tenantry_cli.importing.upload import Task, upload
from tenantry_cli.importing.values import read_row
from tenantry_cli.output import Format, fail, plain_errors, progress


def run_import(
    kind: Kind,
    common: Common,
    options: dict[str, Any],
    *,
    channel: str | None = None,
    direction: str | None = None,
    keep_columns: bool = False,
) -> None:
    """Run an import and print its result; ends with status 1 unless all is well.

    `options` are those of start_import() that belong to this kind of row.
    """
    with _readable_errors():
        if common.output is Format.env:
            raise ImportRefused("--output must be pretty or json here")
        if direction not in (None, "inbound", "outbound"):
            raise ImportRefused(f"--direction {direction}: use inbound or outbound")
        table = read_table(common.file, _delimiter(common))
        mapping = map_columns(kind, table.columns, common.column or (), keep_others=keep_columns)
        rows = [read_row(kind, row, mapping, direction) for row in table.rows]
        task = Task(
            kind,
            table.name,
            rows,
            options=_options(common) | options,
            in_parts=common.in_parts,
            skip_bad=common.skip_bad,
            dry_run=common.dry_run,
        )
        with connect(common.api_url, common.api_key, login_of(common)) as client:
            business = choose_business(client, common.business)
            chosen = choose_channel(client, kind, channel)
            task = replace(task, channel_id=str(chosen.id) if chosen else None)
            with _progress_bar() as bar:
                steps = 1 if task.dry_run else 2
                work = bar.add_task(f"{kind} into {business.slug}", total=steps * len(rows))
                outcome = upload(client, task, table.bad, lambda n: bar.advance(work, n))
        if common.report is not None:
            write_report(common.report, outcome.bad)
        summary = Summary(table, mapping, task, outcome, business.slug)
        print_summary(summary, common.output, common.report)
        if not summary.is_well:
            raise typer.Exit(1)


def _delimiter(common: Common) -> str | None:
    if common.delimiter is None:
        return None
    if common.delimiter not in DELIMITERS:
        raise ImportRefused(f"--delimiter {common.delimiter}: use {', '.join(DELIMITERS)}")
    return DELIMITERS[common.delimiter]


def _options(common: Common) -> dict[str, Any]:
    options: dict[str, Any] = {"source": common.source}
    if common.region is not None:
        code = country_code(common.region)
        if code is None:
            raise ImportRefused(f"--region {common.region}: use a country code, such as US")
        options["country"] = code
    return options


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=progress,
        transient=True,
    )


@contextmanager
def _readable_errors() -> Iterator[None]:
    with plain_errors():
        try:
            yield
        except ImportRefused as error:
            fail(str(error))
        except APIError as error:
            if error.reason == "too_many_rows":
                fail(f"{error.message} Nothing is stored. Store it --in-parts, or split the file.")
            fail(str(error))
        except TenantryError as error:
            fail(str(error))
