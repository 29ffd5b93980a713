"""How Triton kernels are made and started: one place for the options that keep them exact.

`enable_fp_fusion=False` stops both LLVM and ptxas from contracting a product and a sum. A launch can be recorded instead
of run, so that the very signatures that run can be compiled on a machine without a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import torch
import triton

F = TypeVar("F", bound=Callable[..., Any])

INTERPRETED: Final = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter: `TRITON_INTERPRET=1` was set when this module was imported."""

_POINTERS: Final = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
_recorded: "list[Launch] | None" = None


@dataclass(frozen=True)
class Launch:
    """A launch that was recorded: what it would have compiled."""

    kernel: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    warps: int
    stages: int

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    def compiled(self, capability: int = 90, *, fused: bool = False) -> tuple[str, int]:
        """Compile for an NVIDIA GPU of this compute capability, which need not be here: the PTX, and the bytes of shared
        memory of a program. `fused` is for seeing what the compiler would do if it were let."""
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        names = list(self.kernel.arg_names)
        signature = dict.fromkeys(names, "constexpr")
        attributes: dict[tuple[int, ...], Any] = {}
        for index, (name, argument) in enumerate(zip(names, self.arguments)):
            signature[name] = _type(argument)
            if isinstance(argument, torch.Tensor) or (isinstance(argument, int) and argument % 16 == 0):
                attributes[(index,)] = [["tt.divisibility", 16]]
        constants = {(names.index(name),): value for name, value in self.constants.items()}
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants, attrs=attributes)
        options = {"enable_fp_fusion": fused, "num_warps": self.warps, "num_stages": self.stages}
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        return str(compiled.asm["ptx"]), int(compiled.metadata.shared)


def kernel(function: F) -> F:
    """A Triton function: a kernel, or a part of one."""
    return cast(F, triton.jit(function))


def launch(
    function: Any, grid: tuple[int, ...], *arguments: Any, warps: int = 4, stages: int = 3, **constants: Any
) -> None:
    """Run a kernel over a grid of programs. `constants` are its compile-time parameters; `warps` and `stages` (how many
    turns of a loop are under way at once) are speed only."""
    if _recorded is not None:
        _recorded.append(Launch(function, arguments, constants, warps, stages))
    else:
        function[grid](*arguments, **constants, num_warps=warps, num_stages=stages, enable_fp_fusion=False)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Launches inside are collected, not run."""
    global _recorded
    _recorded = []
    try:
        yield _recorded
    finally:
        _recorded = None


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`."""
    return 1 << max(0, size - 1).bit_length()


def _type(argument: Any) -> str:
    if isinstance(argument, torch.Tensor):
        return _POINTERS[argument.dtype]
    if isinstance(argument, float):
        return "fp32"
    return "i32" if -(2**31) <= argument < 2**31 else "i64"
