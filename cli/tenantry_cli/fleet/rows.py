"""The rows of an organization at a home: which tables, copying, comparing, removing.

Everything here works on rows as they are, under `session_replication_role = replica`: no trigger
fires and no foreign key is checked, so `orphans` looks at the references afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from tenantry_cli.fleet.fleet import Connection, FleetError, Home

#: Kept where the records are that it names, though it is a table of the registry.
ACCESS_LISTS = "access_control_lists"

_COLUMNS = """
select c.relname as table_name, array_agg(a.attname::text order by a.attname) as columns,
  array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attname) as types
from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  and c.relname = any (%s) and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
group by c.relname order by c.relname
"""
_PARTITIONS = """
select p.relname as parent, c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bound
from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
where p.relnamespace = %s::regnamespace and p.relkind = 'p' order by c.relname
"""
_REFERENCES = """
select k.conname as name, n.nspname as schema_name, c.relname as table_name,
  array(select a.attname::text from unnest(k.conkey) with ordinality u(number, place)
        join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.place)
    as columns,
  k.confrelid::regclass::text as parent,
  array(select a.attname::text from unnest(k.confkey) with ordinality u(number, place)
        join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number order by u.place)
    as parent_columns
from pg_constraint k join pg_class c on c.oid = k.conrelid
join pg_namespace n on n.oid = c.relnamespace
where k.contype = 'f' and k.conparentid = 0 and not c.relispartition
  and n.nspname = %s and c.relname = any (%s)
order by c.relname, k.conname
"""


# Those that keep no constraint. Partitions have theirs from their parent.
_INDEXES = """
select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %s and c.relname = any (%s) and c.relkind = 'r' and not c.relispartition
  and not i.indisunique
  and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
order by c.relname
"""


@dataclass(frozen=True)
class Table:
    """A table of the tenant plane at one home, and its columns that are stored, not computed."""

    schema: str
    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def column_list(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


@dataclass(frozen=True)
class Partition:
    """A part of a partitioned table; `bound` follows its parent's name in its definition."""

    parent: str
    name: str
    bound: str


@dataclass(frozen=True)
class Digest:
    """What two copies of a table are compared by."""

    rows: int
    #: Sum of a 64-bit hash of each row's text, as a decimal number.
    checksum: str


def tables_at(connection: Connection, home: Home) -> list[Table]:
    """All tables whose rows belong to the organizations at this home."""
    names = [
        row["table_name"]
        for row in connection.execute("select table_name from private.tenant_tables")
    ]
    found = []
    for schema, wanted in ((home.schema, names), ("public", [ACCESS_LISTS])):
        for row in connection.execute(_COLUMNS, (schema, wanted)).fetchall():
            found.append(
                Table(schema, row["table_name"], tuple(row["columns"]), tuple(row["types"]))
            )
    if len(found) != len(names) + 1:
        missing = sorted({*names, ACCESS_LISTS} - {one.name for one in found})
        raise FleetError(f"{home.database}.{home.schema} lacks tables: {', '.join(missing)}")
    return found


def require_same_tables(source: Sequence[Table], target: Sequence[Table]) -> None:
    """Raises FleetError unless both homes have the same tables with the same columns."""
    left = {one.name: one.types for one in source}
    right = {one.name: one.types for one in target}
    different = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
    if different:
        raise FleetError(
            f"the two homes are not at the same migration ({', '.join(different)} differ): "
            "run `tenantry migrate up --all` first"
        )


@contextmanager
def as_they_are(connection: Connection) -> Iterator[None]:
    """One transaction in which rows are written without triggers and checks."""
    with connection.transaction():
        connection.execute("set local session_replication_role = replica")
        yield


@contextmanager
def indexed_afterwards(connection: Connection, tables: Sequence[Table]) -> Iterator[None]:
    """Build the indexes of tables that nobody uses yet after the rows are there, in one go each.

    That takes a third of the time of keeping them up row by row, and members wait for it.
    """
    found = [
        row
        for schema in {table.schema for table in tables}
        for row in connection.execute(
            _INDEXES, (schema, [table.name for table in tables if table.schema == schema])
        ).fetchall()
    ]
    for row in found:
        connection.execute(sql.SQL("drop index {}").format(sql.SQL(row["name"])))
    yield
    for row in found:
        connection.execute(sql.SQL(row["definition"]))


def plain_text(connection: Connection) -> None:
    """Make the text of values the same in every session."""
    connection.execute(
        "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'iso_8601'"
    )


def copy_rows(
    source: Connection,
    target: Connection,
    from_table: Table,
    to_table: Table,
    businesses: Sequence[UUID],
    on_bytes: Callable[[int], None] = lambda size: None,
) -> None:
    """Stream the rows of these businesses from one table into the other."""
    with (
        source.cursor().copy(copy_out(from_table, businesses)) as reader,
        target.cursor().copy(copy_in(to_table.identifier, from_table.columns)) as writer,
    ):
        for block in reader:
            writer.write(block)
            on_bytes(len(block))


