"""viem, which we did not write, names the same L2 transaction for a deposit's L1 log."""

import json
import shutil
from pathlib import Path

import pytest
import trio

from openledger.evm_ext.transactions import DEPOSIT
from openledger.genesis.dev_accounts import USERS
from openledger.rollup.codec.deposits import TRANSACTION_DEPOSITED_TOPIC

pytestmark = pytest.mark.interop

CLIENTS = Path(__file__).parents[1] / "clients"
SCRIPT = """
import { getL2TransactionHashes, extractTransactionDepositedLogs } from 'viem/op-stack'
const logs = JSON.parse(process.argv[1])
console.log(JSON.stringify(getL2TransactionHashes({ logs: extractTransactionDepositedLogs({ logs }) })))
"""


async def test_viem_finds_our_deposits_by_their_hash(network) -> None:
    if shutil.which("node") is None or not (CLIENTS / "node_modules/viem").exists():
        pytest.skip("viem is not installed: run `npm ci` in tests/clients")
    network.deposit_open(USERS[0], b"\x77" * 20, 10**18)
    network.deposit_open(USERS[1], b"\x78" * 20, 3)
    await network.advance(12)
    chain = network.l1.chain
    logs = [
        {
            "address": "0x" + found.log.address.hex(),
            "topics": ["0x" + topic.hex() for topic in found.log.topics],
            "data": "0x" + found.log.data.hex(),
            "blockHash": "0x" + found.block_hash.hex(),
            "blockNumber": hex(found.block_number),
            "logIndex": found.log_index,
            "transactionHash": "0x" + found.transaction_hash.hex(),
            "transactionIndex": found.transaction_index,
        }
        for found in chain.logs(0, chain.head().number, [network.config.deposit_contract])
        if found.log.topics[0] == TRANSACTION_DEPOSITED_TOPIC
    ]
    with trio.fail_after(120):
        command = ["node", "--input-type=module", "-e", SCRIPT, json.dumps(logs)]
        done = await trio.run_process(command, cwd=CLIENTS, capture_stdout=True)
    l2 = network.node.chain
    deposited = [
        "0x" + transaction.hash.hex()
        for number in range(1, l2.head().number + 1)
        for transaction in l2.block_by_number(number).transactions[1:]
        if transaction.type == DEPOSIT
    ]
    assert len(deposited) == 2
    assert json.loads(done.stdout) == deposited
