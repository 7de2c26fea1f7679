"""tenantry import customers, messages, calls."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry_cli.importing.columns import Kind
from tenantry_cli.importing.options import Common, with_common_options

app = typer.Typer(
    no_args_is_help=True, help="Import a CSV file into a business: all of it, or nothing."
)

Channel = Annotated[
    str | None,
    typer.Option(
        "--channel", "-c", help="Id, address or kind:address; needed where there are several."
    ),
]
Peer = Annotated[
    str | None, typer.Option(help="The other party, for rows that do not say. Default: unknown.")
]
Direction = Annotated[
    str | None, typer.Option(help="inbound or outbound, for rows that do not say.")
]


@app.command()
@with_common_options
def customers(
    common: Common,
    stage: Annotated[
        str, typer.Option(help="Of new customers: lead, prospect, customer or former.")
    ] = "customer",
    keep_columns: Annotated[
        bool, typer.Option("--keep-columns", help="Keep columns we do not know as custom fields.")
    ] = False,
    keep_invalid_phones: Annotated[
        bool, typer.Option("--keep-invalid-phones", help="Keep numbers that are none as notes.")
    ] = False,
) -> None:
    """Import customers. A row whose number or e-mail address is known completes that customer."""
    options = {"stage": stage, "keep_invalid_phones": keep_invalid_phones}
    _run(Kind.customers, common, options, keep_columns=keep_columns)


@app.command()
@with_common_options
def messages(
    common: Common, channel: Channel = None, peer: Peer = None, direction: Direction = None
) -> None:
    """Import past messages of a channel. Their customers are found by number, or made."""
    options = {} if peer is None else {"peer": peer}
    _run(Kind.messages, common, options, channel=channel, direction=direction)


@app.command()
@with_common_options
def calls(
    common: Common, channel: Channel = None, peer: Peer = None, direction: Direction = None
) -> None:
    """Import past calls. Their customers are found by number, or made."""
    options = {} if peer is None else {"peer": peer}
    _run(Kind.calls, common, options, channel=channel, direction=direction)


def _run(kind: Kind, common: Common, options: dict[str, Any], **rest: Any) -> None:
    # The SDK and the names of countries take a second to load: other commands need neither.
    from tenantry_cli.importing.run import run_import

    run_import(kind, common, options, **rest)
