"""Block 0 and its state, computed from a genesis."""

from __future__ import annotations

from openledger.evm_ext.block import BLOOM_BYTES, EMPTY_REQUESTS_HASH, EMPTY_UNCLES_HASH, Block, Header
from openledger.evm_ext.encoding import encode_uint
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, Account, encode_account
from openledger.evm_ext.state.world import StateChanges
from openledger.evm_ext.trie import EMPTY_ROOT, Trie
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis
from openledger.genesis.hashing import keccak256


def genesis_block(genesis: Genesis) -> tuple[Block, StateChanges]:
    """The first block and everything its state adds to an empty store."""
    nodes: dict[bytes, bytes] = {}
    codes: dict[bytes, bytes] = {}
    trie = Trie(nodes.get, EMPTY_ROOT)
    withdrawals_root = EMPTY_ROOT
    for address, entry in sorted(genesis.alloc.items()):
        storage = Trie(nodes.get, EMPTY_ROOT)
        for slot, value in entry.storage.items():
            if value:
                storage.set(keccak256(slot.to_bytes(32, "big")), encode_uint(value))
        storage_root = storage.commit(nodes)
        code_hash = EMPTY_CODE_HASH
        if entry.code:
            code_hash = keccak256(entry.code)
            codes[code_hash] = entry.code
        if genesis.rules == "op" and address == predeploys.L2_TO_L1_MESSAGE_PASSER:
            withdrawals_root = storage_root
        account = Account(entry.nonce, entry.balance, storage_root, code_hash)
        trie.set(keccak256(address), encode_account(account))
    header = Header(
        parent_hash=bytes(32),
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=genesis.coinbase,
        state_root=trie.commit(nodes),
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=0,
        number=0,
        gas_limit=genesis.gas_limit,
        gas_used=0,
        timestamp=genesis.timestamp,
        extra_data=genesis.extra_data,
        prev_randao=genesis.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=genesis.base_fee_per_gas,
        withdrawals_root=withdrawals_root,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=genesis.parent_beacon_block_root,
        requests_hash=EMPTY_REQUESTS_HASH,
    )
    return Block(header, ()), StateChanges(header.state_root, nodes, codes)
