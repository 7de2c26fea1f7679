"""What a request to PostgREST may ask: its query parameters and its negotiation headers.

Facts about PostgREST 12.0.2, checked against it: `;` separates parameters as `&` does; of equal
parameters one wins silently; a filter on an embedded table (`calls.id=eq.1`) does not restrict a
DELETE; `count=planned` and `count=estimated` show planner statistics, which reveal other tenants'
data whatever the policies say; several preferences may share one header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_plus

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.settings import Settings

TABLE_METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE")
FUNCTION_METHODS = ("GET", "HEAD", "POST")

# Parameters that are not filters. Each may appear once.
_RESERVED = frozenset({"select", "columns", "order", "limit", "offset", "on_conflict"})
_TREES = frozenset({"and", "or", "not.and", "not.or"})
_QUOTED_NAME = re.compile(r'"[^"(),\\]*"')
_SPACES_AND_QUOTES = re.compile(r"[\s\"']")


def check_method(method: str, is_function: bool) -> None:
    """Raises 405 naming the methods that exist."""
    allowed = FUNCTION_METHODS if is_function else TABLE_METHODS
    if method not in allowed:
        names = ", ".join((*allowed, "OPTIONS"))
        raise GatewayError(
            405,
            "method_not_allowed",
            "This method is not available here",
            f"Use one of {names}.",
            field="method",
            headers={"Allow": names},
        )


def check_negotiation(headers: Mapping[str, str], schema: str) -> None:
    """Refuse planner estimates, query plans and foreign schemas."""
    if prefer := headers.get("prefer"):
        _check_prefer(prefer)
    accept = _SPACES_AND_QUOTES.sub("", headers.get("accept", "")).lower()
    if "vnd.pgrst.plan" in accept:
        raise GatewayError(
            406,
            "plan_not_available",
            "Query plans are not available",
            "Remove application/vnd.pgrst.plan from Accept.",
            field="Accept",
        )
    for name in ("accept-profile", "content-profile"):
        if headers.get(name, schema) != schema:
            raise GatewayError(
                406,
                "schema_not_available",
                f"The schema must be {schema}",
                f"Remove {name.title()}: the gateway chooses the schema.",
                field=name.title(),
                code="PGRST106",
            )


def _check_prefer(prefer: str) -> None:
    squeezed = _SPACES_AND_QUOTES.sub("", prefer).lower()
    for preference in re.split(r"[,;]", squeezed):
        name, _, value = preference.partition("=")
        if name == "count" and value not in ("exact", "none"):
            raise GatewayError(
                400,
                "count_not_exact",
                "Prefer: only exact counts are available, not planned or estimated ones",
                "Use `Prefer: count=exact`, or count: 'exact' in the client library.",
                field="Prefer",
            )


def parse_query(query: str, settings: Settings) -> list[tuple[str, str]]:
    """The decoded parameters. Raises 400 for what PostgREST would read in another way."""
    if ";" in query:
        raise GatewayError(
            400, "malformed_url", "The query contains a bare ;", "Encode it as %3B.", field="url"
        )
    parameters: list[tuple[str, str]] = []
    seen: set[str] = set()
    for part in query.split("&"):
        if not part:
            continue
        raw_name, _, raw_value = part.partition("=")
        name = unquote_plus(raw_name)
        if name == "apikey":
            raise GatewayError(
                400,
                "key_in_url",
                "The API key stands in the URL, where logs keep it",
                "Send it in the `apikey` header.",
                field="apikey",
            )
        if name in _RESERVED:
            if name in seen:
                raise GatewayError(
                    400,
                    "duplicate_parameter",
                    f"The parameter {name} appears more than once",
                    f"Send {name} once, with its parts separated by commas.",
                    field=name,
                )
            seen.add(name)
        parameters.append((name, unquote_plus(raw_value)))
    if len(parameters) > settings.max_parameters:
        raise GatewayError(
            400,
            "too_many_parameters",
            f"The query has more than {settings.max_parameters} parameters",
            "Use in.(...) or an RPC.",
            field="url",
        )
    return parameters


def check_query(method: str, parameters: list[tuple[str, str]], settings: Settings) -> None:
    """Bound what the query costs, and demand a filter where it changes rows."""
    for name, value in parameters:
        if name == "select":
            _check_select(value, settings)
        elif name == "columns" and value.count(",") >= settings.max_columns:
            raise _too_wide("columns", settings)
    if method in ("PATCH", "DELETE") and not any(_filters_rows(name) for name, _ in parameters):
        verb = "change" if method == "PATCH" else "delete"
        raise GatewayError(
            400,
            "filter_required",
            f"{method} without a filter would {verb} every row you can see",
            "Add a filter on a column of this table, e.g. id=eq.<id>; to mean all rows, say "
            "id=not.is.null.",
            field="url",
        )


def _filters_rows(name: str) -> bool:
    # A dotted name filters an embedded table, not the rows that change.
    return name in _TREES or (name not in _RESERVED and "." not in name)


def _check_select(select: str, settings: Settings) -> None:
    # Only quoted names without punctuation are let through, so that parentheses and commas mean
    # the same here and in PostgREST, wherever either of them thinks a quotation begins.
    if '"' in select and '"' in _QUOTED_NAME.sub("", select):
        raise GatewayError(
            400,
            "malformed_select",
            "`select` has a quoted name with a comma, parenthesis, backslash or missing quote",
            "Rename the column, or leave it out of `select`.",
            field="select",
        )
    depth = deepest = embeds = 0
    for character in select.replace("()", ""):  # not an embed: an aggregate such as amount.sum()
        if character == "(":
            depth += 1
            embeds += 1
            deepest = max(deepest, depth)
        elif character == ")":
            depth -= 1
    if deepest > settings.max_embed_depth:
        raise GatewayError(
            400,
            "embed_too_deep",
            f"`select` embeds more than {settings.max_embed_depth} levels deep",
            "Ask for the inner tables in a second request.",
            field="select",
        )
    if embeds > settings.max_embeds:
        raise GatewayError(
            400,
            "too_many_embeds",
            f"`select` embeds more than {settings.max_embeds} tables",
            "Split the request.",
            field="select",
        )
    if select.count(",") >= settings.max_columns:
        raise _too_wide("select", settings)


def _too_wide(name: str, settings: Settings) -> GatewayError:
    return GatewayError(
        400,
        "too_many_columns",
        f"`{name}` lists more than {settings.max_columns} columns",
        "Name only the columns you need.",
        field=name,
    )
