"""How content travels over the DA layer: bundles of its objects, each of which is checked by its own hash.

A bundle is the msgpack list of objects (chunks, content manifests, folder listings; `openledger.node.content`), in
the order in which a reader who knows only the content's hash needs them. Content too large for one bundle has
several; each is announced on chain under the content's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import structlog

from openledger.evm_ext.proofs.content import InvalidContent, decode_folder
from openledger.evm_ext.proofs.domain import FOLDER
from openledger.genesis.hashing import keccak256
from openledger.node.content import ContentMissing, ContentStore, Fetch
from openledger.rollup.da.client import DAError
from openledger.rollup.da.direct import DALayer

log = structlog.get_logger(__name__)

BUNDLE_BYTES = 4 << 20
"""Most bytes of objects in one bundle (a single object is at most 1 MiB)."""


def content_objects(store: ContentStore, content_hash: bytes) -> Iterator[bytes]:
    """The objects of content or of a folder, in the order a reader needs them. Raises ContentMissing."""
    first = store.get_object(content_hash)
    if first is None:
        raise ContentMissing(content_hash)
    yield first
    if first[:1] == FOLDER:
        for member in decode_folder(first, content_hash).values():
            yield from content_objects(store, member)
        return
    manifest = store.manifest(content_hash)
    assert manifest is not None, "it was read above"
    for digest in manifest.chunks:
        chunk = store.get_object(digest)
        if chunk is None:
            raise ContentMissing(digest)
        yield chunk


def bundles(store: ContentStore, contents: Sequence[bytes]) -> Iterator[bytes]:
    """The encoded bundles of these contents. Raises ContentMissing."""
    waiting: list[bytes] = []
    size = 0
    for content_hash in contents:
        for item in content_objects(store, content_hash):
            if waiting and size + len(item) > BUNDLE_BYTES:
                yield msgspec.msgpack.encode(waiting)
                waiting, size = [], 0
            waiting.append(item)
            size += len(item)
    if waiting:
        yield msgspec.msgpack.encode(waiting)


def decode_bundle(data: bytes) -> dict[bytes, bytes]:
    """The objects of a bundle by their hashes. Raises InvalidContent."""
    try:
        objects = msgspec.msgpack.decode(data, type=list[bytes])
    except msgspec.MsgspecError as error:
        raise InvalidContent(f"not a bundle of objects: {error}") from error
    return {keccak256(item): item for item in objects}


def fetch_from_da(da: DALayer, commitments: Sequence[bytes]) -> Fetch:
    """A fetch that looks into these bundles, each retrieved when first needed, one in memory at a time.

    Commitments are anybody's word: one that cannot be retrieved, or holds something else, is passed over.
    """
    held: dict[bytes, bytes] = {}
    left = list(commitments)

    async def fetch(digest: bytes) -> bytes | None:
        nonlocal held
        while digest not in held and left:
            commitment = left.pop(0)
            try:
                held = decode_bundle(await da.get(commitment))
            except (DAError, InvalidContent) as error:
                log.info("a DA commitment is of no use", commitment=commitment.hex()[:40], error=str(error))
        return held.get(digest)

    return fetch
