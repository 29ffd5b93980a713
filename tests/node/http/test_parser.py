"""Requests come out of bytes the same however they are cut, and limits hold before memory is spent."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.node.http.limits import HttpLimits
from openledger.node.http.parser import RequestParser

LIMITS = HttpLimits(body=1000, header=500, header_count=10)
STREAM = (
    b"POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
@settings(max_examples=80)
def test_requests_do_not_depend_on_how_the_bytes_are_cut(cuts):
    parser = RequestParser(LIMITS)
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        parser.feed(STREAM[start:end])
    assert parser.refusal is None
    assert [(r.method, r.target, r.body) for r in parser.requests] == [
        ("POST", b"/a?x=1", b"hello"),
        ("GET", b"/b", b""),
        ("POST", b"/c", b"abcde"),
    ]
    assert all((b"X", b"y") not in r.headers for r in parser.requests)
    assert not parser.in_message


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_a_request_or_a_refusal_never_an_exception(data):
    parser = RequestParser(LIMITS)
    parser.feed(data)
    assert parser.refusal is None or 400 <= parser.refusal.status < 500


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e9\r\n" + b"x" * 1001, 413),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 600 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 600 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 11 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST / HTTP/1.1\r\nExpect: magic\r\n\r\n", 417),
    ],
)
def test_what_is_too_large_or_malformed_is_refused_with_its_status(data, status):
    parser = RequestParser(LIMITS)
    parser.feed(data)
    assert parser.refusal is not None
    assert parser.refusal.status == status
    assert not parser.requests


def test_an_endless_header_is_refused_although_the_parser_never_reports_it():
    parser = RequestParser(LIMITS)
    parser.feed(b"GET / HTTP/1.1\r\nA: ")
    for _ in range(10):
        parser.feed(b"x" * 100)
    assert parser.refusal is not None
    assert parser.refusal.status == 431


def test_endless_chunk_extensions_are_refused():
    parser = RequestParser(HttpLimits(body=1000, header=500))
    parser.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    for _ in range(1000):
        parser.feed(b"x" * 100)
    assert parser.refusal is not None
    assert "framing" in parser.refusal.message


def test_an_upgrade_keeps_what_follows_and_can_be_declined():
    parser = RequestParser(LIMITS)
    parser.feed(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /next HTTP/1.1\r\n")
    parser.feed(b"Host: h\r\n\r\n")
    declined = parser.requests.popleft()
    assert declined.upgrade
    assert parser.rest.startswith(b"GET /next")
    parser.decline_upgrade(declined)
    assert not parser.requests.popleft().upgrade
    assert parser.requests.popleft().target == b"/next"
