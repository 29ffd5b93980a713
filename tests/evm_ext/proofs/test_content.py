import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.proofs.content import (
    CHUNK_BYTES,
    ContentManifest,
    InvalidContent,
    content_hash,
    content_manifest,
    decode_folder,
    encode_folder,
    folder_hash,
    manifest_of_chunks,
)
from openledger.genesis.hashing import keccak256


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_content_hash_is_the_manifests_hash(data):
    chunks = keccak256(data) if data else b""
    assert content_hash(data) == keccak256(b"\x0a" + len(data).to_bytes(8, "big") + chunks)


def test_content_of_several_chunks_binds_length_and_every_chunk():
    data = bytes(CHUNK_BYTES) + b"tail"
    manifest = content_manifest(data)
    assert manifest.chunks == (keccak256(bytes(CHUNK_BYTES)), keccak256(b"tail"))
    manifest.verify_chunk(0, data[:CHUNK_BYTES])
    manifest.verify_chunk(1, b"tail")
    for index, wrong in ((0, data[:-1][:CHUNK_BYTES][:-1] + b"x"), (1, b"tale"), (1, b"tai")):
        with pytest.raises(InvalidContent, match=f"chunk {index}"):
            manifest.verify_chunk(index, wrong)
    with pytest.raises(InvalidContent, match="no chunk 2"):
        manifest.verify_chunk(2, b"")
    assert content_hash(data + b"\0") != manifest.hash
    assert ContentManifest.decode(manifest.encode(), manifest.hash) == manifest


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_in_one_form_or_refused(data):
    try:
        manifest = ContentManifest.decode(data)
    except InvalidContent:
        return
    assert manifest.encode() == data


def test_a_manifest_of_other_content_or_other_length_is_refused():
    manifest = content_manifest(b"abc")
    with pytest.raises(InvalidContent, match="not that of content"):
        ContentManifest.decode(manifest.encode(), bytes(32))
    with pytest.raises(InvalidContent, match="do not make"):
        ContentManifest(CHUNK_BYTES + 1, (bytes(32),))
    with pytest.raises(InvalidContent, match="only the last"):
        manifest_of_chunks([b"short", b"more"])


PATHS = st.lists(st.text("ab_.", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.binary(min_size=32, max_size=32), max_size=5))
def test_folder_listings_round_trip_or_are_refused(files):
    climbs = any(part in (".", "..") for path in files for part in path.split("/"))
    if not files or climbs:
        with pytest.raises(InvalidContent):
            encode_folder(files)
        return
    listing = encode_folder(files)
    assert decode_folder(listing, folder_hash(files)) == files
    for broken in (listing[:-1], listing + b"\0", b"\x0a" + listing[1:]):
        with pytest.raises(InvalidContent):
            decode_folder(broken)


def test_a_listing_out_of_order_is_refused():
    entries = [b"\x00\x01" + name + bytes(32) for name in (b"b", b"a")]
    with pytest.raises(InvalidContent, match="canonical"):
        decode_folder(b"\x0e\x00\x02" + b"".join(entries))
