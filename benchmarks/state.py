"""The state layer against the size of the state: flat tables, and the same chain reading from tries only, in one run.

For chains of 10^3 to 10^6 accounts: importing blocks of 400 transfers to random accounts (transactions per CPU second,
LevelDB's own threads and all roots included), and reading random accounts (CPU microseconds each) from a store just
opened, again when they were read before, and as they were some blocks ago. The peer is this program without flat
tables: it reads through the trie's nodes and writes neither tables nor their history, as it was before them.
Prints a table; writes results/state.json.

    python benchmarks/state.py [--sizes 1000,10000,100000,1000000] [--rounds N] [--reads N]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from openledger.evm_ext import Block, Chain, PayloadAttributes, decode_transaction, sign_transaction
from openledger.evm_ext.block import Header
from openledger.evm_ext.processing import ExecutedBlock
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.state.changes import StateDiff
from openledger.evm_ext.state.policy import ARCHIVE
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.state.states import HeadMove, States
from openledger.evm_ext.store import Store
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import l1_genesis, preset

CHAIN_ID = 1337
GWEI = 10**9
TRANSACTIONS = 400
KEYS = [keccak256(b"benchmark %d" % number) for number in range(100)]
SENDERS = [address_of(key) for key in KEYS]
SYSTEM = (
    predeploys.BEACON_ROOTS,
    predeploys.HISTORY_STORAGE,
    predeploys.WITHDRAWAL_REQUESTS,
    predeploys.CONSOLIDATION_REQUESTS,
)


class TrieStates(States):
    """Every state from its trie; the flat tables stay as they are."""

    def reader(self, header: Header) -> StateReader:
        return self._database.reader(header.state_root)

    def plan(self, removed: Sequence[Header], added: Sequence[Header], head: Header) -> HeadMove:
        return HeadMove(head, 0, {}, [(b"mbase", head.hash)])


class TrieChain(Chain):
    """The chain as it was before flat tables."""

    def __init__(self, store: Store, genesis: Genesis, genesis_hash: bytes) -> None:
        super().__init__(store, genesis, genesis_hash, ARCHIVE)
        self._states = self._heads._states = TrieStates(store, self._blocks.header)

    def _keep(self, block: Block, executed: ExecutedBlock) -> None:
        super()._keep(block, replace(executed, changes=replace(executed.changes, diff=StateDiff())))


def account(number: int) -> bytes:
    return keccak256(b"account %d" % number)[12:]


def genesis(size: int) -> Genesis:
    l1 = l1_genesis(preset("devnet"), 1_700_000_000)
    return Genesis(
        rules="ethereum",
        chain_id=CHAIN_ID,
        timestamp=1_700_000_000,
        gas_limit=60_000_000,
        base_fee_per_gas=GWEI,
        alloc={
            **{address: l1.alloc[address] for address in SYSTEM},
            **{account(number): GenesisAccount(balance=GWEI + number) for number in range(size)},
            **{address: GenesisAccount(balance=10**24) for address in SENDERS},
        },
    )


def build(chain: Chain, size: int, chance: random.Random) -> Block:
    head = chain.head()
    per_key = TRANSACTIONS // len(KEYS)
    transactions = [
        decode_transaction(
            sign_transaction(
                KEYS[index % len(KEYS)],
                chain_id=CHAIN_ID,
                nonce=head.number * per_key + index // len(KEYS),
                gas=21_000,
                to=account(chance.randrange(size)),
                value=1,
                max_fee_per_gas=100 * GWEI,
                max_priority_fee_per_gas=GWEI,
            ).raw
        )
        for index in range(TRANSACTIONS)
    ]
    attributes = PayloadAttributes(head.timestamp + 2, bytes(32), b"\xfe" * 20, bytes(32))
    block = chain.build(head.hash, attributes, transactions)
    assert len(block.transactions) == TRANSACTIONS, "the builder left transactions out"
    chain.set_heads(unsafe=block.hash)
    return block


def import_seconds(chain: Chain, encoded: bytes) -> float:
    start = time.process_time()
    block = Block.decode(encoded)
    chain.import_block(block)
    chain.set_heads(unsafe=block.hash)
    return time.process_time() - start


def read_us(chain: Chain, header: Header, addresses: list[bytes]) -> float:
    """The mean CPU time over all addresses, one after another."""
    view = chain.state(header.hash)
    start = time.process_time()
    for address in addresses:
        view.balance(address)
    return (time.process_time() - start) / len(addresses) * 1e6


def measure(size: int, rounds: int, reads: int) -> dict[str, dict[str, float]]:
    start = genesis(size)
    times: dict[str, list[float]] = {"flat": [], "trie": []}
    chance = random.Random(size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builder = Chain.open(folder / "flat", start)
        genesis_hash = builder.genesis_hash
        builder._store.database.compact()
        builder.close()
        for copy in ("trie", "builder"):
            shutil.copytree(folder / "flat", folder / copy)
        builder = Chain(Store(folder / "builder"), start, genesis_hash, ARCHIVE)
        chains = {
            "flat": Chain(Store(folder / "flat"), start, genesis_hash, ARCHIVE),
            "trie": TrieChain(Store(folder / "trie"), start, genesis_hash),
        }
        for number in range(rounds):
            encoded = build(builder, size, chance).encode()
            # In turns, since who comes second finds the caches of decoding warm.
            for kind, chain in sorted(chains.items(), reverse=bool(number % 2)):
                times[kind].append(import_seconds(chain, encoded))
        builder.close()
        found: dict[str, dict[str, float]] = {
            "import_tx_per_cpu_s": {
                kind: round(TRANSACTIONS / statistics.median(seconds)) for kind, seconds in times.items()
            }
        }
        addresses = [account(chance.randrange(size)) for _ in range(reads)]
        for what in ("first_read_us", "second_read_us", "old_read_us"):
            found[what] = {}
        for kind, chain in chains.items():
            chain.close()
            store = Store(folder / kind)
            again = (
                TrieChain(store, start, genesis_hash) if kind == "trie" else Chain(store, start, genesis_hash, ARCHIVE)
            )
            found["first_read_us"][kind] = round(read_us(again, again.head(), addresses), 2)
            found["second_read_us"][kind] = round(read_us(again, again.head(), addresses), 2)
            old = again.header_by_number(rounds // 2)
            assert old is not None
            read_us(again, old, addresses)
            found["old_read_us"][kind] = round(read_us(again, old, addresses), 2)
            again.close()
    for row in found.values():
        better = row["flat"] / row["trie"] if row["flat"] > 100 else row["trie"] / row["flat"]
        row["ratio"] = round(better, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--reads", type=int, default=20_000)
    arguments = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'accounts':>10} {'':24}{'flat':>10}{'trie':>10}{'ratio':>8}")
    for size in map(int, arguments.sizes.split(",")):
        results[f"{size} accounts"] = measure(size, arguments.rounds, arguments.reads)
        for what, row in results[f"{size} accounts"].items():
            print(f"{size:10} {what:24}{row['flat']:10}{row['trie']:10}{row['ratio']:8.2f}")
    document = {
        "what": f"blocks of {TRANSACTIONS} transfers to random accounts, median of {arguments.rounds}; "
        f"{arguments.reads} reads of random accounts, mean; flat tables against the trie alone",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: importlib.metadata.version(name) for name in ("plyvel", "lru-dict")},
        "results": results,
    }
    path = Path(__file__).parent / "results" / "state.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
