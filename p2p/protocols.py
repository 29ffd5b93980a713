"""Request/response between peers: OP's `payload_by_number` and our own pages of headers, bodies and content.

    /opstack/req/payload_by_number/<chain>/0/      u64 LE  ->  result u8 ‖ version u32 LE ‖ snappy frames of root ‖ SSZ
    /openledger/req/{status,headers,bodies,content}/1      see messages.py

Every read and write has a time limit, every message a byte limit, every peer a number of requests at once.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.exceptions import RateLimitError
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError

from openledger.evm_ext.payload import ExecutionPayload
from openledger.p2p.backend import PeerBackend
from openledger.p2p.envelope import MAX_MESSAGE_BYTES, payload_body, payload_from_body
from openledger.p2p.messages import (
    MAX_ANSWER_BYTES,
    MAX_PAGE_BYTES,
    MAX_REQUEST_BYTES,
    BodiesRequest,
    ContentRequest,
    HeadersRequest,
    InvalidMessage,
    Page,
    Result,
    Status,
    decode,
    encode,
    page_of,
)
from openledger.p2p.scoring import PeerScores, Penalty
from openledger.p2p.snappy_frames import InvalidSnappyFrames, compress_frames, decompress_frames
from openledger.p2p.ssz import InvalidPayloadEncoding
from openledger.p2p.streams import (
    AnswerTooLong,
    PeerUnresponsive,
    read_exactly,
    read_frame,
    read_to_end,
    write_all,
    write_frame,
)

STATUS = TProtocol("/openledger/req/status/1")
HEADERS = TProtocol("/openledger/req/headers/1")
BODIES = TProtocol("/openledger/req/bodies/1")
CONTENT = TProtocol("/openledger/req/content/1")

_PAYLOAD_VERSION = (1).to_bytes(4, "little")
"""With the parent beacon block root before the payload (since Ecotone)."""
_OPEN_TIMEOUT_S = 10.0
_SERVE_TIMEOUT_S = 60.0
_EXCHANGE_TIMEOUT_S = 60.0
_REQUESTS_AT_ONCE = 64
_REQUESTS_AT_ONCE_PER_PEER = 8
_PAGE_FRAME_BYTES = MAX_PAGE_BYTES + 64 * 1024
_STREAM_ERRORS = (
    BaseLibp2pError,
    RateLimitError,
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)

Answer = TypeVar("Answer", bound=msgspec.Struct)
Talked = TypeVar("Talked")
Handler = Callable[[Any, str], Awaitable[None]]

log = structlog.get_logger(__name__)


class InvalidAnswer(Exception):
    """The peer's answer is not what was asked for."""


class RequestRefused(Exception):
    """The peer answered that it cannot."""


def payload_by_number_protocol(chain_id: int) -> TProtocol:
    """OP's protocol id for a chain."""
    return TProtocol(f"/opstack/req/payload_by_number/{chain_id}/0/")


