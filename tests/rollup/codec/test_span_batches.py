from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.transactions import sign_authorization, sign_transaction
from openledger.rollup.codec.span_batches import InvalidSpanBatch, decode_span_batch, encode_span_batch

CHAIN_ID = 161_299
KEY = b"\x11" * 32


def signed(kind: int, nonce: int, to: bytes | None, value: int, data: bytes, protected: bool) -> bytes:
    fields: dict[str, Any] = {"chain_id": CHAIN_ID, "max_fee_per_gas": 10**9 + nonce, "gas": 21_000 + nonce}
    if kind == 0 and not protected:
        fields["chain_id"] = None
    if kind in (1, 2, 4):
        fields["access_list"] = ((b"\x02" * 20, (1, nonce)),) if nonce % 2 else ()
    if kind == 4:
        to = to or bytes(20)
        authorization = sign_authorization(KEY, chain_id=0, address=b"\x03" * 20, nonce=nonce)
        fields["authorization_list"] = (authorization,) * (1 + nonce % 2)
    if kind in (2, 4):
        fields["max_priority_fee_per_gas"] = nonce % 7
    return sign_transaction(KEY, type=kind, nonce=nonce, to=to, value=value, data=data, **fields).raw


TRANSACTIONS = st.builds(
    signed,
    kind=st.sampled_from([0, 1, 2, 4]),
    nonce=st.integers(0, 2**40),
    to=st.none() | st.binary(min_size=20, max_size=20),
    value=st.integers(0, 2**256 - 1),
    data=st.binary(max_size=40),
    protected=st.booleans(),
)


@st.composite
def spans(draw: st.DrawFn) -> dict[str, Any]:
    epoch = draw(st.integers(0, 2**32))
    blocks = []
    for index in range(draw(st.integers(1, 10))):
        epoch += draw(st.integers(0, 1)) if index else 0
        blocks.append((epoch, tuple(draw(st.lists(TRANSACTIONS, max_size=3)))))
    return {
        "relative_timestamp": draw(st.integers(0, 2**64 - 1)),
        "parent_check": draw(st.binary(min_size=20, max_size=20)),
        "l1_origin_check": draw(st.binary(min_size=20, max_size=20)),
        "first_changes_origin": draw(st.booleans()),
        "blocks": tuple(blocks),
    }


@given(spans())
def test_a_span_unfolds_to_the_blocks_it_was_made_of(span: dict[str, Any]) -> None:
    decoded = decode_span_batch(encode_span_batch(**span), chain_id=CHAIN_ID)
    assert tuple(decoded.blocks()) == span["blocks"]
    assert decoded.relative_timestamp == span["relative_timestamp"]
    assert decoded.parent_check == span["parent_check"]
    assert decoded.l1_origin_check == span["l1_origin_check"]
    assert decoded.first_changes_origin == span["first_changes_origin"]
    assert decoded.block_count == len(span["blocks"])
    assert decoded.first_epoch_number == span["blocks"][0][0]
    assert decoded.last_epoch_number == span["blocks"][-1][0]


@given(spans(), st.data())
def test_a_truncated_span_is_refused(span: dict[str, Any], draw: st.DataObject) -> None:
    encoded = encode_span_batch(**span)
    with pytest.raises(InvalidSpanBatch):
        decode_span_batch(encoded[: draw.draw(st.integers(0, len(encoded) - 1))], chain_id=CHAIN_ID)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_by_name_or_read(data: bytes) -> None:
    try:
        list(decode_span_batch(data, chain_id=CHAIN_ID).blocks())
    except InvalidSpanBatch:
        pass


def test_the_columns_lie_as_the_specification_writes_them() -> None:
    creation = signed(0, 1, None, 5, b"\xaa", protected=True)
    call = signed(2, 300, b"\x77" * 20, 6, b"", protected=True)
    encoded = encode_span_batch(
        relative_timestamp=300,
        parent_check=b"\x01" * 20,
        l1_origin_check=b"\x02" * 20,
        first_changes_origin=True,
        blocks=[(9, [creation]), (10, []), (10, [call])],
    )
    rest = encoded
    for expected in (
        bytes.fromhex("ac02"),  # 300
        b"\x0a",  # L1 origin of the last block
        b"\x01" * 20,
        b"\x02" * 20,
        b"\x03",  # blocks
        b"\x03",  # origin bits: block 0 and block 1 begin an epoch
        b"\x01\x00\x01",  # transactions per block
        b"\x01",  # creation bits: the first
    ):
        assert rest.startswith(expected)
        rest = rest[len(expected) :]
    parities, signatures, recipients = rest[0], rest[1:129], rest[129:149]
    assert parities < 4
    assert len(signatures) == 128
    assert recipients == b"\x77" * 20
    assert rest.endswith(bytes.fromhex("01ac02") + b"\x89\xa4\x01\xb4\xa6\x01" + b"\x01")  # nonces, gas, protected


BLOCKS_HEADER = b"\x00\x05" + bytes(40)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", "relative timestamp"),
        (b"\xff" * 9 + b"\x02", "64 bits"),
        (BLOCKS_HEADER + b"\x00", "block count"),
        (BLOCKS_HEADER + b"\x81\xad\xe2\x04", "block count"),
        (BLOCKS_HEADER + b"\x80\xad\xe2\x04" + bytes(1_250_000), "do not fit"),
        (BLOCKS_HEADER + b"\x01\x02\x00", "origin bits"),
        (b"\x00\x00" + bytes(40) + b"\x02\x02\x00\x00", "below L1 block 0"),
        (BLOCKS_HEADER + b"\x01\x01\xff\xff\xff\xff\x0f", "more than"),
        (BLOCKS_HEADER + b"\x01\x01\x05\x00\x00" + bytes(10), "signatures"),
        (BLOCKS_HEADER + b"\x01\x01\x01\x00\x00" + bytes(84) + b"\x03\xc0", "type 3"),
        (BLOCKS_HEADER + b"\x01\x01\x01\x00\x00" + bytes(84) + b"\x85hello", "not a list"),
        (BLOCKS_HEADER + b"\x01\x01\x01\x00\x00" + bytes(84) + b"\xc2\x01\x02", "3 items"),
        (BLOCKS_HEADER + b"\x01\x01\x01\x00\x00" + bytes(84) + b"\xc3\x00\x02\x80", "leading zeros"),
        (BLOCKS_HEADER + b"\x01\x01\x01\x01\x00" + bytes(64) + b"\x04\xc6\x01\x01\x01\x80\xc0\xc0\x01\x01", "set-code"),
    ],
)
def test_each_malformed_column_is_named(data: bytes, names: str) -> None:
    with pytest.raises(InvalidSpanBatch, match=names):
        decode_span_batch(data, chain_id=CHAIN_ID)


def test_a_longer_varint_than_needed_is_read_as_elsewhere() -> None:
    span = b"\x80\x00\x05" + bytes(40) + b"\x01\x01\x00"
    assert decode_span_batch(span, chain_id=CHAIN_ID).relative_timestamp == 0


@pytest.mark.parametrize(
    "blocks", [[], [(5, ()), (7, ())], [(5, ()), (4, ())], [(5, [b"\x7edeposit"])], [(5, [b"\xc0"])], [(5, [b""])]]
)
def test_what_a_span_cannot_hold_is_refused(blocks: Any) -> None:
    with pytest.raises(InvalidSpanBatch):
        encode_span_batch(
            relative_timestamp=0,
            parent_check=bytes(20),
            l1_origin_check=bytes(20),
            first_changes_origin=False,
            blocks=blocks,
        )
