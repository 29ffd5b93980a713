"""What a native precompile is: a price, a function of bytes, and the form in which py-evm's machine calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth.exceptions import VMError


class PrecompileFailed(VMError):  # type: ignore[misc]
    """A precompile was given input that its specification calls an error: the call fails and its gas is gone."""


@dataclass(frozen=True, slots=True)
class Precompile:
    """`gas` prices an input before anything is computed from it; `run` gives the output.

    Both are functions of the input alone. `gas` and `run` raise `PrecompileFailed`; more than `input_limit` bytes
    (None: no limit) fail likewise, before the input is looked at.
    """

    name: str
    gas: Callable[[bytes], int]
    run: Callable[[bytes], bytes]
    input_limit: int | None = None

    def __call__(self, computation: Any) -> Any:
        """Run on a py-evm computation. Raises `PrecompileFailed` or py-evm's `OutOfGas`."""
        data = bytes(computation.msg.data)
        if self.input_limit is not None and len(data) > self.input_limit:
            raise PrecompileFailed(f"{self.name}: {len(data)} bytes of input, at most {self.input_limit} are taken")
        computation.consume_gas(self.gas(data), self.name)
        computation.output = self.run(data)
        return computation


def flat(gas: int) -> Callable[[bytes], int]:
    """The price of a precompile that costs the same for every input."""
    return lambda data: gas


def padded(data: bytes, size: int) -> bytes:
    """The first `size` bytes of an input that continues with zeros."""
    return data[:size].ljust(size, b"\0")
