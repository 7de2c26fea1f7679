"""A keep-alive HTTP client that costs little, because its time counts on both sides.

It speaks only what PostgREST answers: a status line, headers, a body with a length or in chunks.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_RECEIVE_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0


class RequestFailed(RuntimeError):
    """PostgREST answered with an error; the message shows request and answer."""


@dataclass(frozen=True)
class Request:
    """One request, ready to be written to the socket."""

    text: bytes

    @classmethod
    def make(
        cls, method: str, path: str, headers: Mapping[str, str], body: object = None
    ) -> Request:
        """A request with a JSON body, if `body` is given."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return cls("\r\n".join([*lines, "", ""]).encode() + content)


@dataclass(frozen=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes
    #: Which rows these are, and of how many if they were counted: 0-49/250.
    content_range: bytes


class Connection:
    """One kept-alive connection, with one request under way at a time."""

    def __init__(self, port: int, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()

    def send(self, request: Request) -> None:
        self._received.clear()
        self.socket.sendall(request.text)

    def receive(self) -> bool:
        """Take what has arrived; whether the answer is whole."""
        data = self.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise RequestFailed("PostgREST closed the connection")
        self._received += data
        return self._is_whole()

    def _is_whole(self) -> bool:
        received = self._received
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        head = received[:head_end].lower()
        if b"transfer-encoding: chunked" in head:
            # JSON has no raw line breaks, so the last chunk's mark is unmistakable.
            return received.endswith(b"\r\n0\r\n\r\n", head_end)
        length_at = head.find(b"content-length:")
        if length_at < 0:
            return True
        length = int(head[length_at + 15 :].split(b"\r\n", 1)[0])
        return len(received) >= head_end + 4 + length

    def response(self) -> Response:
        """The answer, decoded. Not part of what is timed."""
        head, _, body = bytes(self._received).partition(b"\r\n\r\n")
        head = head.lower()
        if b"transfer-encoding: chunked" in head:
            whole = b""
            while body:
                size, _, body = body.partition(b"\r\n")
                whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
            body = whole
        content_range = head.partition(b"content-range: ")[2].split(b"\r\n", 1)[0]
        return Response(int(head[9:12]), body, content_range)

    def check(self, request: Request) -> Response:
        """The answer if it is a success. Raises RequestFailed."""
        response = self.response()
        if not 200 <= response.status < 300:
            raise RequestFailed(
                f"{request.text[:600]!r}: {response.status} {response.body[:600]!r}"
            )
        return response

    def fetch(self, request: Request) -> Response:
        """Send, wait, and return a successful answer. Raises RequestFailed."""
        self.send(request)
        while not self.receive():
            pass
        return self.check(request)

    def time(self, request: Request) -> float:
        """Seconds from sending to the last byte of a successful answer. Raises RequestFailed."""
        started = time.perf_counter()
        self.send(request)
        while not self.receive():
            pass
        seconds = time.perf_counter() - started
        if not self._received.startswith(b"HTTP/1.1 2"):
            self.check(request)
        return seconds

    def close(self) -> None:
        self.socket.close()


def time_batch(connections: Sequence[Connection], requests: Sequence[Request]) -> float:
    """Seconds until all requests are answered, each connection sending its next when it is free."""
    waiting = iter(requests)
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        started = time.perf_counter()
        busy = 0
        for connection in connections:
            if (request := next(waiting, None)) is not None:
                connection.send(request)
                busy += 1
        while busy:
            for key, _ in selector.select(_TIMEOUT_SECONDS):
                connection = key.data
                if not connection.receive():
                    continue
                if not connection._received.startswith(b"HTTP/1.1 2"):
                    connection.check(Request(b"(one of a batch)"))
                if (request := next(waiting, None)) is None:
                    busy -= 1
                else:
                    connection.send(request)
        return time.perf_counter() - started
