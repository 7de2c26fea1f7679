"""The whole matrix once more, with the tenant tables in a schema and in a database of their own.

In the placement `schema`, the schema of each organization on the shelf is attacked in turn; in the
placement `database`, the database of alpha. The personas are everybody: members of the organization
that lives there, of others on the same shelf, and of those who live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tenantry_cli.testing import Database

from .conftest import Stage, set_stage
from .evidence import Evidence
from .people import ALPHA, BETA, GUARDED, MOVING, ORGANIZATIONS, SUSPENDED, Organization
from .places import MOVABLE, Elsewhere, elsewhere
from .test_matrix import PERSONAS, try_cells
from .world import World

SITES = {
    "schema of alpha": ALPHA,
    "schema of beta": BETA,
    "schema of guarded": GUARDED,
    "schema of suspended": SUSPENDED,
    "schema of moving": MOVING,
    "database of alpha": ALPHA,
}


@pytest.fixture(scope="module")
def shelf(
    new_world: Callable[[], tuple[Database, World]], template_database: str
) -> Iterator[Elsewhere]:
    """All organizations of the pooled world on one shelf, which also knows the others."""
    database, world = new_world()
    with elsewhere(database, template_database, world) as one:
        one.move(MOVABLE, "schema")
        for organization in ORGANIZATIONS:
            if organization not in MOVABLE:
                one.send_registry(organization, one.home(ALPHA).database)
        yield one


@pytest.fixture(scope="module")
def own_database(
    new_world: Callable[[], tuple[Database, World]], template_database: str
) -> Iterator[Elsewhere]:
    """Alpha in a database of its own, which knows nobody else."""
    database, world = new_world()
    with elsewhere(database, template_database, world) as one:
        one.move([ALPHA], "database")
        yield one


@pytest.fixture(scope="module")
def stages(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Stage]]:
    """The stage of a site, set when it is first asked for."""
    opened: dict[str, Stage] = {}

    def stage_of(site: str) -> Stage:
        if site not in opened:
            name = "own_database" if site.startswith("database") else "shelf"
            place: Elsewhere = request.getfixturevalue(name)
            opened[site] = _set(place, SITES[site])
        return opened[site]

    yield stage_of
    for stage in opened.values():
        stage.close()


def _set(place: Elsewhere, organization: Organization) -> Stage:
    home, residents = place.home(organization), frozenset({organization})
    place.leave_rows(home, residents)
    return set_stage(place.database(organization), place.world_at(home, residents))


@pytest.mark.parametrize("name", PERSONAS)
@pytest.mark.parametrize("site", SITES)
def test_matrix_elsewhere(
    stages: Callable[[str], Stage], site: str, name: str, evidence: Evidence
) -> None:
    try_cells(stages(site), name, evidence)


@pytest.mark.parametrize("site", ["schema of alpha", "schema of beta", "database of alpha"])
def test_the_others_rows_are_there_to_be_found(stages: Callable[[str], Stage], site: str) -> None:
    world = stages(site).world
    for table in world.specification.tables.values():
        if table.plane == "tenant":
            owners = {row["business_id"] for row in world.rows[table.label].values()}
            everybody = {row["business_id"] for row in world.built[table.label].values()}
            assert owners == everybody, table.label
