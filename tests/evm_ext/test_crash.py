"""kill -9 in the middle of building, importing and moving heads leaves a chain that goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from openledger.evm_ext import Chain
from openledger.evm_ext.integrity import check
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, decode_account
from openledger.evm_ext.trie import Trie
from openledger.genesis.genesis import Genesis, GenesisAccount, encode_holocene_extra_data

KEY = b"\x11" * 32
# Every call writes a storage slot that was not there: number of the block, at the number of the block.
WRITER = b"\x0c" * 20
WRITER_CODE = bytes.fromhex("43 43 55 00".replace(" ", ""))

_CHILD = """
    import sys
    from pathlib import Path
    from openledger.evm_ext import Chain, PayloadAttributes, sign_transaction

    sys.path.insert(0, sys.argv[2])
    from test_crash import KEY, WRITER, genesis
    from openledger.evm_ext.state.policy import StateHistory
    from openledger.evm_ext.signatures import address_of

    history = StateHistory(sys.argv[3], keep_blocks=16, keep_changes=16)
    chain = Chain.open(Path(sys.argv[1]), genesis(), history=history)
    while True:
        head = chain.head()
        nonce = chain.state(head.hash).nonce(address_of(KEY))
        transactions = [
            sign_transaction(KEY, chain_id=1, nonce=nonce + index, gas=100_000, max_fee_per_gas=10**9,
                             to=WRITER if index % 2 else (nonce + index).to_bytes(20, "big"), value=index % 2 ^ 1)
            for index in range(6)
        ]
        for recipient in (b"\\x01" * 20, b"\\x02" * 20):  # the second replaces the first: a reorganisation
            attributes = PayloadAttributes(head.timestamp + 2, bytes(32), recipient, bytes(32))
            block = chain.build(head.hash, attributes, transactions)
            chain.set_heads(unsafe=block.hash)
        chain.set_heads(safe=block.hash, finalized=head.hash)
        print("head", block.number, block.hash.hex(), flush=True)
"""


def genesis() -> Genesis:
    return Genesis(
        rules="op",
        chain_id=1,
        timestamp=1,
        gas_limit=30_000_000,
        base_fee_per_gas=7,
        extra_data=encode_holocene_extra_data(250, 6),
        alloc={
            address_of(KEY): GenesisAccount(balance=10**24),
            WRITER: GenesisAccount(nonce=1, code=WRITER_CODE),
        },
    )


def test_kill_9_at_any_moment_leaves_a_whole_chain(tmp_path):
    chance = random.Random(5)
    acknowledged: dict[int, str] = {}
    for history in ("archive", "pruned", "pruned", "archive"):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_CHILD), str(tmp_path), str(Path(__file__).parent), history],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chance.randrange(18, 28))]
        time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        for line in lines:
            if line.startswith("head ") and line.endswith("\n"):
                _, number, block_hash = line.split()
                acknowledged[int(number)] = block_hash
        _check_whole(tmp_path, acknowledged)
    assert len(acknowledged) >= 30


def _check_whole(path: Path, acknowledged: dict[int, str]) -> None:
    chain = Chain.open(path, genesis())
    try:
        head = chain.head()
        assert head.number >= max(acknowledged)
        for number, block_hash in acknowledged.items():
            if number < head.number:
                assert chain.header_by_number(number).hash.hex() == block_hash
        assert chain.head("finalized").number <= chain.head("safe").number <= head.number
        assert chain.header_by_number(head.number + 1) is None
        parent_hash = head.hash
        for number in range(head.number, 0, -1):
            block = chain.block_by_number(number)
            assert block.hash == parent_hash
            parent_hash = block.header.parent_hash
            receipts = chain.receipts(block.hash)
            assert len(receipts) == len(block.transactions)
            for index, transaction in enumerate(block.transactions):
                assert chain.transaction_location(transaction.hash) == (block.hash, index)
        state = chain.state(head.hash)
        assert _walk(state.reader, head.state_root) >= 2
        assert state.storage(WRITER, head.number) == head.number
        assert list(check(chain._store, deep=True)) == []
    finally:
        chain.close()


def _walk(reader, root: bytes) -> int:
    """Read every node of the state and of every storage trie; the number of accounts."""
    accounts = 0
    for key, value in reader.account_trie().entries():
        accounts += 1
        account = decode_account(value)
        list(Trie(reader.account_trie()._source, account.storage_root, owner=key).entries())
        if account.code_hash != EMPTY_CODE_HASH:
            assert reader.code(account.code_hash)
    return accounts
