"""Generated code against the plain tier: everything a frame shows to the outside must be equal."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.genesis.hardforks import Hardfork

BINARY = [
    "ADD",
    "MUL",
    "SUB",
    "DIV",
    "SDIV",
    "MOD",
    "SMOD",
    "EXP",
    "SIGNEXTEND",
    "LT",
    "GT",
    "SLT",
    "SGT",
    "EQ",
    "AND",
    "OR",
    "XOR",
    "BYTE",
    "SHL",
    "SHR",
    "SAR",
    "KECCAK256",
    "ADDMOD",
    "MULMOD",
]
EDGES = (0, 1, 2, 31, 32, 255, 256, 2**32 - 1, 2**160 - 1, 2**255 - 1, 2**255)
WORDS = (*EDGES, 2**255 + 1, 2**256 - 1)
SOURCES = [
    "CALLDATASIZE",
    "CALLER",
    "ADDRESS",
    "ORIGIN",
    "CALLVALUE",
    "CODESIZE",
    "RETURNDATASIZE",
    "MSIZE",
    "PC",
    "GAS",
    "TIMESTAMP",
    "NUMBER",
    "CHAINID",
]


def agree(vm, code: bytes, data: bytes = b"", gas: int = 200_000, machine=None, **arguments):
    """Both tiers and py-evm's own opcodes on one frame; the generated tier twice, for what the first run left."""
    base = machine or vm.machine
    plain = vm.run(vm.with_tier(base, "plain"), code, data, gas, **arguments)
    stock = vm.run(vm.py_evm_s(base), code, data, gas, **arguments)
    assert stock == plain or (stock.error and plain.error and replace(stock, error=plain.error) == plain)
    for _ in range(2):
        assert vm.run(vm.with_tier(base, "generated"), code, data, gas, **arguments) == plain
    return plain


@pytest.mark.parametrize("opcode", BINARY)
def test_arithmetic_agrees_on_every_pair_of_edges(vm, opcode):
    """With constants, where the result is folded, and with calldata, where nothing is known."""
    third = "CALLER " if opcode.endswith("MOD") and opcode not in ("MOD", "SMOD") else ""
    unknown = vm.assemble(f"{third}32 CALLDATALOAD 0 CALLDATALOAD {opcode} 0 SSTORE")
    for left in WORDS:
        for right in WORDS:
            if opcode == "KECCAK256" and left + right > 1 << 20:
                continue
            data = left.to_bytes(32, "big") + right.to_bytes(32, "big")
            expected = agree(vm, unknown, data, 2_000_000)
            folded = vm.assemble(f"{third}{right} {left} {opcode} 0 SSTORE")
            assert vm.run(vm.generated, folded, gas=2_000_000).storage == expected.storage
            half = vm.assemble(f"{third}32 CALLDATALOAD {left} {opcode} 0 SSTORE")
            assert vm.run(vm.generated, half, data, 2_000_000).storage == expected.storage
            half = vm.assemble(f"{third}{right} 0 CALLDATALOAD {opcode} 0 SSTORE")
            assert vm.run(vm.generated, half, data, 2_000_000).storage == expected.storage


LOOP = "0 0 :loop 0 CALLDATALOAD DUP2 LT ISZERO @end JUMPI {body} 1 ADD @loop JUMP :end POP 0 MSTORE 32 0 RETURN"


@pytest.mark.parametrize(
    "body",
    [
        "DUP1 DUP1 MUL DUP3 ADD SWAP2 POP",
        "SWAP1 0 MSTORE DUP1 32 MSTORE 64 0 KECCAK256 SWAP1",
        "DUP1 5 SHL 0x3ff AND DUP2 DUP2 MSTORE MLOAD DUP3 ADD SWAP2 POP",
        "DUP1 DUP1 SSTORE DUP1 SLOAD DUP3 ADD SWAP2 POP",
        "GAS DUP3 ADD SWAP2 POP",
        "DUP1 3 SWAP1 MOD @odd JUMPI SWAP1 7 ADD SWAP1 @join JUMP :odd SWAP1 3 MUL SWAP1 :join",
        "DUP1 MSIZE MSTORE8",
        "DUP1 CALLDATALOAD DUP3 XOR SWAP2 POP",
        "DUP1 0 SUB DUP3 SLT DUP3 ADD SWAP2 POP",
    ],
)
def test_a_loop_agrees_at_every_amount_of_gas_that_ends_inside_it(vm, body):
    code = vm.assemble(LOOP.format(body=body))
    data = (5).to_bytes(32, "big")
    needed = 1_000_000 - agree(vm, code, data, 1_000_000).gas
    assert agree(vm, code, (300).to_bytes(32, "big"), 10_000_000).error is None
    chance = random.Random(body)
    for gas in {*range(1, 120), *(chance.randrange(needed + 10) for _ in range(150)), needed - 1, needed}:
        agree(vm, code, data, gas)


