import random
import zlib

import brotli
import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from openledger.rollup.codec.batches import (
    InvalidBatch,
    SingularBatch,
    decode_batch,
    encode_singular_batch,
)
from openledger.rollup.codec.channels import (
    Compression,
    InvalidChannel,
    compress_channel,
    decompress_channel,
    read_batches,
)
from openledger.rollup.codec.strict_rlp import InvalidRlp, TruncatedRlp, read_document, to_bytes

CHAIN_ID = 161_299
HASHES = st.binary(min_size=32, max_size=32)
BATCHES = st.builds(
    SingularBatch,
    parent_hash=HASHES,
    epoch_number=st.integers(0, 2**64 - 1),
    epoch_hash=HASHES,
    timestamp=st.integers(0, 2**64 - 1),
    transactions=st.lists(st.binary(max_size=80), max_size=5).map(tuple),
)


@given(BATCHES)
def test_a_singular_batch_decodes_to_what_was_encoded_and_agrees_with_the_rlp_library(batch: SingularBatch) -> None:
    encoded = encode_singular_batch(batch)
    assert decode_batch(encoded, chain_id=CHAIN_ID) == batch
    assert encoded == b"\0" + rlp.encode(
        [batch.parent_hash, batch.epoch_number, batch.epoch_hash, batch.timestamp, list(batch.transactions)]
    )


@given(BATCHES, st.data())
def test_a_changed_batch_is_another_batch_or_refused(batch: SingularBatch, draw: st.DataObject) -> None:
    encoded = bytearray(encode_singular_batch(batch))
    encoded[draw.draw(st.integers(0, len(encoded) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        decoded = decode_batch(bytes(encoded), chain_id=CHAIN_ID)
    except InvalidBatch:
        return
    assert encode_singular_batch(decoded) == bytes(encoded)


@pytest.mark.parametrize(
    "content",
    [
        [bytes(32), 1, bytes(32), 1],
        [bytes(32), 1, bytes(32), 1, [], b""],
        [bytes(31), 1, bytes(32), 1, []],
        [bytes(32), 1, bytes(32), 1, b"not a list"],
        [bytes(32), 2**64, bytes(32), 1, []],
        [bytes(32), b"\x00\x01", bytes(32), 1, []],
        [bytes(32), 1, bytes(32), 1, [[b"nested"]]],
    ],
)
def test_a_batch_of_another_shape_is_refused(content: list[object]) -> None:
    with pytest.raises(InvalidBatch):
        decode_batch(b"\0" + rlp.encode(content), chain_id=CHAIN_ID)


def test_trailing_bytes_unknown_versions_and_deep_nesting_are_refused_by_name() -> None:
    good = encode_singular_batch(SingularBatch(bytes(32), 1, bytes(32), 1))
    with pytest.raises(InvalidBatch, match="follow"):
        decode_batch(good + b"\0", chain_id=CHAIN_ID)
    with pytest.raises(InvalidBatch, match="unknown batch version 0x02"):
        decode_batch(b"\x02", chain_id=CHAIN_ID)
    with pytest.raises(InvalidBatch, match="empty"):
        decode_batch(b"", chain_id=CHAIN_ID)
    with pytest.raises(InvalidBatch, match="relative timestamp"):
        decode_batch(b"\x01", chain_id=CHAIN_ID)
    nested = b""
    for _ in range(5000):
        nested = rlp.codec.length_prefix(len(nested), 0xC0) + nested
    with pytest.raises(InvalidBatch):
        decode_batch(b"\0" + nested, chain_id=CHAIN_ID)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.sampled_from(Compression))
def test_a_channel_gives_back_its_batches(batches: list[bytes], compression: Compression) -> None:
    channel = compress_channel(batches, compression)
    assert list(read_batches(decompress_channel(channel))) == batches


@pytest.mark.parametrize("compression", list(Compression))
def test_decompression_stops_at_the_limit_without_making_more(compression: Compression) -> None:
    bomb = compress_channel([bytes(3_000_000)], compression)
    assert len(bomb) < 10_000
    content = decompress_channel(bomb, limit=100_000)
    assert len(content) == 100_000
    with pytest.raises(TruncatedRlp):
        list(read_batches(content))


@pytest.mark.parametrize("compression", list(Compression))
def test_batches_before_a_truncation_are_still_read(compression: Compression) -> None:
    batches = [random.Random(index).randbytes(5_000) for index in range(40)]
    channel = compress_channel(batches, compression)
    content = decompress_channel(channel[: len(channel) // 2])
    found: list[bytes] = []
    with pytest.raises(TruncatedRlp):
        found.extend(read_batches(content))
    assert 10 < len(found) < 30
    assert found == batches[: len(found)]


@pytest.mark.parametrize("compression", list(Compression))
def test_batches_before_a_corruption_are_still_read(compression: Compression) -> None:
    batches = [bytes(random.Random(index).choices(b"abcdef", k=5_000)) for index in range(40)]
    whole = compress_channel(batches, compression)
    content = decompress_channel(whole)
    for seed in range(20):
        channel = bytearray(whole)
        position = random.Random(seed).randrange(len(channel) // 2, len(channel))
        channel[position] ^= 0x5A
        damaged = decompress_channel(bytes(channel))
        shared = next((i for i, (a, b) in enumerate(zip(damaged, content)) if a != b), min(len(damaged), len(content)))
        assert shared > len(content) // 4


def test_a_bad_checksum_takes_nothing_back_and_corruption_counts_up_to_the_last_good_byte() -> None:
    content = b"".join(rlp.encode(bytes([index]) * 1000) for index in range(1, 40))
    channel = bytearray(zlib.compress(content))
    channel[-1] ^= 0xFF
    assert decompress_channel(bytes(channel)) == content
    stream = zlib.compressobj(9)
    good = stream.compress(content) + stream.flush(zlib.Z_FULL_FLUSH)
    assert decompress_channel(good + b"\xff\xff\xff\xff") == content


def test_trailing_garbage_after_the_compressed_stream_is_ignored() -> None:
    content = rlp.encode(b"batch")
    assert decompress_channel(zlib.compress(content) + b"garbage") == content
    assert decompress_channel(b"\x01" + brotli.compress(content) + b"garbage") == content


@pytest.mark.parametrize("channel", [b"", b"\x00abc", b"\x02abc", b"\x78", b"\x78\x9d", b"\x78\xbb123", b"\x7f\x00"])
def test_unknown_compressions_and_headers_are_refused(channel: bytes) -> None:
    with pytest.raises(InvalidChannel):
        decompress_channel(channel)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_escape_the_named_errors(data: bytes) -> None:
    try:
        content = decompress_channel(data)
        for batch in read_batches(content):
            decode_batch(batch, chain_id=CHAIN_ID)
    except (InvalidChannel, InvalidRlp, InvalidBatch):
        pass


@given(st.binary(max_size=70))
def test_a_string_is_read_as_the_rlp_library_writes_it(value: bytes) -> None:
    encoded = rlp.encode(value)
    assert to_bytes(encoded, read_document(encoded)) == value


@given(st.binary(max_size=20))
def test_what_the_cursor_takes_for_one_item_the_rlp_library_takes_too(data: bytes) -> None:
    try:
        item = read_document(data)
    except InvalidRlp:
        return
    if not item.is_list:
        assert rlp.decode(data) == to_bytes(data, item)
