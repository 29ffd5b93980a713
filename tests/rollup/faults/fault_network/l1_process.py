"""The development L1 in a process of its own: `l1_process.py FOLDER PORT`. A line `reorg N` on standard input replaces its
newest N blocks by N + 1 others without their transactions, which go back to the pool; `stop` and `go` end and begin block
production, `mine N` makes blocks up to height N at once."""

import sys
from pathlib import Path

import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.node.config import Ports, load_config
from openledger.node.embedded import embedded_l1
from openledger.node.logging import configure_logging
from openledger.node.network import read_network
from openledger.node.supervisor import Service, Supervisor
from openledger.rollup.l1.dev_chain import DevL1


def reorganise(chain: Chain, depth: int) -> None:
    """Put `depth` + 1 empty blocks in the place of the newest `depth`."""
    old = chain.head()
    parent = chain.header_by_number(old.number - depth)
    assert parent is not None
    for number in range(depth + 1):
        # Of another time within the old one's second or later: what else a block says of itself may be the same.
        attributes = PayloadAttributes(
            timestamp=parent.timestamp + 1,
            prev_randao=bytes([number + 1]) * 32,
            suggested_fee_recipient=b"\xee" * 20,
            parent_beacon_block_root=bytes([number + 1]) * 32,
        )
        parent = chain.build(parent.hash, attributes).header
    at = chain.header_by_number(old.number - depth)
    assert at is not None
    chain.set_heads(unsafe=parent.hash, safe=at.hash)
    print(f"reorganised from {old.number} to {parent.number}, fork at {at.number}", flush=True)


async def main(folder: Path, port: int) -> None:
    configure_logging("info", "console")
    network = read_network(folder / "network.json")
    config = load_config(data_dir=folder, ports=Ports(l1_rpc=port))
    async with embedded_l1(config, network) as services:
        producer = services[0]
        dev: DevL1 = producer.run.__self__  # type: ignore[attr-defined]
        stopped = trio.CancelScope()
        going = trio.Event()
        going.set()

        async def produce(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal stopped
            task_status.started()
            while True:
                await going.wait()
                with trio.CancelScope() as stopped:
                    await producer.run(task_status=trio.TASK_STATUS_IGNORED)

        async def obey() -> None:
            nonlocal going
            while True:
                line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
                match line.split():
                    case ["reorg", depth]:
                        going = trio.Event()
                        stopped.cancel()
                        await trio.to_thread.run_sync(reorganise, dev.chain, int(depth))
                        going.set()
                    case ["stop"]:
                        going = trio.Event()
                        stopped.cancel()
                        print("stopped", flush=True)
                    case ["mine", height]:
                        while dev.chain.head().number < int(height):
                            await dev.produce_block(0)
                        print(f"mined up to {height}", flush=True)
                    case ["go"]:
                        going.set()
                        print("going", flush=True)
                    case []:
                        return

        async with trio.open_nursery() as nursery:
            await nursery.start(Supervisor([Service("l1", produce), *services[1:]]).run)
            print("ready", flush=True)
            nursery.start_soon(obey)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
