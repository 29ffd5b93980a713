from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.proofs import settlement as codec
from openledger.evm_ext.proofs.settlement import (
    Group,
    InvalidSettlement,
    Record,
    Settlement,
    decode_settlement,
    encode_settlement,
)


@st.composite
def vectors(draw):
    k = draw(st.integers(0, 16))
    if not k:
        return ()
    ids = sorted(draw(st.sets(st.integers(0, 2**32 - 1), min_size=k, max_size=k)))
    cuts = sorted(draw(st.sets(st.integers(1, 9_999), min_size=k - 1, max_size=k - 1)))
    weights = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000])]
    return tuple(zip(ids, weights))


RECORDS = st.builds(Record, st.integers(0, 2**40 - 1), vectors())
GROUPS = st.builds(
    Group,
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=65, max_size=65),
    st.lists(RECORDS, min_size=1, max_size=3).map(tuple),
)
SETTLEMENTS = st.builds(
    Settlement, st.binary(min_size=32, max_size=32), st.lists(GROUPS, min_size=1, max_size=3).map(tuple)
)


@settings(deadline=None)
@given(SETTLEMENTS, st.data())
def test_settlements_round_trip_and_have_one_form(settlement, data):
    encoded = encode_settlement(settlement)
    assert decode_settlement(encoded) == settlement
    size = 35 + sum(111 + sum(6 + 6 * len(r.entries) for r in g.records) for g in settlement.groups)
    assert len(encoded) == size
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:at] + bytes([encoded[at] ^ data.draw(st.integers(1, 255))]) + encoded[at + 1 :]
    try:
        other = decode_settlement(changed)
    except InvalidSettlement:
        return
    assert other != settlement
    assert encode_settlement(other) == changed


@settings(deadline=None)
@given(SETTLEMENTS, st.integers(0, 500))
def test_every_cut_and_every_extra_byte_is_refused(settlement, at):
    encoded = encode_settlement(settlement)
    with pytest.raises(InvalidSettlement):
        decode_settlement(encoded[: at % len(encoded)])
    with pytest.raises(codec.SettlementTrailingBytes):
        decode_settlement(encoded + b"\0")


@given(st.binary(max_size=400))
def test_any_bytes_decode_to_one_form_or_are_refused(data):
    try:
        assert encode_settlement(decode_settlement(data)) == data
    except InvalidSettlement:
        pass


GROUP = Group(bytes(32), 1, 100, bytes(65), (Record(10, ((1, 10_000),)),))
ONE = Settlement(bytes(32), (GROUP,))


def with_entries(*entries: tuple[int, int]) -> bytes:
    body = bytes([len(entries)]) + b"".join(c.to_bytes(4, "big") + w.to_bytes(2, "big") for c, w in entries)
    return encode_settlement(ONE)[:-7] + body


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", codec.UnsupportedSettlementVersion),
        (b"\x02" + encode_settlement(ONE)[1:], codec.UnsupportedSettlementVersion),
        (encode_settlement(ONE)[:30], codec.SettlementTruncated),
        (encode_settlement(ONE)[:40], codec.SettlementTruncated),
        (encode_settlement(ONE)[:-1], codec.SettlementTruncated),
        (encode_settlement(ONE)[:-8], codec.SettlementTruncated),
        (encode_settlement(ONE)[:33] + b"\0\0", codec.EmptySettlement),
        (encode_settlement(ONE)[:144] + b"\0\0", codec.EmptySettlement),
        (encode_settlement(ONE) + b"\0", codec.SettlementTrailingBytes),
        (with_entries((1, 9_999)), codec.InvalidWeights),
        (with_entries((1, 10_000), (2, 0)), codec.InvalidWeights),
        (with_entries((2, 5_000), (1, 5_000)), codec.EntriesNotAscending),
        (with_entries((2, 5_000), (2, 5_000)), codec.EntriesNotAscending),
        (encode_settlement(ONE)[:-7] + b"\x11" + bytes(6 * 17), codec.TooManyEntries),
        (bytes([1]) + bytes(codec.MAX_BYTES), codec.SettlementTooLong),
    ],
)
def test_each_malformed_form_has_its_own_error(data, error):
    with pytest.raises(error):
        decode_settlement(data)


@pytest.mark.parametrize(
    ("group", "error"),
    [
        (replace(GROUP, records=()), codec.EmptySettlement),
        (replace(GROUP, signature=b""), codec.ValueOutOfRange),
        (replace(GROUP, channel_id=b""), codec.ValueOutOfRange),
        (replace(GROUP, release=1 << 32), codec.ValueOutOfRange),
        (replace(GROUP, max_claimable=1 << 64), codec.ValueOutOfRange),
        (replace(GROUP, records=(Record(1 << 40),)), codec.ValueOutOfRange),
        (replace(GROUP, records=(Record(1, ((1 << 32, 10_000),)),)), codec.ValueOutOfRange),
        (replace(GROUP, records=(Record(1, ((1, 1),)),)), codec.InvalidWeights),
        (replace(GROUP, records=(Record(1),) * 20_000), codec.SettlementTooLong),
    ],
)
def test_what_could_not_be_decoded_is_not_encoded(group, error):
    with pytest.raises(error):
        encode_settlement(Settlement(bytes(32), (group,)))
    with pytest.raises(codec.EmptySettlement):
        encode_settlement(Settlement(bytes(32), ()))


def test_fees_and_records_are_counted_over_all_groups():
    group = replace(GROUP, records=(Record(3), Record(4)))
    assert Settlement(bytes(32), (GROUP, group)).fees == 17
    assert Settlement(bytes(32), (GROUP, group)).records == 3