class RequestServer:
    """Answers peers. `register` it on a host once; `status` gives this node's status."""

    def __init__(
        self, chain_id: int, backend: PeerBackend, scores: PeerScores, status: Callable[[], Awaitable[Status]]
    ) -> None:
        self._chain_id = chain_id
        self._backend = backend
        self._scores = scores
        self._status = status
        self._running: Counter[str] = Counter()

    def register(self, host: Any) -> None:
        """Takes the protocols over on a libp2p host."""
        for protocol, handler in (
            (payload_by_number_protocol(self._chain_id), self._serve_payload),
            (STATUS, self._serve_status),
            (HEADERS, self._serve_headers),
            (BODIES, self._serve_bodies),
            (CONTENT, self._serve_content),
        ):
            host.set_stream_handler(protocol, self._guarded(handler))

    def _guarded(self, handler: Handler) -> Callable[[Any], Awaitable[None]]:
        async def serve(stream: Any) -> None:
            peer = str(stream.muxed_conn.peer_id)
            busy = self._running.total() >= _REQUESTS_AT_ONCE or self._running[peer] >= _REQUESTS_AT_ONCE_PER_PEER
            if busy or self._scores.is_banned(peer):
                await _reset(stream)
                return
            self._running[peer] += 1
            try:
                with trio.fail_after(_SERVE_TIMEOUT_S):
                    await handler(stream, peer)
                    await stream.close()
            except (PeerUnresponsive, *_STREAM_ERRORS) as error:
                log.debug("request not served", peer=peer, error=str(error))
                await _reset(stream)
            except (InvalidMessage, AnswerTooLong) as error:
                self._scores.penalise(peer, Penalty.MALFORMED, f"malformed request: {error}")
                await _refuse(stream, Result.INVALID_REQUEST, str(error))
            except Exception:
                # A fault of this node's: the peer is told, and the host goes on serving.
                log.exception("request failed", peer=peer)
                await _refuse(stream, Result.SERVER_ERROR, "internal error")
            finally:
                self._running[peer] -= 1
                if not self._running[peer]:
                    del self._running[peer]

        return serve

    async def _serve_payload(self, stream: Any, peer: str) -> None:
        number = int.from_bytes(await read_exactly(stream, 8), "little")
        payload = await self._backend.payload_by_number(number)
        if payload is None:
            await write_all(stream, bytes([Result.NOT_FOUND]) + bytes(4))
            return
        body = await trio.to_thread.run_sync(lambda: compress_frames(payload_body(payload)))
        await write_all(stream, bytes([Result.OK]) + _PAYLOAD_VERSION + body)

    async def _serve_status(self, stream: Any, peer: str) -> None:
        await _receive(stream, Status)
        await _answer(stream, await self._status())

    async def _serve_headers(self, stream: Any, peer: str) -> None:
        request = await _receive(stream, HeadersRequest)
        headers = await self._backend.headers(request.start, request.count)
        await _answer(stream, page_of(headers, request.max_bytes))

    async def _serve_bodies(self, stream: Any, peer: str) -> None:
        request = await _receive(stream, BodiesRequest)
        limit = min(request.max_bytes, MAX_PAGE_BYTES)
        await _answer(stream, page_of(await self._backend.bodies(request.hashes, limit), limit))

    async def _serve_content(self, stream: Any, peer: str) -> None:
        request = await _receive(stream, ContentRequest)
        data = await self._backend.content(request.digest)
        if data is None or len(data) > MAX_PAGE_BYTES:
            await _refuse(stream, Result.NOT_FOUND, "no such object")
        else:
            await _answer(stream, Page([data]))


