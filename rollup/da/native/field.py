"""Arithmetic in Fp and Fp² of BN254, compiled: numba intrinsics that write LLVM integers of 256 and 512 bits.

An element of Fp is four unsigned 64-bit words, least significant first, in Montgomery form (a·2²⁵⁶ mod p) and below p;
one of Fp² = Fp[i]/(i² + 1) is eight, the real part first. `add`, `subtract`, `multiply` and `square` take either, so what
is written with them serves both groups. `load` and `store` move an element between a row of an array and registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from openledger.rollup.da.curve import FIELD_MODULUS

_WORD, _DOUBLE, _WIDE, _WIDEST = ir.IntType(64), ir.IntType(128), ir.IntType(256), ir.IntType(512)
_MODULUS: Final = ir.Constant(_WIDE, FIELD_MODULUS)
_MODULUS_WORDS: Final = [ir.Constant(_WORD, FIELD_MODULUS >> 64 * index & (1 << 64) - 1) for index in range(4)]
_NEGATED_INVERSE: Final = ir.Constant(_WORD, -pow(FIELD_MODULUS, -1, 1 << 64) % (1 << 64))

MONTGOMERY_ONE: Final = (1 << 256) % FIELD_MODULUS


def words_of(value: int, count: int = 4) -> tuple[np.uint64, ...]:
    """The words of an integer, least significant first."""
    return tuple(np.uint64(value >> 64 * index & (1 << 64) - 1) for index in range(count))


def montgomery(value: int) -> int:
    """An integer's Montgomery form."""
    return (value << 256) % FIELD_MODULUS


ONE: Final = words_of(MONTGOMERY_ONE)
ZERO: Final = words_of(0)
ZERO_2: Final = words_of(0, 8)


# --- LLVM ------------------------------------------------------------------------------------------------


def _element(builder: Any, words: list[Any]) -> Any:
    total = builder.zext(words[0], _WIDE)
    for index, word in enumerate(words[1:], 1):
        shifted = builder.shl(builder.zext(word, _WIDE), ir.Constant(_WIDE, 64 * index))
        total = builder.or_(total, shifted)
    return total


def _words(builder: Any, value: Any, count: int = 4) -> list[Any]:
    return [
        builder.trunc(builder.lshr(value, ir.Constant(value.type, 64 * index)) if index else value, _WORD)
        for index in range(count)
    ]


def _halves(builder: Any, value: Any) -> tuple[Any, Any]:
    return builder.trunc(value, _WORD), builder.trunc(builder.lshr(value, ir.Constant(_DOUBLE, 64)), _WORD)


def _multiply_add(builder: Any, left: Any, right: Any, *more: Any) -> tuple[Any, Any]:
    """(low, high) of left·right and up to two words added to it, which cannot overflow."""
    total = builder.mul(builder.zext(left, _DOUBLE), builder.zext(right, _DOUBLE))
    for word in more:
        total = builder.add(total, builder.zext(word, _DOUBLE))
    return _halves(builder, total)


def _reduced_once(builder: Any, value: Any) -> Any:
    """A number below 2p, brought below p."""
    less = builder.sub(value, _MODULUS)
    return builder.select(builder.icmp_signed("<", less, ir.Constant(_WIDE, 0)), value, less)


def _add(builder: Any, left: Any, right: Any) -> Any:
    return _reduced_once(builder, builder.add(left, right))


def _subtract(builder: Any, left: Any, right: Any) -> Any:
    difference = builder.sub(left, right)
    is_negative = builder.icmp_signed("<", difference, ir.Constant(_WIDE, 0))
    return builder.add(difference, builder.select(is_negative, _MODULUS, ir.Constant(_WIDE, 0)))


def _multiply(builder: Any, left: Any, right: Any) -> Any:
    """Montgomery's product, word by word. p leaves two bits free, so no step carries beyond four words."""
    a, b = _words(builder, left), _words(builder, right)
    zero = ir.Constant(_WORD, 0)
    total = [zero] * 4
    for digit in b:
        total[0], carry = _multiply_add(builder, a[0], digit, total[0])
        factor = builder.mul(total[0], _NEGATED_INVERSE)
        _, reduction = _multiply_add(builder, factor, _MODULUS_WORDS[0], total[0])
        for index in range(1, 4):
            total[index], carry = _multiply_add(builder, a[index], digit, total[index], carry)
            total[index - 1], reduction = _multiply_add(builder, factor, _MODULUS_WORDS[index], total[index], reduction)
        total[3] = builder.add(carry, reduction)
    return _reduced_once(builder, _element(builder, total))


def _multiply_wide(builder: Any, left: Any, right: Any) -> Any:
    """The product of two numbers of four words, in 512 bits."""
    a, b = _words(builder, left), _words(builder, right)
    total = [ir.Constant(_WORD, 0)] * 8
    for start, digit in enumerate(b):
        carry = ir.Constant(_WORD, 0)
        for index, word in enumerate(a):
            total[start + index], carry = _multiply_add(builder, word, digit, total[start + index], carry)
        total[start + 4] = carry
    value = builder.zext(total[0], _WIDEST)
    for index, word in enumerate(total[1:], 1):
        value = builder.or_(value, builder.shl(builder.zext(word, _WIDEST), ir.Constant(_WIDEST, 64 * index)))
    return value


