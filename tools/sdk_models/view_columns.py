"""Which columns of a view can be null, and which table column each one shows.

The catalog does not say, but the stored query does: every expression is a tree of nodes, and since
Postgres 16 a column reference lists the outer joins that can turn it into null (`varnullingrels`).
Whatever is not understood here counts as nullable, which no row contradicts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

#: Table or view, and column number.
Origin = tuple[int, int]
Node = dict[str, Any]

_TOKEN = re.compile(r"[(){}]|(?:\\.|[^\s(){}\\])+", re.DOTALL)

#: RTEKind of Postgres' parsenodes.h, as the tree writes it.
_RANGE_KINDS = {"0": "relation", "1": "subquery", "2": "join", "6": "cte", "9": "group"}
#: oids of pg_catalog.count(any) and count(*); fixed in pg_proc.dat.
_COUNT_FUNCTIONS = {"2147", "2803"}
#: Aggregates that give null only when there was no value at all.
_VALUE_AGGREGATES = ("sum", "min", "max", "avg", "bool_and", "bool_or", "array_agg")
#: boolean, integers, floats, numeric: their operators give null for null only.
_PLAIN_TYPES = {"16", "20", "21", "23", "700", "701", "1700"}
_EXISTS, _ARRAY = "0", "6"


def view_columns(
    connection: psycopg.Connection[Any], views: set[int], table_not_null: Callable[[Origin], bool]
) -> dict[Origin, tuple[bool, Origin | None]]:
    """For each column of the views: whether it is never null, and the table column it shows."""
    if connection.info.server_version < 160000:
        raise RuntimeError(
            "Postgres 16 or newer is needed: older ones do not say what can be null."
        )
    queries = {
        view: parse(tree)[0][0]
        for view, tree in connection.execute(
            "select ev_class::bigint, ev_action::text from pg_rewrite"
            " where rulename = '_RETURN' and ev_class = any(%s)",
            (sorted(views),),
        ).fetchall()
    }
    aggregates = connection.execute(
        "select oid::text from pg_proc where pronamespace = 'pg_catalog'::regnamespace"
        " and prokind = 'a' and proname = any(%s)",
        (list(_VALUE_AGGREGATES),),
    ).fetchall()
    tracer = _Tracer(queries, table_not_null, frozenset(oid for (oid,) in aggregates))
    return {
        (view, number): tracer.column(query, number)
        for view, query in queries.items()
        for number, target in enumerate(query["targetList"], start=1)
        if target["resjunk"] == "false"
    }


@dataclass(frozen=True)
class _Tracer:
    queries: dict[int, Node]
    table_not_null: Callable[[Origin], bool]
    value_aggregates: frozenset[str]

    def column(self, query: Node, number: int) -> tuple[bool, Origin | None]:
        if query["setOperations"] != "<>":  # a union: null where any branch is
            branches = [
                self.column(_inner(query, r["subquery"]), number)
                for r in query["rtable"]
                if r["rtekind"] == "1"
            ]
            return all(not_null for not_null, _ in branches), None
        return self.trace(query, query["targetList"][number - 1]["expr"])

    def trace(self, query: Node, node: Any) -> tuple[bool, Origin | None]:
        if not isinstance(node, dict):
            return False, None
        kind = node["kind"]
        if kind == "VAR":
            return self._variable(query, node)
        if kind in ("RELABELTYPE", "COERCEVIAIO"):
            return self.trace(query, node["arg"])
        if kind == "COALESCEEXPR":
            traced = [self.trace(query, argument) for argument in node["args"]]
            return any(not_null for not_null, _ in traced), traced[0][1]
        return self._never_null(query, node, kind), None

    def _never_null(self, query: Node, node: Node, kind: str) -> bool:
        match kind:
            case "CONST":
                return bool(node["constisnull"] == "false")
            case "AGGREF":
                return node["aggfnoid"] in _COUNT_FUNCTIONS or self._group_value(query, node)
            case "NULLTEST" | "BOOLEANTEST" | "DISTINCTEXPR" | "ARRAYEXPR" | "ROWEXPR":
                return True
            case "FUNCEXPR":  # casts only: other functions may return null as they like
                return node["funcformat"] != "0" and self._all(query, node["args"])
            case "OPEXPR":
                return node["opresulttype"] in _PLAIN_TYPES and self._all(query, node["args"])
            case "BOOLEXPR":
                return self._all(query, node["args"])
            case "CASEEXPR":
                results = [when["result"] for when in node["args"]]
                return self._all(query, [*results, node["defresult"]])
            case "SUBLINK":
                return node["subLinkType"] in (_EXISTS, _ARRAY) or self._one_row(query, node)
        return False

    def _all(self, query: Node, nodes: Iterable[Any]) -> bool:
        return all(self.trace(query, node)[0] for node in nodes)

    def _group_value(self, query: Node, node: Node) -> bool:
        """A group has at least one row, so its sum of values that are never null is not null."""
        is_group = query["groupClause"] != "<>" and query["groupingSets"] == "<>"
        if (
            not is_group
            or node["aggfilter"] != "<>"
            or node["aggfnoid"] not in self.value_aggregates
        ):
            return False
        return self._all(query, [argument["expr"] for argument in node["args"]])

    def _one_row(self, query: Node, sublink: Node) -> bool:
        """A subquery that aggregates without grouping always gives a row."""
        inner = _inner(query, sublink["subselect"])
        grouped = inner["groupClause"] != "<>" or inner["havingQual"] != "<>"
        return inner["hasAggs"] == "true" and not grouped and self.column(inner, 1)[0]

    def _variable(self, query: Node, node: Node) -> tuple[bool, Origin | None]:
        query = _outer(query, int(node["varlevelsup"]))
        nulled = len(node["varnullingrels"]) > 1  # `(b)` is the empty set
        source, number = query["rtable"][int(node["varno"]) - 1], int(node["varattno"])
        not_null, origin = self._source(query, source, number) if number > 0 else (False, None)
        return not_null and not nulled, origin

    def _source(self, query: Node, source: Node, number: int) -> tuple[bool, Origin | None]:
        match _RANGE_KINDS.get(source["rtekind"]):
            case "relation":
                relation = int(source["relid"])
                if relation in self.queries:
                    return self.column(self.queries[relation], number)
                return self.table_not_null((relation, number)), (relation, number)
            case "subquery":
                return self.column(_inner(query, source["subquery"]), number)
            case "join":
                return self.trace(query, source["joinaliasvars"][number - 1])
            case "group":
                return self.trace(query, source["groupexprs"][number - 1])
            case "cte" if source["self_reference"] == "false":
                owner = _outer(query, int(source["ctelevelsup"]))
                for cte in owner["cteList"]:
                    if cte["ctename"] == source["ctename"]:
                        return self.column(_inner(owner, cte["ctequery"]), number)
        return False, None


def _inner(query: Node, child: Node) -> Node:
    """A query inside another one, which it may refer to."""
    child["outer"] = query
    return child


def _outer(query: Node, levels: int) -> Node:
    for _ in range(levels):
        query = query["outer"]
    return query


def parse(tree: str) -> list[Any]:
    """A `pg_node_tree` as lists and dictionaries: `kind` is the node's name, scalars stay text."""
    return _items(iter(_TOKEN.findall(tree)), end=None)


def _items(words: Iterator[str], end: str | None) -> list[Any]:
    items: list[Any] = []
    for word in words:
        if word == end:
            break
        items.append(_item(word, words))
    return items


def _item(word: str, words: Iterator[str]) -> Any:
    if word == "(":
        return _items(words, ")")
    if word == "{":
        return _node(words)
    return word


def _node(words: Iterator[str]) -> Node:
    node: Node = {"kind": next(words)}
    name = ""
    values: list[Any] = []
    for word in words:
        if word == "}" or word.startswith(":"):
            if name:
                node[name] = values[0] if len(values) == 1 else values
            if word == "}":
                break
            name, values = word[1:], []
        else:
            values.append(_item(word, words))
    return node
