"""How servers are asked: as fast as they answer, or at a fixed pace."""

from __future__ import annotations

import os
import select
import socket
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rpc_parts.servers import Server, connected, http, read_answer, received

CONNECTIONS = 32
PACE_S = 0.005
RUNS = 3


def load(server: Server, body: bytes, seconds: float) -> dict[str, float]:
    """As many requests as the server answers over CONNECTIONS connections; the least disturbed of RUNS."""
    return min((load_once(server, body, seconds) for _ in range(RUNS)), key=lambda row: row["server_cpu_us"])


def load_once(server: Server, body: bytes, seconds: float) -> dict[str, float]:
    request = http(server, body)
    sockets = {}
    with select.epoll() as poll:
        for _ in range(CONNECTIONS):
            opened = connected(server)
            opened.sendall(request)
            expected = read_answer(opened)
            assert b'"error"' not in expected, expected[:300]
            sockets[opened.fileno()] = opened
            poll.register(opened.fileno(), select.EPOLLIN)
        got = dict.fromkeys(sockets, 0)
        full = len(expected)
        cpu, started, done = server.cpu_s(), time.perf_counter(), 0
        for opened in sockets.values():
            opened.sendall(request)
        while (now := time.perf_counter()) - started < seconds:
            for descriptor, _ in poll.poll(0.1):
                got[descriptor] += len(received(sockets[descriptor]))
                if got[descriptor] > full:  # with its head the answer is longer than its body
                    got[descriptor] = 0
                    done += 1
                    sockets[descriptor].sendall(request)
        used = server.cpu_s() - cpu
    for opened in sockets.values():
        opened.close()
    return {"per_s": round(done / (now - started)), "server_cpu_us": round(used / done * 1e6, 1)}


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call; `for_a_core` of them the serving or the asking thread could have run, but no core was
    free: other programs had them."""

    ms: float
    for_a_core: float


def latencies(server: Server, body: bytes, stop: threading.Event) -> list[Latency]:
    """One call every PACE_S, whether the earlier ones are answered or not."""
    request = http(server, body)
    found: list[Latency] = []
    idle: list[socket.socket] = []
    asked: dict[int, tuple[socket.socket, float, float]] = {}
    mine = threading.get_native_id()

    def waited_ms() -> float:
        return core_wait_ms(server.process.pid, server.process.pid) + core_wait_ms(os.getpid(), mine)

    with select.epoll() as poll:
        due = time.perf_counter()
        while asked or not stop.is_set():
            now = time.perf_counter()
            if now >= due and not stop.is_set():
                if not idle:
                    idle.append(connected(server))
                    poll.register(idle[-1].fileno(), select.EPOLLIN)
                opened = idle.pop()
                asked[opened.fileno()] = (opened, waited_ms(), time.perf_counter())
                opened.sendall(request)
                due = now + PACE_S
            for descriptor, _ in poll.poll(max(due - time.perf_counter(), 0)):
                opened, waited, begun = asked.pop(descriptor)
                read_answer(opened)
                ms = (time.perf_counter() - begun) * 1000
                found.append(Latency(ms, min(waited_ms() - waited, ms)))
                idle.append(opened)
    for opened in idle:
        opened.close()
    return found


def core_wait_ms(process: int, thread: int) -> float:
    """How long a thread has been ready to run without a core, ever. 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[1]) / 1e6
    except OSError:
        return 0.0


def percentiles(found: list[Latency]) -> dict[str, float]:
    ordered = sorted(item.ms for item in found)
    with_cores = sorted(item.ms - item.for_a_core for item in found)
    return {
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(ordered[-1], 2),
        "p99_ms_without_waits_for_a_core": round(with_cores[int(len(with_cores) * 0.99)], 2),
    }
