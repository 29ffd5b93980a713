"""Executing a block from files: what `openledger evm execute` reads, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from openledger.evm_ext.block import Header
from openledger.evm_ext.errors import ExecutionError, UndecodableBlock
from openledger.evm_ext.header_json import RPC_NAMES, header_from_json, header_to_json
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.rollup_rules import rules_of_rollup
from openledger.evm_ext.stateless import differences, execute
from openledger.evm_ext.witness import Witness
from openledger.node.errors import StartupError
from openledger.node.rpc.engine_formats import decode_attributes

_Value = TypeVar("_Value")

MOST_FILE_BYTES = 1 << 30
"""The longest file that is read."""


@dataclass(frozen=True)
class ExecuteFiles:
    """Where everything is that a block is executed from; `expected` may be left out."""

    rollup_config: Path
    parent: Path
    attributes: Path
    witness: Path
    expected: Path | None = None


@dataclass(frozen=True)
class Difference:
    """A field that is not as expected, as the RPC names and shows it."""

    field: str
    actual: str
    expected: str


@dataclass(frozen=True)
class ExecuteOutcome:
    """The block's header as the RPC shows it, how much of the witness was used, and what is not as expected."""

    header: Mapping[str, str]
    preimages_used: int
    preimages_given: int
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "blockHash": self.header["hash"],
            "header": dict(self.header),
            "preimagesUsed": self.preimages_used,
            "preimagesGiven": self.preimages_given,
            "differences": [
                {"field": item.field, "actual": item.actual, "expected": item.expected} for item in self.differences
            ],
        }


def execute_files(files: ExecuteFiles) -> ExecuteOutcome:
    """Execute the block. Raises `StartupError` naming the file and what is wrong with it, or the missing preimage."""
    parent = _read(files.parent, _header)
    attributes = _read(files.attributes, _attributes)
    rules = _read(files.rollup_config, lambda document: rules_of_rollup(document, attributes.timestamp))
    witness = _read(files.witness, Witness.from_json)
    expected = None if files.expected is None else _read(files.expected, _expected)
    try:
        result = execute(rules, parent, attributes, witness)
    except ExecutionError as error:
        raise StartupError(f"the block cannot be executed: {error}") from error
    header = result.block.header
    return ExecuteOutcome(
        header=header_to_json(header),
        preimages_used=len(result.used),
        preimages_given=len(witness),
        differences=() if expected is None else tuple(_compared(header, expected)),
    )


def _compared(header: Header, expected: Header | bytes) -> list[Difference]:
    expected_hash = expected if isinstance(expected, bytes) else expected.hash
    found = []
    if header.hash != expected_hash:
        found.append(Difference("hash", _shown(header.hash), _shown(expected_hash)))
    if isinstance(expected, Header):
        found += [
            Difference(RPC_NAMES.get(item.field, item.field), _shown(item.actual), _shown(item.expected))
            for item in differences(header, expected)
        ]
    return found


def _shown(value: bytes | int) -> str:
    return hex(value) if isinstance(value, int) else "0x" + value.hex()


# --- files ------------------------------------------------------------------------------------------------


def _read(path: Path, decode: Callable[[Any], _Value]) -> _Value:
    """The value in a file. Raises `StartupError` naming the file."""
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise StartupError(f"{path}: larger than {MOST_FILE_BYTES} bytes")
        content = path.read_bytes().strip()
        document = content.decode("ascii") if content[:2] == b"0x" else orjson.loads(content)
        if isinstance(document, dict) and "result" in document and "jsonrpc" in document:
            document = document["result"]
        return decode(document)
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror or error}") from None
    except orjson.JSONDecodeError as error:
        raise StartupError(f"{path}: not JSON: {error}") from None
    except (ExecutionError, ValueError) as error:
        raise StartupError(f"{path}: {error}") from None


def _header(document: Any) -> Header:
    if isinstance(document, str):
        return Header.decode(_octets(document))
    return header_from_json(document)


def _expected(document: Any) -> Header | bytes:
    if isinstance(document, str) and len(octets := _octets(document)) == 32:
        return octets
    return _header(document)


def _octets(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise UndecodableBlock("neither JSON nor hex") from None


def _attributes(document: Any) -> PayloadAttributes:
    call = decode_attributes(document)
    for name in ("gasLimit", "parentBeaconBlockRoot"):
        if name not in call.fields:
            raise ValueError(f"payload attributes lack {name}")
    return call.attributes
