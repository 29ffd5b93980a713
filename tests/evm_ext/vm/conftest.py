"""Frames without a chain: code, calldata and gas in; what a computation did out. And an assembler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from eth.vm import opcode_values
from eth.vm.logic.invalid import InvalidOpcode

from openledger.evm_ext.state.account import EMPTY_CODE_HASH, Account
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.computation import Computation, with_tier
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.machines import machine as machine_of
from openledger.evm_ext.vm.message import Message
from openledger.evm_ext.vm.rules import BlockRules
from openledger.evm_ext.vm.transaction_context import TransactionContext
from openledger.genesis.hardforks import BlobParameters, Hardfork
from openledger.genesis.hashing import keccak256

SENDER = b"\x5e" * 20
CONTRACT = b"\xc0" * 20
STORAGE_ROOT = b"\x01" * 32

OPCODES = {name: value for name, value in vars(opcode_values).items() if name.isupper() and isinstance(value, int)} | {
    "KECCAK256": 0x20
}


def assemble(text: str) -> bytes:
    """`PUSH`ed numbers as they stand, `:name` a JUMPDEST with a name, `@name` its address pushed in two bytes."""
    code = bytearray()
    places: dict[str, int] = {}
    wanted: list[tuple[int, str]] = []
    for word in text.split():
        if word.startswith(":"):
            places[word[1:]] = len(code)
            code.append(0x5B)
        elif word.startswith("@"):
            wanted.append((len(code) + 1, word[1:]))
            code += b"\x61\x00\x00"
        elif word in OPCODES:
            code.append(OPCODES[word])
        else:
            number = int(word, 0)
            size = (number.bit_length() + 7) // 8
            code += bytes((0x5F + size,)) + number.to_bytes(size, "big")
    for position, name in wanted:
        code[position : position + 2] = places[name].to_bytes(2, "big")
    return bytes(code)


class _Reader:
    """A state of accounts and slots in dictionaries."""

    root = EMPTY_ROOT

    def __init__(self, codes: dict[bytes, bytes], storage: dict[int, int]) -> None:
        self._codes = {keccak256(code): code for code in codes.values()}
        self._accounts = {
            address: Account(1, 10**18, STORAGE_ROOT if storage else EMPTY_ROOT, keccak256(code))
            for address, code in codes.items()
        }
        self._accounts[SENDER] = Account(0, 10**20, EMPTY_ROOT, EMPTY_CODE_HASH)
        self._storage = storage

    def account(self, address: bytes) -> Account | None:
        return self._accounts.get(address)

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        return self._storage.get(slot, 0) if storage_root == STORAGE_ROOT else 0

    def code(self, code_hash: bytes) -> bytes:
        return self._codes.get(code_hash, b"")


def block_rules(fork: Hardfork) -> BlockRules:
    return BlockRules(
        fork=fork,
        is_op=False,
        chain_id=1337,
        denominator=8,
        elasticity=2,
        own_precompiles=(),
        has_replay_protection=True,
        blobs=BlobParameters(6, 9, 5_007_716),
        deposit_contract=bytes(20),
    )


def environment(fork: Hardfork) -> BlockEnvironment:
    return BlockEnvironment(
        rules=block_rules(fork),
        chain_id=1337,
        coinbase=b"\xfe" * 20,
        timestamp=1_700_000_002,
        block_number=7,
        difficulty=0,
        mix_hash=b"\x0f" * 32,
        gas_limit=60_000_000,
        base_fee_per_gas=10**9,
        excess_blob_gas=0,
        ancestor_hash=lambda number: keccak256(b"%d" % number),
    )


@dataclass(frozen=True)
class Result:
    """Everything about a frame that anybody outside can see."""

    error: str | None
    gas: int
    refund: int
    output: bytes
    logs: tuple[Any, ...]
    storage: dict[tuple[bytes, int], int]
    accounts: dict[bytes, Account | None]


def run_frame(
    machine: type[Computation],
    code: bytes,
    data: bytes = b"",
    gas: int = 1_000_000,
    *,
    storage: dict[int, int] | None = None,
    others: dict[bytes, bytes] | None = None,
    value: int = 0,
    is_static: bool = False,
    deadline: float | None = None,
    fork: Hardfork = Hardfork.PRAGUE,
) -> Result:
    """One call of a contract with this code, on a fresh state."""
    codes = {CONTRACT: code, **(others or {})}
    reader = _Reader(codes, storage or {})
    state = WorldState(reader, environment(fork), machine)  # type: ignore[arg-type]
    state.deadline = deadline
    message = Message(gas=gas, to=CONTRACT, sender=SENDER, value=value, data=data, code=code, is_static=is_static)
    context = TransactionContext(gas_price=3, origin=SENDER)
    computation = machine.apply_message(state, message, context)
    return Result(
        error=type(computation._error).__name__ if computation._error else None,
        gas=computation.get_gas_remaining(),
        refund=computation.get_gas_refund(),
        output=bytes(computation.output),
        logs=computation.get_log_entries(),
        # What was only read is no difference.
        storage={
            (address, slot): word
            for address, slots in state._storage.items()
            for slot, word in slots.items()
            if word != (storage or {}).get(slot, 0)
        },
        accounts={
            address: account for address, account in state._accounts.items() if account != reader.account(address)
        },
    )


@cache
def py_evm_s(machine: type[Computation]) -> type[Computation]:
    """The machine with py-evm's own opcodes instead of lean ones."""
    table = tuple(machine.opcodes.get(value) or InvalidOpcode(value) for value in range(256))
    return type(f"{machine.__name__}_py_evm", (machine,), {"_opcode_table": table, "tier": "plain"})


@pytest.fixture(scope="session")
def vm() -> SimpleNamespace:
    return SimpleNamespace(
        assemble=assemble,
        run=run_frame,
        plain=with_tier(Computation, "plain"),
        generated=with_tier(Computation, "generated"),
        machine=Computation,
        py_evm_s=py_evm_s,
        machine_of=lambda fork: machine_of(block_rules(fork)),
        with_tier=with_tier,
        CONTRACT=CONTRACT,
        SENDER=SENDER,
        OPCODES=OPCODES,
    )
