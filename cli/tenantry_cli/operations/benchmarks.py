"""The queries that everybody uses, measured: as a member under row security and as the owner."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from psycopg import sql

from tenantry_cli.errors import TenantryError
from tenantry_cli.fleet.fleet import Connection

Row = dict[str, Any]

#: Member and owner take turns so many times.
_BLOCKS = 5
#: Executions of each turn that are not counted: the plan is made anew when the role changes.
_WARM_UP = 2


@dataclass(frozen=True)
class Query:
    """A named query about one business. `table` is the one whose rows are counted."""

    name: str
    table: str
    text: str


#: The schema of the business is on the search path. Renaming one ends its history.
QUERIES = (
    Query(
        "customers_newest",
        "customers",
        "select * from customers where business_id = %(business)s"
        " order by created_at desc limit 50",
    ),
    Query(
        "customers_count",
        "customers",
        "select count(*) from customers where business_id = %(business)s",
    ),
    Query(
        "customers_by_name",
        "customers",
        "select id, first_name, last_name from customers where business_id = %(business)s"
        " and last_name ilike 'm%%' order by last_name limit 20",
    ),
    Query(
        "conversations_open",
        "conversations",
        "select * from conversations where business_id = %(business)s and status = 'open'"
        " order by last_message_at desc nulls last limit 50",
    ),
    Query(
        "messages_newest",
        "messages",
        "select * from messages where business_id = %(business)s order by created_at desc limit 50",
    ),
    Query(
        "calls_newest",
        "calls",
        "select * from calls where business_id = %(business)s order by started_at desc limit 50",
    ),
    Query(
        "calls_by_customer",
        "calls",
        "select customer_id, count(*) from calls where business_id = %(business)s"
        " group by customer_id order by 2 desc limit 20",
    ),
    Query(
        "metrics_of_a_month",
        "daily_metric_slots",
        "select * from daily_metrics where business_id = %(business)s"
        " and metric_date > current_date - 30",
    ),
)

#: A member who may read everything that is measured, in the business asked for or the largest one.
_SUBJECT = """
  select b.id as business_id, b.slug::text as slug, m.user_id, d.schema_name
  from public.businesses b
  join private.business_directory d on d.business_id = b.id and d.is_readable
    and d.database_name = current_database()
  join lateral (
    select m.user_id from public.business_memberships m
    join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
    join public.roles r on r.id = mr.role_id and r.code in ('owner', 'admin')
    where m.business_id = b.id and m.status = 'active'
    order by r.rank desc, m.user_id limit 1) m on true
  where %(business)s::text is null or %(business)s in (b.slug::text, b.id::text)
"""
_RECORD = """
  insert into private.performance_benchmarks
    (run_id, name, role, with_rls, schema_name, row_count, executions, p50_ms, p95_ms, plan_hash,
     server_version)
  values (%(run_id)s, %(name)s, %(role)s, %(with_rls)s, %(schema_name)s, %(row_count)s,
    %(executions)s, %(p50_ms)s, %(p95_ms)s, %(plan_hash)s, current_setting('server_version'))
"""
_LAST = """
  select b.name, b.with_rls, b.p50_ms, b.plan_hash, b.row_count
  from private.performance_benchmarks b
  where b.run_id = (
    select r.run_id from private.performance_benchmarks r
    where r.run_id <> %s and r.schema_name = %s order by r.taken_at desc limit 1)
