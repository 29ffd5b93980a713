"""Our server, and one that does nothing: each a process of its own, run by `rpc.py --serve` and `--floor`."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from openledger.evm_ext import Block, Chain, TransactionPool
from openledger.node.http import HttpLimits
from openledger.node.latency import prefer_latency
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc.server import serve_rpc
from rpc_parts.chain import BLOCKS_WITH_LOGS, KEYS, LOGS_PER_BLOCK, PER_BLOCK, extend, genesis, logged_blocks, transfers

PYTHON_AS_IT_COMES = 0.005
"""Python's own switch interval, measured with its own garbage collection too."""


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
