"""A proxy between a node and a server: a TCP server of its own that answers late, in part, wrongly, byte by byte, or not."""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What goes back. `cut_at` bytes of the body are sent and the connection is dropped; `drip_s` passes before each byte."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    cut_at: int | None = None
    drip_s: float = 0.0

    def cut(self, at: int) -> Answer:
        return replace(self, cut_at=at)

    def dripping(self, seconds: float) -> Answer:
        return replace(self, drip_s=seconds)

    def saying(self, body: bytes) -> Answer:
        return replace(self, body=body)


@dataclass(frozen=True)
class Exchange:
    """A request on its way."""

    proxy: FaultyProxy
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def rpc(self) -> dict[str, Any]:
        """The JSON-RPC request in it; empty if it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def rpc_method(self) -> str:
        return str(self.rpc.get("method", ""))

    def forward(self) -> Answer:
        """Hand it to the real server."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream_port, timeout=60)
        try:
            kept = {name: value for name, value in self.headers.items() if name in ("content-type", "accept")}
            upstream.request(self.method, self.path, self.body or None, kept)
            response = upstream.getresponse()
            kinds = [(name, value) for name, value in response.getheaders() if name.lower() == "content-type"]
            return Answer(response.status, response.read(), tuple(kinds))
        finally:
            upstream.close()


class Refused(Exception):
    """The connection is reset instead of answered."""


Fault = Callable[[Exchange], Answer]


def as_it_is(exchange: Exchange) -> Answer:
    """No fault."""
    return exchange.forward()


def reset(exchange: Exchange) -> Answer:
    """Nobody is there."""
    raise Refused


def frozen(at: int) -> Fault:
    """An L1 endpoint that has seen no block after `at`; transactions it takes."""

    def fault(exchange: Exchange) -> Answer:
        request = exchange.rpc
        if request.get("method") != "eth_getBlockByNumber":
            return exchange.forward()
        asked = request["params"][0]
        if asked in ("latest", "safe", "finalized"):
            request["params"][0] = hex(at - {"latest": 0, "safe": 2, "finalized": 4}[asked])
        elif int(asked, 16) > at:
            return Answer(200, b'{"jsonrpc":"2.0","id":1,"result":null}', (("content-type", "application/json"),))
        body = json.dumps(request).encode()
        return Exchange(exchange.proxy, exchange.method, exchange.path, exchange.headers, body).forward()

    return fault


@dataclass
class FaultyProxy:
    """Serves on a port of its own. `fault` decides what becomes of a request; it may be changed at any time and runs in
    the connection's thread. `seen` counts requests by method (JSON-RPC's where there is one)."""

    upstream_port: int
    fault: Fault = as_it_is
    seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError, ValueError):
                    while proxy.serve_one(self.rfile, self.connection):
                        pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def heal(self) -> None:
        self.fault = as_it_is

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve_one(self, lines: Any, connection: socket.socket) -> bool:
        """Read one request and answer it; whether the connection goes on."""
        first = lines.readline(1 << 20).split()
        if len(first) != 3:
            return False
        headers = {}
        while (line := lines.readline(1 << 20).strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = lines.read(int(headers.get("content-length", 0)))
        exchange = Exchange(self, first[0].decode(), first[1].decode(), headers, body)
        kind = exchange.rpc_method or exchange.method
        self.seen[kind] = self.seen.get(kind, 0) + 1
        try:
            answer = self.fault(exchange)
        except (Refused, OSError, http.client.HTTPException):
            # Also when the real server is away.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return False
        lines_out = [f"HTTP/1.1 {answer.status} Answer", f"content-length: {len(answer.body)}"]
        lines_out += [f"{name}: {value}" for name, value in answer.headers]
        connection.sendall("\r\n".join([*lines_out, "", ""]).encode())
        sent = answer.body if answer.cut_at is None else answer.body[: answer.cut_at]
        if answer.drip_s:
            for index in range(len(sent)):
                time.sleep(answer.drip_s)
                connection.sendall(sent[index : index + 1])
        else:
            connection.sendall(sent)
        return answer.cut_at is None
