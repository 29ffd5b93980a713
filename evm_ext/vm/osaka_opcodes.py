"""Opcodes that Osaka adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from eth.vm.opcode import as_opcode

GAS_CLZ = 5


def clz(computation: Any) -> None:
    """How many of a word's 256 bits are zero before its first one (EIP-7939); 256 for zero."""
    computation.stack_push_int(256 - computation.stack_pop1_int().bit_length())


OSAKA_OPCODES: Final[Mapping[int, Callable[[Any], Any]]] = {0x1E: as_opcode(clz, "CLZ", GAS_CLZ)}
