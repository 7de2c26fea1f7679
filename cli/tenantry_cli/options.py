"""Options that several commands share, written once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

from tenantry_cli.output import Format

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="TENANTRY_DATABASE_URL",
        show_envvar=True,
        help="The main database, logging in as its owner. Default: the running local stack.",
    ),
]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="pretty or json.")]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Options of every command that works in a business through the API."""

    business: Annotated[str, typer.Option("--business", "-b", help="Slug or id.")]
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
        str | None,
        typer.Option(
            envvar="TENANTRY_API_KEY",
            help="Publishable key of that API; or a tnk_ key, which needs no sign-in.",
        ),
    ] = None
    output: OutputOption = Format.pretty


Command = Callable[..., None]


def with_options(kind: type[Any], *leading: str) -> Callable[[Command], Command]:
    """Give `command(options, ...)` the fields of a dataclass as parameters, `options` being one.

    Those named in `leading` come before the command's own.
    """
    hints = get_type_hints(kind, include_extras=True)
    shared = {
        one.name: inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is dataclasses.MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in dataclasses.fields(kind)
    }

    def decorated(command: Command) -> Command:
        own_hints = get_type_hints(command, include_extras=True)
        own = [
            one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[one.name])
            for one in list(inspect.signature(command).parameters.values())[1:]
        ]

        def run(**given: Any) -> None:
            options = kind(**{name: value for name, value in given.items() if name in shared})
            command(options, **{name: value for name, value in given.items() if name not in shared})

        # Typer reads the parameters of a command from here.
        first = [shared[name] for name in leading]
        rest = [one for name, one in shared.items() if name not in leading]
        parameters = [*first, *own, *rest]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorated
