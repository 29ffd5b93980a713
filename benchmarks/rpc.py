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
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from openledger.evm_ext import Block, Chain, PayloadAttributes, TransactionPool, decode_transaction, sign_transaction
from openledger.evm_ext.signatures import address_of
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.system_contracts import system_contracts
from openledger.node.http import HttpLimits
from openledger.node.latency import prefer_latency
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc.server import serve_rpc

ANVIL = Path(__file__).parents[1] / "tests/clients/node_modules/@foundry-rs"
CHAIN_ID = 1337
GWEI = 10**9
KEYS = [keccak256(b"rpc benchmark %d" % number) for number in range(50)]
ADDRESSES = [address_of(key) for key in KEYS]
TOKEN = b"\x70" * 20
TRANSFER = keccak256(b"Transfer(address,address,uint256)")
PER_BLOCK = 800
BLOCKS_WITH_LOGS = 10
LOGS_PER_BLOCK = 20
CONNECTIONS = 32
PACE_S = 0.005
RUNS = 3
PYTHON_AS_IT_COMES = 0.005
"""Python's own switch interval, measured with its own garbage collection too."""
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


# --- the chain -------------------------------------------------------------------------------------------


def token_code() -> bytes:
    """transfer with calldata `to` and `amount` as words; one word alone is balanceOf. Logs each transfer."""
    return b"".join(
        bytes.fromhex(part.replace(" ", ""))
        for part in (
            "6020 36 11 6011 57",  # calldata of more than a word: transfer
            "5f35 54 5f52 6020 5f f3 00 5b",  # else the balance of the word
            "33 54 6020 35 90 03 33 55",  # balance of the sender less the amount
            "5f35 54 6020 35 01 5f35 55",  # that of the recipient
            "6020 35 5f52 5f35 33 7f" + TRANSFER.hex() + " 60205f a3",
            "60015f52 60205ff3",
        )
    )


def genesis() -> Genesis:
    return Genesis(
        rules="ethereum",
        chain_id=CHAIN_ID,
        timestamp=1_700_000_000,
        gas_limit=60_000_000,
        base_fee_per_gas=GWEI,
        alloc={
            **system_contracts(with_requests=True),
            **{address: GenesisAccount(balance=10**24) for address in ADDRESSES},
            TOKEN: GenesisAccount(
                nonce=1, code=token_code(), storage={int.from_bytes(item, "big"): 10**30 for item in ADDRESSES}
            ),
        },
    )


def transfers(first_nonce: int, number: int) -> list[bytes]:
    """Encodings of token transfers, senders in turns from a nonce on."""
    return [
        sign_transaction(
            KEYS[index % len(KEYS)],
            chain_id=CHAIN_ID,
            nonce=first_nonce + index // len(KEYS),
            gas=70_000,
            to=TOKEN,
            data=bytes(12) + ADDRESSES[(index * 7 + 1) % len(KEYS)] + (5).to_bytes(32, "big"),
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
        ).raw
        for index in range(number)
    ]


def extend(chain: Chain, raw: list[bytes]) -> Block:
    head = chain.head()
    attributes = PayloadAttributes(head.timestamp + 2, bytes(32), b"\xfe" * 20, bytes(32))
    block = chain.build(head.hash, attributes, [decode_transaction(item) for item in raw])
    assert len(block.transactions) == len(raw), "the builder left transactions out"
    chain.set_heads(unsafe=block.hash)
    return block


def logged_blocks() -> list[list[bytes]]:
    """Small blocks for eth_getLogs, whose transfers go round the senders."""
    nonces = [0] * len(KEYS)
    blocks = []
    for number in range(BLOCKS_WITH_LOGS):
        raw = []
        for index in range(LOGS_PER_BLOCK):
            key = (number * LOGS_PER_BLOCK + index) % len(KEYS)
            raw.append(
                sign_transaction(
                    KEYS[key],
                    chain_id=CHAIN_ID,
                    nonce=nonces[key],
                    gas=70_000,
                    to=TOKEN,
                    data=bytes(12) + ADDRESSES[(key + 1) % len(KEYS)] + (5).to_bytes(32, "big"),
                    max_fee_per_gas=100 * GWEI,
                    max_priority_fee_per_gas=GWEI,
                ).raw
            )
            nonces[key] += 1
        blocks.append(raw)
    return blocks


# --- our server, a process of its own --------------------------------------------------------------------


