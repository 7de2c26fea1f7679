"""Programs: what the attacker does, and in between what the other tenant does in its own world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from policies_tests.catalog import Connection
from policies_tests.oracle import Oracle
from policies_tests.people import BUSINESSES, Persona
from policies_tests.world import World

from .dice import SIZE, Dice
from .functions import function_operations
from .operations import Text, table_operations
from .values import ATTACK, BUSY, Side, Values
from .worlds import OTHER, attackers, is_only_of

LONGEST = 30
#: Postgres may keep one plan for all callers from the sixth execution on.
_UNTIL_GENERIC = 7

Builder = Callable[[Dice], Text]


@dataclass(frozen=True)
class Step:
    """One statement of somebody. `times` repeats it: plans change from the sixth on."""

    persona: Persona
    text: Text
    is_other: bool = False
    is_seen: bool = True
    times: int = 1

    def __str__(self) -> str:
        who = f"the other tenant, {self.persona.name}" if self.is_other else self.persona.name
        again = f"  -- {self.times} times" if self.times > 1 else ""
        return f"{who}: {self.text.statement}{again}"


Program = list[Step]


class Repertoire:
    """Everything one side can do. `with_plans`: also ask the planner, which SQL cannot forbid."""

    def __init__(
        self, world: World, connection: Connection, side: Side, *, with_plans: bool = False
    ) -> None:
        values = Values(world, connection, side)
        tables, views = table_operations(world, connection, values)
        every = [one.builders for one in tables]
        again: list[list[Builder]] = [[one.read_again] for one in tables if one.is_readable]
        writable = [one.builders for one in tables if one.is_writable]
        readable = [one.builders for one in tables if one.is_readable]
        functions: list[list[Builder]] = [
            [one.call] for one in function_operations(world, connection, values)
        ]
        #: Drawn from with equal chances: a rare operation needs many programs to be tried.
        self._groups: list[list[list[Builder]]] = [
            readable, writable, functions, [one.builders for one in views],
            writable, functions, writable, again, every, functions,
        ]  # fmt: skip
        if side is BUSY:  # what the attacker asks as well, on the same connection
            self._groups += [again, again]
        if with_plans:
            self._groups = [[[one.explain] for one in tables]]

    def draw(self, dice: Dice) -> Text:
        return dice.choose(dice.choose(dice.choose(self._groups)))(dice)


@dataclass(frozen=True)
class Playwright:
    """Makes programs out of bytes."""

    attack: Repertoire
    busy: Repertoire
    #: Those with the most rights first.
    ours: list[Persona]
    theirs: list[Persona]
    kinds: frozenset[str] | None

    def program(self, seed: bytes) -> Program:
        """A program of one to three attackers who work together."""
        first, *rest = (seed[start : start + SIZE] for start in range(0, len(seed), SIZE))
        dice = Dice(first)
        party = [self._attacker(dice) for _ in range(1 + dice.below(3))]
        length = 1 + min(dice.below(LONGEST), dice.below(LONGEST))
        return [self._step(Dice(one), party) for one in rest[:length]]

    def _attacker(self, dice: Dice) -> Persona:
        return dice.choose(self.ours if dice.below(2) else self.ours[:3])

    def _step(self, dice: Dice, party: list[Persona]) -> Step:
        is_other = dice.is_one_in(5)
        persona = dice.choose(self.theirs if is_other else party)
        text = (self.busy if is_other else self.attack).draw(dice)
        times = dice.choose((1, _UNTIL_GENERIC)) if text.is_prepared else 1
        is_seen = not is_other and (self.kinds is None or text.kind in self.kinds)
        return Step(persona, text, is_other, is_seen, times)


def programs(
    world: World, connection: Connection, kinds: frozenset[str] | None = None
) -> st.SearchStrategy[Program]:
    """Programs of 1 to LONGEST steps. With `kinds`, only such steps are compared."""
    oracle = Oracle(world)
    ours = sorted(
        attackers(world),
        key=lambda one: -sum(len(oracle.permissions_in(one, place)) for place in BUSINESSES),
    )
    theirs = [
        one for one in world.cast.personas if is_only_of(one, OTHER) and one.role == "authenticated"
    ]
    with_plans = kinds is not None and "explain" in kinds
    playwright = Playwright(
        Repertoire(world, connection, ATTACK, with_plans=with_plans),
        Repertoire(world, connection, BUSY),
        ours,
        theirs,
        kinds,
    )
    # One draw: where hypothesis sees parts, it mostly repeats them.
    size = SIZE * (1 + LONGEST)
    return st.binary(min_size=size, max_size=size).map(playwright.program)
