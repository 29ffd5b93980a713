"""Memory that generated code knows by name: whatever order words are stored, loaded, hashed and shown in, loops or not."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace

import pytest

from openledger.evm_ext.vm.generated import run
from openledger.evm_ext.vm.generated.cache import HotCode
from openledger.evm_ext.vm.generated.source import write
from openledger.evm_ext.vm.generated.trace import Tracer

PLACES = (0, 0, 0, 32, 32, 64, 96, 128, 160, 16, 31, 33, 1)
SIZES = (64, 64, 32, 96, 128, 160, 20, 0)
# On the stack: a counter that goes down to 0, and two words that statements may replace.
HASH_LOOP = "0 0 :loop 0 CALLDATALOAD DUP2 LT ISZERO @end JUMPI {body} 1 ADD @loop JUMP :end POP 0 MSTORE 96 0 RETURN"


def _statement(chance: random.Random, names: list[int], depth: int) -> str:
    """Leaves the stack as high as it was: [word, word, counter]."""
    kind = chance.randrange(22)
    place = chance.choice(PLACES)
    value = chance.choice(("DUP1", "DUP2", "DUP3", "DUP2", "7", "CALLER", "0 CALLDATALOAD", "DUP1 DUP3 LT"))
    keep = chance.choice(("SWAP2 POP", "SWAP2 POP", "SWAP3 POP", "POP"))
    near = f"DUP{chance.choice((1, 2, 2))} 63 AND"
    if kind < 6:
        return f"{value} {place} MSTORE"
    if kind < 10:
        return f"{chance.choice(SIZES)} {place} KECCAK256 {keep}"
    if kind < 13:
        return f"{place} MLOAD {keep}"
    if kind < 15:
        return f"CALLER {near} {chance.choice(('MSTORE', 'MSTORE8'))}"
    if kind == 15:
        return f"{near} MLOAD {keep}"
    if kind == 16:
        return f"DUP2 {place} MSTORE8"
    if kind == 17:
        return chance.choice((f"40 {place} 8 MCOPY", f"33 0 {place} CALLDATACOPY", f"5 64 {place} LOG1"))
    if kind == 18:
        return chance.choice((f"GAS {keep}", f"MSIZE {keep}", "DUP2 1 SSTORE", f"1 SLOAD {keep}"))
    if kind == 19:
        return f"32 {place} 64 {place} 4 GAS STATICCALL {keep}"
    if kind == 20:
        return f"DUP2 DUP4 XOR {keep}"
    if not depth:
        return ""
    names.append(len(names))
    name = len(names)
    inside = " ".join(_statement(chance, names, depth - 1) for _ in range(chance.randrange(3)))
    test = chance.choice(("DUP1 1 AND", "DUP2 1 AND", "DUP3 3 LT", "DUP2 DUP2 LT"))
    return f"{test} @s{name} JUMPI {inside} :s{name}"


def program(chance: random.Random) -> str:
    names: list[int] = []

    def some(count: int) -> str:
        return " ".join(_statement(chance, names, 2) for _ in range(chance.randrange(count)))

    last = f"MSIZE 0 KECCAK256 0 SSTORE {chance.choice(SIZES)} {chance.choice(PLACES)} {chance.choice(('RETURN', 'REVERT'))}"
    if chance.random() < 0.3:
        return f"5 9 {chance.randrange(9)} {some(9)} {last}"
    return (
        f"5 9 {chance.randrange(9)} {some(4)} :loop DUP1 ISZERO @end JUMPI {some(7)} "
        f"1 SWAP1 SUB 15 AND @loop JUMP :end {some(4)} {last}"
    )


def hold(vm: SimpleNamespace, chance: random.Random, limits: int) -> None:
    """One program, with gas enough and with gas that ends inside it; also coming out of loops to look at the clock."""
    text = program(chance)
    code, data = vm.assemble(text), chance.randbytes(40)
    gas = 300_000
    whole = vm.run(vm.plain, code, data, gas)
    assert vm.run(vm.generated, code, data, gas) == whole, text
    assert vm.run(vm.generated, code, data, gas, deadline=time.monotonic() + 3_600) == whole, text
    for _ in range(limits):
        limit = chance.randrange(gas - whole.gas + 2)
        expected = vm.run(vm.plain, code, data, limit)
        assert vm.run(vm.generated, code, data, limit) == expected, (limit, text)


def test_programs_that_use_memory_agree(vm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GAS_BETWEEN_CLOCK_LOOKS", 150)
    for number in range(300):
        hold(vm, random.Random(number), 1)


@pytest.mark.parametrize("opcode", ["KECCAK256", "RETURN", "REVERT", "LOG0"])
def test_sizes_and_places_that_no_memory_can_have_cost_all_gas(vm: SimpleNamespace, opcode: str) -> None:
    for place in (0, 32, 2**64, 2**255, 2**256 - 32):
        for size in (0, 32, 64, 160, 2**40, 2**64, 2**255, 2**256 - 32):
            for before in ("", "CALLER 32 MSTORE 1 0 MSTORE", f"1 {place} MSTORE"):
                code = vm.assemble(f"{before} {size} {place} {opcode} MSIZE 0 SSTORE")
                assert vm.run(vm.generated, code) == vm.run(vm.plain, code)


@pytest.mark.parametrize(
    "body",
    [
        "SWAP1 0 MSTORE DUP1 32 MSTORE 64 0 KECCAK256 SWAP1",
        "SWAP1 16 MSTORE DUP1 48 MSTORE 64 16 KECCAK256 SWAP1",
        "DUP1 32 MSTORE SWAP1 0 MSTORE 64 0 KECCAK256 DUP1 64 MSTORE SWAP1",
        "SWAP1 0 MSTORE DUP1 32 MSTORE 64 0 KECCAK256 DUP1 1 AND @odd JUMPI 1 ADD :odd SWAP1",
        "DUP2 0 MSTORE 64 0 KECCAK256 SWAP2 POP",
        "0 MLOAD DUP2 ADD 0 MSTORE",
        "16 MLOAD DUP2 ADD 0 MSTORE",
        "DUP1 0 MSTORE CALLER DUP2 31 AND MSTORE 0 MLOAD SWAP2 POP",
        "DUP1 0 MSTORE DUP1 31 AND MLOAD SWAP2 POP",
        "CALLER DUP2 31 AND MSTORE 7 3 MSTORE8 DUP1 31 AND MLOAD SWAP2 POP",
    ],
)
def test_what_a_loop_stored_last_is_in_memory_whenever_it_ends(
    vm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(run, "GAS_BETWEEN_CLOCK_LOOKS", 150)
    code = vm.assemble(HASH_LOOP.format(body=body))
    for turns in (0, 1, 2, 3, 40):
        data = turns.to_bytes(32, "big")
        whole = vm.run(vm.plain, code, data, 1_000_000)
        assert vm.run(vm.generated, code, data, 1_000_000) == whole
        assert vm.run(vm.generated, code, data, 1_000_000, deadline=time.monotonic() + 3_600) == whole
        used = 1_000_000 - whole.gas
        for limit in {used, used - 1, used // 2, used - 100}:
            assert vm.run(vm.generated, code, data, limit) == vm.run(vm.plain, code, data, limit)


def test_a_loop_of_hashes_touches_no_memory(vm: SimpleNamespace) -> None:
    """The preimages of its turns are made of locals, and what it made is no number before somebody counts with it."""
    code = vm.assemble(HASH_LOOP.format(body="SWAP1 0 MSTORE DUP1 32 MSTORE 64 0 KECCAK256 SWAP1"))
    hot = HotCode(code, vm.machine)
    hot._prepare()
    trace = Tracer(code, hot._destinations or frozenset(), hot._targets, hot._profile()).follow(code.index(0x5B))
    assert trace is not None
    assert trace.carried() == (0, 32)
    assert trace.hashes == {1}
    turn = write(trace).split("while True:")[1].split("continue")[0]
    lines = [line.strip() for line in turn.splitlines()]
    assert "h1=keccak_short(r1+e0.to_bytes(32,'big'))" in lines
