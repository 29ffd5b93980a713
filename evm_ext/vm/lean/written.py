"""Opcodes that are one expression: words taken, a word given.

Each becomes a function of its own from a template, so that nothing is called between the interpreter's loop and the
expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from eth.exceptions import FullStack, InsufficientStack, OutOfGas

from openledger.evm_ext.vm.lean import words
from openledger.evm_ext.vm.parts import STACK_LIMIT

Opcode = Callable[[Any], None]
"""Runs on a computation whose program counter is already past the opcode's byte."""

# By logic name; `a` was on top of the stack, `c` is the computation, `gas` what is left after the opcode.
_WORDS_TAKEN: Mapping[int, Mapping[str, str]] = {
    0: {
        "logic.context.address": "int.from_bytes(c.msg.storage_address, 'big')",
        "logic.context.origin": "int.from_bytes(c.transaction_context.origin, 'big')",
        "logic.context.caller": "int.from_bytes(c.msg.sender, 'big')",
        "logic.context.callvalue": "c.msg.value",
        "logic.context.calldatasize": "len(c.msg.data)",
        "logic.context.codesize": "len(c.code)",
        "logic.context.gasprice": "c.transaction_context.gas_price",
        "logic.context.returndatasize": "len(c.return_data)",
        "logic.context.chain_id": "c.state.execution_context.chain_id",
        "logic.context.selfbalance": "c.state.get_balance(c.msg.storage_address)",
        "logic.block.coinbase": "int.from_bytes(c.state.coinbase, 'big')",
        "logic.block.timestamp": "c.state.timestamp",
        "logic.block.number": "c.state.block_number",
        "logic.block.difficulty": "c.state.difficulty",
        "logic.block.mixhash": "int.from_bytes(c.state.mix_hash, 'big')",
        "logic.block.gaslimit": "c.state.gas_limit",
        "logic.block.basefee": "c.state.base_fee",
        "logic.block.blob_base_fee": "c.state.blob_base_fee",
        "logic.memory.msize": "len(c._memory._bytes)",
        "logic.flow.program_counter": "c.code.program_counter - 1",
        "logic.flow.gas": "gas",
    },
    1: {
        "logic.comparison.iszero": "0 if a else 1",
        "logic.comparison.not_op": "a ^ WORD",
        "logic.context.calldataload": "int.from_bytes(c.msg.data_as_bytes[a : a + 32].ljust(32, ZERO), 'big')",
        "logic.block.blockhash": "int.from_bytes(c.state.get_ancestor_hash(a), 'big')",
        "forks.cancun.logic.tload": "int.from_bytes(c.state.get_transient_storage(c.msg.storage_address, a), 'big')",
    },
    2: {
        "logic.arithmetic.add": "(a + b) & WORD",
        "logic.arithmetic.mul": "(a * b) & WORD",
        "logic.arithmetic.sub": "(a - b) & WORD",
        "logic.arithmetic.div": "a // b if b else 0",
        "logic.arithmetic.sdiv": "signed_divide(a, b)",
        "logic.arithmetic.mod": "a % b if b else 0",
        "logic.arithmetic.smod": "signed_remainder(a, b)",
        "logic.arithmetic.signextend": "sign_extend(a, b)",
        "logic.comparison.lt": "1 if a < b else 0",
        "logic.comparison.gt": "1 if a > b else 0",
        "logic.comparison.slt": "1 if a ^ SIGN < b ^ SIGN else 0",
        "logic.comparison.sgt": "1 if a ^ SIGN > b ^ SIGN else 0",
        "logic.comparison.eq": "1 if a == b else 0",
        "logic.comparison.and_op": "a & b",
        "logic.comparison.or_op": "a | b",
        "logic.comparison.xor": "a ^ b",
        "logic.comparison.byte_op": "byte_of(a, b)",
        "logic.arithmetic.shl": "(b << a) & WORD if a < 256 else 0",
        "logic.arithmetic.shr": "b >> a if a < 256 else 0",
        "logic.arithmetic.sar": "shift_right_signed(a, b)",
    },
    3: {
        "logic.arithmetic.addmod": "(a + b) % d if d else 0",
        "logic.arithmetic.mulmod": "(a * b) % d if d else 0",
    },
}

_HEAD = """
def opcode(c):
    meter = c._gas_meter
    gas = meter.gas_remaining - {gas}
    if gas < 0:
        raise OutOfGas(f"out of gas: {gas} needed, {{meter.gas_remaining}} left")
    meter.gas_remaining = gas
    values = c._stack.values
"""
_BODIES = {
    0: """
    if len(values) >= STACK_LIMIT:
        raise FullStack(f"stack limit of {{STACK_LIMIT}} reached")
    values.append({expression})
""",
    1: """
    if not values:
        raise InsufficientStack("1 stack item wanted, none there")
    a = values[-1]
    values[-1] = {expression}
""",
    2: """
    if len(values) < 2:
        raise InsufficientStack(f"2 stack items wanted, {{len(values)}} there")
    a = values.pop()
    b = values[-1]
    values[-1] = {expression}
""",
    3: """
    if len(values) < 3:
        raise InsufficientStack(f"3 stack items wanted, {{len(values)}} there")
    a = values.pop()
    b = values.pop()
    d = values[-1]
    values[-1] = {expression}
""",
}
_NAMES: Mapping[str, Any] = {
    "OutOfGas": OutOfGas,
    "FullStack": FullStack,
    "InsufficientStack": InsufficientStack,
    "STACK_LIMIT": STACK_LIMIT,
    "WORD": words.WORD,
    "SIGN": words.SIGN,
    "ZERO": b"\0",
    "signed_divide": words.signed_divide,
    "signed_remainder": words.signed_remainder,
    "sign_extend": words.sign_extend,
    "shift_right_signed": words.shift_right_signed,
    "byte_of": words.byte_of,
}


@lru_cache(maxsize=1024)
def written_opcode(name: str, gas: int) -> Opcode | None:
    """The opcode with this logic at this price, None if it is more than an expression."""
    for taken, expressions in _WORDS_TAKEN.items():
        expression = expressions.get(name)
        if expression is not None:
            namespace = dict(_NAMES)
            source = _HEAD.format(gas=gas) + _BODIES[taken].format(expression=expression)
            exec(compile(source, f"<{name}>", "exec"), namespace)
            opcode: Opcode = namespace["opcode"]
            return opcode
    return None
