"""What exact daily metrics cost when calls are inserted, and what the sixteen slots are for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import pgbench
from bench.comparison import Rates, compare
from bench.environment import Environment, fetch, run_sql

#: Variant and the SQL file that makes it; None is the product as it is.
VARIANTS: dict[str, str | None] = {
    "none": "metrics_none.sql",
    "control": "metrics_none.sql",
    "slots": None,
    "one_slot": "metrics_one_slot.sql",
    "single_row": "metrics_single_row.sql",
}
CLIENTS = (1, 4, 16)

_INSERT = """
insert into public.calls (business_id, channel_id, direction, peer, from_address, to_address,
  status, started_at, answered_at, ended_at, duration_seconds, outcome)
values (bench.business(:n), bench.channel(:n, 'voice'), 'inbound', '+12125550100', '+12125550100',
  '+14155550100', 'completed', now(), now(), now() + interval '1 minute', 60, 'completed');
"""
_SLOW = f"begin;\n{_INSERT}select pg_sleep(0.005);\ncommit;\n"


@dataclass(frozen=True)
class Report:
    """Rates, and the number of days whose metrics differ from recomputation afterwards."""

    rates: list[Rates]
    drift: dict[str, int]


def measure(
    environment: Environment,
    on_rates: Callable[[Rates], None],
    clients: Sequence[int] = CLIENTS,
) -> Report:
    """Insert single calls as the owner, into one business and spread over all of them."""
    databases = {variant: _database(environment, variant) for variant in VARIANTS}
    hot = "\\set n 1\n"
    spread = f"\\set n random(1, {environment.scale.businesses})\n"
    loads = [("one busy business", hot + _INSERT, count) for count in clients]
    loads += [("spread over all businesses", spread + _INSERT, count) for count in clients]
    loads += [("one busy business, transactions of 5 ms", hot + _SLOW, clients[-1])]
    rates = []
    for title, script, count in loads:

        def rate(variant: str, script: str = script, count: int = count) -> float:
            load = pgbench.run(environment, databases[variant], script, clients=count)
            return load.transactions_per_second

        rates.append(compare(title, count, list(VARIANTS), environment.scale.rounds, rate))
        on_rates(rates[-1])
    return Report(rates, {v: _drift(environment, databases[v]) for v in ("slots", "one_slot")})


def _database(environment: Environment, variant: str) -> str:
    name = environment.clone(f"bench_metrics_{variant}")
    if file := VARIANTS[variant]:
        with environment.administer(name) as connection:
            run_sql(connection, file)
    return name


def _drift(environment: Environment, database: str) -> int:
    with environment.administer(database) as connection:
        rows = fetch(connection, "select count(*) from calls")
        if rows == [(0,)]:
            raise RuntimeError(f"{database}: nothing was inserted")
        return int(fetch(connection, "select count(*) from metric_drift")[0][0])
