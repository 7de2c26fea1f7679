"""The options that all imports share, written once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tenantry_cli.output import Format


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every import: parameters of a command through `with_common_options`."""

    file: Annotated[Path, typer.Argument(help="CSV in UTF-8; the first line names the columns.")]
    business: Annotated[str, typer.Option("--business", "-b", help="Slug or id.")]
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
    email: Annotated[
        str | None, typer.Option(envvar="TENANTRY_EMAIL", help="Sign in as this user.")
    ] = None
    password: Annotated[
        str | None,
        typer.Option(envvar="TENANTRY_PASSWORD", help="Asked for where it is missing."),
    ] = None
    access_token: Annotated[
        str | None,
        typer.Option(envvar="TENANTRY_ACCESS_TOKEN", help="Instead of address and password."),
    ] = None
    api_url: Annotated[
        str | None,
        typer.Option(envvar="TENANTRY_API_URL", help="Default: the running local stack."),
    ] = None
    api_key: Annotated[
        str | None, typer.Option(envvar="TENANTRY_API_KEY", help="Publishable key of that API.")
    ] = None
    output: Annotated[Format, typer.Option("--output", "-o", help="pretty or json.")] = (
        Format.pretty
    )


def with_common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(common, ...)` the parameters of Common in place of its first one."""
    hints = get_type_hints(Common, include_extras=True)
    shared = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is dataclasses.MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in dataclasses.fields(Common)
    ]
    own_hints = get_type_hints(command, include_extras=True)
    own = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[one.name])
        for one in list(inspect.signature(command).parameters.values())[1:]
    ]
    names = {one.name for one in shared}

    def run(**given: Any) -> None:
        common = Common(**{name: value for name, value in given.items() if name in names})
        command(common, **{name: value for name, value in given.items() if name not in names})

    # Typer reads the parameters of a command from here.
    parameters = [*shared[:2], *own, *shared[2:]]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
