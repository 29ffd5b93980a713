"""The state a block's transactions change: a cache over a reader, with an undo log.

The virtual machine (py-evm's opcodes) works on this object, so the method names are those of py-evm's
`StateAPI`. Snapshots are positions in the undo log: taking one is free, keeping one is free, reverting
costs what is undone. A flat table of accounts can replace the reader without anything here changing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from openledger.evm_ext.encoding import encode_uint
from openledger.evm_ext.state.account import EMPTY_ACCOUNT, EMPTY_CODE_HASH, Account, encode_account
from openledger.evm_ext.state.changes import DELETED, StateChanges, StateDiff
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.genesis.hashing import keccak256

_ACCOUNT, _SLOT, _STORAGE, _TRANSIENT, _WARM, _TOUCH = range(6)

_RIPEMD160 = (3).to_bytes(20, "big")


class WorldState:
    """State between transactions and inside one. One thread at a time.

    Addresses are 20 bytes, slots and values integers below 2**256, balances wei. `environment` is the
    block that is executed (see `vm.environment`); opcodes read it through the properties below.
    """

    def __init__(self, reader: StateReader, environment: Any, computation_class: Any) -> None:
        self._reader = reader
        self._accounts: dict[bytes, Account | None] = {}
        self._storage: dict[bytes, dict[int, int]] = {}
        self._codes: dict[bytes, bytes] = {}
        self._dirty: set[bytes] = set()
        self._dirty_slots: dict[bytes, set[int]] = {}
        self._journal: list[tuple[Any, ...]] = []
        self._clears_empty_accounts = environment.rules.clears_empty_accounts
        self._ripemd_touched = False
        self._wiped: set[bytes] = set()
        self._original: dict[tuple[bytes, int], int] = {}
        self._transient: dict[tuple[bytes, int], bytes] = {}
        self.enter_block(environment, computation_class)
        self.deadline: float | None = None
        """Monotonic time after which a computation stops with `CallTimeout`; None in blocks."""
        self.observer: Any = None
        """Who hears of messages while they are recorded (see `index_recorder`); None otherwise."""

    def enter_block(self, environment: Any, computation_class: Any) -> None:
        """What runs next belongs to another block: its environment and its machine. Between transactions only."""
        self._precompiles = frozenset(computation_class.get_precompiles())
        self._warm: set[Any] = set(self._precompiles)
        self.computation_class = computation_class
        self.execution_context = environment
        self.coinbase = environment.coinbase
        self.timestamp = environment.timestamp
        self.block_number = environment.block_number
        self.mix_hash = environment.mix_hash
        self.gas_limit = environment.gas_limit
        self.base_fee = environment.base_fee_per_gas
        self.blob_base_fee = environment.blob_base_fee
        self.difficulty = environment.difficulty
        self.get_ancestor_hash = environment.get_ancestor_hash

    # --- accounts -----------------------------------------------------------------------------------

    def _account(self, address: bytes) -> Account | None:
        try:
            return self._accounts[address]
        except KeyError:
            account = self._accounts[address] = self._reader.account(address)
            return account

    def _set_account(self, address: bytes, old: Account | None, new: Account | None) -> None:
        self._journal.append((_ACCOUNT, address, old))
        self._accounts[address] = new

    def get_balance(self, address: bytes) -> int:
        account = self._account(address)
        return 0 if account is None else account[1]

    def set_balance(self, address: bytes, balance: int) -> None:
        if not 0 <= balance < 1 << 256:
            raise ValueError(f"balance of 0x{address.hex()} out of range: {balance}")
        old = self._account(address)
        nonce, _, root, code_hash = old or EMPTY_ACCOUNT
        self._set_account(address, old, Account(nonce, balance, root, code_hash))

    def delta_balance(self, address: bytes, delta: int) -> None:
        old = self._account(address)
        nonce, balance, root, code_hash = old or EMPTY_ACCOUNT
        balance += delta
        if not 0 <= balance < 1 << 256:
            if balance < 0:
                raise ValueError(f"balance of 0x{address.hex()} out of range: {balance}")
            balance -= 1 << 256  # as in go-ethereum; only an override gives an account so much
        self._set_account(address, old, Account(nonce, balance, root, code_hash))

    def get_nonce(self, address: bytes) -> int:
        account = self._account(address)
        return 0 if account is None else account[0]

    def set_nonce(self, address: bytes, nonce: int) -> None:
        old = self._account(address)
        _, balance, root, code_hash = old or EMPTY_ACCOUNT
        self._set_account(address, old, Account(nonce, balance, root, code_hash))

    def increment_nonce(self, address: bytes) -> None:
        self.set_nonce(address, self.get_nonce(address) + 1)

    def nonce_balance_and_code_hash(self, address: bytes) -> tuple[int, int, bytes]:
        nonce, balance, _, code_hash = self._account(address) or EMPTY_ACCOUNT
        return nonce, balance, code_hash

    def has_no_code(self, address: bytes) -> bool:
        """Whether a call of the address runs nothing: neither code nor a precompile."""
        account = self._account(address)
        return (account is None or account[3] == EMPTY_CODE_HASH) and address not in self._precompiles

    def charge_sender(self, address: bytes, amount: int) -> None:
        """Take the most a transaction can cost, and count its nonce up."""
        old = self._account(address)
        nonce, balance, root, code_hash = old or EMPTY_ACCOUNT
        if balance < amount:
            raise ValueError(f"0x{address.hex()} has {balance}, not {amount}")
        self._set_account(address, old, Account(nonce + 1, balance - amount, root, code_hash))

    def pay(self, sender: bytes, charge: int, credits: Iterable[tuple[bytes, int]]) -> None:
        """A whole transaction that runs no code: the sender's nonce goes up, it pays, others get. Final at once.

        Call between transactions only: nothing is noted for undoing."""
        accounts = self._accounts
        nonce, balance, root, code_hash = self._account(sender) or EMPTY_ACCOUNT
        if balance < charge:
            raise ValueError(f"0x{sender.hex()} has {balance}, not {charge}")
        accounts[sender] = Account(nonce + 1, balance - charge, root, code_hash)
        self._dirty.add(sender)
        for address, amount in credits:
            old = self._account(address)
            nonce, balance, root, code_hash = old or EMPTY_ACCOUNT
            if amount:
                accounts[address] = Account(nonce, balance + amount, root, code_hash)
                self._dirty.add(address)
            elif old is not None and old.is_empty:
                # Touched and empty: it goes, as at the end of any transaction (EIP-161).
                self.touch_account(address)
                self.end_transaction()

    def get_code_hash(self, address: bytes) -> bytes:
        account = self._account(address)
        return EMPTY_CODE_HASH if account is None else account[3]

    def get_code(self, address: bytes) -> bytes:
        code_hash = self.get_code_hash(address)
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._codes.get(code_hash)
        return self._reader.code(code_hash) if code is None else code

    def set_code(self, address: bytes, code: bytes) -> None:
        old = self._account(address)
        nonce, balance, root, _ = old or EMPTY_ACCOUNT
        code_hash = keccak256(code)
        if code:
            self._codes[code_hash] = bytes(code)
        self._set_account(address, old, Account(nonce, balance, root, code_hash))

    def delete_code(self, address: bytes) -> None:
        self.set_code(address, b"")

    def has_code_or_nonce(self, address: bytes) -> bool:
        """Whether a contract may not be created here; storage counts too (EIP-684, EIP-7610)."""
        account = self._account(address)
        return account is not None and (account[0] != 0 or account[3] != EMPTY_CODE_HASH or account[2] != EMPTY_ROOT)

    def account_exists(self, address: bytes) -> bool:
        return self._account(address) is not None

    def account_is_empty(self, address: bytes) -> bool:
        account = self._account(address)
        return account is None or account.is_empty

    def touch_account(self, address: bytes) -> None:
        old = self._account(address)
        if old is None:
            self._set_account(address, None, EMPTY_ACCOUNT)
        elif old.is_empty:
            self._journal.append((_TOUCH, address))

    def delete_account(self, address: bytes) -> None:
        old = self._account(address)
        if old is not None and old[2] != EMPTY_ROOT:
            self._wiped.add(address)
        self._clear_slots(address)
        self._set_account(address, old, None)

    # --- storage ------------------------------------------------------------------------------------

    def get_storage(self, address: bytes, slot: int, from_journal: bool = True) -> int:
        """A word; with `from_journal` False, its value when the transaction began (EIP-2200)."""
        if not from_journal:
            original = self._original.get((address, slot))
            if original is not None:
                return original
        try:
            return self._storage[address][slot]
        except KeyError:
            account = self._account(address)
            value = 0 if account is None else self._reader.storage(address, account[2], slot)
            self._storage.setdefault(address, {})[slot] = value
            return value

    def original_storage(self, address: bytes, slot: int, current: int) -> int:
        """As `get_storage` without `from_journal`, for who has just read the `current` word."""
        return self._original.get((address, slot), current)

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        self.replace_storage(address, slot, self.get_storage(address, slot), value)

    def replace_storage(self, address: bytes, slot: int, old: int, value: int) -> None:
        """As `set_storage`, for who has just read the `old` word."""
        if old == value:
            return
        key = (address, slot)
        original = self._original
        if key not in original:
            original[key] = old
        self._journal.append((_SLOT, address, slot, old))
        self._storage[address][slot] = value
        try:
            self._dirty_slots[address].add(slot)
        except KeyError:
            self._dirty_slots[address] = {slot}
        if self._account(address) is None:
            self._set_account(address, None, EMPTY_ACCOUNT)
        self._dirty.add(address)

    def delete_storage(self, address: bytes) -> None:
        old = self._account(address)
        if old is not None and old[2] != EMPTY_ROOT:
            self._wiped.add(address)
            self._set_account(address, old, Account(old[0], old[1], EMPTY_ROOT, old[3]))
        self._clear_slots(address)

    def _clear_slots(self, address: bytes) -> None:
        slots = self._storage.get(address)
        if slots:
            self._journal.append((_STORAGE, address, slots))
            self._storage[address] = {}

    # --- inside one transaction -----------------------------------------------------------------------

    def get_transient_storage(self, address: bytes, slot: int) -> bytes:
        return self._transient.get((address, slot), b"")

    def set_transient_storage(self, address: bytes, slot: int, value: bytes) -> None:
        key = (address, slot)
        self._journal.append((_TRANSIENT, key, self._transient.get(key, b"")))
        self._transient[key] = value

    def is_address_warm(self, address: bytes) -> bool:
        return address in self._warm

    def mark_address_warm(self, address: bytes) -> None:
        if address not in self._warm:
            self._journal.append((_WARM, address))
            self._warm.add(address)

    def is_storage_warm(self, address: bytes, slot: int) -> bool:
        return (address, slot) in self._warm

    def mark_storage_warm(self, address: bytes, slot: int) -> None:
        key = (address, slot)
        if key not in self._warm:
            self._journal.append((_WARM, key))
            self._warm.add(key)

    def warm_address(self, address: bytes) -> bool:
        """Mark it warm; whether it was cold."""
        if address in self._warm:
            return False
        self._journal.append((_WARM, address))
        self._warm.add(address)
        return True

    def warm_slot(self, address: bytes, slot: int) -> bool:
        """Mark it warm; whether it was cold."""
        key = (address, slot)
        if key in self._warm:
            return False
        self._journal.append((_WARM, key))
        self._warm.add(key)
        return True

    def snapshot(self) -> int:
        """A point to revert to, valid until the transaction ends."""
        return len(self._journal)

    def commit(self, snapshot: int) -> None:
        """Keep what happened since a snapshot: nothing to do."""

    def revert(self, snapshot: int) -> None:
        """Undo everything since a snapshot."""
        journal = self._journal
        while len(journal) > snapshot:
            entry = journal.pop()
            kind = entry[0]
            if kind == _ACCOUNT:
                self._accounts[entry[1]] = entry[2]
                if entry[1] == _RIPEMD160:
                    self._ripemd_touched = True
            elif kind == _SLOT:
                self._storage[entry[1]][entry[2]] = entry[3]
            elif kind == _WARM:
                self._warm.discard(entry[1])
            elif kind == _TRANSIENT:
                self._transient[entry[1]] = entry[2]
            elif kind == _STORAGE:
                self._storage[entry[1]] = entry[2]
            elif entry[1] == _RIPEMD160:
                self._ripemd_touched = True

    def end_transaction(self, *, keep_empty: bool = False) -> None:
        """Make the transaction's changes final: empty touched accounts go (EIP-161) unless they are kept, warm
        addresses, transient storage and the undo log are cleared."""
        touched = {entry[1] for entry in self._journal if entry[0] == _ACCOUNT or entry[0] == _TOUCH}
        if self._clears_empty_accounts and not keep_empty:
            if self._ripemd_touched:
                # One touch outlives the failure of the call that made it: so it happened in Ethereum's history.
                touched.add(_RIPEMD160)
                self._ripemd_touched = False
            for address in touched:
                account = self._account(address)
                # Nearly every account that is touched has something: the cheapest question first.
                if account is not None and not account[1] and account.is_empty:
                    if account[2] != EMPTY_ROOT:
                        self._wiped.add(address)
                    self._accounts[address] = None
                    self._storage.pop(address, None)
        self._dirty |= touched
        self._journal.clear()
        self._original.clear()
        if self._transient:
            self._transient.clear()
        self._warm = set(self._precompiles)

    @property
    def changed_addresses(self) -> frozenset[bytes]:
        """Accounts that transactions so far may have changed. Between transactions only."""
        return frozenset(self._dirty)

    def changed_slots(self, address: bytes) -> dict[int, int]:
        """Slots of an account that transactions so far may have changed, and their words."""
        slots = self._storage.get(address, {})
        return {slot: slots.get(slot, 0) for slot in self._dirty_slots.get(address, ())}

    def intermediate_root(self) -> bytes:
        """The root of the state as it is between two transactions, which receipts before Byzantium hold.

        Costs as much as the whole block so far."""
        accounts = dict(self._accounts)
        root = self.compute_changes().root
        self._accounts = accounts
        return root

    def intermediate_storage_root(self, address: bytes) -> bytes:
        """The root of one account's storage as it is between two transactions."""
        if not self._dirty_slots.get(address):
            return self.storage_root(address)
        accounts = dict(self._accounts)
        self.compute_changes()
        root = self.storage_root(address)
        self._accounts = accounts
        return root

    # --- after the last transaction -------------------------------------------------------------------

    def compute_changes(self) -> StateChanges:
        """Commit everything to the tries, in memory. Call once, outside a transaction.

        What is set goes into a trie before what is deleted: then no sibling is read for a merge that a later
        insertion makes unnecessary, and a witness needs no more than other clients put into theirs."""
        nodes: dict[bytes, bytes] = {}
        replaced: list[bytes] = []
        slots: dict[bytes, dict[bytes, bytes]] = {}
        accounts: dict[bytes, bytes] = {}
        for address in self._wiped:
            self._wipe(address, slots, replaced)
        trie = self._reader.account_trie()
        present: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        for address in sorted(self._dirty):
            account = self._account(address)
            key = keccak256(address)
            if account is None:
                gone.append(key)
                accounts[key] = DELETED
                continue
            if self._dirty_slots.get(address):
                account = self._commit_storage(address, key, account, slots.setdefault(key, {}), nodes, replaced)
            accounts[key] = present[key] = encode_account(account)
        trie.update(present)
        for key in gone:
            trie.delete(key)
        root = trie.commit(nodes)
        replaced += trie.replaced
        diff = StateDiff(accounts, slots, tuple(nodes), tuple(key for key in replaced if key not in nodes))
        return StateChanges(root, nodes, dict(self._codes), diff)

    def _wipe(self, address: bytes, slots: dict[bytes, dict[bytes, bytes]], replaced: list[bytes]) -> None:
        """The storage that an account had before the block and lost in it as a whole."""
        account, before = self._account(address), self._reader.account(address)
        if before is None or before[2] == EMPTY_ROOT or (account is not None and account[2] != EMPTY_ROOT):
            return
        storage = self._reader.storage_trie(address, before[2])
        slots[keccak256(address)] = {key: DELETED for key, _ in storage.entries()}
        replaced += storage.node_keys()

    def _commit_storage(
        self,
        address: bytes,
        key: bytes,
        account: Account,
        changed: dict[bytes, bytes],
        nodes: dict[bytes, bytes],
        replaced: list[bytes],
    ) -> Account:
        slots = self._storage.get(address, {})
        storage = self._reader.storage_trie(address, account[2])
        present: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        for slot in sorted(self._dirty_slots[address]):
            value = slots.get(slot, 0)
            hashed = keccak256(slot.to_bytes(32, "big"))
            if value:
                changed[hashed] = present[hashed] = encode_uint(value)
            else:
                changed[hashed] = DELETED
                gone.append(hashed)
        storage.update(present)
        for hashed in gone:
            storage.delete(hashed)
        updated = account._replace(storage_root=storage.commit(nodes))
        replaced += storage.replaced
        self._accounts[address] = updated
        return updated

    def storage_root(self, address: bytes) -> bytes:
        """The root of an account's storage after `compute_changes`."""
        account = self._account(address)
        return EMPTY_ROOT if account is None else account.storage_root
