"""Who executes whole blocks: ours on LevelDB, and stock py-evm in memory. Times are CPU seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rlp
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock

from openledger.evm_ext import Block, Chain, PayloadAttributes, Transaction, decode_transaction
from openledger.genesis.genesis import Genesis

Result = TypeVar("Result")


def timed(times: list[float], work: Callable[..., Result], *arguments: object) -> Result:
    """What `work` gives; its CPU seconds are added to `times`."""
    start = time.process_time()
    result = work(*arguments)
    times.append(time.process_time() - start)
    return result


class Ours:
    """A chain on disk."""

    def __init__(self, folder: Path, start: Genesis, fee_recipient: bytes) -> None:
        self.chain = Chain.open(folder, start)
        self._fee_recipient = fee_recipient

    def build(self, raw: list[bytes]) -> Block:
        """From encodings: decoding and the recovery of senders are part of it."""
        return self.build_from(self.decode(raw))

    @staticmethod
    def decode(raw: list[bytes], *, with_senders: bool = False) -> list[Transaction]:
        found: list[Transaction] = [decode_transaction(item) for item in raw]
        if with_senders:
            assert all(transaction.sender for transaction in found)
        return found

    def build_from(self, candidates: list[Transaction]) -> Block:
        head = self.chain.head()
        attributes = PayloadAttributes(head.timestamp + 2, bytes(32), self._fee_recipient, bytes(32))
        block = self.chain.build(head.hash, attributes, candidates)
        self.chain.set_heads(unsafe=block.hash)
        return block

    def import_(self, encoded: bytes) -> None:
        block = Block.decode(encoded)
        self.chain.import_block(block)
        self.chain.set_heads(unsafe=block.hash)

    def check(self, block: Block, number: int) -> None:
        assert len(block.transactions) == number, "the builder left transactions out"
        assert all(item.status for item in self.chain.receipts(block.hash)), "a transaction failed"

    def close(self) -> None:
        self.chain.close()


class Stock:
    """py-evm as it comes."""

    def __init__(self, start: Genesis) -> None:
        chain_class = MiningChain.configure(
            __name__="Stock", vm_configuration=((0, PragueVM),), chain_id=start.chain_id
        )
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
        self._chain = chain_class.from_genesis(AtomicDB(), params, state)

    def build(self, raw: list[bytes], like: Block) -> None:
        """From encodings, as `Ours.build`."""
        self.build_from(self.decode(raw), like)

    def decode(self, raw: list[bytes], *, with_senders: bool = False) -> list[Any]:
        """py-evm keeps a sender that was recovered once, too."""
        builder = self._chain.get_vm().get_transaction_builder()
        found = [builder.decode(item) for item in raw]
        if with_senders:
            assert all(transaction.sender for transaction in found)
        return found

    def build_from(self, transactions: list[Any], like: Block) -> None:
        """`mine_all` as it comes; the header gets our block's fee recipient and time."""
        self._chain.mine_all(
            transactions,
            coinbase=like.header.fee_recipient,
            timestamp=like.header.timestamp,
            mix_hash=like.header.prev_randao,
        )

    def import_(self, encoded: bytes) -> bytes:
        return bytes(self._chain.import_block(rlp.decode(encoded, PragueBlock)).imported_block.hash)
