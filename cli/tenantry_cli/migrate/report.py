"""What a run over a fleet is told, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry_cli.migrate.targets import Target


@dataclass(frozen=True)
class Options:
    """How a run goes about it."""

    #: Places worked on at once. Four keep two processor cores busy.
    workers: int = 4
    #: Tenants that go before the others; when one fails, the others are left alone.
    canaries: int = 2
    #: What waits longer for a table in use gives up and is tried again.
    lock_timeout: str = "2s"
    attempts: int = 3
    #: Also apply files older than the newest applied.
    include_all: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one place was left.

    Args:
        state: current, behind or failed; behind also where it was not its turn any more.
        files: what was applied or taken back; in a dry run, what would be.
    """

    target: Target
    state: str
    version: str | None
    files: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


@dataclass
class Report:
    """A whole run."""

    outcomes: list[Outcome] = field(default_factory=list)
    #: Why the rest was left alone.
    stopped: str | None = None
    seconds: float = 0.0

    @property
    def changed(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.files and one.error is None]

    @property
    def failed(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.state == "failed"]
