"""A head that is known by its bytes stands for exactly what parsing it again would give."""

import random

from openledger.node.http import HttpLimits
from openledger.node.http.heads import MOST_HEADS, KnownHeads
from openledger.node.http.messages import RequestHead
from openledger.node.http.parser import ParsedRequest, RequestParser

POST = b"POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n"


def parsed(data: bytes) -> ParsedRequest | None:
    """The request, if `data` is exactly one."""
    parser = RequestParser(HttpLimits())
    parser.feed(data)
    if parser.refusal is not None or parser.in_message or len(parser.requests) != 1:
        return None
    return parser.requests.popleft()


def learn(heads: KnownHeads, data: bytes) -> None:
    request = parsed(data)
    if request is not None:
        head = RequestHead(request.method, request.target, request.headers, request.http_version)
        heads.learn(data, request, head, ())


def knows(data: bytes) -> bool:
    heads = KnownHeads()
    learn(heads, data)
    return heads.split(data) is not None


def test_a_head_is_known_with_any_body_of_its_length_and_no_other():
    heads = KnownHeads()
    learn(heads, POST + b"hello")
    known, body = heads.split(POST + b"world")
    assert (known.head.target, body) == (b"/a?b=c", b"world")
    assert known.head.headers["content-type"] == "application/json"
    for data in (
        POST + b"worl",
        POST + b"worlds",
        POST,
        POST[:-2],
        POST.replace(b"localhost", b"elsewhere") + b"hello",
    ):
        assert heads.split(data) is None


def test_what_cannot_be_cut_by_its_length_is_never_learned():
    assert knows(POST + b"hello")
    assert knows(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for data in (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"\r\n\r\n" + POST + b"hello",
        b"GET / HTTP/1.1\r\nHost: " + b"h" * 3000 + b"\r\n\r\n",
    ):
        assert not knows(data)


def test_a_known_head_is_what_parsing_gives_whatever_the_bytes():
    chance = random.Random(11)
    agreed = 0
    for _ in range(3000):
        data = bytearray(POST + b"hello")
        for _ in range(chance.randint(0, 3)):
            place = chance.randrange(len(data))
            action = chance.randrange(3)
            if action == 0:
                data[place] = chance.randrange(256)
            elif action == 1:
                del data[place : place + chance.randint(1, 3)]
            else:
                data[place:place] = chance.choice((b" ", b"\r\n", b"\t", b"0", b"\r\nX: y", chance.randbytes(2)))
        heads = KnownHeads()
        learn(heads, bytes(data))
        found = heads.split(bytes(data))
        if found is None:
            continue
        known, body = found
        for other in (body, chance.randbytes(len(body)), b"\r\n\r\n\r\n\r\n"[: len(body)]):
            head = bytes(data[: len(data) - len(body)])
            again = parsed(head + other)
            cut = heads.split(head + other)
            assert again is not None
            assert cut is not None
            assert (again.method, again.target, again.headers) == (
                known.head.method,
                known.head.target,
                known.head.raw_headers,
            )
            assert (again.body, again.keep_alive, again.upgrade) == (cut[1], True, False)
            agreed += 1
    assert agreed > 500


def test_heads_are_bounded():
    heads = KnownHeads()
    for number in range(2 * MOST_HEADS):
        learn(heads, b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
    assert len(heads._known) <= MOST_HEADS
