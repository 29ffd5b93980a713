"""Calls to and events of contracts, encoded by their committed ABI. Bytes in, values out; nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from openledger.genesis.hashing import keccak256

_PANICS = {0x01: "assertion failed", 0x11: "arithmetic overflow", 0x12: "division by zero", 0x32: "index out of bounds"}


class UnknownEntry(Exception):
    """The ABI has no function, event or error of that name or selector."""


@dataclass(frozen=True)
class Event:
    """A decoded log: the event's name and its arguments by name (addresses as lower-case hex, as eth_abi gives them)."""

    name: str
    arguments: Mapping[str, Any]


def _canonical_type(parameter: Mapping[str, Any]) -> str:
    kind: str = parameter["type"]
    if kind.startswith("tuple"):
        return f"({','.join(_canonical_type(c) for c in parameter['components'])}){kind[5:]}"
    return kind


def canonical_types(parameters: Iterable[Mapping[str, Any]]) -> list[str]:
    """The types of an entry's inputs or outputs, tuples spelled out, as eth_abi takes them."""
    return [_canonical_type(p) for p in parameters]


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(canonical_types(entry['inputs']))})"


class Contract:
    """A contract at an address, spoken to through its ABI (a list of entries in solc's JSON form)."""

    def __init__(self, address: bytes, abi: Iterable[Mapping[str, Any]]) -> None:
        self.address = address
        self.abi = tuple(abi)

    @cached_property
    def _functions(self) -> dict[str, Mapping[str, Any]]:
        return {e["name"]: e for e in self.abi if e["type"] == "function"}

    @cached_property
    def _events(self) -> dict[bytes, Mapping[str, Any]]:
        return {keccak256(_signature(e).encode()): e for e in self.abi if e["type"] == "event"}

    @cached_property
    def _errors(self) -> dict[bytes, Mapping[str, Any]]:
        return {keccak256(_signature(e).encode())[:4]: e for e in self.abi if e["type"] == "error"}

    def _function(self, name: str) -> Mapping[str, Any]:
        try:
            return self._functions[name]
        except KeyError:
            raise UnknownEntry(f"no function {name}; there are {', '.join(sorted(self._functions))}") from None

    def encode(self, function: str, *arguments: Any) -> bytes:
        """Calldata of a call of `function` (Contract ABI specification).

        Raises UnknownEntry, or eth_abi's EncodingError naming the argument that does not fit its type.
        """
        entry = self._function(function)
        body: bytes = encode(canonical_types(entry["inputs"]), arguments)
        return self.selector(function) + body

    def selector(self, function: str) -> bytes:
        """The first four bytes of a call of `function`."""
        return keccak256(_signature(self._function(function)).encode())[:4]

    def decode_call(self, function: str, data: bytes) -> tuple[Any, ...]:
        """The arguments in a call's data: the inverse of `encode`."""
        values: tuple[Any, ...] = decode(canonical_types(self._function(function)["inputs"]), data[4:])
        return values

    def decode(self, function: str, output: bytes) -> tuple[Any, ...]:
        """The values that `function` returned."""
        values: tuple[Any, ...] = decode(canonical_types(self._function(function)["outputs"]), output)
        return values

    def topic(self, event: str) -> bytes:
        """The first topic of the event of that name (32 bytes)."""
        for topic, entry in self._events.items():
            if entry["name"] == event:
                return topic
        raise UnknownEntry(f"no event {event}")

    def event(self, topics: Iterable[bytes], data: bytes) -> Event | None:
        """The event behind a log's topics and data; None where it is not one of this contract's."""
        first, *indexed = topics or (b"",)
        entry = self._events.get(first)
        if entry is None:
            return None
        plain = iter(decode(canonical_types(i for i in entry["inputs"] if not i["indexed"]), data))
        rest = iter(indexed)
        arguments = {
            i["name"]: decode([_canonical_type(i)], next(rest))[0] if i["indexed"] else next(plain)
            for i in entry["inputs"]
        }
        return Event(entry["name"], arguments)

    def explain(self, revert: bytes) -> str:
        """What a call's revert data says: the reason, the custom error with its arguments, or the hex."""
        if not revert:
            return "execution reverted without a reason"
        selector, body = revert[:4], revert[4:]
        try:
            if selector == bytes.fromhex("08c379a0"):
                return str(decode(["string"], body)[0])
            if selector == bytes.fromhex("4e487b71"):
                code = decode(["uint256"], body)[0]
                return f"panic {code:#x}: {_PANICS.get(code, 'see the Solidity documentation')}"
            if entry := self._errors.get(selector):
                values = decode(canonical_types(entry["inputs"]), body)
                shown = ", ".join(
                    f"{i['name'] or i['type']} {'0x' + v.hex() if isinstance(v, bytes) else v}"
                    for i, v in zip(entry["inputs"], values)
                )
                return f"{entry['name']}({shown})"
        except (DecodingError, ValueError, OverflowError):
            pass  # the data is not what its selector says: shown as it is
        return f"execution reverted with 0x{revert.hex()}"
