"""What is known of a word while bytecode is followed: its Python text, its value if constant, its greatest value.

The rules of `arithmetic` fold constants and leave out masks where no overflow is possible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from openledger.evm_ext.vm.lean import words
from openledger.evm_ext.vm.lean.words import MODULUS, SIGN, WORD


@dataclass(frozen=True, slots=True)
class Value:
    """A word. `text` is an atom of Python: a name, a literal, or in brackets. `top` is the greatest it can be.
    `test` is set where the word is the outcome of a comparison: 1 if it holds, else 0. `raw` is the name of its 32 bytes,
    where there is one; a `lazy` word has nothing else yet: its text makes it of them."""

    text: str
    top: int = WORD
    const: int | None = None
    test: Test | None = None
    raw: str | None = None
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Test:
    """`left relation right`, with one of < <= == != on unsigned words, or <s <=s on signed ones."""

    relation: str
    left: Value
    right: Value

    @property
    def text(self) -> str:
        left, right = self.left.text, self.right.text
        if self.relation in ("<s", "<=s"):
            return (
                f"({left}^{_SIGN})<({right}^{_SIGN})"
                if self.relation == "<s"
                else f"({left}^{_SIGN})<=({right}^{_SIGN})"
            )
        if self.right.const == 0 and self.relation in ("==", "!="):
            return left if self.relation == "!=" else f"not {left}"
        return f"{left}{self.relation}{right}"

    @property
    def inverse(self) -> Test:
        if self.relation in ("==", "!="):
            return Test("!=" if self.relation == "==" else "==", self.left, self.right)
        opposite = {"<": "<=", "<=": "<", "<s": "<=s", "<=s": "<s"}[self.relation]
        return Test(opposite, self.right, self.left)


def literal(number: int) -> Value:
    return Value(str(number) if number < 100_000 else hex(number), number, number)


def of_bytes(name: str) -> Value:
    """The word that these 32 bytes are."""
    return Value(f"word({name},'big')", raw=name, lazy=True)


_SIGN = hex(SIGN)
_WORD = hex(WORD)
ZERO = literal(0)


@dataclass
class Facts:
    """What the branches taken so far say of names: `tops` their greatest value, `ordered` pairs of which the first
    is not greater than the second."""

    tops: dict[str, int] = field(default_factory=dict)
    ordered: set[tuple[str, str]] = field(default_factory=set)

    def copy(self) -> Facts:
        return Facts(dict(self.tops), set(self.ordered))

    def top(self, value: Value) -> int:
        return min(value.top, self.tops.get(value.text, WORD))

    def assume(self, test: Test) -> None:
        left, right = test.left, test.right
        if test.relation in ("<", "<="):
            self._limit(left, self.top(right) - (test.relation == "<"))
            self.ordered.add((left.text, right.text))
        elif test.relation == "==":
            top = min(self.top(left), self.top(right))
            self._limit(left, top)
            self._limit(right, top)

    def _limit(self, value: Value, top: int) -> None:
        if value.const is None and value.test is None:
            self.tops[value.text] = max(0, min(self.top(value), top))


class Emit(Protocol):
    """Writes `name = text` and gives the name as a value with this greatest value."""

    def __call__(self, text: str, top: int = WORD) -> Value: ...


def test_of(value: Value) -> Test:
    """The condition that a word is not zero."""
    return value.test or Test("!=", value, ZERO)


def as_value(test: Test) -> Value:
    return Value(f"(1 if {test.text} else 0)", 1, None, test)


def is_zero(value: Value) -> Value:
    if value.const is not None:
        return literal(int(value.const == 0))
    return as_value(test_of(value).inverse)


def compare(relation: str, left: Value, right: Value, facts: Facts) -> Value:
    if left.const is not None and right.const is not None:
        return literal(int(_HOLDS[relation](left.const, right.const)))
    if left.text == right.text:
        return literal(int(relation in ("<=", "==", "<=s")))
    if relation == "<s" and facts.top(left) < SIGN and facts.top(right) < SIGN:
        relation = "<"
    if relation == "==" and left.const == 0:
        return is_zero(right)
    if relation == "==" and right.const == 0:
        return is_zero(left)
    return as_value(Test(relation, left, right))


def _signed(word: int) -> int:
    return word - MODULUS if word >= SIGN else word


_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "<": lambda left, right: left < right,
    "==": lambda left, right: left == right,
    "<s": lambda left, right: _signed(left) < _signed(right),
}

_FOLD: dict[int, Callable[[int, int], int]] = {
    0x01: lambda a, b: (a + b) & WORD,
    0x02: lambda a, b: (a * b) & WORD,
    0x03: lambda a, b: (a - b) & WORD,
    0x04: lambda a, b: a // b if b else 0,
    0x05: words.signed_divide,
    0x06: lambda a, b: a % b if b else 0,
    0x07: words.signed_remainder,
    0x0A: lambda a, b: pow(a, b, MODULUS),
    0x0B: words.sign_extend,
    0x16: lambda a, b: a & b,
    0x17: lambda a, b: a | b,
    0x18: lambda a, b: a ^ b,
    0x1A: words.byte_of,
    0x1B: lambda a, b: (b << a) & WORD if a < 256 else 0,
    0x1C: lambda a, b: b >> a if a < 256 else 0,
    0x1D: words.shift_right_signed,
}


def arithmetic(opcode: int, a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    """Two words into one, `a` from the top of the stack."""
    if a.const is not None and b.const is not None:
        return literal(_FOLD[opcode](a.const, b.const))
    return _RULES[opcode](a, b, facts, emit)


def modular(opcode: int, a: Value, b: Value, modulus: Value, facts: Facts, emit: Emit) -> Value:
    """ADDMOD and MULMOD."""
    sign = "+" if opcode == 0x08 else "*"
    if modulus.const is not None:
        return emit(f"({a.text}{sign}{b.text})%{modulus.text}", modulus.const - 1) if modulus.const else ZERO
    top = max(0, facts.top(modulus) - 1)
    return emit(f"({a.text}{sign}{b.text})%{modulus.text} if {modulus.text} else 0", top)


def _add(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if a.const == 0:
        return b
    if b.const == 0:
        return a
    top = facts.top(a) + facts.top(b)
    return emit(f"{a.text}+{b.text}", top) if top <= WORD else emit(f"{a.text}+{b.text}&{_WORD}", WORD)


def _mul(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    for one, other in ((a, b), (b, a)):
        if one.const == 0:
            return one
        if one.const == 1:
            return other
    top = facts.top(a) * facts.top(b)
    return emit(f"{a.text}*{b.text}", top) if top <= WORD else emit(f"{a.text}*{b.text}&{_WORD}", WORD)


def _sub(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if b.const == 0:
        return a
    if a.text == b.text:
        return ZERO
    if (b.text, a.text) in facts.ordered or (a.const is not None and facts.top(b) <= a.const):
        return emit(f"{a.text}-{b.text}", facts.top(a))
    return emit(f"{a.text}-{b.text}&{_WORD}", WORD)


def _div(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if b.const == 0:
        return ZERO
    if b.const is not None:
        shift = b.const.bit_length() - 1
        if b.const == 1 << shift:
            return emit(f"{a.text}>>{shift}", facts.top(a) >> shift) if shift else a
        return emit(f"{a.text}//{b.text}", facts.top(a) // b.const)
    return emit(f"{a.text}//{b.text} if {b.text} else 0", facts.top(a))


def _mod(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if b.const == 0:
        return ZERO
    if b.const is not None:
        if b.const & (b.const - 1) == 0:
            return _and(a, literal(b.const - 1), facts, emit)
        return emit(f"{a.text}%{b.text}", min(facts.top(a), b.const - 1))
    return emit(f"{a.text}%{b.text} if {b.text} else 0", min(facts.top(a), max(0, facts.top(b) - 1)))


def _called(name: str) -> Callable[[Value, Value, Facts, Emit], Value]:
    def rule(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
        return emit(f"{name}({a.text},{b.text})", WORD)

    return rule


def _exp(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    return emit(f"pow({a.text},{b.text},{hex(MODULUS)})", WORD)


def _sign_extend(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if a.const is not None and facts.top(b) < 1 << (8 * min(a.const, 31) + 7):
        return b
    return emit(f"sign_extend({a.text},{b.text})", WORD)


def _and(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    for one, other in ((a, b), (b, a)):
        if one.const is not None:
            if one.const == 0:
                return ZERO
            if one.const & (one.const + 1) == 0 and facts.top(other) <= one.const:
                return other
    if a.text == b.text:
        return a
    return emit(f"{a.text}&{b.text}", min(facts.top(a), facts.top(b)))


def _or(sign: str) -> Callable[[Value, Value, Facts, Emit], Value]:
    def rule(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
        if a.const == 0:
            return b
        if b.const == 0:
            return a
        if a.text == b.text:
            return a if sign == "|" else ZERO
        top = (1 << max(facts.top(a).bit_length(), facts.top(b).bit_length())) - 1
        return emit(f"{a.text}{sign}{b.text}", top)

    return rule


def _byte(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if a.const is not None:
        return emit(f"{b.text}>>{248 - 8 * a.const}&255", 255) if a.const < 32 else ZERO
    return emit(f"byte_of({a.text},{b.text})", 255)


def _shl(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if a.const is not None:
        if a.const >= 256:
            return ZERO
        top = facts.top(b) << a.const
        return emit(f"{b.text}<<{a.const}", top) if top <= WORD else emit(f"{b.text}<<{a.const}&{_WORD}", WORD)
    return emit(f"{b.text}<<{a.text}&{_WORD} if {a.text}<256 else 0", WORD)


def _shr(a: Value, b: Value, facts: Facts, emit: Emit) -> Value:
    if a.const is not None:
        return emit(f"{b.text}>>{a.const}", facts.top(b) >> a.const) if a.const < 256 else ZERO
    return emit(f"{b.text}>>{a.text} if {a.text}<256 else 0", facts.top(b))


_RULES: dict[int, Callable[[Value, Value, Facts, Emit], Value]] = {
    0x01: _add,
    0x02: _mul,
    0x03: _sub,
    0x04: _div,
    0x05: _called("signed_divide"),
    0x06: _mod,
    0x07: _called("signed_remainder"),
    0x0A: _exp,
    0x0B: _sign_extend,
    0x16: _and,
    0x17: _or("|"),
    0x18: _or("^"),
    0x1A: _byte,
    0x1B: _shl,
    0x1C: _shr,
    0x1D: _called("shift_right_signed"),
}
