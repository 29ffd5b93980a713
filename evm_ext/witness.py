"""What a block needs of the state before it, as preimages of Keccak-256: trie nodes, code, headers.

Whoever executes from a witness trusts nobody: every preimage is checked against its hash before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openledger.evm_ext.block import Header
from openledger.evm_ext.errors import InvalidWitness, MissingWitness, UndecodableBlock
from openledger.evm_ext.state.reader import StateDatabase, StateReader
from openledger.genesis.hashing import keccak256

_LISTS = ("state", "codes", "keys", "headers")


class Witness:
    """Preimages by hash. One thread at a time; `used` is what was asked for so far."""

    def __init__(self, preimages: Iterable[bytes]) -> None:
        self._preimages = {keccak256(preimage): preimage for preimage in preimages}
        self.used: set[bytes] = set()

    @classmethod
    def from_json(cls, document: Any) -> Witness:
        """From `{hash: preimage}` or from `{"state": [...], "codes": [...], "headers": [...]}` as
        debug_executionWitness answers; all in hex, with or without 0x. Raises `InvalidWitness`."""
        if not isinstance(document, Mapping):
            raise InvalidWitness("a witness must be an object: a map from hash to preimage, or lists of preimages")
        if document and set(document) <= set(_LISTS):
            return cls(
                _octets(item, f"{name}[{index}]")
                for name in _LISTS
                if name != "keys"  # preimages of hashed addresses and slots, which execution knows anyway
                for index, item in enumerate(_listed(document.get(name), name))
            )
        witness = cls(())
        for key, value in document.items():
            digest, preimage = _octets(key, "a hash"), _octets(value, f"the preimage of {key}")
            if keccak256(preimage) != digest:
                raise InvalidWitness(f"the preimage of {key} hashes to 0x{keccak256(preimage).hex()}")
            witness._preimages[digest] = preimage
        return witness

    def __len__(self) -> int:
        return len(self._preimages)

    def preimage(self, digest: bytes) -> bytes:
        """Raises `MissingWitness`."""
        preimage = self._preimages.get(digest)
        if preimage is None:
            raise MissingWitness(digest)
        self.used.add(digest)
        return preimage

    def reader(self, state_root: bytes) -> StateReader:
        """The state with this root. Reading what the witness does not hold raises `MissingWitness`."""
        # Keys of storage tries' nodes begin with their owner; the witness has them by hash alone.
        return StateDatabase(lambda key: self.preimage(key[-32:]), self.preimage).reader(state_root)

    def ancestor_hash(self, parent: Header, number: int) -> bytes:
        """The hash of an ancestor of the block on `parent`, found through headers in the witness.

        Raises `MissingWitness`, or `InvalidWitness` if a preimage on the way is no header."""
        header = parent
        while header.number > number:
            if header.number == number + 1:
                return header.parent_hash
            try:
                header = Header.decode(self.preimage(header.parent_hash))
            except UndecodableBlock as error:
                raise InvalidWitness(f"preimage of 0x{header.parent_hash.hex()}: {error}") from None
        return header.hash


def _listed(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidWitness(f"{name} must be a list")
    return value


def _octets(value: Any, where: str) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise InvalidWitness(f"{where} must be hex, got {str(value)[:80]!r}") from None