def serve(folder: Path, full_blocks: int, switch_interval_s: float | None) -> None:
    """Prints its port; imports the prepared full blocks in a thread when told by a line on standard input, as the
    node does, and prints how long each took when it is done."""
    with opened_chain(folder / "builder") as builder:
        small = [extend(builder, raw).encode() for raw in logged_blocks()]
        nonce = BLOCKS_WITH_LOGS * LOGS_PER_BLOCK // len(KEYS)
        full = []
        for _ in range(full_blocks):
            full.append(extend(builder, transfers(nonce, PER_BLOCK)).encode())
            nonce += PER_BLOCK // len(KEYS)
    with opened_chain(folder / "served") as chain:
        for encoded in small:
            take(chain, encoded)
        if switch_interval_s != PYTHON_AS_IT_COMES:
            prefer_latency()
        if switch_interval_s is not None:
            sys.setswitchinterval(switch_interval_s)
        trio.run(run_server, chain, full)


@contextmanager
def opened_chain(folder: Path) -> Iterator[Chain]:
    chain = Chain.open(folder, genesis())
    try:
        yield chain
    finally:
        chain.close()


def take(chain: Chain, encoded: bytes) -> None:
    block = Block.decode(encoded)
    chain.import_block(block)
    chain.set_heads(unsafe=block.hash)


async def run_server(chain: Chain, full: list[bytes]) -> None:
    pool = TransactionPool(chain)
    rpc = EthereumRpc(RpcBackend(chain, pool))
    dispatcher = Dispatcher()
    rpc.register(dispatcher)

    def import_all() -> list[float]:
        times = []
        for encoded in full:
            started = time.perf_counter()
            take(chain, encoded)
            times.append(time.perf_counter() - started)
        return times

    async with trio.open_nursery() as nursery:
        await nursery.start(rpc.run)
        bound = await nursery.start(
            lambda task_status: serve_rpc(dispatcher, limits=HttpLimits(connections=100_000), task_status=task_status)
        )
        print(bound.port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        times = await trio.to_thread.run_sync(import_all)
        print(json.dumps(times), flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()


def serve_floor() -> None:
    """Answers every request with the same bytes, while another thread of the process computes: what this machine
    and Python's switching alone cost. Prints its port; ends when it is killed."""
    prefer_latency()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=compute, daemon=True).start()
        with select.epoll() as poll:
            poll.register(listener.fileno(), select.EPOLLIN)
            opened: dict[int, socket.socket] = {}
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == listener.fileno():
                        accepted, _ = listener.accept()
                        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        opened[accepted.fileno()] = accepted
                        poll.register(accepted.fileno(), select.EPOLLIN)
                    elif opened[descriptor].recv(65_536):
                        opened[descriptor].sendall(answer)
                    else:
                        opened.pop(descriptor).close()


def compute() -> None:
    total = 0
    while True:
        for number in range(1_000):
            total += number * number


# --- servers as seen from here ---------------------------------------------------------------------------


@dataclass
class Server:
    """A running one. `process_id` is the process whose CPU and memory count."""

    name: str
    port: int
    process: subprocess.Popen[str]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@contextmanager
def ours(full_blocks: int = 0, switch_interval_s: float | None = None) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, __file__, "--serve", folder, str(full_blocks)]
        if switch_interval_s is not None:
            line += ["--switch-interval", str(switch_interval_s)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield Server("ours", int(process.stdout.readline()), process)
            finally:
                process.kill()


@contextmanager
def anvil() -> Iterator[Server]:
    """anvil with the same genesis and the same small blocks."""
    binary = next(ANVIL.glob("anvil-*/bin/anvil"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genesis.json"
        path.write_text(json.dumps(genesis().to_json()))
        line = [str(binary), "--port", "0", "--init", str(path), "--hardfork", "prague", "--no-mining"]
        line += ["--gas-limit", "60000000", "--chain-id", str(CHAIN_ID)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                port = next(int(item.rpartition(":")[2]) for item in process.stdout if "Listening on" in item)
                threading.Thread(target=process.stdout.read, daemon=True).start()
                server = Server("anvil", port, process)
                for raw in logged_blocks():
                    for item in raw:
                        ask(server, "eth_sendRawTransaction", "0x" + item.hex())
                    ask(server, "evm_mine")
                yield server
            finally:
                process.kill()


def http(server: Server, body: bytes) -> bytes:
    return (
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (server.port, len(body), body)
    )


def connected(server: Server) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", server.port))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def read_answer(opened: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(opened)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < lengths[0]:
        body += received(opened)
    return body


def received(opened: socket.socket) -> bytes:
    data = opened.recv(1 << 20)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def call(method: str, *params: object, identifier: int = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}


def ask(server: Server, method: str, *params: object) -> Any:
    with connected(server) as opened:
        opened.sendall(http(server, json.dumps(call(method, *params)).encode()))
        answer = json.loads(read_answer(opened))
    assert "error" not in answer, (server.name, method, answer)
    return answer["result"]


# --- what is measured ------------------------------------------------------------------------------------


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
