"""JSON-RPC: ours beside anvil, server CPU per request, latency while full blocks are imported, idle WebSockets.

Both serve the same chain from the same genesis: a token that logs each transfer, and blocks of token transfers.
Every server is a process of its own and its CPU time is what the kernel counts for that process; the load comes
from this one, over kept-alive connections. While blocks are imported, calls come at a fixed pace, so that a stall
delays all that come in it. The same is asked of a server that does nothing beside a thread that computes, which
is what the machine alone costs. Linux also says how long threads had to wait for a core that other programs had; latencies
are given with these waits and without. Writes results/rpc.json.

    python benchmarks/rpc.py [--seconds N] [--sockets N] [--only ours]

anvil is `npm ci` in tests/clients; without it only ours is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from rpc_parts.chain import ADDRESSES, BLOCKS_WITH_LOGS, KEYS, LOGS_PER_BLOCK, PER_BLOCK, TOKEN
from rpc_parts.load import CONNECTIONS, PACE_S, RUNS, Latency, latencies, load, percentiles
from rpc_parts.servers import ANVIL, Server, anvil, call, connected, ours
from rpc_parts.serving import PYTHON_AS_IT_COMES, serve, serve_floor

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def requests() -> dict[str, tuple[bytes, int]]:
    """Bodies by name, each with the number of calls in it."""
    someone = "0x" + ADDRESSES[3].hex()
    balance_of = {"to": "0x" + TOKEN.hex(), "data": "0x" + (bytes(12) + ADDRESSES[3]).hex()}
    query = {"fromBlock": "0x1", "toBlock": hex(BLOCKS_WITH_LOGS), "address": "0x" + TOKEN.hex()}
    named = {
        "eth_blockNumber": call("eth_blockNumber"),
        "eth_getBalance": call("eth_getBalance", someone, "latest"),
        "eth_call, a token's balance": call("eth_call", balance_of, "latest"),
        f"eth_getLogs, {BLOCKS_WITH_LOGS * LOGS_PER_BLOCK} logs": call("eth_getLogs", query),
    }
    found = {name: (json.dumps(body).encode(), 1) for name, body in named.items()}
    batch = [
        call("eth_getBalance", "0x" + ADDRESSES[number % len(KEYS)].hex(), "latest", identifier=number)
        for number in range(100)
    ]
    return {**found, "batch of 100 eth_getBalance": (json.dumps(batch).encode(), 100)}


def while_importing(body: bytes, full_blocks: int, switch_interval_s: float | None) -> dict[str, float]:
    """Latencies while `full_blocks` are imported one after the other in the serving process."""
    with ours(full_blocks, switch_interval_s) as server:
        assert server.process.stdin is not None
        assert server.process.stdout is not None
        stop, times = threading.Event(), list[Latency]()
        thread = threading.Thread(target=lambda: times.extend(latencies(server, body, stop)))
        server.process.stdin.write("\n")
        server.process.stdin.flush()
        thread.start()
        imported = json.loads(server.process.stdout.readline())
        stop.set()
        thread.join()
        return {**percentiles(times), "calls": len(times), "import_ms": round(statistics.median(imported) * 1000, 1)}


def floor(seconds: float) -> dict[str, float]:
    """Latencies of a server that does nothing, beside a thread that computes."""
    with subprocess.Popen([sys.executable, __file__, "--floor"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            return undisturbed(Server("floor", int(process.stdout.readline()), process), b"{}", seconds)
        finally:
            process.kill()


def least_disturbed(measured: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The best of RUNS: what other programs on the machine took is not ours."""
    return min((measured() for _ in range(RUNS)), key=lambda row: row["p99_ms"])


def undisturbed(server: Server, body: bytes, seconds: float) -> dict[str, float]:
    stop = threading.Event()
    threading.Timer(seconds, stop.set).start()
    return percentiles(latencies(server, body, stop))


