"""Whether a gossiped block is taken, ignored, or held against the peer that forwarded it.

The rules and their order are op-node's: the signature comes before everything that costs more than recovering it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from openledger.evm_ext.block import block_from_payload
from openledger.evm_ext.errors import InvalidBlock
from openledger.evm_ext.payload import ExecutionPayload
from openledger.p2p.envelope import Envelope, InvalidBlockSignature, InvalidEnvelope, decode_envelope
from openledger.p2p.ssz import InvalidPayloadEncoding

MAX_AGE_S = 60
MAX_AHEAD_S = 5
MAX_BLOCKS_AT_A_HEIGHT = 5
_HEIGHTS_REMEMBERED = 1000


class Outcome(Enum):
    """gossipsub's three verdicts."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


class Reason(Enum):
    """Why a message was not accepted."""

    BAD_COMPRESSION = "compression or size is wrong"
    BAD_SIGNATURE = "no signer can be recovered"
    WRONG_SIGNER = "not signed by the sequencer"
    NO_SIGNER_KNOWN = "this node does not know the sequencer's address"
    BAD_ENCODING = "not an SSZ payload of version 4"
    TOO_OLD = "timestamp is more than 60 s in the past"
    TOO_NEW = "timestamp is more than 5 s in the future"
    WRONG_VERSION_FIELDS = "fields that version 4 fixes have other values"
    WRONG_BLOCK_HASH = "the payload does not hash to its block hash"
    TOO_MANY_AT_HEIGHT = "more than 5 blocks at one height"
    SEEN = "the block was seen already"


@dataclass(frozen=True)
class Verdict:
    """The outcome; `reason` is there unless accepted, `payload` and `envelope` only when accepted."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str = ""
    payload: ExecutionPayload | None = None
    envelope: Envelope | None = None


class BlockValidator:
    """Judges gossip messages of one chain. Keeps the block hashes seen at recent heights; safe in any thread."""

    def __init__(self, chain_id: int, sequencer_address: bytes | None, clock: Callable[[], float] = time.time) -> None:
        self._chain_id = chain_id
        self._sequencer_address = sequencer_address
        self._clock = clock
        self._seen: OrderedDict[int, set[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def validate(self, message: bytes) -> Verdict:
        """The verdict on a message; an accepted block is remembered as seen."""
        try:
            envelope = decode_envelope(message)
            signer = envelope.signer(self._chain_id)
        except InvalidEnvelope as error:
            return _reject(Reason.BAD_COMPRESSION, error)
        except InvalidBlockSignature as error:
            return _reject(Reason.BAD_SIGNATURE, error)
        if self._sequencer_address is None:
            return Verdict(Outcome.IGNORE, Reason.NO_SIGNER_KNOWN)
        if signer != self._sequencer_address:
            return _reject(Reason.WRONG_SIGNER, f"signed by 0x{signer.hex()}")
        try:
            payload = envelope.payload()
        except InvalidPayloadEncoding as error:
            return _reject(Reason.BAD_ENCODING, error)
        now = self._clock()
        if payload.timestamp < now - MAX_AGE_S:
            return _reject(Reason.TOO_OLD, f"{payload.timestamp} at {now:.0f}")
        if payload.timestamp > now + MAX_AHEAD_S:
            return _reject(Reason.TOO_NEW, f"{payload.timestamp} at {now:.0f}")
        if payload.blob_gas_used or payload.excess_blob_gas:
            return _reject(Reason.WRONG_VERSION_FIELDS, "blob gas is not zero")
        try:
            block_from_payload(payload)
        except InvalidBlock as error:
            return _reject(Reason.WRONG_BLOCK_HASH, error)
        return self._remember(payload, envelope)

    def _remember(self, payload: ExecutionPayload, envelope: Envelope) -> Verdict:
        with self._lock:
            seen = self._seen.setdefault(payload.block_number, set())
            self._seen.move_to_end(payload.block_number)
            if payload.block_hash in seen:
                return Verdict(Outcome.IGNORE, Reason.SEEN)
            if len(seen) >= MAX_BLOCKS_AT_A_HEIGHT:
                return _reject(Reason.TOO_MANY_AT_HEIGHT, f"height {payload.block_number}")
            seen.add(payload.block_hash)
            while len(self._seen) > _HEIGHTS_REMEMBERED:
                self._seen.popitem(last=False)
        return Verdict(Outcome.ACCEPT, payload=payload, envelope=envelope)


def _reject(reason: Reason, detail: object) -> Verdict:
    return Verdict(Outcome.REJECT, reason, str(detail))