def test_bounds_of_the_stack_are_those_of_the_way_taken(vm):
    """One way through this code would need words that are not there; the other must cost exactly 17 gas."""
    result = agree(vm, bytes.fromhex("600160075784005b00"), gas=1_000)
    assert (result.error, result.gas) == (None, 1_000 - 17)
    code = vm.assemble("CALLDATASIZE @good JUMPI DUP5 STOP :good STOP")
    assert agree(vm, code, b"").error == "InsufficientStack"
    assert agree(vm, code, b"1").error is None


@pytest.mark.parametrize("height", [1020, 1021, 1022, 1023, 1024])
def test_a_full_stack_is_found_at_the_same_place(vm, height):
    code = vm.assemble("@fill JUMP :fill " + "CALLER " * height + "@next JUMP :next DUP1 POP CALLDATASIZE")
    agree(vm, code)
    # Calls put their words on the real stack, on top of words that are followed only by name.
    words = vm.assemble("CALLER " * (height - 8) + ":next POP POP POP POP 0 0 0 0 0 ADDRESS GAS CALL STOP")
    agree(vm, words)


@pytest.mark.parametrize("target", ["0", "3", "4", "9999", "0 NOT", "CALLDATASIZE", "CALLER"])
def test_invalid_jumps_fail_alike(vm, target):
    agree(vm, vm.assemble(f"{target} JUMP 0x5b5b STOP"))
    agree(vm, vm.assemble(f"CALLER {target} JUMPI 0x5b5b STOP"))
    agree(vm, vm.assemble(f"CALLVALUE {target} JUMPI 0x5b5b 7 0 SSTORE STOP"))


def test_what_memory_costs_is_charged_where_it_grows(vm):
    for body in (
        "MLOAD",
        "1 SWAP1 MSTORE",
        "1 SWAP1 MSTORE8",
        "32 SWAP1 KECCAK256",
        "0 SWAP1 LOG0",
        "0 RETURN",
        "7 REVERT",
    ):
        for offset in (0, 1, 31, 32, 33, 1000, 2**20, 2**32, 2**64, 2**256 - 1):
            for gas in (10, 30, 100, 500, 3_000, 100_000):
                agree(vm, vm.assemble(f"{offset} {body}"), gas=gas)
                agree(vm, vm.assemble(f"0 CALLDATALOAD {body}"), offset.to_bytes(32, "big"), gas)
    for copy in ("CALLDATACOPY", "CODECOPY", "MCOPY", "RETURNDATACOPY"):
        for size in (0, 1, 33, 2**64):
            for start in (0, 5, 2**64):
                agree(vm, vm.assemble(f"{size} {start} 3 {copy} MSIZE 0 SSTORE"), b"abcdefg")


def test_a_word_that_was_stored_is_loaded_as_it_was_overwritten(vm):
    agree(vm, vm.assemble("CALLER 0 MSTORE 7 31 MSTORE8 0 MLOAD 0 SSTORE"))
    agree(vm, vm.assemble("CALLER 0 MSTORE ADDRESS 16 MSTORE 0 MLOAD 0 SSTORE 16 MLOAD 1 SSTORE"))
    agree(vm, vm.assemble("CALLER 0 MSTORE 5 CALLDATASIZE MSTORE 0 MLOAD 0 SSTORE"), b"12345")
    agree(
        vm,
        vm.assemble("CALLER 0 MSTORE 32 0 0 0 0 4 GAS CALL 0 MLOAD 0 SSTORE 32 0 32 64 0 4 GAS CALL 0 MLOAD 1 SSTORE"),
    )


def test_static_calls_refuse_alike(vm):
    for body in ("1 0 SSTORE", "0 0 LOG0", "1 0 TSTORE", "0 0 0 CREATE", "0 0 0 0 1 ADDRESS GAS CALL"):
        assert agree(vm, vm.assemble(f"CALLER POP {body} STOP"), is_static=True).error == "WriteProtection"


