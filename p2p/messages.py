"""What peers say to each other on our own protocols, as msgpack arrays.

A request is a u32 big-endian length and a message; an answer is a result byte, a length and a message (after a
result other than OK a text of why). A page holds at most MAX_PAGE_BYTES unless a single item is longer.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import msgspec

MAX_PAGE_BYTES = 1024 * 1024
MAX_REQUEST_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 11 * 1024 * 1024
"""A block body of 10 MiB and its frame."""
MAX_HEADERS = 1024
MAX_BODIES = 256
_HASH = 32

Message = TypeVar("Message", bound=msgspec.Struct)


class Result(IntEnum):
    """The first byte of an answer; the numbers are those of OP's payload_by_number."""

    OK = 0
    NOT_FOUND = 1
    INVALID_REQUEST = 2
    SERVER_ERROR = 3


class InvalidMessage(ValueError):
    """The bytes are not the message they should be."""


class Status(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Which chain a node is on and how far; both sides tell the other.

    `signed_number` and `signature` (65 bytes, or empty) are the sequencer's of the highest block this node holds
    the signature of: with it the block can be trusted as a sync target.
    """

    chain_id: int
    genesis_hash: bytes
    head_number: int
    head_hash: bytes
    signed_number: int = 0
    signature: bytes = b""

    def check(self) -> None:
        """Raises InvalidMessage when a field has the wrong length."""
        if len(self.genesis_hash) != _HASH or len(self.head_hash) != _HASH or len(self.signature) not in (0, 65):
            raise InvalidMessage("a hash or the signature in the status has the wrong length")
        if min(self.chain_id, self.head_number, self.signed_number) < 0:
            raise InvalidMessage("a number in the status is negative")


class HeadersRequest(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """`count` canonical headers from number `start` upwards."""

    start: int
    count: int
    max_bytes: int = MAX_PAGE_BYTES

    def check(self) -> None:
        """Raises InvalidMessage when a number is out of range."""
        if not (0 <= self.start < 1 << 63 and 0 < self.count <= MAX_HEADERS and self.max_bytes > 0):
            raise InvalidMessage(f"headers from {self.start}, {self.count} of at most {MAX_HEADERS}")


class BodiesRequest(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Bodies of blocks by hash."""

    hashes: list[bytes]
    max_bytes: int = MAX_PAGE_BYTES

    def check(self) -> None:
        """Raises InvalidMessage when there are too many hashes or one is none."""
        if not 0 < len(self.hashes) <= MAX_BODIES or any(len(item) != _HASH for item in self.hashes):
            raise InvalidMessage(f"{len(self.hashes)} hashes of 32 bytes; from 1 to {MAX_BODIES} are taken")
        if self.max_bytes <= 0:
            raise InvalidMessage("max_bytes must be positive")


class ContentRequest(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One object by hash."""

    digest: bytes

    def check(self) -> None:
        """Raises InvalidMessage when the hash is none."""
        if len(self.digest) != _HASH:
            raise InvalidMessage(f"a hash has 32 bytes, not {len(self.digest)}")


class Page(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Items in the order asked for; fewer than asked when the limit was reached or the rest is not there."""

    items: list[bytes]


def encode(message: msgspec.Struct) -> bytes:
    """The msgpack bytes."""
    return msgspec.msgpack.encode(message)


def decode(kind: type[Message], data: bytes) -> Message:
    """The message in `data`, types and limits checked. Raises InvalidMessage."""
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"not a {kind.__name__}: {error}") from error
    check = getattr(message, "check", None)
    if check is not None:
        check()
    return message


def page_of(items: Sequence[bytes], max_bytes: int) -> Page:
    """The longest beginning of `items` within the limit, but at least the first item."""
    limit = min(max_bytes, MAX_PAGE_BYTES)
    taken: list[bytes] = []
    size = 0
    for item in items:
        size += len(item)
        if taken and size > limit:
            break
        taken.append(item)
    return Page(taken)