def _reduce_wide(builder: Any, value: Any) -> Any:
    """A number below p·2²⁵⁶, divided by 2²⁵⁶ modulo p."""
    total = _words(builder, value, 8)
    overflow = ir.Constant(_WORD, 0)
    for start in range(4):
        factor = builder.mul(total[start], _NEGATED_INVERSE)
        carry = ir.Constant(_WORD, 0)
        for index in range(4):
            total[start + index], carry = _multiply_add(
                builder, factor, _MODULUS_WORDS[index], total[start + index], carry
            )
        raised = builder.add(
            builder.add(builder.zext(total[start + 4], _DOUBLE), builder.zext(carry, _DOUBLE)),
            builder.zext(overflow, _DOUBLE),
        )
        total[start + 4], overflow = _halves(builder, raised)
    return _reduced_once(builder, _element(builder, total[4:]))


def _multiply_2(builder: Any, left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
    """Three wide products and two reductions (Karatsuba)."""
    real = _multiply_wide(builder, left[0], right[0])
    imaginary = _multiply_wide(builder, left[1], right[1])
    both = _multiply_wide(builder, builder.add(left[0], left[1]), builder.add(right[0], right[1]))
    crossed = builder.sub(builder.sub(both, real), imaginary)
    difference = builder.sub(real, imaginary)
    is_negative = builder.icmp_signed("<", difference, ir.Constant(_WIDEST, 0))
    lift = builder.select(is_negative, ir.Constant(_WIDEST, FIELD_MODULUS << 256), ir.Constant(_WIDEST, 0))
    return _reduce_wide(builder, builder.add(difference, lift)), _reduce_wide(builder, crossed)


def _square_2(builder: Any, value: tuple[Any, Any]) -> tuple[Any, Any]:
    real, imaginary = value
    product = _multiply(builder, real, imaginary)
    return (
        _multiply(builder, _add(builder, real, imaginary), _subtract(builder, real, imaginary)),
        _add(builder, product, product),
    )


# --- as numba sees it ------------------------------------------------------------------------------------


def _parts(builder: Any, value: Any, kind: Any) -> list[Any]:
    words = cgutils.unpack_tuple(builder, value, kind.count)
    return [_element(builder, words[start : start + 4]) for start in range(0, kind.count, 4)]


def _packed(context: Any, builder: Any, kind: Any, parts: list[Any]) -> Any:
    return context.make_tuple(builder, kind, [word for part in parts for word in _words(builder, part)])


def _checked(kind: Any) -> Any:
    if not isinstance(kind, types.UniTuple) or kind.dtype != types.uint64 or kind.count not in (4, 8):
        raise TypingError(f"an element is 4 or 8 words of 64 bits, not {kind}")
    return kind


def _each(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda builder, *operands: [operation(builder, *parts) for parts in zip(*operands)]


def _binary(context: Any, builder: Any, signature: Any, arguments: Any, operation: Callable[..., Any]) -> Any:
    kind = signature.args[0]
    left, right = (_parts(builder, argument, kind) for argument in arguments)
    return _packed(context, builder, kind, operation(builder, left, right))


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def add(typing_context: Any, left: Any, right: Any) -> Any:
    """The sum of two elements."""
    kind = _checked(left)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _binary(context, builder, signature, arguments, _each(_add))

    return kind(kind, kind), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def subtract(typing_context: Any, left: Any, right: Any) -> Any:
    """The difference of two elements."""
    kind = _checked(left)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _binary(context, builder, signature, arguments, _each(_subtract))

    return kind(kind, kind), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def multiply(typing_context: Any, left: Any, right: Any) -> Any:
    """The product of two elements."""
    kind = _checked(left)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operation = _each(_multiply) if kind.count == 4 else lambda builder, a, b: list(_multiply_2(builder, a, b))
        return _binary(context, builder, signature, arguments, operation)

    return kind(kind, kind), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def square(typing_context: Any, value: Any) -> Any:
    """An element's square."""
    kind = _checked(value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = _parts(builder, arguments[0], kind)
        squared = (
            [_multiply(builder, parts[0], parts[0])] if kind.count == 4 else list(_square_2(builder, tuple(parts)))
        )
        return _packed(context, builder, kind, squared)

    return kind(kind), generate


def _row(context: Any, builder: Any, array_kind: Any, array: Any, index: Any) -> Any:
    """A pointer to the words of a row."""
    structure = context.make_array(array_kind)(context, builder, array)
    stride = builder.extract_value(structure.strides, 0)
    place = builder.add(builder.ptrtoint(structure.data, _WORD), builder.mul(index, stride))
    return builder.inttoptr(place, _WORD.as_pointer())


def _is_rows(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 2 and kind.dtype == types.uint64 and kind.layout == "C"


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def load(typing_context: Any, rows: Any, row: Any, start: Any, like: Any) -> Any:
    """The element from word `start` on in a row of a C-ordered array; `like` is any element of its kind."""
    if not _is_rows(rows):
        raise TypingError(f"rows of 64-bit words are needed, not {rows}")
    kind = _checked(like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, offset, _ = arguments
        pointer = builder.gep(_row(context, builder, rows, array, index), [offset])
        words = [builder.load(builder.gep(pointer, [ir.Constant(_WORD, place)])) for place in range(kind.count)]
        return context.make_tuple(builder, kind, words)

    return kind(rows, types.int64, types.int64, kind), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def store(typing_context: Any, rows: Any, row: Any, start: Any, value: Any) -> Any:
    """Put an element into a row of a C-ordered array, from word `start` on."""
    if not _is_rows(rows):
        raise TypingError(f"rows of 64-bit words are needed, not {rows}")
    kind = _checked(value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, offset, element = arguments
        pointer = builder.gep(_row(context, builder, rows, array, index), [offset])
        for place, word in enumerate(cgutils.unpack_tuple(builder, element, kind.count)):
            builder.store(word, builder.gep(pointer, [ir.Constant(_WORD, place)]))
        return context.get_dummy_value()

    return types.none(rows, types.int64, types.int64, kind), generate
