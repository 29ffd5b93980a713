"""A read-only look at the state after one block, and Merkle proofs over it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openledger.evm_ext.state.account import EMPTY_ACCOUNT, Account
from openledger.evm_ext.state.reader import StateReader
from openledger.genesis.hashing import keccak256


@dataclass(frozen=True)
class StorageProof:
    """One slot of an `AccountProof`: nodes from the storage root down."""

    slot: int
    value: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class AccountProof:
    """What eth_getProof answers (EIP-1186), in bytes and integers."""

    address: bytes
    balance: int
    nonce: int
    code_hash: bytes
    storage_root: bytes
    proof: tuple[bytes, ...]
    storage_proofs: tuple[StorageProof, ...]


class StateView:
    """The state after a block. Never changes; any thread may use it while blocks are imported."""

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader

    @property
    def root(self) -> bytes:
        return self._reader.root

    @property
    def reader(self) -> StateReader:
        return self._reader

    def _account(self, address: bytes) -> Account:
        return self._reader.account(address) or EMPTY_ACCOUNT

    def exists(self, address: bytes) -> bool:
        return self._reader.account(address) is not None

    def balance(self, address: bytes) -> int:
        """Wei."""
        return self._account(address).balance

    def nonce(self, address: bytes) -> int:
        return self._account(address).nonce

    def code(self, address: bytes) -> bytes:
        return self._reader.code(self._account(address).code_hash)

    def code_hash(self, address: bytes) -> bytes:
        return self._account(address).code_hash

    def storage(self, address: bytes, slot: int) -> int:
        return self._reader.storage(address, self._account(address).storage_root, slot)

    def storage_root(self, address: bytes) -> bytes:
        return self._account(address).storage_root

    def get_storage(self, address: bytes, slot: int) -> int:
        """As `storage`, under the name the fee reader uses."""
        return self.storage(address, slot)

    def account_proof(self, address: bytes, slots: Iterable[int] = ()) -> AccountProof:
        """Proof of the account and some of its slots against `root`; proves absence too."""
        account = self._account(address)
        storage_trie = self._reader.storage_trie(address, account.storage_root)
        return AccountProof(
            address=address,
            balance=account.balance,
            nonce=account.nonce,
            code_hash=account.code_hash,
            storage_root=account.storage_root,
            proof=tuple(self._reader.account_trie().proof(keccak256(address))),
            storage_proofs=tuple(
                StorageProof(
                    slot,
                    self._reader.storage(address, account.storage_root, slot),
                    tuple(storage_trie.proof(keccak256(slot.to_bytes(32, "big")))),
                )
                for slot in slots
            ),
        )
