"""How many webhook events a second find or create their customer, thread and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import pgbench
from bench.comparison import Rates, compare
from bench.environment import Environment, fetch

CLIENTS = (1, 4, 16)
_KNOWN = 2_000
_OURS = 79_000_001  # bench.phone() of the first business's channels, see sql/tenants.sql

# Twilio's parameters for an incoming message, as the function passes them on.
_PAYLOAD = """jsonb_build_object('MessageSid', 'SM' || :event, 'AccountSid', 'AC1',
  'From', bench.phone(:peer), 'To', bench.phone({ours}), 'NumMedia', '0', 'NumSegments', '1',
  'Body', 'Hello, is Thursday at ten still free?', 'FromCity', 'AUSTIN', 'FromState', 'TX',
  'FromZip', '73301', 'FromCountry', 'US', 'ApiVersion', '2010-04-01')"""
_MESSAGE = """jsonb_build_array(jsonb_build_object('type', 'message.inbound',
  'channel_kind', 'sms', 'ours', bench.phone({ours}), 'peer', bench.phone(:peer),
  'external_id', 'SM' || :event, 'text', 'Hello, is Thursday at ten still free?',
  'media', '[]'::jsonb, 'segments', 1))"""
_CALL = """jsonb_build_array(jsonb_build_object('type', 'call.event', 'direction', 'inbound',
  'ours', bench.phone({ours}), 'peer', bench.phone(:peer), 'external_id', 'CA' || :event,
  'status', 'ringing', 'sequence', 0))"""

#: Title, which number the event comes from, and the canonical events it contains.
LOADS: dict[str, tuple[str, str]] = {
    "stored": ("random(1, 70000000)", "'[]'::jsonb"),
    "control": ("random(1, 70000000)", "'[]'::jsonb"),
    "message_new": ("random(100000, 70000000)", _MESSAGE),
    "message_known": (f"random(1, {_KNOWN})", _MESSAGE),
    "message_same": ("99999", _MESSAGE),
    "call_new": ("random(100000, 70000000)", _CALL),
    "call_known": (f"random(1, {_KNOWN})", _CALL),
}


@dataclass(frozen=True)
class Latency:
    """Milliseconds per event, by percentile, of the last round."""

    load: str
    clients: int
    latency_ms: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Rates, latencies, and what must hold afterwards."""

    rates: list[Rates]
    latencies: list[Latency]
    #: Names of the promises, and how many rows break them.
    broken: dict[str, int]


def measure(
    environment: Environment,
    on_rates: Callable[[Rates], None],
    clients: Sequence[int] = CLIENTS,
) -> Report:
    """Deliver events to one business as the webhook role; `stored` delivers without applying."""
    database = environment.clone("bench_ingest")
    with environment.administer(database) as connection:
        connection.execute("set search_path = public, extensions, pg_temp")
        connection.execute(
            "select link_customer(bench.business(1), 'phone', bench.phone(n), 'US', 'sms')"
            f" from generate_series(1, {_KNOWN}) n".encode()
        )
        connection.execute("vacuum (analyze)")
    rates, latencies = [], {}
    for count in clients:

        def rate(load: str, count: int = count) -> float:
            script = _script(*LOADS[load])
            result = pgbench.run(
                environment, database, script, clients=count, user="integrator", with_latency=True
            )
            latencies[load, count] = dict(result.latency_ms)
            return result.transactions_per_second

        rates.append(compare("events", count, list(LOADS), environment.scale.rounds, rate))
        on_rates(rates[-1])
    return Report(
        rates,
        [Latency(load, count, ms) for (load, count), ms in latencies.items()],
        _broken_promises(environment, database),
    )


def _script(peer: str, events: str) -> str:
    call = (
        "select public.ingest_webhook(bench.connection(1), 'message:' || :event, 'message',"
        f" {_PAYLOAD}, {events});"
    ).format(ours=_OURS)
    return f"\\set event random(1, 9000000000000000000)\n\\set peer {peer}\n{call}\n"


def _broken_promises(environment: Environment, database: str) -> dict[str, int]:
    questions = {
        "customers of the number everybody wrote from, beyond one": """
            select count(*) - 1 from contact_points where normalized = bench.phone(99999)""",
        "conversations with it, beyond one": """
            select count(*) - 1 from conversations where peer = bench.phone(99999)""",
        "events that failed": "select count(*) from webhook_events where status = 'failed'",
        "messages not counted in their conversation": """
            select (select count(*) from messages)
              - (select sum(message_count) from conversations)""",
        "days whose metrics differ": "select count(*) from metric_drift",
    }
    with environment.administer(database) as connection:
        return {name: int(fetch(connection, query)[0][0]) for name, query in questions.items()}
