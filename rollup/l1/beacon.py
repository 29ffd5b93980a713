"""EIP-4844 blobs from beacon nodes (Beacon API: genesis, config/spec, blobs, blob_sidecars). None is taken on trust.

Beacon nodes keep blobs for weeks only; an archive that speaks the same API can be named as a further endpoint.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import orjson
import structlog
import trio

from openledger.evm_ext.block import Header
from openledger.genesis.counted import counted
from openledger.rollup.codec.blobs import BLOB_BYTES
from openledger.rollup.l1.kzg import blob_versioned_hash
from openledger.rollup.l1.source import ENCODINGS, L1Unavailable

_MAX_ANSWER_BYTES = 64 << 20

log = structlog.get_logger(__name__)


class BlobSource(Protocol):
    """Where the blobs of L1 blocks lie."""

    async def blobs(self, header: Header, versioned_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
        """The blobs of that L1 block with these hashes, in their order, each checked against its hash.

        Raises `L1Unavailable` while they cannot be had."""
        ...


class BlobsUnavailable(L1Unavailable):
    """No endpoint has the blobs. Where they are older than a beacon node keeps them, an archive is needed."""


class NoBeacon:
    """A `BlobSource` for a node that was given no beacon node: it stops where one is needed, and says so."""

    async def blobs(self, header: Header, versioned_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
        """See `BlobSource`."""
        raise BlobsUnavailable(
            f"L1 block {header.number} holds batcher data in blobs: set l1_beacon_urls (--l1-beacon-url) to go on"
        )


class BeaconClient:
    """A `BlobSource` over one or more beacon nodes, asked in turn. Use as an async context manager.

    A slot is found from the block's time. A development chain that serves blobs without a beacon chain's times (anvil)
    is asked by the block's number.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_s: float = 20.0,
        deadline_s: float = 120.0,
        attempts: int = 3,
        backoff_s: float = 0.5,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._http = httpx.AsyncClient(
            timeout=timeout_s, transport=transport, trust_env=False, headers={"accept-encoding": ", ".join(ENCODINGS)}
        )
        self._deadline_s = deadline_s
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._times: dict[str, tuple[int, int] | None] = {}

    async def __aenter__(self) -> "BeaconClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def blobs(self, header: Header, versioned_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
        """See `BlobSource`."""
        problem = "no endpoint is configured"
        for attempt in range(self._attempts):
            if attempt:
                await trio.sleep(self._backoff_s * 2 ** (attempt - 1))
            for url in self._urls:
                try:
                    with trio.fail_after(self._deadline_s):
                        return await self._blobs(url, header, versioned_hashes)
                except (httpx.HTTPError, _BadAnswer, trio.TooSlowError) as error:
                    problem = f"{_name(url)}: {type(error).__name__}: {error}"
                    log.warning("blobs not had yet", l1_block=header.number, problem=problem)
        raise BlobsUnavailable(f"cannot get the blobs of L1 block {header.number}: {problem}")

    async def _blobs(self, url: str, header: Header, wanted: Sequence[bytes]) -> tuple[bytes, ...]:
        slot = await self._slot(url, header)
        query = {"versioned_hashes": ",".join("0x" + blob_hash.hex() for blob_hash in wanted)}
        answer = await self._get(url, f"/eth/v1/beacon/blobs/{slot}", query)
        if answer is None:  # an older beacon node
            answer = await self._get(url, f"/eth/v1/beacon/blob_sidecars/{slot}")
        items = None if answer is None else answer.get("data")
        if not isinstance(items, list):
            raise _BadAnswer(f"no blobs of slot {slot}")
        found: dict[bytes, bytes] = {}
        for item in items:
            blob = _blob(item.get("blob") if isinstance(item, Mapping) else item)
            found[await trio.to_thread.run_sync(_hash, blob)] = blob
        missing = [blob_hash for blob_hash in wanted if blob_hash not in found]
        if missing:
            lost = counted(len(missing), "blob is", "blobs are")
            raise _BadAnswer(f"of slot {slot} {lost} missing, the first is 0x{missing[0].hex()}")
        return tuple(found[blob_hash] for blob_hash in wanted)

    async def _slot(self, url: str, header: Header) -> int:
        if url not in self._times:
            genesis = await self._get(url, "/eth/v1/beacon/genesis")
            spec = await self._get(url, "/eth/v1/config/spec")
            self._times[url] = None if genesis is None or spec is None else _times(genesis, spec)
        times = self._times[url]
        if times is None:
            return header.number
        genesis_time, slot_ms = times
        return (header.timestamp - genesis_time) * 1000 // slot_ms

    async def _get(self, url: str, path: str, query: Mapping[str, str] | None = None) -> Mapping[str, Any] | None:
        """The answer's object; None where the endpoint does not know the path or has nothing there."""
        received = bytearray()
        async with self._http.stream(
            "GET", url + path, params=query, headers={"accept": "application/json"}
        ) as response:
            encoding = response.headers.get("content-encoding", "identity")
            if encoding not in ENCODINGS:
                raise _BadAnswer(f"an answer packed as {encoding}, unasked")
            async for piece in response.aiter_bytes():
                received += piece
                if len(received) > _MAX_ANSWER_BYTES:
                    raise _BadAnswer(f"more than {_MAX_ANSWER_BYTES} bytes")
        if response.status_code in (404, 405, 410):
            return None
        try:
            answer = orjson.loads(received)
        except orjson.JSONDecodeError:
            raise _BadAnswer(f"HTTP {response.status_code}, not JSON") from None
        if response.status_code != 200 or not isinstance(answer, dict):
            raise _BadAnswer(f"HTTP {response.status_code}: {str(answer)[:200]}")
        return answer


class _BadAnswer(Exception):
    """Not what a healthy beacon node that has the blobs answers."""


def _times(genesis: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[int, int]:
    """(genesis time in seconds, slot in milliseconds)"""
    try:
        values = spec["data"]
        slot_ms = (
            int(values["SLOT_DURATION_MS"]) if "SLOT_DURATION_MS" in values else 1000 * int(values["SECONDS_PER_SLOT"])
        )
        genesis_time = int(genesis["data"]["genesis_time"])
    except (KeyError, TypeError, ValueError) as error:
        raise _BadAnswer(f"genesis time or slot time cannot be read: {error}") from error
    if slot_ms <= 0:
        raise _BadAnswer(f"a slot of {slot_ms} ms")
    return genesis_time, slot_ms


def _blob(value: object) -> bytes:
    if isinstance(value, str) and len(value) == 2 + 2 * BLOB_BYTES and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise _BadAnswer("something that is no blob stands in the list of blobs")


def _hash(blob: bytes) -> bytes:
    try:
        return blob_versioned_hash(blob)
    except ValueError as error:
        raise _BadAnswer(str(error)) from error


def _name(url: str) -> str:
    """The endpoint without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
