"""What the gateway costs: throughput against the bare service, and CPU per request.

Run `python gateway/benchmark.py [seconds per round]`. The service, the gateway, a
plain aiohttp proxy and each load generator are processes of their own on loopback; the rounds
alternate, and their median is shown. On a busy machine read the CPU time, which is steadier.

`python gateway/benchmark.py routing [seconds]` compares three gateways: one that sends all to
one database, one that routes where nobody lives elsewhere, and one where somebody does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import jwt
import psutil

SECRET = "a-secret-of-the-benchmark-only-with-enough-bytes"  # noqa: S105
PUBLISHABLE = "sb_publishable_for_the_benchmark"
CONNECTIONS = 16
ROUNDS = 3

ROW = {"id": "5f0c8a52-6a0b-4c1e-9a43-6e0d5f9f3b11", "name": "Ana", "phone": "+14155550123"}
# What the registry answers where one tenant of many lives elsewhere, and the caller does not.
HOME = {
    "organization_id": ROW["id"], "isolation": "pooled", "database_name": "postgres",
    "schema_name": "public", "state": "active", "epoch": 1,
}  # fmt: skip
SMALL, LARGE = json.dumps([ROW] * 20).encode(), json.dumps([ROW] * 1800).encode()
BODY = json.dumps(ROW).encode()


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    path: str
    user: bool = False
    body: bytes = b""


CASES = (
    Case("20 rows, publishable key", "GET", "/rest/v1/customers?select=id,name&limit=20"),
    Case("20 rows, user's token", "GET", "/rest/v1/customers?select=id,name&limit=20", user=True),
    Case("insert, user's token", "POST", "/rest/v1/customers", user=True, body=BODY),
    Case("1800 rows (170 kB), user's token", "GET", "/rest/v1/large", user=True),
    Case("webhook to a function", "POST", "/functions/v1/hook/1", body=BODY),
)


async def serve(elsewhere: int) -> None:
    """The cheapest service: answers in chunks, as PostgREST does."""

    def answer(body: bytes) -> bytes:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        return head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    small, large = answer(SMALL), answer(LARGE)
    overview = {"version": 1, "elsewhere": elsewhere, "unsettled": 0, "settle_seconds": 0.5}
    special = {
        b"/large": large,
        b"/rpc/placement_overview": answer(json.dumps([overview]).encode()),
        b"/rpc/homes_of": answer(json.dumps([HOME]).encode()),
    }

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if (at := head.lower().find(b"content-length: ")) >= 0:
                    await reader.readexactly(int(head[at + 16 :].split(b"\r\n", 1)[0]))
                path = head[:80].split(b" ", 2)[1]
                writer.write(special.get(path, small))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def proxy(origin: str) -> None:
    """The least that a proxy in aiohttp does: what the gateway's rules are compared with."""
    import aiohttp
    from aiohttp import web

    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read() if request.can_read_body else None
            headers = request.headers.copy()
            headers.pop("Host")
            target = origin + request.raw_path
            async with session.request(request.method, target, headers=headers, data=body) as got:
                kind = {"Content-Type": got.headers["Content-Type"]}
                return web.Response(status=got.status, body=await got.read(), headers=kind)

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


async def load(port: int, case: Case, seconds: float) -> int:
    """Requests answered on CONNECTIONS connections, one at a time on each."""
    token = jwt.encode(
        {
            "sub": ROW["id"],
            "role": "authenticated",
            "aud": "authenticated",
            "exp": int(time.time()) + 600,
        },
        SECRET,
        "HS256",
    )
    lines = [f"{case.method} {case.path} HTTP/1.1", "Host: x", f"apikey: {PUBLISHABLE}"]
    lines += ["User-Agent: bench", "Accept: application/json", "X-Client-Info: bench/1"]
    lines += [f"Authorization: Bearer {token}"] if case.user else []
    if case.body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(case.body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + case.body
    deadline = time.monotonic() + seconds

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        done = 0
        while time.monotonic() < deadline:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            lower = head.lower()
            if (at := lower.find(b"content-length: ")) >= 0:
                await reader.readexactly(int(head[at + 16 :].split(b"\r\n", 1)[0]))
            else:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            done += 1
        writer.close()
        return done

    return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))


