"""What a deployment has sent so far, kept in a file that is written before each transaction leaves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from openledger.genesis.hashing import keccak256
from openledger.node.errors import UserError
from openledger.node.http.json_limits import require_shallow_json
from openledger.node.l1_deployment.plan import Terms
from openledger.node.network import write_atomically

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Sent:
    """A step's transaction: every form of it that was signed (each replaces the one before), all with one nonce.

    `address` is what it creates. `gas_used` and `fee_wei` are 0 until it is included.
    """

    step: str
    nonce: int
    raws: tuple[str, ...]
    hashes: tuple[str, ...]
    address: str = ""
    gas_used: int = 0
    fee_wei: int = 0

    @property
    def included(self) -> bool:
        return self.gas_used > 0


@dataclass(frozen=True)
class FirstBlock:
    """The L1 block that the rollup begins at; `timestamp` in seconds."""

    hash: str
    number: int
    timestamp: int


@dataclass
class State:
    """The file's contents; `save` writes them. With `file` None nothing is kept."""

    file: Path | None
    terms: str
    sent: dict[str, Sent] = field(default_factory=dict)
    genesis: FirstBlock | None = None

    def put(self, sent: Sent) -> None:
        """Remember a step's transaction, on disk."""
        self.sent[sent.step] = sent
        self.save()

    def forget(self, step: str) -> None:
        """Drop a step's transaction, which will never be included."""
        del self.sent[step]
        self.save()

    def save(self) -> None:
        if self.file is None:
            return
        document: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "terms": self.terms,
            "transactions": [asdict(sent) for sent in self.sent.values()],
            "genesis": asdict(self.genesis) if self.genesis else None,
        }
        write_atomically(self.file, json.dumps(document, indent=1).encode() + b"\n")


def fingerprint(terms: Terms) -> str:
    """Equal for equal terms: a file of other ones is not gone on with."""
    preset = replace(terms.preset, l1_contracts=None)
    return "0x" + keccak256(repr((preset, terms.deployer, terms.open_token)).encode()).hex()


def read_state(file: Path | None, terms: Terms) -> State:
    """What an earlier run has left, or nothing yet. Raises UserError for another deployment's file."""
    expected = fingerprint(terms)
    if file is None or not file.exists():
        return State(file, expected)
    try:
        content = file.read_bytes()
        require_shallow_json(content)
        document = json.loads(content)
        if document["version"] != FORMAT_VERSION:
            raise ValueError(f"its version is {document['version']}, not {FORMAT_VERSION}")
        sent = [
            Sent(**{**entry, "raws": tuple(entry["raws"]), "hashes": tuple(entry["hashes"])})
            for entry in document["transactions"]
        ]
        genesis = FirstBlock(**document["genesis"]) if document["genesis"] else None
        state = State(file, document["terms"], {entry.step: entry for entry in sent}, genesis)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a deployment's state: {error}") from error
    if state.terms != expected:
        raise UserError(
            f"{file} belongs to a deployment with another key, other roles or another L1, or of another version: repeat the "
            "command as it was, "
            "or choose another --state file to begin anew"
        )
    return state
