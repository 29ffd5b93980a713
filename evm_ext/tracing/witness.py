"""Everything a stranger without a database needs to execute one block: an execution witness.

Source: execution-apis, debug_executionWitness. The block is executed on a state that is read from the tries alone,
and what was read is kept; computing the new root reads the nodes that deletions merge too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.building import ParentState, execute_block
from openledger.evm_ext.errors import UnknownBlock
from openledger.evm_ext.state.account import Account
from openledger.evm_ext.state.reader import StateDatabase, TrieReader
from openledger.evm_ext.trie import NodeSource
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.hashing import keccak256


@dataclass(frozen=True)
class ExecutionWitness:
    """state: trie nodes; codes: contract codes; keys: addresses and slots (32 bytes) whose hashes lead through the
    tries; headers: ancestors, the parent last. Each sorted, headers by number."""

    state: tuple[bytes, ...]
    codes: tuple[bytes, ...]
    keys: tuple[bytes, ...]
    headers: tuple[bytes, ...]

    def preimages(self) -> dict[bytes, bytes]:
        """keccak to preimage, of all of them."""
        return {keccak256(item): item for item in (*self.state, *self.codes, *self.keys, *self.headers)}


class _Recorder:
    """A source of nodes or codes that keeps what it gave."""

    def __init__(self, source: NodeSource) -> None:
        self._source = source
        self.given: dict[bytes, bytes] = {}

    def __call__(self, key: bytes) -> bytes | None:
        value = self._source(key)
        if value is not None:
            self.given[key] = value
        return value


class _KeyRecorder(TrieReader):
    """A trie reader that keeps the addresses and slots that were asked for."""

    def __init__(self, database: StateDatabase, root: bytes) -> None:
        super().__init__(database, root)
        self.keys: set[bytes] = set()

    def account(self, address: bytes) -> Account | None:
        self.keys.add(address)
        return super().account(address)

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        self.keys.add(slot.to_bytes(32, "big"))
        return super().storage(address, storage_root, slot)


def execution_witness(
    rules: Rules,
    block: Block,
    parent: Header,
    node: NodeSource,
    code: NodeSource,
    header_by_hash: Callable[[bytes], Header | None],
) -> ExecutionWitness:
    """The witness of a stored block above genesis. Raises `MissingTrieNode` if the parent's tries are not kept."""
    nodes, codes = _Recorder(node), _Recorder(code)
    reader = _KeyRecorder(StateDatabase(nodes, codes), parent.state_root)
    ancestors = {parent.number: parent}

    def ancestor_hash(number: int) -> bytes:
        lowest = min(ancestors)
        while lowest > number + 1:
            header = header_by_hash(ancestors[lowest].parent_hash)
            if header is None:
                raise UnknownBlock(f"block 0x{ancestors[lowest].parent_hash.hex()} is not stored")
            lowest -= 1
            ancestors[lowest] = header
        return ancestors[lowest].parent_hash if number < lowest else ancestors[number].hash

    execute_block(rules, ParentState(parent, reader, ancestor_hash), block)
    return ExecutionWitness(
        state=tuple(sorted(set(nodes.given.values()))),
        codes=tuple(sorted(set(codes.given.values()))),
        keys=tuple(sorted(reader.keys)),
        headers=tuple(ancestors[number].encode() for number in sorted(ancestors)),
    )