def copy_out(table: Table, businesses: Sequence[UUID], form: str = "binary") -> sql.Composed:
    """The COPY that hands out the rows of these businesses. `form` is binary or text."""
    return sql.SQL("copy (select {} from {} where business_id = any ({})) to stdout ({})").format(
        table.column_list(),
        table.identifier,
        sql.Literal(list(businesses)),
        sql.SQL("format " + form),
    )


def copy_in(target: sql.Identifier, columns: Sequence[str], form: str = "binary") -> sql.Composed:
    """The COPY that takes rows with these columns."""
    return sql.SQL("copy {} ({}) from stdin ({})").format(
        target, sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL("format " + form)
    )


def partitions_at(connection: Connection, home: Home) -> list[Partition]:
    """The parts of all partitioned tables of a home."""
    rows = connection.execute(_PARTITIONS, (home.schema,)).fetchall()
    return [Partition(row["parent"], row["name"], row["bound"]) for row in rows]


def same_partitions(source: Connection, target: Connection, here: Home, there: Home) -> None:
    """Give the target the months that the source has, so that old rows find theirs."""
    make_partitions(target, there, partitions_at(source, here))


def make_partitions(target: Connection, there: Home, wanted: Sequence[Partition]) -> None:
    """Make those partitions that a home lacks, protected like the others."""
    known = {one.name for one in partitions_at(target, there)}
    for one in wanted:
        if one.name in known:
            continue
        name = sql.Identifier(there.schema, one.name)
        target.execute(
            sql.SQL("create table {} partition of {} {}").format(
                name, sql.Identifier(there.schema, one.parent), sql.SQL(one.bound)
            )
        )
        for statement in ("enable row level security", "force row level security"):
            target.execute(sql.SQL("alter table {} " + statement).format(name))
        target.execute(
            sql.SQL("revoke all on {} from public, anon, authenticated, service_role").format(name)
        )


def remove_rows(connection: Connection, tables: Sequence[Table], businesses: Sequence[UUID]) -> int:
    """Delete the rows of these businesses; returns how many there were."""
    removed = 0
    for table in tables:
        removed += connection.execute(
            sql.SQL("delete from {} where business_id = any (%s)").format(table.identifier),
            (list(businesses),),
        ).rowcount
    return removed


def count_rows(connection: Connection, table: Table, businesses: Sequence[UUID]) -> int:
    """How many rows of these businesses a table has."""
    row = connection.execute(
        sql.SQL("select count(*) as rows from {} where business_id = any (%s)").format(
            table.identifier
        ),
        (list(businesses),),
    ).fetchone()
    return int(row["rows"]) if row else 0


def digest(connection: Connection, table: Table, businesses: Sequence[UUID]) -> Digest:
    """Count and checksum of the rows of these businesses. Call `plain_text` first."""
    row = connection.execute(
        sql.SQL(
            "select count(*) as rows, "
            "coalesce(sum(hashtextextended(row({})::text, 0)::numeric), 0)::text as checksum "
            "from {} where business_id = any (%s)"
        ).format(table.column_list(), table.identifier),
        (list(businesses),),
    ).fetchone()
    assert row is not None
    return Digest(row["rows"], row["checksum"])


def orphans(
    connection: Connection, tables: Sequence[Table], businesses: Sequence[UUID]
) -> list[str]:
    """References of these rows to rows that are not there, in words; empty when all hold."""
    broken = []
    by_schema: dict[str, list[str]] = {}
    for table in tables:
        by_schema.setdefault(table.schema, []).append(table.name)
    for schema, names in by_schema.items():
        for key in connection.execute(_REFERENCES, (schema, names)).fetchall():
            pairs = list(zip(key["columns"], key["parent_columns"], strict=True))
            query = sql.SQL(
                "select count(*) as rows from {} c where business_id = any (%s) and {} "
                "and not exists (select from {} p where {})"
            ).format(
                sql.Identifier(key["schema_name"], key["table_name"]),
                sql.SQL(" and ").join(
                    sql.SQL("c.{} is not null").format(sql.Identifier(column))
                    for column, _ in pairs
                ),
                sql.SQL(key["parent"]),  # printed by regclass, quoted where needed
                sql.SQL(" and ").join(
                    sql.SQL("p.{} = c.{}").format(sql.Identifier(other), sql.Identifier(column))
                    for column, other in pairs
                ),
            )
            row = connection.execute(query, (list(businesses),)).fetchone()
            if row and row["rows"]:
                broken.append(f"{key['table_name']}.{key['name']}: {row['rows']} rows")
    return broken
