"""Building and importing blocks: ours against stock py-evm, CPU time, in one run.

Blocks of 400 type-2 transactions, signatures, receipts and all roots included: plain transfers, and transfers
of an ERC-20-like token (two balances change, one event). Both start from the same plain Prague genesis; ours
writes to LevelDB on disk, py-evm to memory. Every block that ours builds is imported by py-evm and must get
the same hash. Prints transactions per CPU second (median) and the ratio; writes results/evm.json.

    python benchmarks/evm.py [--rounds N] [--transactions N]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import rlp
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock

from openledger.evm_ext import Block, Chain, PayloadAttributes, Transaction, decode_transaction, sign_transaction
from openledger.evm_ext.signatures import address_of
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import l1_genesis, preset

Result = TypeVar("Result")

CHAIN_ID = 1337
GWEI = 10**9
KEYS = [keccak256(b"benchmark %d" % number) for number in range(100)]
ADDRESSES = [address_of(key) for key in KEYS]
TOKEN = b"\x70" * 20
SYSTEM = (
    predeploys.BEACON_ROOTS,
    predeploys.HISTORY_STORAGE,
    predeploys.WITHDRAWAL_REQUESTS,
    predeploys.CONSOLIDATION_REQUESTS,
)


def token_code() -> bytes:
    """transfer(address to, uint256 amount) without a dispatcher: calldata is `to` and `amount` as words.

    The balance of A is at slot keccak256(A || 0), as Solidity puts a mapping at slot 0. Reverts if the sender
    has too little; emits Transfer."""
    transfer_topic = keccak256(b"Transfer(address,address,uint256)")
    return b"".join(
        bytes.fromhex(part.replace(" ", ""))
        for part in (
            "33 5f52 5f602052 60405f20",  # slot of the sender
            "80 54",  # slot, balance
            "6020 35 80 82 10",  # slot, balance, amount, balance < amount
            "15 601a 57 5f5ffd 5b",  # unless so, revert
            "90 03 90 55",  # store balance - amount
            "5f35 5f52 60405f20",  # slot of the recipient
            "80 54 6020 35 01 90 55",  # store balance + amount
            "6020 35 5f52",  # memory: amount
            "5f35 33 7f" + transfer_topic.hex() + " 60205f a3",
            "60015f52 60205ff3",
        )
    )


def genesis() -> Genesis:
    l1 = l1_genesis(preset("devnet"), 1_700_000_000)
    balances = {int.from_bytes(keccak256(bytes(12) + address + bytes(32)), "big"): 10**30 for address in ADDRESSES}
    return Genesis(
        rules="ethereum",
        chain_id=CHAIN_ID,
        timestamp=1_700_000_000,
        gas_limit=60_000_000,
        base_fee_per_gas=GWEI,
        alloc={
            **{address: l1.alloc[address] for address in SYSTEM},
            **{address: GenesisAccount(balance=10**24) for address in ADDRESSES},
            TOKEN: GenesisAccount(nonce=1, code=token_code(), storage=balances),
        },
    )


def transactions(kind: str, block_number: int, number: int) -> list[bytes]:
    """Encodings of a block's transactions: senders in turns, recipients partly new."""
    encoded = []
    per_key = number // len(KEYS)
    for index in range(number):
        sender, turn = index % len(KEYS), index // len(KEYS)
        recipient = (
            ADDRESSES[(index * 7 + 1) % len(KEYS)]
            if index % 2
            else keccak256(b"new %d %d" % (block_number, index))[12:]
        )
        data = bytes(12) + recipient + (5).to_bytes(32, "big") if kind == "token" else b""
        encoded.append(
            sign_transaction(
                KEYS[sender],
                chain_id=CHAIN_ID,
                nonce=block_number * per_key + turn,
                gas=100_000 if kind == "token" else 21_000,
                to=TOKEN if kind == "token" else recipient,
                value=0 if kind == "token" else 1,
                data=data,
                max_fee_per_gas=100 * GWEI,
                max_priority_fee_per_gas=GWEI,
            ).raw
        )
    return encoded


