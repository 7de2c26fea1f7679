"""What the row triggers of a tenant table cost: guard, audit, and all of them together."""

from __future__ import annotations

from collections.abc import Callable

from bench import pgbench
from bench.comparison import Rates, compare
from bench.environment import Environment

_ROWS = 2_000

#: Which triggers of `customers` stay on; foreign keys always do.
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "control": (),
    "guard": ("_010_guard",),
    "guard_audit": ("_010_guard", "_900_audit", "_900_audit_update"),
    "all": ("user",),
}
_INSERT = """
insert into public.customers (business_id, first_name, last_name, source, metric_date, created_at)
values (bench.business(1), 'Ana', 'Miller', 'api', current_date, now());
"""
# A column without an index, so that the row triggers are not lost in index maintenance.
_UPDATE = f"""
\\set n random(1, {_ROWS})
update public.customers
set lifecycle_stage = case lifecycle_stage when 'lead' then 'customer' else 'lead' end
where business_id = bench.business(1) and id = bench.id_of(8, :n);
"""


def measure(environment: Environment, on_rates: Callable[[Rates], None]) -> list[Rates]:
    """Insert and update single customers as the owner, on one connection."""
    database = environment.clone("bench_triggers")
    with environment.administer(database) as connection:
        connection.execute(
            "insert into public.customers (business_id, id, first_name, metric_date)"
            " select bench.business(1), bench.id_of(8, n), 'Ana', current_date"
            f" from generate_series(1, {_ROWS}) n".encode()
        )
        connection.execute("vacuum (analyze)")
    rates = []
    for title, script in (("insert one customer", _INSERT), ("update one customer", _UPDATE)):

        def rate(variant: str, script: str = script) -> float:
            _enable(environment, database, VARIANTS[variant])
            load = pgbench.run(environment, database, script, clients=1)
            return load.transactions_per_second

        rates.append(compare(title, 1, list(VARIANTS), environment.scale.rounds, rate))
        on_rates(rates[-1])
    return rates


def _enable(environment: Environment, database: str, triggers: tuple[str, ...]) -> None:
    with environment.administer(database) as connection:
        connection.execute("alter table public.customers disable trigger user")
        for trigger in triggers:
            connection.execute(f"alter table public.customers enable trigger {trigger}".encode())