REVERTS, STORES, DELEGATES, FORWARDS, NOBODY = (bytes([number]) * 20 for number in (0xA1, 0xA2, 0xA3, 0xA4, 0xA5))
OTHERS = {
    REVERTS: "7 5 MSTORE 32 5 REVERT",
    STORES: "0 SLOAD 1 ADD 0 SSTORE CALLER 0 MSTORE 32 0 LOG0 CALLVALUE CALLDATASIZE ADD 0 MSTORE 32 0 RETURN",
    DELEGATES: "",
    FORWARDS: f"32 0 7 0 0 {int.from_bytes(STORES, 'big')} GAS DELEGATECALL 0 SSTORE RETURNDATASIZE 0 0 RETURNDATACOPY "
    "RETURNDATASIZE 0 RETURN",
    NOBODY: "",
}


def other_contracts(vm):
    """What programs call: contracts, one delegation (EIP-7702), and an address where nothing is."""
    codes = {address: vm.assemble(text) for address, text in OTHERS.items() if text}
    return {**codes, DELEGATES: b"\xef\x01\x00" + STORES}


@st.composite
def programs(draw):
    """Blocks of mostly sensible code, with jumps between them, forwards and back."""
    chance = draw(st.randoms(use_true_random=False))
    count = chance.randrange(1, 6)
    words: list[str] = []
    for block in range(count):
        words.append(f":b{block}")
        height = 0
        for _ in range(chance.randrange(1, 14)):
            kind = chance.randrange(16)
            if height < 2 or kind < 3:
                words.append(
                    chance.choice((str(chance.choice(WORDS)), str(chance.randrange(64)), chance.choice(SOURCES)))
                )
                height += 1
            elif kind < 7:
                opcode = chance.choice(BINARY)
                if opcode == "KECCAK256":
                    words += ["63", "AND", "SWAP1", "63", "AND"]
                words.append(opcode)
                height -= 1
                if opcode in ("ADDMOD", "MULMOD"):
                    words.append("CALLER")
            elif kind == 7:
                words.append(chance.choice(("ISZERO", "NOT", "CALLDATALOAD", "SLOAD", "TLOAD", "BALANCE", "BLOCKHASH")))
            elif kind == 8:
                words.append(f"DUP{chance.randrange(1, 5)}")
                height += 1
            elif kind == 9:
                words.append(f"SWAP{chance.randrange(1, 5)}")
            elif kind == 10:
                words += ["127", "AND", chance.choice(("MSTORE", "MSTORE8"))]
                height -= 2
            elif kind == 11:
                words += ["127", "AND", "MLOAD"]
            elif kind == 12:
                words.append(chance.choice(("POP", "POP", "SSTORE", "TSTORE", "LOG1")))
                height -= 1
            elif kind == 13:
                words += [f"@b{chance.randrange(count)}", "JUMPI"]
                height -= 1
            elif kind == 14:
                opcode = chance.choice(("CALL", "CALLCODE", "DELEGATECALL", "STATICCALL"))
                value = chance.choice(("0", "0", "1", "CALLVALUE")) if opcode in ("CALL", "CALLCODE") else ""
                target = chance.choice(("ADDRESS", "4", "2", "9", *(str(int.from_bytes(key, "big")) for key in OTHERS)))
                sizes = " ".join(str(chance.choice((0, 0, 1, 32, 33, 70))) for _ in range(4))
                words.append(f"{sizes} {value} {target} {chance.choice(('GAS', '9000', '100', '0'))} {opcode}")
                height += 1
            else:
                words += [chance.choice(("GAS", "MSIZE"))]
                height += 1
        end = chance.randrange(5)
        if end == 0:
            words += [f"@b{chance.randrange(count)}", "JUMP"]
        elif end == 1:
            words += ["32 0", chance.choice(("RETURN", "REVERT"))]
        elif end == 2:
            words += ["JUMP"]
    return " ".join(words)


@settings(max_examples=150, deadline=None)
@given(
    program=programs(),
    data=st.binary(max_size=70),
    gas=st.sampled_from((500, 3_000, 21_000, 60_000)) | st.integers(0, 40_000),
    fork=st.sampled_from((Hardfork.FRONTIER, Hardfork.BYZANTIUM, Hardfork.ISTANBUL, Hardfork.PRAGUE, Hardfork.OSAKA)),
)
def test_programs_agree_in_every_fork(vm, program, data, gas, fork):
    agree(
        vm,
        vm.assemble(program),
        data,
        gas,
        vm.machine_of(fork),
        fork=fork,
        storage={0: 7, 1: 1},
        others=other_contracts(vm),
        value=3,
    )


@settings(max_examples=150, deadline=None)
@given(code=st.binary(max_size=60), data=st.binary(max_size=40), gas=st.integers(0, 60_000))
def test_bytes_that_nobody_meant_as_code_agree(vm, code, data, gas):
    agree(vm, code, data, gas)
