"""What a release is: everything that decides an answer and who is paid for it, under one hash.

    releaseHash = keccak(0x0d | u8 version = 1 | 13 x part 32)

The parts are, in order: keccak(name), keccak(baseModel), baseModelRoot, adapterHash, tokenizerHash,
templateHash, tablesHash, keccak(numerics), embedderHash, keccak(datanets), keccak(attribution),
keccak(prices), keccak(split), where each packed list is big-endian:

    datanets     n x (datanet u32 | version u32 | versionRoot 32 | corpusRoot 32 | retrievalRoot 32), ids ascending
    attribution  the policy's 25 bytes (policy.py)
    prices       in u64 | out u64, micro-OPEN per 1,000 tokens at registration (later prices: the registry's events)
    split        owner u16 | trainer u16 | stakers u16 | provider u16 | contributors u16 (bps, sum 10,000)

A Merkle path is not needed: a verifier of one part shows the other twelve.
"""

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from openledger.evm_ext.proofs.domain import RELEASE
from openledger.evm_ext.proofs.policy import AttributionPolicy, InvalidPolicy
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import Split

MANIFEST_VERSION = 1
MAX_DATANETS = 16
MAX_NAME_BYTES = 128


class InvalidRelease(ValueError):
    """A manifest that describes no release; the message names the field."""


@dataclass(frozen=True)
class DatanetPin:
    """One Datanet version that a release answers from, by number and by its three roots."""

    datanet: int
    version: int
    version_root: bytes
    corpus_root: bytes
    retrieval_root: bytes


@dataclass(frozen=True)
class ReleaseManifest:
    """A release's parts; hashes are 32 bytes, prices micro-OPEN per 1,000 tokens.

    `adapter_hash` is 32 zero bytes for a base model without an adapter.
    """

    name: str
    base_model: str
    base_model_root: bytes
    adapter_hash: bytes
    tokenizer_hash: bytes
    template_hash: bytes
    tables_hash: bytes
    numerics: str
    embedder_hash: bytes
    datanets: tuple[DatanetPin, ...]
    attribution: AttributionPolicy
    price_in: int
    price_out: int
    split: Split

    def __post_init__(self) -> None:
        """Raises InvalidRelease for a field out of its range."""
        for name in ("name", "base_model", "numerics"):
            text = getattr(self, name)
            if not isinstance(text, str) or not 0 < len(text.encode()) <= MAX_NAME_BYTES:
                raise InvalidRelease(f"{name} must be text of 1 to {MAX_NAME_BYTES} bytes, got {text!r}")
        for name in _HASHES:
            _check_hash(name, getattr(self, name))
        for name in ("price_in", "price_out"):
            _check_number(name, getattr(self, name), 64)
        if len(self.datanets) > MAX_DATANETS:
            raise InvalidRelease(f"datanets: at most {MAX_DATANETS}, got {len(self.datanets)}")
        ids = [pin.datanet for pin in self.datanets]
        if ids != sorted(set(ids)):
            raise InvalidRelease(f"datanets must be in ascending order, each once, got {ids}")
        for pin in self.datanets:
            _check_number("datanets.datanet", pin.datanet, 32)
            _check_number("datanets.version", pin.version, 32)
            for name in _PIN_HASHES:
                _check_hash(f"datanets.{name}", getattr(pin, name))
        try:
            self.attribution.validate()
        except InvalidPolicy as error:
            raise InvalidRelease(f"attribution: {error}") from None
        if not self.datanets and self.split.contributors_bps:
            raise InvalidRelease("a release without Datanets cannot owe its contributors a part: split")

    @property
    def hash(self) -> bytes:
        """The releaseHash."""
        pins = b"".join(
            struct.pack(">II", pin.datanet, pin.version) + pin.version_root + pin.corpus_root + pin.retrieval_root
            for pin in self.datanets
        )
        parts = (
            keccak256(self.name.encode()),
            keccak256(self.base_model.encode()),
            self.base_model_root,
            self.adapter_hash,
            self.tokenizer_hash,
            self.template_hash,
            self.tables_hash,
            keccak256(self.numerics.encode()),
            self.embedder_hash,
            keccak256(pins),
            keccak256(self.attribution.encode()),
            keccak256(struct.pack(">QQ", self.price_in, self.price_out)),
            keccak256(struct.pack(">5H", *self.split.parts)),
        )
        return keccak256(RELEASE + bytes([MANIFEST_VERSION]) + b"".join(parts))

    def encode(self) -> bytes:
        """The manifest's one JSON form (sorted keys, no spaces, UTF-8): what is stored by content hash."""
        document = {"version": MANIFEST_VERSION, **_hex(asdict(self))}
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, data: bytes) -> "ReleaseManifest":
        """The inverse of `encode`; raises InvalidRelease for anything but a manifest in its one form."""
        if len(data) > 1 << 20:
            raise InvalidRelease(f"a manifest of {len(data)} bytes: at most 1 MiB")
        try:
            document = orjson.loads(data)  # not json: its recursion is bounded by a limit that py-evm raises
        except orjson.JSONDecodeError:
            raise InvalidRelease("the manifest is not JSON") from None
        if not isinstance(document, dict) or document.pop("version", None) != MANIFEST_VERSION:
            raise InvalidRelease(f"the manifest is not an object of version {MANIFEST_VERSION}")
        pins = _member(document, "datanets")
        if not isinstance(pins, list):
            raise InvalidRelease("datanets must be a list")
        try:
            split = Split(**_exactly(Split, _member(document, "split"), "split"))
        except (TypeError, ValueError) as error:
            raise InvalidRelease(f"split: {error}") from None
        values = _exactly(cls, document, "the manifest")
        values.update({name: _bytes(name, values[name]) for name in _HASHES})
        values["datanets"] = tuple(_pin(pin) for pin in pins)
        values["attribution"] = AttributionPolicy(**_exactly(AttributionPolicy, values["attribution"], "attribution"))
        values["split"] = split
        manifest = cls(**values)
        if manifest.encode() != data:
            raise InvalidRelease("the manifest is not in its one canonical form")
        return manifest


_HASHES = (
    "base_model_root",
    "adapter_hash",
    "tokenizer_hash",
    "template_hash",
    "tables_hash",
    "embedder_hash",
)
_PIN_HASHES = ("version_root", "corpus_root", "retrieval_root")


def _hex(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {name: _hex(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_hex(inner) for inner in value]
    return value


def _pin(value: Any) -> DatanetPin:
    named = _exactly(DatanetPin, value, "a Datanet of the manifest")
    named.update({name: _bytes(f"datanets.{name}", named[name]) for name in _PIN_HASHES})
    return DatanetPin(**named)


def _exactly(kind: type, value: Any, where: str) -> dict[str, Any]:
    expected = {field.name for field in fields(kind)}
    if not isinstance(value, dict) or set(value) != expected:
        raise InvalidRelease(f"{where} has exactly the fields {', '.join(sorted(expected))}")
    return value


def _member(document: Mapping[str, Any], name: str) -> Any:
    if name not in document:
        raise InvalidRelease(f"the manifest lacks {name}")
    return document[name]


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise InvalidRelease(f"{name} must be 0x and hex digits, got {value!r}")


def _check_hash(name: str, value: Any) -> None:
    if not isinstance(value, bytes) or len(value) != 32:
        raise InvalidRelease(f"{name} must be 32 bytes, got {value!r}")


def _check_number(name: str, value: Any, bits: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise InvalidRelease(f"{name} must be a u{bits}, got {value!r}")
