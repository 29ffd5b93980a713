"""prestateTracer: the accounts a transaction touched as they were before it, or what it changed of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openledger.evm_ext.state.account import EMPTY_CODE_HASH
from openledger.evm_ext.tracing import opcodes
from openledger.evm_ext.tracing.hooks import Budget, Json, TracedTransaction, Tracer, TransactionEnd
from openledger.evm_ext.tracing.operands import created_address_with_salt, memory_bytes, peek, peek_address
from openledger.evm_ext.vm.entry import contract_address, is_delegation
from openledger.genesis import predeploys
from openledger.genesis.hashing import keccak256

_ACCOUNT_BYTES = 200
_SLOT_BYTES = 140
_CALL_TAKES = 5
"""geth looks at a call's address as soon as the stack has so many words."""
_READS = frozenset({0x31, 0x3B, 0x3C, 0x3F, opcodes.SELFDESTRUCT})
"""BALANCE, EXTCODESIZE, EXTCODECOPY, EXTCODEHASH and SELFDESTRUCT name an account on top of the stack."""


@dataclass(frozen=True, slots=True)
class PrestateOptions:
    diff_mode: bool = False
    disable_code: bool = False
    disable_storage: bool = False
    include_empty: bool = False


@dataclass(slots=True)
class _Account:
    """None is what an answer leaves out."""

    balance: int | None = None
    nonce: int | None = None
    code: bytes | None = None
    storage: dict[int, int] = field(default_factory=dict)
    empty: bool = False

    def to_json(self, *, shows_empty_code: bool) -> Json:
        body: Json = {}
        if self.balance is not None:
            body["balance"] = hex(self.balance)
        if self.code is not None and (self.code or shows_empty_code):
            body["code"] = "0x" + self.code.hex()
            body["codeHash"] = "0x" + (keccak256(self.code) if self.code else EMPTY_CODE_HASH).hex()
        if self.nonce:
            body["nonce"] = self.nonce
        if self.storage:
            body["storage"] = {f"0x{slot:064x}": f"0x{self.storage[slot]:064x}" for slot in sorted(self.storage)}
        return body


class PrestateTracer(Tracer):
    watched = _READS | opcodes.CALLS | opcodes.CREATES | {opcodes.SLOAD, opcodes.SSTORE}

    def __init__(self, budget: Budget, options: PrestateOptions | None = None) -> None:
        super().__init__(budget)
        self._options = options or PrestateOptions()
        self._state: Any = None
        self._before: dict[bytes, _Account] = {}
        self._after: dict[bytes, _Account] = {}
        self._deleted: set[bytes] = set()
        self._added: list[tuple[bytes, int | None]] = []
        """Accounts and slots that the opcode which runs has added."""

    def transaction_start(self, traced: TracedTransaction) -> None:
        self._state = traced.state
        transaction, sender = traced.transaction, traced.sender
        to = transaction.to
        if to is None:
            to = contract_address(sender, self._state.get_nonce(sender))
        for address in (sender, to, self._state.coinbase):
            self._look_up(address)
        self._look_up_delegate(to)
        if traced.is_op:
            for vault in (predeploys.L1_FEE_VAULT, predeploys.BASE_FEE_VAULT, predeploys.OPERATOR_FEE_VAULT):
                self._look_up(vault)
        for authorization in transaction.authorization_list:
            if authorization.authority is not None:
                self._look_up(authorization.authority)

    def step(self, computation: Any, position: int, opcode: int, gas: int, refund: int) -> None:
        self._added.clear()
        height = len(computation._stack.values)
        address = computation.msg.storage_address
        if opcode in (opcodes.SLOAD, opcodes.SSTORE):
            if height >= 1:
                self._look_up_slot(address, peek(computation, 0))
        elif opcode in _READS:
            if height >= 1:
                self._look_up(peek_address(computation, 0))
                if opcode == opcodes.SELFDESTRUCT:
                    self._deleted.add(address)
        elif opcode in opcodes.CALLS:
            if height >= _CALL_TAKES:
                target = peek_address(computation, 1)
                self._look_up(target)
                self._look_up_delegate(target)
        elif opcode == opcodes.CREATE:
            self._look_up(contract_address(address, self._state.get_nonce(address)))
        elif opcode == opcodes.CREATE2 and height >= opcodes.TAKEN[opcode]:
            size = peek(computation, 2)
            if size <= self.budget.limit_bytes:
                init_code = memory_bytes(computation, peek(computation, 1), size)
                self._look_up(created_address_with_salt(address, peek(computation, 3), init_code))

    def step_end(self, cost: int, error: str | None) -> None:
        if error is None:
            return
        for address, slot in reversed(self._added):  # the opcode did not start: it touched nothing
            if slot is None:
                del self._before[address]
            else:
                del self._before[address].storage[slot]

    def transaction_end(self, end: TransactionEnd) -> None:
        if self._options.diff_mode:
            self._compare()
        if not self._options.include_empty:
            self._before = {address: account for address, account in self._before.items() if not account.empty}

    def result(self) -> Json:
        if not self._options.diff_mode:
            return self._json(self._before, shows_empty_code=False)
        return {
            "post": self._json(self._after, shows_empty_code=True),
            "pre": self._json(self._before, shows_empty_code=False),
        }

    # --- before -----------------------------------------------------------------------------------------

    def _look_up(self, address: bytes) -> None:
        if address in self._before:
            return
        state = self._state
        code = state.get_code(address)
        self.budget.spend(_ACCOUNT_BYTES + (0 if self._options.disable_code else 2 * len(code)))
        account = _Account(state.get_balance(address), state.get_nonce(address), code)
        account.empty = not account.balance and not account.nonce and not code
        self._before[address] = account
        self._added.append((address, None))

    def _look_up_delegate(self, address: bytes) -> None:
        code = self._state.get_code(address)
        if is_delegation(code):
            self._look_up(code[3:])

    def _look_up_slot(self, address: bytes, slot: int) -> None:
        if self._options.disable_storage:
            return
        self._look_up(address)
        storage = self._before[address].storage
        if slot not in storage:
            self.budget.spend(_SLOT_BYTES)
            storage[slot] = self._state.get_storage(address, slot)
            self._added.append((address, slot))

    # --- after ------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Leave in `_before` what changed, and put what it became into `_after`."""
        state = self._state
        for address, before in list(self._before.items()):
            if address in self._deleted and not state.account_exists(address):
                continue
            after = _Account()
            if (balance := state.get_balance(address)) != before.balance:
                after.balance = balance
            if (nonce := state.get_nonce(address)) != before.nonce:
                after.nonce = nonce
            if not self._options.disable_code and (code := state.get_code(address)) != before.code:
                after.code = code
            for slot, value in list(before.storage.items()):
                new = state.get_storage(address, slot)
                if value == 0 or value == new:
                    del before.storage[slot]
                if value != new:
                    after.storage[slot] = new
            if after.balance is None and after.nonce is None and after.code is None and not after.storage:
                del self._before[address]
            else:
                self._after[address] = after

    def _json(self, accounts: dict[bytes, _Account], *, shows_empty_code: bool) -> Json:
        body: Json = {}
        for address in sorted(accounts):
            account = accounts[address]
            if self._options.disable_code:
                account.code = None
            body["0x" + address.hex()] = account.to_json(shows_empty_code=shows_empty_code)
        return body