class PeerClient:
    """Asks peers. Every method raises PeerUnresponsive, InvalidAnswer or RequestRefused."""

    def __init__(self, host: Any, chain_id: int) -> None:
        self._host = host
        self._chain_id = chain_id

    def speaks_our_protocols(self, peer: ID) -> bool:
        """Whether the peer may answer more than `payload`: an op-node has told by identify that it does not."""
        try:
            known = self._host.get_peerstore().get_protocols(peer)
        except PeerStoreError:
            return True
        return not known or STATUS in known

    async def payload(self, peer: ID, number: int) -> ExecutionPayload | None:
        """The peer's canonical block with that number, or None. Its hash is not checked."""

        async def exchange(stream: Any) -> bytes:
            await write_all(stream, number.to_bytes(8, "little"))
            await stream.close_write()
            return await read_to_end(stream, MAX_MESSAGE_BYTES)

        answer = await self._exchange(peer, payload_by_number_protocol(self._chain_id), exchange)
        if answer[:1] == bytes([Result.NOT_FOUND]):
            return None
        if answer[:1] != bytes([Result.OK]):
            raise RequestRefused(f"result {answer[:1].hex()} to payload {number}")
        if answer[1:5] != _PAYLOAD_VERSION:
            raise InvalidAnswer(f"payload version {answer[1:5].hex()} is not known")
        try:
            payload = payload_from_body(decompress_frames(answer[5:], MAX_MESSAGE_BYTES))
        except (InvalidSnappyFrames, InvalidPayloadEncoding) as error:
            raise InvalidAnswer(f"payload {number}: {error}") from error
        if payload.block_number != number:
            raise InvalidAnswer(f"asked for payload {number}, got {payload.block_number}")
        return payload

    async def status(self, peer: ID, own: Status) -> Status:
        """Tell each other how far we are."""
        return await self._ask(peer, STATUS, own, Status, _PAGE_FRAME_BYTES)

    async def headers(self, peer: ID, start: int, count: int) -> list[bytes]:
        """Up to `count` encoded headers from `start` upwards; at least one. Contents are not checked."""
        page = await self._ask(peer, HEADERS, HeadersRequest(start, count), Page, _PAGE_FRAME_BYTES)
        if not 0 < len(page.items) <= count:
            raise InvalidAnswer(f"asked for {count} headers, got {len(page.items)}")
        return page.items

    async def bodies(self, peer: ID, hashes: list[bytes]) -> list[bytes]:
        """Encoded bodies of the first of these blocks; at least one. Contents are not checked."""
        page = await self._ask(peer, BODIES, BodiesRequest(hashes), Page, MAX_ANSWER_BYTES)
        if not 0 < len(page.items) <= len(hashes):
            raise InvalidAnswer(f"asked for {len(hashes)} bodies, got {len(page.items)}")
        return page.items

    async def content(self, peer: ID, digest: bytes) -> bytes | None:
        """An object, or None. Its hash is not checked."""
        try:
            page = await self._ask(peer, CONTENT, ContentRequest(digest), Page, _PAGE_FRAME_BYTES)
        except RequestRefused:
            return None
        if len(page.items) != 1:
            raise InvalidAnswer(f"asked for one object, got {len(page.items)}")
        return page.items[0]

    async def _ask(
        self, peer: ID, protocol: TProtocol, request: msgspec.Struct, kind: type[Answer], limit: int
    ) -> Answer:
        async def exchange(stream: Any) -> Answer:
            await write_frame(stream, encode(request))
            result = (await read_exactly(stream, 1))[0]
            data = await read_frame(stream, limit)
            if result != Result.OK:
                raise RequestRefused(f"result {result}: {data[:200].decode('utf-8', 'replace')}")
            return decode(kind, data)

        return await self._exchange(peer, protocol, exchange)

    async def _exchange(self, peer: ID, protocol: TProtocol, talk: Callable[[Any], Awaitable[Talked]]) -> Talked:
        try:
            with trio.fail_after(_OPEN_TIMEOUT_S):
                stream = await self._host.new_stream(peer, [protocol])
        except _STREAM_ERRORS as error:
            raise PeerUnresponsive(f"cannot open {protocol}: {type(error).__name__} {error}") from error
        try:
            with trio.fail_after(_EXCHANGE_TIMEOUT_S):
                answer = await talk(stream)
        except trio.TooSlowError as error:
            await _reset(stream)
            raise PeerUnresponsive(f"{protocol} took more than {_EXCHANGE_TIMEOUT_S:.0f} s") from error
        except (InvalidMessage, AnswerTooLong) as error:
            await _reset(stream)
            raise InvalidAnswer(f"{protocol}: {error}") from error
        except BaseException:
            await _reset(stream)
            raise
        with trio.move_on_after(1):
            await stream.close()
        return answer


async def _receive(stream: Any, kind: type[Answer]) -> Answer:
    return decode(kind, await read_frame(stream, MAX_REQUEST_BYTES))


async def _answer(stream: Any, message: msgspec.Struct) -> None:
    data = encode(message)
    await write_all(stream, bytes([Result.OK]) + len(data).to_bytes(4, "big") + data)


async def _refuse(stream: Any, result: Result, reason: str) -> None:
    data = reason.encode()[:200]
    try:
        await write_all(stream, bytes([result]) + len(data).to_bytes(4, "big") + data)
        await stream.close()
    except (PeerUnresponsive, *_STREAM_ERRORS):
        await _reset(stream)


async def _reset(stream: Any) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
        try:
            await stream.reset()
        except _STREAM_ERRORS as error:
            log.debug("stream not reset", error=str(error))
