"""Fixtures of the proof: one world per module, and connections that act as personas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tenantry_cli.testing import Database

from .api_cells import ApiCells
from .catalog import Connection
from .cells import Cell, CellFactory
from .people import Persona
from .specification import Specification, load_specification
from .world import World, build_world


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite policies_tests/expected/ from the database; review the difference",
    )


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


@pytest.fixture(scope="session")
def stage(new_database: Callable[[], Database], specification: Specification) -> Iterator[Stage]:
    """The world, for reading and for changes that are taken back; nobody commits here."""
    database = new_database()
    owner = database.connect()
    world = build_world(owner, specification)
    tables, api = CellFactory(world, owner), ApiCells(world, owner)
    stage = Stage(
        database,
        world,
        {**tables.cells(for_service=False), **api.cells(for_service=False)},
        {**tables.cells(for_service=True), **api.cells(for_service=True)},
        {"postgres": owner},
    )
    owner.rollback()
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
