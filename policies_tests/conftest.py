"""Fixtures of the proof: one world per module, and connections that act as personas."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tenantry_cli.stack.database import Server, clone_database, drop_database
from tenantry_cli.testing import Database

from .api_cells import ApiCells
from .catalog import Connection
from .cell import Cell
from .cells import CellFactory
from .evidence import Evidence, handed_over, proof_directory, rate_of_cells, write_run
from .people import TELLING, Persona
from .specification import Specification, load_specification
from .world import World, build_world


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite policies_tests/expected/ from the database; review the difference",
    )
    parser.addoption(
        "--all-mutants",
        action="store_true",
        help="try every mutant and print what noticed it (minutes) instead of a sample",
    )
    parser.addoption(
        "--full-proof",
        action="store_true",
        help="every trial, example and mutant instead of a sample (minutes)",
    )
    parser.addoption(
        "--fuzz-seed",
        type=int,
        help="the seed of generated programs; a --full-proof run without it draws one",
    )


#: Site -> the personas of the ordinary run: the pooled matrix has tried the others' rights.
_ORDINARY_ELSEWHERE = {
    "schema of alpha": {
        "owner", "sales_rep", "dual", "other owner", "portal", "key of rep", "service_role",
        "integrator",
    },
    "schema of beta": {"dual", "service_role"},
    "schema of moving": {"owner of moving"},
    "database of alpha": {"owner", "staff", "other owner", "service_role"},
}  # fmt: skip
#: One for each kind of rule that can decide.
_EXPLAINED = {
    "owner", "sales_rep", "manager", "department manager", "record denied", "shared with",
    "guarded aal1", "guarded aal2", "key of rep", "portal", "dual", "removed owner",
    "ended session", "owner of moved", "stranger",
}  # fmt: skip
#: Of tests with many long cases, the ordinary run tries those that differ most, or a share.
_ORDINARY: dict[str, Callable[[dict[str, Any]], bool]] = {
    "test_matrix": lambda case: case.get("name") in TELLING,
    "test_matrix_elsewhere": lambda case: (
        case.get("name") in _ORDINARY_ELSEWHERE.get(case.get("site", ""), ())
    ),
    "test_the_verdict_is_what_happens": lambda case: case.get("name") in _EXPLAINED,
    "test_what_the_caller_is_told_about_itself": lambda case: case.get("name") in TELLING,
    "test_ranks": lambda case: case.get("name") in ("admin", "only members.write"),
    # That the harness sees the fault: of every fourth race, by the letters of its name.
    "test_the_naive_version_loses": lambda case: sum(map(ord, case["race"].name)) % 4 == 0,
}
_EVIDENCE = pytest.StashKey[Evidence]()


@pytest.fixture(scope="session")
def evidence(pytestconfig: pytest.Config, database_server: Server) -> Evidence:
    seen = pytestconfig.stash.setdefault(_EVIDENCE, Evidence())
    with database_server.administer("postgres") as connection:
        seen.postgres = str(connection.info.parameter_status("server_version"))
    return seen


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist the tests run in workers, which hand over what they tried."""
    output = getattr(session.config, "workeroutput", None)
    seen = session.config.stash.get(_EVIDENCE, None)
    if seen is None:
        return
    if output is not None:
        output["isolation"] = handed_over(seen)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist: a worker is done."""
    if tried := getattr(node, "workeroutput", {}).get("isolation"):
        node.config.stash.setdefault(_EVIDENCE, Evidence()).add(tried)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    seen = config.stash.get(_EVIDENCE, None)
    if seen is None:
        return
    if directory := proof_directory():
        seen.write(directory)
        write_run(directory, terminalreporter.stats, is_full=config.getoption("--full-proof"))
    if seen.cells:
        rate = rate_of_cells(seen.cells, seen.seconds, seen.processes)
        terminalreporter.write_line(f"isolation: {seen.cells:,} cells; {rate}")
        of_each = ", ".join(f"{name} {count:,}" for name, count in seen.placements.most_common())
        terminalreporter.write_line(f"isolation: cells per placement: {of_each}")
    if seen.mutants:
        by = ", ".join(f"{name} {count}" for name, count in seen.mutants.most_common())
        terminalreporter.write_line(f"isolation: {seen.mutants.total()} mutants, noticed by: {by}")
    if seen.races:
        count = sum(one.get("trials", 0) for one in seen.races.values())
        terminalreporter.write_line(f"isolation: {len(seen.races)} races, {count:,} trials")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The ordinary run has a sample of each kind of mutant, and the personas who differ most."""
    is_full = config.getoption("--full-proof", default=False)
    unwanted = (
        "test_a_sample_of_mutants_is_noticed"
        if is_full or config.getoption("--all-mutants", default=False)
        else "test_every_mutant_is_noticed"
    )

    def is_wanted(item: pytest.Item) -> bool:
        if item.name == unwanted:
            return False
        ordinary = _ORDINARY.get(item.name.partition("[")[0])
        # Asked for by name (-k), every case runs.
        if is_full or ordinary is None or config.option.keyword:
            return True
        callspec = getattr(item, "callspec", None)
        return callspec is None or ordinary(callspec.params)

    deselected = [item for item in items if not is_wanted(item)]
    if deselected and len(deselected) < len(items):
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if is_wanted(item)]