def stock_chain(start: Genesis) -> MiningChain:
    chain_class = MiningChain.configure(__name__="Stock", vm_configuration=((0, PragueVM),), chain_id=start.chain_id)
    params = {
        "difficulty": 0,
        "gas_limit": start.gas_limit,
        "timestamp": start.timestamp,
        "coinbase": start.coinbase,
        "extra_data": start.extra_data,
        "mix_hash": start.prev_randao,
        "nonce": bytes(8),
        "base_fee_per_gas": start.base_fee_per_gas,
        "parent_beacon_block_root": start.parent_beacon_block_root,
    }
    state = {
        address: {
            "balance": account.balance,
            "nonce": account.nonce,
            "code": account.code,
            "storage": dict(account.storage),
        }
        for address, account in start.alloc.items()
    }
    return chain_class.from_genesis(AtomicDB(), params, state)


def timed(times: list[float], work: Callable[..., Result], *arguments: object) -> Result:
    """What `work` gives; its CPU seconds are added to `times`."""
    start = time.process_time()
    result = work(*arguments)
    times.append(time.process_time() - start)
    return result


def ours_build(chain: Chain, raw: list[bytes]) -> Block:
    candidates: list[Transaction] = [decode_transaction(item) for item in raw]
    head = chain.head()
    attributes = PayloadAttributes(head.timestamp + 2, bytes(32), b"\xfe" * 20, bytes(32))
    block = chain.build(head.hash, attributes, candidates)
    chain.set_heads(unsafe=block.hash)
    return block


def ours_import(chain: Chain, encoded: bytes) -> None:
    block = Block.decode(encoded)
    chain.import_block(block)
    chain.set_heads(unsafe=block.hash)


def stock_build(chain: MiningChain, raw: list[bytes], like: Block) -> None:
    """`mine_all` as it comes; the header gets our block's fee recipient and time."""
    builder = chain.get_vm().get_transaction_builder()
    decoded = [builder.decode(item) for item in raw]
    chain.mine_all(
        decoded,
        coinbase=like.header.fee_recipient,
        timestamp=like.header.timestamp,
        mix_hash=like.header.prev_randao,
    )


def stock_import(chain: MiningChain, encoded: bytes) -> bytes:
    return bytes(chain.import_block(rlp.decode(encoded, PragueBlock)).imported_block.hash)


def measure(kind: str, rounds: int, number: int) -> dict[str, float]:
    """Median CPU seconds per block by what was done."""
    start = genesis()
    times: dict[str, list[float]] = {name: [] for name in ("ours build", "ours import", "stock build", "stock import")}
    with tempfile.TemporaryDirectory() as folder:
        builder = Chain.open(Path(folder) / "builder", start)
        importer = Chain.open(Path(folder) / "importer", start)
        stock_importer, stock_builder = stock_chain(start), stock_chain(start)
        for round_number in range(rounds):
            raw = transactions(kind, round_number, number)
            block = timed(times["ours build"], ours_build, builder, raw)
            assert len(block.transactions) == number, "the builder left transactions out"
            assert all(item.status for item in builder.receipts(block.hash)), "a transaction failed"
            encoded = block.encode()
            timed(times["ours import"], ours_import, importer, encoded)
            stock_hash = timed(times["stock import"], stock_import, stock_importer, encoded)
            assert stock_hash == block.hash, "py-evm gets another block"
            timed(times["stock build"], stock_build, stock_builder, raw, block)
        builder.close()
        importer.close()
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--transactions", type=int, default=400)
    arguments = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    print(f"{'':28}{'ours tx/s':>12}{'py-evm tx/s':>14}{'ratio':>8}")
    for kind in ("transfer", "token"):
        medians = measure(kind, arguments.rounds, arguments.transactions)
        for action in ("build", "import"):
            ours = arguments.transactions / medians[f"ours {action}"]
            stock = arguments.transactions / medians[f"stock {action}"]
            results[f"{kind} {action}"] = {
                "ours_tx_per_cpu_s": round(ours),
                "stock_py_evm_tx_per_cpu_s": round(stock),
                "ratio": round(ours / stock, 2),
            }
            print(f"{kind + ' ' + action:28}{ours:12.0f}{stock:14.0f}{ours / stock:8.2f}")
    document = {
        "what": f"blocks of {arguments.transactions} transactions, median CPU time of {arguments.rounds} blocks",
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: importlib.metadata.version(name) for name in ("py-evm", "plyvel", "coincurve")},
        "results": results,
    }
    path = Path(__file__).parent / "results" / "evm.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    if min(result["ratio"] for result in results.values()) < 1:
        sys.exit("slower than stock py-evm")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
