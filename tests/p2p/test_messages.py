import msgspec
import pytest

from openledger.p2p.messages import (
    MAX_PAGE_BYTES,
    BodiesRequest,
    ContentRequest,
    HeadersRequest,
    InvalidMessage,
    Page,
    Status,
    decode,
    encode,
    page_of,
)

STATUS = Status(161_299, b"\x01" * 32, 5, b"\x02" * 32, 4, b"\x03" * 65)


@pytest.mark.parametrize(
    "message",
    [STATUS, HeadersRequest(1, 512), BodiesRequest([b"\x05" * 32]), ContentRequest(bytes(32)), Page([b"a", b""])],
)
def test_messages_survive_the_wire(message: msgspec.Struct) -> None:
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Status, [161_299, b"\x01" * 31, 5, b"\x02" * 32]),
        (Status, [161_299, b"\x01" * 32, -5, b"\x02" * 32]),
        (Status, [161_299, b"\x01" * 32, 5, b"\x02" * 32, 4, b"\x03" * 64]),
        (Status, ["x", b"\x01" * 32, 5, b"\x02" * 32]),
        (HeadersRequest, [0, 0]),
        (HeadersRequest, [0, 1025]),
        (HeadersRequest, [-1, 1]),
        (HeadersRequest, [0, 1, 0]),
        (HeadersRequest, [0, 1, 1, 1]),
        (BodiesRequest, [[]]),
        (BodiesRequest, [[bytes(32)] * 257]),
        (BodiesRequest, [[bytes(31)]]),
        (ContentRequest, [bytes(33)]),
        (Page, ["text"]),
    ],
)
def test_message_out_of_range_is_refused(kind: type[msgspec.Struct], fields: list[object]) -> None:
    with pytest.raises(InvalidMessage):
        decode(kind, msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", b"\x80"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(Status, data)


def test_page_stops_at_its_limit_but_has_at_least_one_item() -> None:
    assert page_of([b"x" * 10] * 5, 25).items == [b"x" * 10] * 2
    assert page_of([b"x" * 100, b"y"], 25).items == [b"x" * 100]
    assert page_of([], 25).items == []
    assert len(page_of([bytes(MAX_PAGE_BYTES)] * 3, 1 << 40).items) == 1
