"""Accounts as test files write them (`pre`, `postState`), and a state in memory that tests run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openledger.evm_ext.conformance.values import as_object, data, quantity
from openledger.evm_ext.genesis_block import state_of_alloc
from openledger.evm_ext.state.changes import StateChanges
from openledger.evm_ext.state.reader import StateDatabase, StateReader
from openledger.evm_ext.state.view import StateView
from openledger.genesis.genesis import GenesisAccount


def read_accounts(value: Any, where: str) -> dict[bytes, GenesisAccount]:
    """The accounts of a state by address. Raises `InvalidFixture`."""
    accounts: dict[bytes, GenesisAccount] = {}
    for address, entry in as_object(value, where).items():
        place = f"{where}.{address}"
        fields = as_object(entry, place)
        slots = {
            quantity(slot, f"{place}.storage"): quantity(word, f"{place}.storage.{slot}")
            for slot, word in as_object(fields.get("storage") or {}, f"{place}.storage").items()
        }
        accounts[data(address, f"{where}, an address,", 20)] = GenesisAccount(
            balance=quantity(fields.get("balance", 0), f"{place}.balance"),
            nonce=quantity(fields.get("nonce", 0), f"{place}.nonce", 64),
            code=data(fields.get("code", ""), f"{place}.code"),
            storage={slot: word for slot, word in slots.items() if word},
        )
    return accounts


class MemoryState:
    """Trie nodes and code of every state of one test; nothing is ever removed."""

    def __init__(self, accounts: Mapping[bytes, GenesisAccount]) -> None:
        self._nodes: dict[bytes, bytes] = {}
        self._codes: dict[bytes, bytes] = {}
        self._database = StateDatabase(self._nodes.get, self._codes.get)
        changes, _ = state_of_alloc(accounts)
        self.root = changes.root
        """The root of the state with the accounts it was made from."""
        self.add(changes)

    def add(self, changes: StateChanges) -> None:
        self._nodes.update(changes.nodes)
        self._codes.update(changes.codes)

    def reader(self, root: bytes) -> StateReader:
        return self._database.reader(root)


def difference(state: StateReader, accounts: Mapping[bytes, GenesisAccount]) -> str | None:
    """The first thing in which a state is not exactly these accounts, in words; None if it is."""
    changes, _ = state_of_alloc(accounts)
    if changes.root == state.root:
        return None
    view = StateView(state)
    for address, expected in sorted(accounts.items()):
        where = f"account 0x{address.hex()}"
        if not view.exists(address):
            return f"{where} is missing"
        for name, actual, wanted in (
            ("balance", view.balance(address), expected.balance),
            ("nonce", view.nonce(address), expected.nonce),
            ("code", "0x" + view.code(address).hex(), "0x" + expected.code.hex()),
        ):
            if actual != wanted:
                return f"{where} has {name} {actual}, expected {wanted}"
        for slot, word in sorted(expected.storage.items()):
            actual_word = view.storage(address, slot)
            if actual_word != word:
                return f"{where} has {actual_word:#x} in slot {slot:#x}, expected {word:#x}"
    return (
        f"the state root is 0x{state.root.hex()}, expected 0x{changes.root.hex()}: "
        "there are accounts or slots that the test does not list"
    )
