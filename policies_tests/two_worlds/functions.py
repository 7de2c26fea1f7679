"""Calls of every function that a client may call, with valid arguments and with the other's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from policies_tests.calls import Calls
from policies_tests.catalog import Connection
from policies_tests.world import World

from .dice import Dice
from .operations import Text, quoted
from .values import BUSY, Literal, Values

_FUNCTIONS = """
select p.proname, p.pronargdefaults, p.proargnames[1:p.pronargs],
  array(select format_type(t, null) from unnest(p.proargtypes::oid[]) t)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'public' and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
  and has_function_privilege('authenticated', p.oid, 'execute')
order by 1
"""
#: The slugs of organizations are one name space: founding one tells whether its slug is taken,
#: which docs/security.md says. So the other tenant founds nothing here.
PUBLIC_NAMES = frozenset({"create_organization"})


@dataclass(frozen=True)
class Signature:
    """Argument names and types. The first `required` ones have no default."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    required: int


def read_signatures(connection: Connection) -> list[Signature]:
    """Every function of the schema public that signed-in users may call."""
    return [
        Signature(name, tuple(zip(names or (), types, strict=True)), len(types) - defaults)
        for name, defaults, names, types in connection.execute(_FUNCTIONS)
    ]


class FunctionOperations:
    """Calls of one function."""

    def __init__(self, signature: Signature, calls: Calls, values: Values) -> None:
        self._signature = signature
        self._values = values
        self._types = dict(signature.arguments)
        self._bases = [self._literals(one) for one in self._valid(calls)]
        self._choices = {name: values.of_argument(name, kind) for name, kind in signature.arguments}
        self._required = [name for name, _ in signature.arguments[: signature.required]]

    def _valid(self, calls: Calls) -> Iterator[dict[str, Any]]:
        name = self._signature.name
        if name in calls.of_business:
            for tenant in self._values.tenants():
                yield calls.of_business[name](tenant)
        elif name in calls.plain:
            yield calls.plain[name]

    def _literals(self, arguments: dict[str, Any]) -> dict[str, Literal]:
        return {name: self._values.literal(value) for name, value in arguments.items()}

    def call(self, dice: Dice) -> Text:
        if self._bases:
            arguments = dict(dice.choose(self._bases))
        else:
            arguments = {name: self._cast(dice, name) for name in self._required}
        changes = dice.below(3) if self._types else 0
        for _ in range(changes):
            name = dice.choose(list(self._types))
            arguments[name] = self._changed(dice, name, arguments.get(name))
        listed = ", ".join(f"{quoted(name)} => {value}" for name, value in arguments.items())
        return Text("call", f"select * from public.{quoted(self._signature.name)}({listed})")

    def _changed(self, dice: Dice, name: str, old: Literal | None) -> Literal:
        if self._types[name] == "jsonb" and old is not None and "{" in old:
            return self._with_other_text(dice, old)
        return self._cast(dice, name)

    def _cast(self, dice: Dice, name: str) -> Literal:
        return f"{dice.choose(self._choices[name])}::{self._types[name]}"

    def _with_other_text(self, dice: Dice, old: Literal) -> Literal:
        """A document with a member more, whose value the other tenant has."""
        key = dice.choose(["email", "phone", "external_key", "source", "peer", "id"])
        text = dice.choose(self._values.of_type("text"))
        member = f"jsonb_build_object('{key}', {text}::text)"
        if old.lstrip("'").startswith("["):
            return f"jsonb_build_array({old}::jsonb -> 0 || {member})"
        return f"{old}::jsonb || {member}"


def function_operations(
    world: World, connection: Connection, values: Values
) -> list[FunctionOperations]:
    """All functions; as the other tenant, those that no tenant notices."""
    calls = Calls(world)
    left_out = PUBLIC_NAMES if values.side is BUSY else frozenset()
    return [
        FunctionOperations(one, calls, values)
        for one in read_signatures(connection)
        if one.name not in left_out
    ]