@pytest.fixture(scope="session")
def fuzz_seed(pytestconfig: pytest.Config) -> int:
    """What generated programs start from: fixed in the ordinary run, which repeats itself."""
    given = pytestconfig.getoption("--fuzz-seed")
    if given is not None:
        return int(given)
    return secrets.randbelow(2**32) if pytestconfig.getoption("--full-proof") else 0


@pytest.fixture(scope="session")
def specification() -> Specification:
    return load_specification()


@dataclass
class Stage:
    """A database with the world in it, and one connection per login."""

    database: Database
    world: World
    cells: dict[str, list[Cell]]
    service_cells: dict[str, list[Cell]]
    _connections: dict[str, Connection]

    def connection(self, login: str) -> Connection:
        """The test rolls back what it did on it."""
        if login not in self._connections:
            self._connections[login] = self.database.connect(login)
        return self._connections[login]

    def connection_of(self, persona: Persona) -> Connection:
        return self.connection(persona.login)

    def cells_of(self, persona: Persona) -> dict[str, list[Cell]]:
        """The cells for a persona: service_role may set more columns than a client."""
        return self.service_cells if persona.role == "service_role" else self.cells

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def set_stage(database: Database, world: World) -> Stage:
    """A stage for a world that is in the database already."""
    owner = database.connect()
    tables, api = CellFactory(world, owner), ApiCells(world, owner)
    stage = Stage(
        database,
        world,
        {**tables.cells(for_service=False), **api.cells(for_service=False)},
        {**tables.cells(for_service=True), **api.cells(for_service=True)},
        {"postgres": owner},
    )
    owner.rollback()
    return stage


@pytest.fixture(scope="session")
def new_world(
    new_database: Callable[[], Database], specification: Specification
) -> Iterator[Callable[[], tuple[Database, World]]]:
    """Call it for a database with the world in it: built once, then copied."""
    original = new_database()
    with original.connect() as connection:
        world = build_world(connection, specification)
    copies: list[Database] = []

    def create() -> tuple[Database, World]:
        copy = Database(original.server, f"tenantry_test_world_{secrets.token_hex(4)}")
        clone_database(original.server, original.name, copy.name)
        copies.append(copy)
        with copy.connect() as connection:  # a copy is home to nobody until the registry says so
            connection.execute(
                "update public.organization_placements set database_name = current_database()"
                " where database_name = %s",
                [original.name],
            )
        return copy, world

    yield create
    for copy in copies:
        drop_database(copy.server, copy.name)


@pytest.fixture(scope="session")
def stage(new_world: Callable[[], tuple[Database, World]]) -> Iterator[Stage]:
    """The world, for reading and for changes that are taken back; nobody commits here."""
    stage = set_stage(*new_world())
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture
def owner(stage: Stage) -> Iterator[Connection]:
    """The owner's connection, in a transaction that is rolled back after the test."""
    connection = stage.connection("postgres")
    yield connection
    connection.rollback()


@pytest.fixture(scope="session")
def catalog_connection(new_database: Callable[[], Database]) -> Iterator[Connection]:
    """The owner in a migrated database without rows, for what is only about the catalog."""
    with new_database().connect() as connection:
        yield connection
        connection.rollback()
