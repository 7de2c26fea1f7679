"""What `tenantry monitor` asks the databases. The answers come from the schema `private`."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from tenantry_cli.fleet.fleet import Connection, Fleet
from tenantry_cli.operations.places import Visited, visit

Row = dict[str, Any]

#: Of the cluster: any database of it gives the same answer.
SIZES = "select * from private.database_sizes()"
CONNECTIONS = "select * from private.connection_usage()"
ACTIVITY = """
  select database_name, schema_name, organization_id::text, active_connections,
    idle_in_transaction, total_connections, attributed_by
  from private.pg_stat_activity_by_schema
  order by total_connections desc, database_name, schema_name
"""
LONG_TRANSACTIONS = "select * from private.long_running_queries(make_interval(secs => %s))"

#: Of one database.
TENANTS = """
  select organization_slug, isolation, database_name, schema_name, state, migration_version,
    businesses, users, customers, conversations, messages, calls, size_bytes, is_size_estimated,
    connections, organization_id::text
  from private.tenant_statistics()
"""
INDEXES = "select * from private.sp_check_index_effectiveness()"
TABLES = "select * from private.sp_analyze_query_performance()"
STATEMENTS_STATE = "select state, remedy from private.statement_statistics_state()"
STATEMENTS = """
  select schema_name, role_name, calls, mean_ms, max_ms, total_ms, row_count, cache_hit_ratio, query
  from private.v_query_performance_monitor
  where database_name = current_database() order by total_ms desc limit %s
"""
BY_TENANT = """
  select schema_name, organization_id::text, query_count, avg_query_time_ms, max_query_time_ms
  from private.query_time_by_tenant()
"""
TENANT_USERS = """
  select organization_slug, email, full_name, roles, businesses, status, user_id::text
  from private.tenant_users(%s)
"""
GROWTH = """
  select organization_slug, since, size_bytes, growth_bytes, growth_rows, growth_percent,
    bytes_in_a_year
  from private.tenant_growth()
"""


def rows_of(connection: Connection, query: str, *values: object) -> list[Row]:
    """The rows of one of these queries."""
    # Our own texts, not input, so they may become SQL.
    return connection.execute(sql.SQL(query), values).fetchall()


def in_each(fleet: Fleet, query: str, *values: object, only: str | None = None) -> Visited:
    """The rows of a query in each database: name -> rows, each beginning with the database."""

    def ask(connection: Connection) -> list[Row]:
        name = connection.info.dbname
        return [{"database": name, **row} for row in rows_of(connection, query, *values)]

    return visit(fleet, ask, only=only)


def together(visited: Visited) -> list[Row]:
    """The rows of all databases."""
    return [row for rows in visited.found.values() for row in rows]
