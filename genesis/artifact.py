"""Compiled contracts, as committed under artifacts/ by `python -m openledger.genesis.build`."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from openledger.genesis.storage import string_words

ARTIFACTS_FOLDER: Final = Path(__file__).parent / "artifacts"


class UnknownArtifact(KeyError):
    """No artifact of that name is committed."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class StorageVariable:
    """One entry of solc's storageLayout: slot number, byte offset from the right, and solc's type name."""

    label: str
    slot: int
    offset: int
    type: str


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    `immutables` maps each immutable variable's name to the offsets of its 32-byte words in
    `deployed_bytecode`, which are zero there; `with_immutables` fills them in.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed_bytecode: bytes
    storage_layout: tuple[StorageVariable, ...]
    immutables: Mapping[str, Sequence[int]]

    def slot(self, label: str) -> int:
        """The slot of a state variable; raises KeyError when the contract has no such variable."""
        for variable in self.storage_layout:
            if variable.label == label:
                return variable.slot
        raise KeyError(f"{self.name} has no state variable {label}")

    def storage(self, **values: int | bytes | str) -> dict[int, int]:
        """Slots and words that hold the named state variables, packed as solc packs them.

        Integers and bytes (addresses, fixed bytes) go to the variable's place in its slot, text becomes a
        `string`. Mappings and arrays are not values: see `openledger.genesis.storage`. Zero words are left out.
        Raises KeyError for an unknown variable and ValueError for a value that does not fit.
        """
        layout = {variable.label: variable for variable in self.storage_layout}
        words: dict[int, int] = {}
        for label, value in values.items():
            if label not in layout:
                raise KeyError(f"{self.name} has no state variable {label}")
            variable = layout[label]
            if isinstance(value, str):
                words.update(string_words(variable.slot, value))
                continue
            number = value if isinstance(value, int) else int.from_bytes(value, "big")
            if not 0 <= number < 1 << 8 * _value_bytes(variable):
                raise ValueError(f"{self.name}.{label} is a {variable.type}, which cannot hold {value!r}")
            words[variable.slot] = words.get(variable.slot, 0) | number << 8 * variable.offset
        return {slot: word for slot, word in words.items() if word}

    def with_immutables(self, **values: int | bytes) -> bytes:
        """The runtime code with each immutable set, as the constructor would have done.

        Raises ValueError unless exactly the contract's immutables are given.
        """
        if values.keys() != self.immutables.keys():
            raise ValueError(f"{self.name} has the immutables {sorted(self.immutables)}, got {sorted(values)}")
        code = bytearray(self.deployed_bytecode)
        for name, value in values.items():
            word = value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")
            for start in self.immutables[name]:
                code[start : start + 32] = word
        return bytes(code)


def _value_bytes(variable: StorageVariable) -> int:
    """Bytes of a value type; a struct or an enumeration may take the rest of its first slot."""
    kind = variable.type
    if kind == "bool":
        return 1
    if kind.startswith(("address", "contract ")):
        return 20
    if match := re.fullmatch(r"u?int(\d+)", kind):
        return int(match[1]) // 8
    if match := re.fullmatch(r"bytes(\d+)", kind):
        return int(match[1])
    return 32 - variable.offset


@cache
def artifact(name: str) -> Artifact:
    """The committed artifact of a contract; raises UnknownArtifact."""
    path = ARTIFACTS_FOLDER / f"{name}.json"
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UnknownArtifact(
            f"no artifact named {name}; have: {', '.join(sorted(p.stem for p in ARTIFACTS_FOLDER.glob('*.json')))}"
        ) from None
    return Artifact(
        name=name,
        abi=document["abi"],
        bytecode=bytes.fromhex(document["bytecode"]),
        deployed_bytecode=bytes.fromhex(document["deployedBytecode"]),
        storage_layout=tuple(StorageVariable(**variable) for variable in document["storageLayout"]),
        immutables=document["immutables"],
    )
