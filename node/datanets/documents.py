"""What may be contributed: real text of a known type under a named licence, and the metadata that goes with it.

The same check runs before a contributor commits to a document and again where it is uploaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import orjson
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from openledger.evm_ext.proofs.content import content_hash
from openledger.genesis.parameters import EconomyParameters
from openledger.kernels.documents import DocumentError, EmptyDocument, parse_document
from openledger.node.errors import UserError
from openledger.node.extraction.extract import Source

MAX_DOCUMENT_BYTES = EconomyParameters.max_document_bytes
MIN_WORDS = 20
"""Fewer say too little to be told apart from common language."""
MAX_METADATA_BYTES = 64 << 10
MAX_NAME_CHARACTERS = 255
MAX_TITLE_CHARACTERS = 200
MEDIA_TYPES = {".txt": "text/plain", ".md": "text/markdown"}
UNNAMED = "document.txt"


class TooFewWords(DocumentError):
    """Text, but next to none."""


class BadMetadata(UserError):
    """A file name, title or licence that cannot go with a document; the message says what to change."""


@dataclass(frozen=True)
class DocumentMetadata:
    """What a contribution's `metadataHash` commits to, in one JSON form. `licence` is an SPDX expression; `source` is
    the file of another kind that the text was taken from (version 2 of the form, without it version 1)."""

    name: str
    media_type: str
    licence: str
    title: str
    source: Source | None = None

    def encode(self) -> bytes:
        document: dict[str, Any] = {
            "version": 1,
            "name": self.name,
            "mediaType": self.media_type,
            "license": self.licence,
            "title": self.title,
        }
        if (source := self.source) is not None:
            document["version"] = 2
            document["source"] = shown_source(source)
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)

    @property
    def hash(self) -> bytes:
        """The content hash of `encode()`."""
        return content_hash(self.encode())

    @classmethod
    def decode(cls, data: bytes) -> DocumentMetadata:
        """Raises BadMetadata for anything else than what `encode` makes."""
        if len(data) > MAX_METADATA_BYTES:
            raise BadMetadata(f"metadata of {len(data):,} bytes: at most {MAX_METADATA_BYTES:,}")
        try:
            value: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadMetadata("the metadata is not JSON") from error
        keys = {"version", "name", "mediaType", "license", "title"}
        source = value.pop("source", None) if isinstance(value, dict) else None
        if not isinstance(value, dict) or set(value) != keys or value["version"] != (1 if source is None else 2):
            raise BadMetadata(f"metadata has exactly the fields {', '.join(sorted(keys))}, and version 1")
        if not all(isinstance(value[key], str) for key in keys - {"version"}):
            raise BadMetadata("every field of metadata but its version is text")
        return cls(value["name"], value["mediaType"], value["license"], value["title"], source_of(source))


def shown_source(source: Source) -> dict[str, str]:
    """A source in JSON, as metadata holds it."""
    return {
        "name": source.name,
        "mediaType": source.media_type,
        "hash": "0x" + source.hash.hex(),
        "tool": source.tool,
    }


def source_of(value: Any) -> Source | None:
    """The source in its JSON form; None for None. Raises BadMetadata."""
    if value is None:
        return None
    keys = {"name", "mediaType", "hash", "tool"}
    if not isinstance(value, dict) or set(value) != keys or not all(isinstance(part, str) for part in value.values()):
        raise BadMetadata(f"the source in metadata has exactly the fields {', '.join(sorted(keys))}, all text")
    if not re.fullmatch(r"0x[0-9a-f]{64}", value["hash"]):
        raise BadMetadata("the hash of the source in metadata has 32 bytes, as 0x and 64 lower-case hex digits")
    return Source(value["name"], value["mediaType"], bytes.fromhex(value["hash"][2:]), value["tool"])


@dataclass(frozen=True)
class CheckedDocument:
    """A document that may be contributed: its bytes, their content hash and its metadata."""

    data: bytes
    metadata: DocumentMetadata
    words: int

    @property
    def hash(self) -> bytes:
        return content_hash(self.data)


def canonical_licence(expression: str) -> str:
    """The SPDX licence expression in its canonical spelling. Raises BadMetadata."""
    try:
        canonical: str = canonicalize_license_expression(expression)
    except InvalidLicenseExpression as error:
        raise BadMetadata(
            f"{expression!r} is not an SPDX licence expression: use for example CC0-1.0, CC-BY-4.0 or MIT "
            "(https://spdx.org/licenses)"
        ) from error
    return canonical


def check_document(
    name: str,
    data: bytes,
    licence: str,
    *,
    title: str = "",
    limit_bytes: int = MAX_DOCUMENT_BYTES,
    source: Source | None = None,
) -> CheckedDocument:
    """The document in `data`, whose type is told by its file name and confirmed by what is in it.

    Raises a DocumentError (type, size, encoding, empty, too few words) or BadMetadata (name, title, licence).
    """
    plain = PurePosixPath(name.replace("\\", "/")).name
    if not plain or len(plain) > MAX_NAME_CHARACTERS or any(ord(c) < 32 for c in plain):
        raise BadMetadata(f"{name!r} is not a file name of 1 to {MAX_NAME_CHARACTERS} characters: give one with name=")
    if not data:
        raise EmptyDocument(f"{plain} is empty: there is nothing to contribute")
    parsed = parse_document(plain, data, limit_bytes)
    words = sum(any(c.isalnum() for c in word) for word in parsed.text.split())
    if words < MIN_WORDS:
        raise TooFewWords(f"{plain} has {words} words, at least {MIN_WORDS} are needed: add it to a larger document")
    title = " ".join((title or parsed.title).split())
    if len(title) > MAX_TITLE_CHARACTERS:
        raise BadMetadata(f"a title has at most {MAX_TITLE_CHARACTERS} characters, not {len(title)}: shorten it")
    media_type = MEDIA_TYPES[PurePosixPath(plain).suffix.lower()]
    metadata = DocumentMetadata(plain, media_type, canonical_licence(licence), title, source)
    return CheckedDocument(data, metadata, words)


def indexed_name(metadata: bytes | None) -> str:
    """The file name under which a contribution's document is indexed.

    Anyone can register any metadata hash, so what is no metadata makes the document plain text for everyone alike.
    """
    if metadata is not None:
        try:
            name = DocumentMetadata.decode(metadata).name
        except BadMetadata:
            return UNNAMED
        if PurePosixPath(name).suffix.lower() in MEDIA_TYPES:
            return name
    return UNNAMED
