"""How far back a rollback goes."""

from __future__ import annotations

from collections.abc import Sequence

from tenantry_cli.migrate.files import Migration, MigrationError


def find_goal(
    applied: Sequence[str],
    migrations: Sequence[Migration],
    *,
    version: str | None = None,
    to: str | None = None,
    steps: int | None = None,
) -> str:
    """The version that stays the newest; `0` takes back everything.

    Args:
        applied: versions that the place has.
        version: take back this one alone; refused while later ones are applied.
        to: take back everything after this one; `0` for everything.
        steps: take back so many of the newest. Without any of the three: one.

    Raises MigrationError.
    """
    if sum(one is not None for one in (version, to, steps)) > 1:
        raise MigrationError("give a version, --to or --steps: only one of them")
    ordered = sorted(applied)
    if to is not None:
        if to != "0" and to not in ordered:
            raise MigrationError(f"{to} is not applied: `tenantry migrate status` lists what is")
        return to
    if version is not None:
        found = [one for one in ordered if one == version or int(one) == int(version or 0)]
        if not found:
            raise MigrationError(
                f"{version} is not applied: `tenantry migrate status` lists what is"
            )
        place = ordered.index(found[0])
        if later := ordered[place + 1 :]:
            names = {one.version: one.label for one in migrations}
            listed = ", ".join(names.get(one, one) for one in later[:3])
            more = f" and {len(later) - 3} more" if len(later) > 3 else ""
            before = ordered[place - 1] if place else "0"
            raise MigrationError(
                f"later migrations are built on {found[0]}: {listed}{more}. Take them back as well "
                f"with `tenantry migrate rollback --to {before}`"
            )
        steps = 1
    count = 1 if steps is None else steps
    if count < 1:
        raise MigrationError("--steps must be 1 or more")
    return ordered[-count - 1] if len(ordered) > count else "0"
