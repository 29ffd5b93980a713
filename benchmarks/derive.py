"""How fast a validator with an empty folder derives a chain from L1 and DA alone, beside executing the same blocks.

Makes a chain in one process with time turned by hand: embedded L1, DA server, sequencer, batcher; every 500 blocks L1
drops its newest blocks, and for a while the DA layer asks to fail over, so that data stands in calldata too. Then an
empty node derives it all, and another one only executes the blocks. Every hash must be equal. Writes
results/derive.json.

    python benchmarks/derive.py [--blocks 5000] [--transactions 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis
from openledger.rollup.batcher import Batcher, BatcherSettings
from openledger.rollup.config import RollupConfig
from openledger.rollup.da.client import DAClient
from openledger.rollup.da.server import DAServer, DAServerSettings, Request, open_da_server
from openledger.rollup.driver import Driver
from openledger.rollup.engine import Engine
from openledger.rollup.l1.dev_chain import DevL1
from openledger.rollup.l1.local import LocalL1
from openledger.rollup.l1.transactions import L1TransactionLost
from openledger.rollup.sequencer import Sequencer

GENESIS_TIME = 1_700_000_000
REORG_EVERY = 500
REORG_DEPTH = 3
RESULT = Path(__file__).parent / "results/derive.json"


class TurnedClock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.time: float = GENESIS_TIME
        self.on_sleep: Callable[[], Awaitable[None]] | None = None

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += max(seconds, 1)
        if self.on_sleep is not None:
            await self.on_sleep()


class InProcess(httpx.AsyncBaseTransport):
    """Requests straight to the DA server; while `failing`, puts get 503."""

    def __init__(self, server: DAServer) -> None:
        self._server = server
        self.failing = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.failing and request.method == "POST":
            return httpx.Response(503)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, request.url.path, dict(request.url.params), headers, await request.aread())
        answer = await self._server.handle(asked)
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)


@dataclass
class Made:
    """What making the chain cost, and what happened on the way."""

    blocks: int
    transactions: int
    l1_blocks: int
    reorgs: int
    failovers: int
    seconds: float


class World:
    """L1, DA and the sequencer's node."""

    def __init__(self, folder: Path, transport: InProcess, da: DAClient) -> None:
        self.clock = TurnedClock()
        self.transport = transport
        self.da = da
        self.l1_chain = Chain.open(folder / "l1", l1_genesis(DEVNET, GENESIS_TIME))
        self.l1_pool = TransactionPool(self.l1_chain)
        self.l1 = DevL1(self.l1_chain, self.l1_pool, DEVNET.l1_block_time_s, clock=self.clock)
        self.l1_view = LocalL1(self.l1_chain, self.l1_pool)
        self.chain = Chain.open(folder / "sequencer", l2_genesis(DEVNET, GENESIS_TIME))
        self.pool = TransactionPool(self.chain)
        self.config = RollupConfig.from_genesis(
            DEVNET, self.l1_chain.genesis_hash, self.chain.genesis_hash, GENESIS_TIME
        )
        self.engine = Engine(self.chain, self.config)
        self.driver = Driver(self.engine, self.l1_view, da, clock=self.clock)
        self.sequencer = Sequencer(self.engine, self.pool, self.l1_view, clock=self.clock)
        settings = BatcherSettings(max_channel_blocks=50, failback_after_s=60.0)
        self.batcher = Batcher(
            self.engine,
            self.l1_view,
            da,
            BATCHER.private_key,
            current_l1=lambda: self.driver.status.current_l1.number if self.driver.status.current_l1 else None,
            settings=settings,
            clock=self.clock,
        )
        self.clock.on_sleep = self.let_l1_go_on

    async def let_l1_go_on(self) -> None:
        while self.l1_chain.head().timestamp + DEVNET.l1_block_time_s <= self.clock.time:
            await self.l1.produce_block(self.l1_chain.head().timestamp + DEVNET.l1_block_time_s)

    def send(self, count: int) -> None:
        for index in range(count):
            user = USERS[index % len(USERS)]
            nonce = self.pool.pending_nonce(user.address)
            self.pool.add(
                sign_transaction(
                    user.private_key,
                    chain_id=self.chain.chain_id,
                    nonce=nonce,
                    gas=100_000,
                    to=nonce.to_bytes(20, "big"),
                    value=1,
                    data=bytes(16) + nonce.to_bytes(4, "big"),
                    max_fee_per_gas=10**10,
                    max_priority_fee_per_gas=1,
                ).raw
            )

    async def post(self) -> None:
        while True:
            try:
                while await self.batcher.step(flush=True):
                    pass
                return
            except L1TransactionLost:
                continue  # L1 had dropped a transaction and took it up again

    def reorganise_l1(self) -> None:
        parent = self.l1_chain.header_by_number(self.l1_chain.head().number - REORG_DEPTH)
        assert parent is not None
        common = parent.hash
        for _ in range(REORG_DEPTH + 1):
            attributes = PayloadAttributes(parent.timestamp + 4, b"\xee" * 32, b"\xee" * 20, b"\xee" * 32)
            parent = self.l1_chain.build(parent.hash, attributes).header
        self.l1_chain.set_heads(unsafe=parent.hash, safe=common)
        self.clock.time = max(self.clock.time, float(parent.timestamp))

    async def make(self, blocks: int, transactions: int) -> Made:
        started, reorgs, next_reorg = time.process_time(), 0, REORG_EVERY
        while self.chain.head().number < blocks:
            self.transport.failing = 0.4 * blocks < self.chain.head().number < 0.5 * blocks
            self.send(transactions)
            self.clock.time += 2
            await self.let_l1_go_on()
            while await self.sequencer.produce_block(self.clock.time) is not None:
                pass
            height = self.chain.head().number
            if height % 50 == 0:
                await self.post()
                await self.driver.derive_to_tip()
            if height >= next_reorg:
                next_reorg += REORG_EVERY
                self.reorganise_l1()
                reorgs += 1
                for _ in range(2):
                    await self.driver.derive_to_tip()
            if height % 200 == 0:
                print(f"\rmade {height} of {blocks} blocks, {reorgs} reorgs of L1", end="", flush=True)
        self.transport.failing = False
        await self.post()
        await self.driver.derive_to_tip()
        print()
        head = self.chain.head().number
        included = sum(len(self.chain.block_by_number(number).transactions) - 1 for number in range(1, head + 1))  # type: ignore[union-attr]
        seconds = time.process_time() - started
        return Made(head, included, self.l1_chain.head().number, reorgs, self.batcher.routes.count, seconds)

    def close(self) -> None:
        for part in (self.pool, self.chain, self.l1_pool, self.l1_chain):
            part.close()


