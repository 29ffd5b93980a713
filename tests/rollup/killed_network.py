"""Runs a whole rollup in the folder given until it is killed; a line on standard output per round."""

import importlib.util
import logging
import sys
from itertools import count
from pathlib import Path

import structlog
import trio

from openledger.genesis.dev_accounts import USERS

spec = importlib.util.spec_from_file_location("rollup_conftest", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
conftest = importlib.util.module_from_spec(spec)
sys.modules["rollup_conftest"] = conftest
spec.loader.exec_module(conftest)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


async def main(folder: Path) -> None:
    async with conftest.open_network(folder, {}) as network:
        validator = network.open_node("validator")
        for _ in count():
            sent = network.send_l2(USERS[0], b"\x77" * 20, value=1)
            await network.advance(6)
            assert network.node.chain.transaction_location(sent) is not None
            await network.post(batcher=network.make_batcher(max_frame_bytes=200, max_payload_bytes=230))
            await network.node.driver.derive_to_tip()
            await validator.driver.derive_to_tip()
            print(network.node.chain.head().number, flush=True)


trio.run(main, Path(sys.argv[1]))