"""


def run_benchmarks(
    connection: Connection, *, business: str | None = None, executions: int = 30
) -> list[Row]:
    """Measure every query and record it in `private.performance_benchmarks`.

    Returns what was recorded. Raises TenantryError when there is no business to measure in.
    """
    subject = _subject(connection, business)
    schema = sql.Identifier(subject["schema_name"])
    counts = {
        table: _count(connection, subject["schema_name"], table)
        for table in {query.table for query in QUERIES}
    }
    run_id, measured = uuid4(), []
    values = {"business": subject["business_id"]}
    for query in QUERIES:
        # In turns, so that whatever else the machine does is spread over both.
        times: dict[bool, list[float]] = {True: [], False: []}
        plans: dict[bool, tuple[str, str]] = {}
        for block in range(_BLOCKS):
            share = executions * (block + 1) // _BLOCKS - executions * block // _BLOCKS
            for with_rls, taken in times.items():
                with _acting(connection, schema, subject["user_id"] if with_rls else None) as role:
                    taken += _times(connection, query, values, share)
                    if with_rls not in plans:
                        plans[with_rls] = role, _plan_hash(connection, query, values)
        for with_rls, taken in times.items():
            role, plan_hash = plans[with_rls]
            measured.append({
                "name": query.name, "role": role, "with_rls": with_rls,
                "row_count": counts[query.table],
                "p50_ms": round(statistics.median(taken), 3),
                "p95_ms": round(statistics.quantiles(taken, n=20, method="inclusive")[18], 3),
                "plan_hash": plan_hash, "executions": executions,
                "schema_name": subject["schema_name"], "run_id": str(run_id),
            })  # fmt: skip
    with connection.transaction():
        for row in measured:
            connection.execute(_RECORD, row)
    return measured


def compare_with_last(connection: Connection, measured: list[Row], slower: float) -> list[Row]:
    """The rows with the median before, the ratio, and a verdict.

    `slower`: more than so many times the median of the run before, by which time and plan are
    judged: slower, plan changed, same, or new.
    """
    before = {
        (row["name"], row["with_rls"]): row
        for row in connection.execute(
            _LAST, (measured[0]["run_id"], measured[0]["schema_name"])
        ).fetchall()
    }
    compared = []
    for row in measured:
        last = before.get((row["name"], row["with_rls"]))
        ratio = None
        verdict = "new"
        if last is not None:
            # Below a hundredth of a millisecond the clock is measured, not the query.
            ratio = round(row["p50_ms"] / max(float(last["p50_ms"]), 0.01), 2)
            changed = row["plan_hash"] != last["plan_hash"]
            verdict = "slower" if ratio > slower else "plan changed" if changed else "same"
        compared.append({
            "name": row["name"], "with_rls": row["with_rls"], "row_count": row["row_count"],
            "p50_ms": row["p50_ms"], "p95_ms": row["p95_ms"],
            "p50_before_ms": None if last is None else float(last["p50_ms"]),
            "rows_before": None if last is None else last["row_count"],
            "ratio": ratio, "plan_hash": row["plan_hash"], "verdict": verdict,
        })  # fmt: skip
    return compared


def _subject(connection: Connection, business: str | None) -> Row:
    found = connection.execute(_SUBJECT, {"business": business}).fetchall()
    if not found:
        asked = "no business" if business is None else f"no business {business!r}"
        raise TenantryError(
            f"{asked} with an owner or admin is at home in {connection.info.dbname}: name another "
            "with --business or --database"
        )
    return max(found, key=lambda one: (_rows_of(connection, one), one["slug"]))


def _rows_of(connection: Connection, subject: Row) -> int:
    query = sql.SQL("select count(*) as count from {} where business_id = %s").format(
        sql.Identifier(subject["schema_name"], "customers")
    )
    row = connection.execute(query, (subject["business_id"],)).fetchone()
    assert row is not None
    return int(row["count"])


def _count(connection: Connection, schema: str, table: str) -> int:
    row = connection.execute(
        "select private.get_table_count(%s, %s) as count", (schema, table)
    ).fetchone()
    assert row is not None
    return int(row["count"])


@contextmanager
def _acting(connection: Connection, schema: sql.Identifier, user_id: Any) -> Iterator[str]:
    """A transaction as the member, or without one as the owner. Gives the role's name."""
    with connection.transaction(force_rollback=True):
        connection.execute(
            sql.SQL("set local search_path = {}, extensions, pg_temp").format(schema)
        )
        if user_id is not None:
            claims = json.dumps({"sub": str(user_id), "role": "authenticated", "aal": "aal2"})
            connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
            connection.execute("set local role authenticated")
            # What requests have: a setting of the role, which SET ROLE does not bring.
            connection.execute("set local plan_cache_mode = force_generic_plan")
        row = connection.execute("select current_user as role").fetchone()
        assert row is not None
        yield str(row["role"])


def _times(
    connection: Connection, query: Query, values: Mapping[str, Any], executions: int
) -> list[float]:
    """Milliseconds of each execution as the client sees them, after some that warm up."""
    times = []
    for number in range(_WARM_UP + executions):
        started = time.perf_counter()
        connection.execute(query.text.encode(), values, prepare=True).fetchall()
        if number >= _WARM_UP:
            times.append((time.perf_counter() - started) * 1000)
    return times


def _plan_hash(connection: Connection, query: Query, values: Mapping[str, Any]) -> str:
    # As a prepared statement, because the plan then is the one that requests get.
    text = query.text.replace("%(business)s", "$1").replace("%%", "%")
    connection.execute(f"prepare benchmark_query (uuid) as {text}".encode())
    explained = sql.SQL("explain (format json, costs off) execute benchmark_query ({})")
    row = connection.execute(explained.format(sql.Literal(str(values["business"])))).fetchone()
    connection.execute("deallocate benchmark_query")
    assert row is not None
    shape = json.dumps(_shape(row["QUERY PLAN"][0]["Plan"]), sort_keys=True)
    return hashlib.sha256(shape.encode()).hexdigest()[:16]


def _shape(node: Mapping[str, Any]) -> dict[str, Any]:
    """What stays the same while the plan does: no values, costs or names of partitions."""
    kept = {
        name: node[name]
        for name in ("Node Type", "Relation Name", "Index Name", "Join Type", "Strategy",
                     "Parent Relationship", "Scan Direction")
        if name in node
    }  # fmt: skip
    return {**kept, "Plans": [_shape(one) for one in node.get("Plans", ())]}