async def derive(world: World, folder: Path) -> float:
    """CPU seconds in which an empty node derives the chain."""
    chain = Chain.open(folder, l2_genesis(DEVNET, GENESIS_TIME))
    driver = Driver(Engine(chain, world.config), world.l1_view, world.da, clock=world.clock)
    started = time.process_time()
    await driver.derive_to_tip()
    seconds = time.process_time() - started
    ours, theirs = chain.head("safe"), world.chain.head()
    assert ours.hash == theirs.hash, f"derived block {ours.number}, the sequencer is at {theirs.number}"
    chain.close()
    return seconds


def execute(world: World, folder: Path) -> float:
    """CPU seconds in which an empty node executes the same blocks, given to it as blocks."""
    chain = Chain.open(folder, l2_genesis(DEVNET, GENESIS_TIME))
    started = time.process_time()
    for number in range(1, world.chain.head().number + 1):
        block = world.chain.block_by_number(number)
        assert block is not None
        chain.import_block(block)
        chain.set_heads(unsafe=block.hash)
    seconds = time.process_time() - started
    assert chain.head().hash == world.chain.head().hash
    chain.close()
    return seconds


async def measure(blocks: int, transactions: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="derive-") as name:
        folder = Path(name)
        async with open_da_server(DAServerSettings(folder / "da", development=True)) as server:
            transport = InProcess(server)
            async with DAClient("http://da", transport=transport, attempts=1) as da:
                world = World(folder, transport, da)
                made = await world.make(blocks, transactions)
                derived = await derive(world, folder / "derived")
                executed = await trio.to_thread.run_sync(execute, world, folder / "executed")
                world.close()
    return {
        "chain": {
            "l2_blocks": made.blocks,
            "transactions": made.transactions,
            "l1_blocks": made.l1_blocks,
            "l1_reorgs": made.reorgs,
            "da_failovers": made.failovers,
        },
        "derived_blocks_per_cpu_s": round(made.blocks / derived, 1),
        "executed_blocks_per_cpu_s": round(made.blocks / executed, 1),
        "ratio": round(executed / derived, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=5_000)
    parser.add_argument("--transactions", type=int, default=5, help="in each L2 block")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    found = trio.run(measure, arguments.blocks, arguments.transactions)
    machine = {"python": platform.python_version(), "platform": platform.platform(), "cpus": os.cpu_count()}
    result = {"machine": machine, "results": found}
    print(json.dumps(result, indent=1))
    if not arguments.no_write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
