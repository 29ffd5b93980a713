"""debug: states as they are kept, between transactions too, and what blocks need and change of them."""

from __future__ import annotations

import base64
import heapq
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from openledger.evm_ext import encoding
from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.errors import CallTimeout, DatabaseCorrupt, ExecutionError, InvalidBlock, InvalidTransaction
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, decode_account
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.tracing import BlockReplay
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.genesis.hashing import keccak256
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import InvalidParams, LimitExceeded, ServerError
from openledger.node.rpc.formats import Json, block_json, hex_bytes, hex_word
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import (
    ADDRESS,
    BLOCK,
    BOOLEAN,
    BYTES,
    COUNT,
    HASH,
    INDEX,
    BlockReference,
    decode_block,
)
from openledger.node.rpc.trace_config import TraceConfig, decode_trace_config

HASH_OR_NUMBER = Parameter(decode_block)


class DebugState:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._known = {keccak256(address): address for address in backend.chain.genesis.alloc}

    @rpc_method("debug_executionWitness", HASH_OR_NUMBER, slow=True)
    def execution_witness(self, reference: BlockReference) -> Json:
        """All that executing a block needs: trie nodes, codes, ancestors; and the keys behind hashed keys."""
        if reference.label == "pending":
            raise ServerError("pending block has no witness")
        header = self._backend.header(reference)
        block = None if header is None else self._chain.block_by_hash(header.hash)
        if block is None:
            what = hex(reference.number) if reference.number is not None else hex_bytes(reference.hash or b"")
            raise ServerError(f"block {what} not found")
        if block.number == 0:
            raise ServerError("block 0x0 found, but parent missing")
        with self._errors():
            witness = self._chain.execution_witness(block)
        return {
            "state": [hex_bytes(node) for node in witness.state],
            "codes": [hex_bytes(code) for code in witness.codes],
            "keys": [hex_bytes(key) for key in witness.keys],
            "headers": [hex_bytes(header) for header in witness.headers],
        }

    @rpc_method("debug_intermediateRoots", HASH, Parameter(decode_trace_config).optional(TraceConfig()), slow=True)
    def intermediate_roots(self, block_hash: bytes, config: TraceConfig) -> list[str]:
        """The state root after each transaction."""
        replay = self._replay(self._block(BlockReference(hash=block_hash)))
        roots: list[str] = []
        with self._errors():
            for position in range(len(replay.block.transactions)):
                replay.skip_to(position + 1)
                roots.append(hex_bytes(replay.processor.state.intermediate_root()))
        return roots

    @rpc_method("debug_storageRangeAt", HASH_OR_NUMBER, COUNT, ADDRESS, BYTES, COUNT, slow=True)
    def storage_range_at(self, reference: BlockReference, index: int, address: bytes, start: bytes, most: int) -> Json:
        """Slots of an account before the transaction with an index, in the order of their hashes. The slot behind
        a hash is known only where the block's transactions changed it."""
        block = self._block(reference)
        if index > len(block.transactions):
            raise ServerError(f"transaction index {index} out of range for block {hex_bytes(block.hash)}")
        if block.number == 0:
            raise ServerError("no transaction in genesis")
        if len(start) > 32:
            raise InvalidParams("invalid argument 3: a start key has at most 32 bytes")
        parent = self._chain.parent_state(block.header.parent_hash)
        replay = self._replay(block)
        most = min(most, self._backend.limits.range_results)
        with self._errors():
            replay.skip_to(index)
            state = replay.processor.state
            changed = {
                keccak256(slot.to_bytes(32, "big")): (slot, word) for slot, word in state.changed_slots(address).items()
            }
            account = state._account(address)
            root = EMPTY_ROOT if account is None else account.storage_root
            found = list(islice(_slots(parent.reader, address, root, start, changed), most + 1))
        return {
            "storage": {
                hex_bytes(hashed): {"key": None if slot is None else hex_word(slot), "value": hex_word(value)}
                for hashed, slot, value in found[:most]
            },
            "nextKey": hex_bytes(found[most][0]) if len(found) > most else None,
        }

    @rpc_method(
        "debug_accountRange",
        BLOCK,
        BYTES.optional(b""),
        COUNT.optional(256),
        BOOLEAN.optional(False),
        BOOLEAN.optional(False),
        BOOLEAN.optional(False),
        slow=True,
    )
    def account_range(
        self,
        reference: BlockReference,
        start: bytes,
        most: int,
        without_code: bool,
        without_storage: bool,
        incompletes: bool,
    ) -> Json:
        """Accounts in the order of their hashed addresses. Addresses of the genesis are known; others are shown with
        `incompletes` as "pre(hash)"."""
        most = min(most or self._backend.limits.account_range_results, self._backend.limits.account_range_results)
        return self._accounts(reference, start, most, without_code, without_storage, incompletes)

    @rpc_method("debug_dumpBlock", BLOCK, slow=True)
    def dump_block(self, reference: BlockReference) -> Json:
        """The first accounts of a state, without where to go on."""
        most = self._backend.limits.account_range_results
        body = self._accounts(reference, b"", most, False, False, True)
        return {"root": body["root"], "accounts": body["accounts"]}

    @rpc_method("debug_getModifiedAccountsByNumber", COUNT, COUNT.optional(), slow=True)
    def modified_accounts_by_number(self, start: int, end: int | None) -> list[str]:
        return self._modified(
            self._block(BlockReference(number=start)).header,
            None if end is None else self._block(BlockReference(number=end)).header,
        )

    @rpc_method("debug_getModifiedAccountsByHash", HASH, HASH.optional(), slow=True)
    def modified_accounts_by_hash(self, start: bytes, end: bytes | None) -> list[str]:
        return self._modified(
            self._block(BlockReference(hash=start)).header,
            None if end is None else self._block(BlockReference(hash=end)).header,
        )

    @rpc_method("debug_getBadBlocks", blocking=True)
    def bad_blocks(self) -> list[Json]:
        """Blocks that were refused since the node started, the newest first."""
        return [
            {"hash": hex_bytes(block.hash), "block": block_json(block, True), "rlp": hex_bytes(block.encode())}
            for block in reversed(self._chain.bad_blocks)
        ]

    @rpc_method("debug_preimage", HASH)
    def preimage(self, digest: bytes) -> str:
        raise ServerError("preimages are not kept: use debug_executionWitness for those of a block")

    @rpc_method("debug_setHead", INDEX, blocking=True, trusted=True)
    def set_head(self, number: int) -> None:
        """Go back to an ancestor of the head. For who runs the node."""
        header = self._chain.header_by_number(number)
        if header is None or number > self._chain.head().number:
            raise ServerError(f"block #{number} not found")
        with self._errors():
            self._chain.rollback(header.hash)

    # --- what several share -----------------------------------------------------------------------------

    def _accounts(
        self,
        reference: BlockReference,
        start: bytes,
        most: int,
        without_code: bool,
        without_storage: bool,
        incompletes: bool,
    ) -> Json:
        header = self._backend.existing_header(reference)
        if len(start) > 32:
            raise InvalidParams("invalid argument 1: a start key has at most 32 bytes")
        accounts: Json = {}
        next_key = b""
        with self._errors():
            reader = self._chain.state(header.hash).reader
            for hashed, raw in reader.account_trie().entries(start):
                if len(accounts) >= most:
                    next_key = hashed
                    break
                address = self._known.get(hashed)
                if address is None and not incompletes:
                    continue
                key = hex_bytes(address) if address is not None else f"pre({hex_bytes(hashed)})"
                accounts[key] = self._account(reader, hashed, address, raw, without_code, without_storage)
        body: Json = {"root": header.state_root.hex(), "accounts": accounts}
        if next_key:
            body["next"] = base64.b64encode(next_key).decode()
        return body

    def _account(
        self,
        reader: StateReader,
        hashed: bytes,
        address: bytes | None,
        raw: bytes,
        without_code: bool,
        without_storage: bool,
    ) -> Json:
        account = decode_account(raw)
        body: Json = {
            "balance": str(account.balance),
            "nonce": account.nonce,
            "root": hex_bytes(account.storage_root),
            "codeHash": hex_bytes(account.code_hash),
        }
        if not without_code and account.code_hash != EMPTY_CODE_HASH:
            body["code"] = hex_bytes(reader.code(account.code_hash))
        if not without_storage and account.storage_root != EMPTY_ROOT and address is not None:
            limit = self._backend.limits.range_results
            entries = list(islice(reader.storage_trie(address, account.storage_root).entries(), limit + 1))
            if len(entries) > limit:
                raise LimitExceeded(f"{hex_bytes(address)} has more than {limit} slots: ask without storage")
            body["storage"] = {hex_bytes(slot): _word(value).to_bytes(32, "big").hex() for slot, value in entries}
        if address is not None:
            body["address"] = hex_bytes(address)
        body["key"] = hex_bytes(hashed)
        return body

    def _modified(self, start: Header, end: Header | None) -> list[str]:
        """Accounts that differ between the states after two blocks; with one, between it and its parent."""
        if end is None:
            parent = self._chain.header_by_hash(start.parent_hash)
            if parent is None:
                raise ServerError(f"block {hex_bytes(start.hash)} has no parent")
            start, end = parent, start
        if start.number >= end.number:
            raise ServerError(f"start block height ({start.number}) must be less than end block height ({end.number})")
        limit = self._backend.limits.modified_accounts_blocks
        if end.number - start.number > limit:
            raise LimitExceeded(f"{end.number - start.number} blocks, at most {limit}: ask for fewer")
        touched: set[bytes] = set()
        header = end
        with self._errors():
            deadline = self._deadline()
            while header.number > start.number:
                replay = self._replay(self._block(BlockReference(hash=header.hash)), deadline)
                replay.skip_to(len(replay.block.transactions))
                replay.processor.finish(replay.block.withdrawals, replay.block.uncles)
                touched |= replay.processor.state.changed_addresses
                found = self._chain.header_by_hash(header.parent_hash)
                if found is None:
                    break
                header = found
            before, after = self._chain.state(start.hash).reader, self._chain.state(end.hash).reader
            return [
                hex_bytes(address) for address in sorted(touched) if before.account(address) != after.account(address)
            ]

    def _replay(self, block: Block, deadline: float | None = None) -> BlockReplay:
        if block.number == 0:
            raise ServerError("genesis is not traceable")
        with self._errors():
            return self._chain.replay(block, deadline=self._deadline() if deadline is None else deadline)

    def _deadline(self) -> float:
        return time.monotonic() + self._backend.limits.trace_time_s

    def _block(self, reference: BlockReference) -> Block:
        header = self._backend.header(reference)
        block = None if header is None else self._chain.block_by_hash(header.hash)
        if block is None:
            raise ServerError("block not found")
        return block

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except CallTimeout as error:
            raise ServerError("execution timeout") from error
        except (InvalidTransaction, InvalidBlock) as error:
            raise ServerError(f"executing the block again failed: {error}") from error
        except (ExecutionError, DatabaseCorrupt) as error:
            raise ServerError(str(error)) from error


def _slots(
    reader: StateReader, address: bytes, root: bytes, start: bytes, changed: dict[bytes, tuple[int, int]]
) -> Iterator[tuple[bytes, int | None, int]]:
    """(hashed slot, slot if known, word) of what is not 0, in order: the trie's, and over it what changed since."""
    kept = (
        (hashed, None, _word(value))
        for hashed, value in reader.storage_trie(address, root).entries(start)
        if hashed not in changed
    )
    new = sorted((hashed, slot, word) for hashed, (slot, word) in changed.items() if word and hashed >= start)
    return heapq.merge(kept, new, key=lambda entry: entry[0])


def _word(value: bytes) -> int:
    return encoding.to_uint(encoding.decode(value))