def child(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, *arguments],
        env={
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def measure(port: int, number: int, seconds: float, pid: int) -> tuple[float, float]:
    """Requests per second, and CPU milliseconds per request of process `pid`."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    loader = child(__file__, "load", str(port), str(number), str(seconds))
    answered = int(first_line(loader))
    loader.wait()
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return answered / seconds, used / answered * 1000


def start_gateway(origin: str, **settings: str) -> tuple[int, subprocess.Popen[str]]:
    process = child(
        "-m",
        "tenantry_gateway",
        GATEWAY_POSTGREST_URL=origin,
        GATEWAY_AUTH_URL=origin,
        GATEWAY_FUNCTIONS_URL=origin,
        GATEWAY_JWT_SECRET=SECRET,
        GATEWAY_ANON_KEY="a" * 120,
        GATEWAY_SERVICE_ROLE_KEY="b" * 120,
        GATEWAY_PUBLISHABLE_KEY=PUBLISHABLE,
        GATEWAY_SECRET_KEY="sb_secret_for_the_benchmark",  # noqa: S106
        GATEWAY_PORT="0",
        GATEWAY_BOOT_GATE="off",  # there is no database
        GATEWAY_RATE="0",
        GATEWAY_CONCURRENCY_PER_TENANT=str(CONNECTIONS),
        **settings,
    )
    return int(first_line(process).rsplit(":", 1)[1]), process


def compare_routing(seconds: float) -> None:
    """CPU of the gateway per request, with and without looking for homes."""
    services = [child(__file__, "serve", elsewhere) for elsewhere in ("0", "1")]
    origins = [f"http://127.0.0.1:{first_line(service)}" for service in services]
    ways = [
        start_gateway(origins[0], GATEWAY_TENANT_ROUTING="0"),
        start_gateway(origins[0]),
        start_gateway(origins[1]),
    ]
    try:
        print(f"{'CPU ms per request of the gateway':36}{'off':>9}{'nobody':>9}{'somebody':>9}")
        for number in (1, 2):
            costs: list[list[float]] = [[], [], []]
            for _ in range(2 * ROUNDS + 1):
                for results, (port, process) in zip(costs, ways, strict=True):
                    results.append(measure(port, number, seconds, process.pid)[1])
            off, nobody, somebody = (statistics.median(one[1:]) for one in costs)
            print(
                f"{CASES[number].name:36}{off:9.3f}{nobody:9.3f}{somebody:9.3f}"
                f"   ratios {nobody / off:.3f} {somebody / off:.3f}",
                flush=True,
            )
    finally:
        for process in (*(process for _, process in ways), *services):
            process.send_signal(signal.SIGTERM)
            process.wait()


def main(seconds: float) -> None:
    service = child(__file__, "serve", "0")
    port = int(first_line(service))
    origin = f"http://127.0.0.1:{port}"
    gateway_port, gateway = start_gateway(origin)
    plain = child(__file__, "proxy", origin)
    plain_port = int(first_line(plain))
    try:
        print(f"{'':34}{'requests per second':^30}{'CPU ms per request':^24}{'RSS':>6}")
        print(f"{'':34}{'direct':>9}{'plain':>9}{'gateway':>9}{'ratio':>7}", end="")
        print(f"{'plain':>9}{'gateway':>9}{'ratio':>7}{'MB':>6}")
        for number, case in enumerate(CASES):
            ways = ((port, service), (plain_port, plain), (gateway_port, gateway))
            rounds: list[list[tuple[float, float]]] = [[], [], []]
            for _ in range(ROUNDS):
                for results, (where, process) in zip(rounds, ways, strict=True):
                    results.append(measure(where, number, seconds, process.pid))
            rates = [statistics.median(one[0] for one in results) for results in rounds]
            costs = [statistics.median(one[1] for one in results) for results in rounds]
            memory = psutil.Process(gateway.pid).memory_info().rss / 2**20
            print(
                f"{case.name:34}{rates[0]:9.0f}{rates[1]:9.0f}{rates[2]:9.0f}"
                f"{rates[2] / rates[1]:7.2f}{costs[1]:9.3f}{costs[2]:9.3f}"
                f"{costs[2] / costs[1]:7.2f}{memory:6.0f}",
                flush=True,
            )
    finally:
        for process in (gateway, plain, service):
            process.send_signal(signal.SIGTERM)
            process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    elif sys.argv[1:2] == ["load"]:
        print(asyncio.run(load(int(sys.argv[2]), CASES[int(sys.argv[3])], float(sys.argv[4]))))
    elif sys.argv[1:2] == ["proxy"]:
        asyncio.run(proxy(sys.argv[2]))
    elif sys.argv[1:2] == ["routing"]:
        compare_routing(float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
