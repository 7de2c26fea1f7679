"""The query shapes of the API, and who sends them.

Each shape is sent by four roles in the same words but for one alias: a prepared statement that
roles take turns on would be planned again at each turn (its plan depends on row security), and in
production they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.client import Request
from bench.environment import Connection, Environment, PostgREST, fetch

#: Role, and the alias that keeps its prepared statements its own.
VARIANTS = {
    "rls": ("authenticated", "k0"),
    "baseline": ("bench_baseline", "k1"),
    "control": ("bench_control", "k2"),
    "plain": ("bench_plain", "k3"),
}
_INSERTED_ROWS = 1000
_SAMPLED_ROWS = 200


@dataclass(frozen=True)
class Persona:
    """A member, and the business whose rows are asked for. `person` is a row of bench.members."""

    name: str
    title: str
    person: int
    business: int


PERSONAS = (
    Persona("small", "member of 1 small business", 1, 40),
    Persona("large", "member of the largest business", 2, 1),
    Persona("five", "member of 5 businesses", 3, 40),
    Persona("many", "member of 200 businesses", 4, 40),
)


@dataclass(frozen=True)
class Target:
    """What the requests of one persona are about."""

    business: str
    customers: Sequence[str]
    names: Sequence[str]

    def customer(self, turn: int) -> str:
        return self.customers[turn % len(self.customers)]

    def name(self, turn: int) -> str:
        return self.names[turn % len(self.names)]


@dataclass(frozen=True)
class Call:
    """A request but for who sends it."""

    method: str
    path: str
    prefer: str = ""
    body: object = None


@dataclass(frozen=True)
class Shape:
    """One kind of request. `call` gets the target, a turn number and the alias of the variant."""

    name: str
    title: str
    call: Callable[[Target, int, str], Call]
    writes: bool = False
    #: Heavy enough to be measured on one connection only.
    heavy: bool = False
    #: The baseline calls a function of its own schema, which checks nothing.
    own_schema: bool = False


def _read(table: str, select: str, rest: str, prefer: str = "") -> Callable[..., Call]:
    def call(target: Target, turn: int, alias: str) -> Call:
        path = f"/{table}?select={alias}:id,{select}&business_id=eq.{target.business}&{rest}"
        return Call("GET", path.format(id=target.customer(turn)), prefer)

    return call


def _metrics(target: Target, turn: int, alias: str) -> Call:
    path = f"/daily_metrics?select={alias}:metric_date,metric,value&dimension=eq.business"
    return Call(
        "GET", f"{path}&business_id=eq.{target.business}&order=metric_date.desc,metric&limit=100"
    )


def _search(target: Target, turn: int, alias: str) -> Call:
    body = {"business_id": target.business, "query": target.name(turn)}
    columns = f"{alias}:id,display_name,primary_phone,primary_email"
    return Call("POST", f"/rpc/search_customers?select={columns}", body=body)


def _new_customer(target: Target, turn: int) -> dict[str, object]:
    return {
        "business_id": target.business,
        "first_name": "Bench",
        "last_name": f"Customer {turn}",
        "source": "api",
    }


def _insert_one(target: Target, turn: int, alias: str) -> Call:
    path = f"/customers?select={alias}:id,display_name,created_at"
    return Call("POST", path, "return=representation", _new_customer(target, turn))


def _insert_many(target: Target, turn: int, alias: str) -> Call:
    # No alias, because nothing is returned: planning once more is nothing beside a thousand rows.
    rows = [_new_customer(target, turn * _INSERTED_ROWS + n) for n in range(_INSERTED_ROWS)]
    return Call("POST", "/customers", "return=minimal", rows)


def _update_one(target: Target, turn: int, alias: str) -> Call:
    path = f"/customers?select={alias}:id,notes&business_id=eq.{target.business}"
    body = {"notes": f"Note {turn} {alias}"}  # each variant changes it
    return Call("PATCH", f"{path}&id=eq.{target.customer(turn)}", "return=representation", body)


_NEWEST = "order=created_at.desc,id.desc&limit=50"
_LATEST = "order=last_message_at.desc.nullslast,id.desc&limit=50"
_LIST = "display_name,primary_phone,primary_email,lifecycle_stage,tags,created_at"

SHAPES = (
    Shape("page", "page of 50 customers, newest first", _read("customers", _LIST, _NEWEST)),
    Shape("point", "one customer by id, all columns", _read("customers", "*", "id=eq.{id}")),
    Shape(
        "count",
        "exact count of a business's customers",
        _read("customers", "created_at", "order=created_at.desc,id.desc&limit=1", "count=exact"),
    ),
    Shape("search", "search_customers() by name", _search, own_schema=True),
    Shape(
        "embed_contact_points",
        "page of 50 customers with contact points",
        _read("customers", "display_name,contact_points(kind,normalized,is_primary)", _NEWEST),
    ),
    Shape(
        "embed_messages",
        "page of 50 conversations with messages",
        _read("conversations", "peer,status,messages(direction,body,occurred_at)", _LATEST),
    ),
    Shape(
        "customer_summary",
        "page of 50 of view customer_summary",
        _read("customer_summary", "display_name,call_count,message_count,last_call_at", _NEWEST),
    ),
    Shape(
        "conversation_threads",
        "page of 50 of view conversation_threads",
        _read("conversation_threads", "subject,customer_name,channel_name,unread_count", _LATEST),
    ),
    Shape("daily_metrics", "100 figures of view daily_metrics", _metrics),
    Shape("update_one", "update of one customer by id", _update_one, writes=True),
    Shape("insert_one", "insert of one customer", _insert_one, writes=True),
    Shape("insert_1000", "insert of 1,000 customers", _insert_many, writes=True, heavy=True),
)


def find_target(connection: Connection, persona: Persona) -> Target:
    """The business of a persona, and rows of it to ask for, the same in every run."""
    rows = fetch(
        connection,
        """
        select business_id::text, id::text, lower(display_name) from public.customers
        where business_id = bench.business(%s) order by md5(primary_phone) limit %s
        """,
        (persona.business, _SAMPLED_ROWS),
    )
    return Target(rows[0][0], [row[1] for row in rows], [row[2] for row in rows])


class Sender:
    """Makes the requests of one persona as one variant."""

    def __init__(self, server: PostgREST, variant: str, user: str, target: Target) -> None:
        self.variant = variant
        self.target = target
        role, self.alias = VARIANTS[variant]
        self._token = server.token(role, user)

    def request(self, shape: Shape, turn: int, *, accept: str = "application/json") -> Request:
        """The request of this turn; the same turn asks for the same rows in every variant."""
        call = shape.call(self.target, turn, self.alias)
        schema = "bench" if shape.own_schema and self.variant != "rls" else "public"
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": accept,
            "Accept-Profile" if call.method == "GET" else "Content-Profile": schema,
        }
        if call.prefer:
            headers["Prefer"] = call.prefer
        return Request.make(call.method, call.path, headers, call.body)


def make_senders(
    environment: Environment, database: str, server: PostgREST, persona: Persona
) -> list[Sender]:
    """One sender per variant, in their order, all asking for the same rows."""
    with environment.administer(database) as connection:
        target = find_target(connection, persona)
        user = str(fetch(connection, "select bench.person(%s)", (persona.person,))[0][0])
    return [Sender(server, variant, user, target) for variant in VARIANTS]
