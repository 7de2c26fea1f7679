"""What a tenant costs in each placement: time to make, disk, memory, and time per request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np

from bench.doors import (
    SERVED_HOMES,
    Latency,
    gateway_doors,
    measure_latencies,
    postgrest_doors,
)
from bench.environment import Environment, PostgREST, fetch, postgrest
from bench.homes import PLACEMENTS, Homes, Resident, as_owner, new_homes, open_home
from bench.memory import Memory, database_mb, memory_of, schema_mb
from bench.reload import Reload, measure_reload
from tenantry_cli.fleet.databases import choose_shelf, ensure_template
from tenantry_cli.fleet.fleet import Home

#: Rows of each tenant, so that a page is a page.
_ROWS = 400

#: As the gateway runs the PostgREST of a place.
_PLACE = {
    "PGRST_DB_PRE_REQUEST": "public.check_request",
    "PGRST_DB_POOL": "4",
    "PGRST_DB_CONFIG": "false",
}


@dataclass(frozen=True)
class Serving:
    """The PostgREST of one placement: the mean of those of tenants' homes."""

    processes: int
    ready_ms: float
    #: Anonymous memory, before the first request and after the last; a schema's after reloads.
    start_mb: float
    used_mb: float


@dataclass(frozen=True)
class Step:
    """With so many tenants of each placement; all figures by placement."""

    tenants: int
    #: Milliseconds of each tenant that was added for this step.
    provision_ms: dict[str, list[float]]
    #: Per tenant: files of the tables alone, and with their entries in the catalog.
    tables_mb: dict[str, float]
    disk_mb: dict[str, float]
    #: Backends that touched every table of every tenant, by placement; idle is one that did not.
    backends: dict[str, list[Memory]]
    idle: Memory
    serving: dict[str, Serving]
    latencies: list[Latency]
    reload: Reload


@dataclass(frozen=True)
class Report:
    """The whole measurement."""

    postgrest: str
    #: Once per installation, and once per shelf.
    template_ms: float
    shelf_ms: float
    steps: list[Step]

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def measure(environment: Environment, on_step: Callable[[Step], None]) -> Report:
    """Grow a fleet step by step, and measure it at each."""
    steps: list[Step] = []
    with new_homes(environment, "bench_cost", max(environment.scale.tenants)) as homes:
        started = perf_counter()
        ensure_template(homes.fleet)
        template_ms = (perf_counter() - started) * 1000
        started = perf_counter()
        shelf = choose_shelf(homes.fleet)
        shelf_ms = (perf_counter() - started) * 1000
        before = {name: _database_mb(environment, name) for name in (homes.fleet.main, shelf)}
        version = ""
        for count in sorted(environment.scale.tenants):
            version, step = _step(homes, shelf, count, before)
            steps.append(step)
            on_step(step)
    return Report(version, template_ms, shelf_ms, steps)


def _step(homes: Homes, shelf: str, count: int, before: dict[str, float]) -> tuple[str, Step]:
    environment = homes.environment
    provision_ms: dict[str, list[float]] = {placement: [] for placement in PLACEMENTS}
    while len(homes.residents[PLACEMENTS[0]]) < count:
        for placement in PLACEMENTS:  # in turn, so that what disturbs one disturbs all
            provision_ms[placement].append(homes.add(placement, _ROWS) * 1000)
    for name in (homes.fleet.main, shelf):
        # As autovacuum would have: PostgREST's questions to a catalog without statistics take long.
        with environment.administer(name) as connection:
            connection.execute("vacuum (analyze)")
    tables_mb, disk_mb = _disk(homes, shelf, before)
    backends = {one: _touched(environment, homes.residents[one]) for one in PLACEMENTS}
    with open_home(environment, homes.residents["pooled"][0].tenant) as connection:
        idle = memory_of(connection.info.backend_pid)
    with ExitStack() as opened:
        servers = _servers(opened, homes)
        starts = {one: [memory_of(s.pid) for s in servers[one]] for one in PLACEMENTS}
        latencies = measure_latencies("PostgREST", homes, postgrest_doors(homes, servers))
        gateway = opened.enter_context(gateway_doors(homes, servers["pooled"][0]))
        if gateway:
            latencies += measure_latencies("gateway", homes, gateway)
        reload = measure_reload(
            environment, shelf, servers["schema"][0], homes.residents["schema"][0]
        )
        serving = {
            one: _serving(servers[one], starts[one], [memory_of(s.pid) for s in servers[one]])
            for one in PLACEMENTS
        }
    version = servers["pooled"][0].version
    return version, Step(
        count, provision_ms, tables_mb, disk_mb, backends, idle, serving, latencies, reload
    )


def _database_mb(environment: Environment, name: str) -> float:
    with environment.administer(name) as connection:
        return database_mb(connection)


def _disk(
    homes: Homes, shelf: str, before: dict[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    environment, residents = homes.environment, homes.residents
    count = len(residents["pooled"])
    main = homes.fleet.main
    pooled = (_database_mb(environment, main) - before[main]) / count
    with environment.administer(shelf) as connection:
        schemas = [schema_mb(connection, one.tenant.home.schema) for one in residents["schema"]]
        on_shelf = (database_mb(connection) - before[shelf]) / count
    tables, whole = [], []
    for one in residents["database"]:
        with environment.administer(one.tenant.home.database) as connection:
            tables.append(schema_mb(connection, one.tenant.home.schema))
            whole.append(database_mb(connection))
    return (
        {"pooled": pooled, "schema": float(np.mean(schemas)), "database": float(np.mean(tables))},
        {"pooled": pooled, "schema": on_shelf, "database": float(np.mean(whole))},
    )


def _touched(environment: Environment, residents: Sequence[Resident]) -> list[Memory]:
    """Memory of the backends, one per database, after a member read every table of each tenant."""
    found = []
    for database in dict.fromkeys(one.tenant.home.database for one in residents):
        here = [one for one in residents if one.tenant.home.database == database]
        with environment.administer(database) as connection:
            tables = fetch(
                connection,
                "select table_name from private.tenant_tables where"
                " has_any_column_privilege('authenticated', 'public.' || table_name, 'select')",
            )
        with open_home(environment, here[0].tenant) as connection:
            for one in here:
                for (table,) in tables:
                    query = f"select business_id from {table} where business_id = %s limit 1"
                    with as_owner(connection, one, one.tenant):
                        connection.execute(query.encode(), (one.business,))
            found.append(memory_of(connection.info.backend_pid))
    return found


def _servers(opened: ExitStack, homes: Homes) -> dict[str, list[PostgREST]]:
    """As the gateway runs them: one for all pooled tenants, one for each schema and database."""
    environment, residents = homes.environment, homes.residents
    pooled = opened.enter_context(postgrest(environment, homes.fleet.main, ["public"]))

    def serve(home: Home) -> PostgREST:
        schemas = list(dict.fromkeys(("public", home.schema)))
        return opened.enter_context(
            postgrest(environment, home.database, schemas, pooled.secret, _PLACE)
        )

    return {
        "pooled": [pooled],
        **{
            placement: [serve(one.tenant.home) for one in residents[placement][:SERVED_HOMES]]
            for placement in PLACEMENTS
            if placement != "pooled"
        },
    }


def _serving(
    servers: Sequence[PostgREST], starts: Sequence[Memory], ends: Sequence[Memory]
) -> Serving:
    return Serving(
        len(servers),
        float(np.mean([one.ready_seconds for one in servers])) * 1000,
        float(np.mean([one.anonymous_mb for one in starts])),
        float(np.mean([one.anonymous_mb for one in ends])),
    )
