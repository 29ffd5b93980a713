"""Heads of requests that were parsed before: a client sends the same bytes again with every call.

Parsing is a function of the bytes alone, so the outcome of the first time holds for all that follow, and so
does what the access policy said of it.
"""

from dataclasses import dataclass

from openledger.node.http.messages import RequestHead
from openledger.node.http.parser import ParsedRequest

END = b"\r\n\r\n"
MOST_HEADS = 512
LONGEST_HEAD = 2_048


@dataclass(frozen=True, slots=True)
class KnownHead:
    """`content_length`: bytes of body that belong to the head. `answer_headers`: what the access policy adds to
    every answer."""

    head: RequestHead
    content_length: int
    answer_headers: tuple[tuple[str, str], ...]


class KnownHeads:
    """By their bytes, for all connections of one server; at most MOST_HEADS of LONGEST_HEAD bytes."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}

    def split(self, data: bytes) -> tuple[KnownHead, bytes] | None:
        """The head and the body, when `data` is exactly one request with a known head."""
        end = data.find(END) + 4
        known = self._known.get(data[:end])
        if known is None or len(data) - end != known.content_length:
            return None
        return known, data[end:]

    def learn(
        self, data: bytes, parsed: ParsedRequest, head: RequestHead, answer_headers: tuple[tuple[str, str], ...]
    ) -> None:
        """Remember a head after `data`, read where a request begins, was parsed to one request and nothing else.

        Only what can be cut by its length is: no chunks, no upgrade, no expectation, a connection that goes on."""
        end = data.find(END) + 4
        if not 4 <= end <= LONGEST_HEAD or parsed.body != data[end:] or not parsed.keep_alive or parsed.upgrade:
            return
        names = [name.lower() for name, _ in parsed.headers]
        if b"transfer-encoding" in names or b"expect" in names or names.count(b"content-length") > 1:
            return
        if parsed.http_version != "1.1" or (parsed.body and b"content-length" not in names):
            return
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        self._known[data[:end]] = KnownHead(head, len(parsed.body), answer_headers)