def idle_sockets(server: Server, number: int) -> dict[str, float]:
    """What open, silent WebSockets cost, and what a call costs beside them."""
    before = server.resident_kib()
    sockets = [connected(server) for _ in range(number)]
    try:
        for opened in sockets:
            opened.sendall(HANDSHAKE)
        for opened in sockets:
            assert b" 101 " in opened.recv(4096), "no WebSocket"
        time.sleep(1)
        memory = server.resident_kib() - before
        cpu = server.cpu_s()
        time.sleep(5)
        idle = (server.cpu_s() - cpu) / 5
        beside = undisturbed(server, json.dumps(call("eth_blockNumber")).encode(), 3)
    finally:
        for opened in sockets:
            opened.close()
    return {
        "sockets": number,
        "kib_each": round(memory / number, 1),
        "idle_cpu_percent": round(100 * idle, 2),
        **{f"eth_blockNumber_{key}": value for key, value in beside.items()},
    }


def measure(server: Server, seconds: float, sockets: int) -> dict[str, Any]:
    found: dict[str, Any] = {"load": {}, "undisturbed": {}}
    for name, (body, calls) in requests().items():
        row = load(server, body, seconds)
        found["load"][name] = {**row, "cpu_us_per_call": round(row["server_cpu_us"] / calls, 1)}
        print(f"{server.name:6} {name:32} {row['per_s']:>8}/s {row['server_cpu_us']:>9} µs of server CPU", flush=True)
    for name in ("eth_blockNumber", "eth_getBalance"):
        found["undisturbed"][name] = undisturbed(server, requests()[name][0], seconds)
    found["idle_websockets"] = idle_sockets(server, sockets)
    print(f"{server.name:6} idle WebSockets: {found['idle_websockets']}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, default=12, help="full blocks to import")
    parser.add_argument("--only", choices=("ours",))
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "BLOCKS"), help=argparse.SUPPRESS)
    parser.add_argument("--floor", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--switch-interval", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.floor:
        serve_floor()
        return
    if arguments.serve:
        serve(Path(arguments.serve[0]), int(arguments.serve[1]), arguments.switch_interval)
        return
    results: dict[str, Any] = {}
    with ours() as server:
        results["ours"] = measure(server, arguments.seconds, arguments.sockets)
    if arguments.only is None and list(ANVIL.glob("anvil-*/bin/anvil")):
        with anvil() as server:
            results["anvil"] = measure(server, arguments.seconds, arguments.sockets)
    results["floor"] = least_disturbed(lambda: floor(arguments.seconds))
    print(f"a server that does nothing beside a thread that computes: {results['floor']}", flush=True)
    results["while_importing"] = {}
    for name in ("eth_blockNumber", "eth_getBalance", "eth_call, a token's balance"):
        body, _ = requests()[name]
        row = least_disturbed(partial(while_importing, body, arguments.blocks, None))
        results["while_importing"][name] = row
        print(f"while importing: {name}: {row}", flush=True)
    results["switch_interval"] = {}
    for interval_s in (PYTHON_AS_IT_COMES, 0.001, 0.0005, 0.0002):
        body, _ = requests()["eth_blockNumber"]
        row = least_disturbed(partial(while_importing, body, arguments.blocks, interval_s))
        results["switch_interval"][f"{interval_s * 1000:g} ms"] = row
        print(f"switch interval {interval_s * 1000:g} ms: {row}", flush=True)
    document = {
        "what": (
            f"{CONNECTIONS} connections for load; one call each {PACE_S * 1000:g} ms for latencies; "
            f"imported blocks of {PER_BLOCK} token transfers; the least disturbed of {RUNS} runs each"
        ),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "scheduling": _scheduling(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "results": results,
    }
    path = Path(__file__).parent / "results" / "rpc.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _scheduling() -> str:
    """Linux: with what preference over other sessions of the machine this ran."""
    try:
        return Path("/proc/self/autogroup").read_text().strip()
    except OSError:
        return "as it comes"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
