"""The ways a channel can take to L1: a commitment to what the DA layer keeps, EIP-4844 blobs, or plain calldata.

Derivation reads all three, in any order; which one is taken is the batcher's business alone.
"""

from typing import Protocol

import structlog

from openledger.genesis.hashing import keccak256
from openledger.rollup.batcher.channel_builder import BuiltChannel, cut_payloads
from openledger.rollup.batcher.settings import BatcherSettings
from openledger.rollup.clock import Clock
from openledger.rollup.codec.batcher_transaction import encode_commitment_data
from openledger.rollup.codec.blobs import MAX_BLOB_DATA, encode_blob
from openledger.rollup.da.client import DAError, DAFailoverRequested
from openledger.rollup.l1.blob_transaction import TravellingBlobs
from openledger.rollup.l1.source import Inclusion
from openledger.rollup.l1.transactions import L1Sender

log = structlog.get_logger(__name__)


class DASink(Protocol):
    """Where payloads go."""

    async def put(self, payload: bytes) -> bytes:
        """Store a payload; its commitment, type byte first. Raises `DAError`."""
        ...


class Route(Protocol):
    """One way to L1."""

    @property
    def name(self) -> str: ...

    async def post(self, channel: BuiltChannel) -> Inclusion:
        """Bring the whole channel to L1; where its last piece was included. Raises `DAError`, `L1Error`,
        `L1TransactionLost`. Posting again after any of them is safe."""
        ...


class DARoute:
    """Payloads to the DA layer, their commitments to the inbox.

    What the DA layer has taken is not given to it again for `keep_commitments_s` while L1 does not take the commitment:
    each dispersal is paid for. Later the certificate might be too old for derivation.
    """

    name = "da"

    def __init__(self, da: DASink, sender: L1Sender, inbox: bytes, settings: BatcherSettings, clock: Clock) -> None:
        self._da = da
        self._sender = sender
        self._inbox = inbox
        self._settings = settings
        self._clock = clock
        self._stored: dict[bytes, tuple[bytes, float]] = {}

    async def post(self, channel: BuiltChannel) -> Inclusion:
        """See `Route`."""
        included: Inclusion | None = None
        for payload in cut_payloads(channel, self._settings.max_frame_bytes, self._settings.max_payload_bytes):
            included = await self._sender.send(self._inbox, encode_commitment_data(await self._put(payload)))
        self._stored.clear()
        return _last(included)

    async def _put(self, payload: bytes) -> bytes:
        now, key = self._clock.now(), keccak256(payload)
        self._stored = {
            known: found
            for known, found in self._stored.items()
            if 0 <= now - found[1] < self._settings.keep_commitments_s
        }
        if key not in self._stored:
            self._stored[key] = await self._da.put(payload), now
        return self._stored[key][0]


class CalldataRoute:
    """Frames in calldata."""

    name = "calldata"

    def __init__(self, sender: L1Sender, inbox: bytes, settings: BatcherSettings) -> None:
        self._sender = sender
        self._inbox = inbox
        self._settings = settings

    async def post(self, channel: BuiltChannel) -> Inclusion:
        """See `Route`."""
        included: Inclusion | None = None
        limit = self._settings.max_calldata_bytes
        for payload in cut_payloads(channel, limit, limit):
            included = await self._sender.send(self._inbox, payload)
        return _last(included)


class BlobRoute:
    """Frames in blobs, several of them in a transaction."""

    name = "blobs"

    def __init__(self, sender: L1Sender, inbox: bytes, settings: BatcherSettings) -> None:
        self._sender = sender
        self._inbox = inbox
        self._settings = settings

    async def post(self, channel: BuiltChannel) -> Inclusion:
        """See `Route`."""
        included: Inclusion | None = None
        payloads = cut_payloads(channel, MAX_BLOB_DATA, MAX_BLOB_DATA)
        step = self._settings.max_blobs_per_transaction
        for start in range(0, len(payloads), step):
            blobs = TravellingBlobs([encode_blob(payload) for payload in payloads[start : start + step]])
            included = await self._sender.send(self._inbox, b"", blobs=blobs)
        return _last(included)


class Failover:
    """Takes the first route, the second while the first cannot, and goes back when its time has come."""

    def __init__(self, primary: Route, fallback: Route | None, settings: BatcherSettings, clock: Clock) -> None:
        self.count = 0
        """How often the fallback was taken up."""
        self._primary = primary
        self._fallback = fallback
        self._settings = settings
        self._clock = clock
        self._failing_since: float | None = None
        self._fallback_until: float | None = None

    @property
    def current(self) -> str:
        """The route that the next channel takes first."""
        return self._route().name

    async def post(self, channel: BuiltChannel) -> Inclusion:
        """By the route of the moment. Raises as `Route.post`."""
        route = self._route()
        try:
            included = await route.post(channel)
        except DAError as error:
            # Also one that answers with other people's certificates, or refuses this payload only: the chain must go on.
            if self._fallback is None or not self._gives_up(error):
                raise
            self.count += 1
            self._fallback_until = self._clock.now() + self._settings.failback_after_s
            log.warning("DA layer cannot take it, posting to Ethereum", route=self._fallback.name, reason=str(error))
            return await self._fallback.post(channel)
        if route is self._primary:
            if self._fallback_until is not None:
                log.info("DA layer takes data again", route=route.name)
            self._failing_since = self._fallback_until = None
        return included

    def _route(self) -> Route:
        if self._fallback is not None and self._fallback_until is not None and self._clock.now() < self._fallback_until:
            return self._fallback
        return self._primary

    def _gives_up(self, error: DAError) -> bool:
        now = self._clock.now()
        if self._failing_since is None:
            self._failing_since = now
        return isinstance(error, DAFailoverRequested) or now - self._failing_since >= self._settings.failover_after_s


def _last(included: Inclusion | None) -> Inclusion:
    if included is None:
        raise ValueError("a channel has at least one frame")
    return included
