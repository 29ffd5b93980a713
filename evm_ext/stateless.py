"""One OP-Stack block executed from a witness alone: no database, no chain, nothing trusted but the parent's hash.

The block is built by the code that builds and imports every other block; only where the state comes from differs. So
a validator and a dispute, which have no more than the witness, get what the sequencer got.
"""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext.block import HEADER_FIELDS, Block, Header
from openledger.evm_ext.building import ParentState, build_block
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.processing import ExecutedBlock
from openledger.evm_ext.vm.rules import Rules
from openledger.evm_ext.witness import Witness


@dataclass(frozen=True)
class StatelessResult:
    """The block and what executing it gave; `used` are the hashes of the preimages that it needed."""

    block: Block
    executed: ExecutedBlock
    used: frozenset[bytes]


@dataclass(frozen=True)
class Difference:
    """A header field whose value is not the expected one."""

    field: str
    actual: bytes | int
    expected: bytes | int


def execute(rules: Rules, parent: Header, attributes: PayloadAttributes, witness: Witness) -> StatelessResult:
    """The block that follows from the attributes on `parent`, with no transactions but theirs.

    Raises `MissingWitness` naming the hash that was needed and not there, `InvalidWitness`, `InvalidAttributes`, and
    `InvalidBlockTransaction` for a transaction that may not be in the block."""
    before = ParentState(
        header=parent,
        reader=witness.reader(parent.state_root),
        ancestor_hash=lambda number: witness.ancestor_hash(parent, number),
    )
    block, executed = build_block(rules, before, attributes, ())
    return StatelessResult(block, executed, frozenset(witness.used))


def differences(actual: Header, expected: Header) -> list[Difference]:
    """Every field in which two headers differ, in the order of the header; their form counts as a field."""
    found = [
        Difference(field, getattr(actual, field), getattr(expected, field))
        for field in HEADER_FIELDS[: max(actual.form, expected.form)]
        if getattr(actual, field) != getattr(expected, field)
    ]
    if actual.form != expected.form:
        found.append(Difference("form", int(actual.form), int(expected.form)))
    return found
