"""Disperses blobs through an EigenDA disperser itself, without a proxy, over its gRPC API v2.

The client computes the commitments, names the blob, signs for it, waits until the operators have attested its batch
and puts the certificate together. The disperser's word is not taken: the certificate must be about the blob that was
handed in, and pass every check that needs no L1 (`verification.py`).
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from openledger.genesis.counted import counted
from openledger.genesis.hashing import keccak256
from openledger.rollup.da.certificate import (
    BlobHeader,
    Certificate,
    encode_generic_commitment,
    serialize_certificate,
)
from openledger.rollup.da.client import DAError, DAFailoverRequested, DAUnavailable
from openledger.rollup.da.curve import G1Point
from openledger.rollup.da.encoding import MAX_BLOB_BYTES
from openledger.rollup.da.grpc_peer import GrpcPeer
from openledger.rollup.da.hashes import blob_key
from openledger.rollup.da.payments import Payer, PaymentHeader, PaymentState, anchor_hash, payment_state_hash
from openledger.rollup.da.signature_indices import SignatureIndexReader, SignatureIndices, first_indices
from openledger.rollup.da.srs import BlobCommitment
from openledger.rollup.da.verification import CONFIRMATION_THRESHOLD_PERCENT, InvalidCertificate
from openledger.rollup.da.worker import BlobWorker

_POLLS_IN_VAIN = 10
"""So many in a row may go unanswered before a blob is given up."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DisperserSettings:
    """`chain_id` and `disperser_id` are what the anchor signature ties a dispersal to: EigenDA's L1 and the disperser.

    `certificate_version` is 3 or 4. A blob that is not attested after `timeout_s` is given up.
    """

    chain_id: int
    disperser_id: int = 0
    certificate_version: int = 4
    blob_version: int = 0
    quorums: bytes = b"\x00\x01"
    timeout_s: float = 600.0
    poll_s: float = 1.0

    def __post_init__(self) -> None:
        if self.certificate_version not in (3, 4):
            raise ValueError(f"certificates of version {self.certificate_version} are not made: 3 or 4")
        if not 0 <= self.chain_id < 1 << 256 or not 0 <= self.disperser_id < 1 << 32:
            raise ValueError("the chain id has at most 256 bits and the disperser's number at most 32")


class NonSignersUnknown(DAError):
    """Some operators did not sign, and there is no L1 to ask for their places in its registries."""


class DisperserClient:
    """One account at one disperser. `now_ns` gives the time that payment headers carry."""

    def __init__(
        self,
        peer: GrpcPeer,
        worker: BlobWorker,
        payer: Payer,
        settings: DisperserSettings,
        *,
        indices: SignatureIndexReader | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        # Generated code imports grpcio, which the peer has found by now.
        from openledger.rollup.da import disperser_messages
        from openledger.rollup.da.grpc import disperser_v2_pb2, disperser_v2_pb2_grpc

        self._peer = peer
        self._worker = worker
        self._payer = payer
        self._settings = settings
        self._indices = indices
        self._now_ns = now_ns
        self._messages = disperser_messages
        self._pb: Any = disperser_v2_pb2
        self._stub: Any = disperser_v2_pb2_grpc.DisperserStub(peer.channel)

    async def put(self, payload: bytes, *, on_demand: bool = False) -> bytes:
        """Disperse a payload; the op-generic commitment. `on_demand` pays from the deposit instead of the reservation.

        Raises PayloadTooLarge, DAFailoverRequested (away, not attested in time or by too few), DAUnavailable, DAError.
        """
        return encode_generic_commitment(await self.disperse(payload, on_demand=on_demand))

    async def disperse(self, payload: bytes, *, on_demand: bool = False) -> Certificate:
        """See `put`; the certificate."""
        blob, commitment = await self._worker.commit(payload, MAX_BLOB_BYTES)
        paid = (await self.payment_state()).on_demand_payment(len(blob)) if on_demand else 0
        payment = PaymentHeader(self._payer.account_id, self._now_ns(), paid)
        header = BlobHeader(self._settings.blob_version, self._settings.quorums, commitment, payment.hash)
        key = blob_key(header)
        signature = self._payer.sign(key)
        anchor = anchor_hash(self._settings.chain_id, self._settings.disperser_id, key)
        request = self._pb.DisperseBlobRequest(
            blob=blob,
            blob_header=self._messages.blob_header_message(header, payment),
            signature=signature,
            anchor_signature=self._payer.sign(anchor),
            disperser_id=self._settings.disperser_id,
            chain_id=self._settings.chain_id.to_bytes(32, "big"),
        )
        reply = await self._peer.call(self._stub.DisperseBlob, request)
        if reply.blob_key != key:
            raise DAError(f"{self._peer.target} took the blob as {reply.blob_key.hex()}; its key is {key.hex()}")
        log.info("blob handed in", blob_key=key.hex(), bytes=len(blob))
        certificate = await self._certificate(await self._attested(key))
        blob_certificate = certificate.inclusion.certificate
        if blob_key(blob_certificate.header) != key or blob_certificate.signature != signature:
            raise DAError(f"{self._peer.target} answered the certificate of another blob than {key.hex()}")
        try:
            await self._worker.verify_certificate(certificate.version, serialize_certificate(certificate))
        except InvalidCertificate as error:
            raise DAError(f"{self._peer.target} answered a certificate that is not valid: {error}") from error
        return certificate

    async def blob_commitment(self, blob: bytes) -> BlobCommitment:
        """What the disperser says a blob's commitments are (many do not answer this any more). Unchecked."""
        reply = await self._peer.call(self._stub.GetBlobCommitment, self._pb.BlobCommitmentRequest(blob=blob))
        return self._messages.read_commitment(reply.blob_commitment)

    async def payment_state(self) -> PaymentState:
        """The account's reservation, deposit and use. Raises DAUnavailable, DAError."""
        now_ns = self._now_ns()
        request = self._pb.GetPaymentStateRequest(
            account_id=self._payer.account_id,
            signature=self._payer.sign(payment_state_hash(self._payer.address, now_ns)),
            timestamp=now_ns,
        )
        return self._messages.read_payment_state(await self._peer.call(self._stub.GetPaymentState, request))

    async def _attested(self, key: bytes) -> Any:
        """The status reply of a complete blob."""
        pb, target = self._pb, self._peer.target
        failures = 0
        with trio.move_on_after(self._settings.timeout_s):
            while True:
                try:
                    reply = await self._peer.call(self._stub.GetBlobStatus, pb.BlobStatusRequest(blob_key=key))
                    failures = 0
                except DAUnavailable as error:
                    # The blob is paid for and on its way: a disperser that restarts is no reason to send it again.
                    failures += 1
                    if failures == _POLLS_IN_VAIN:
                        raise
                    log.warning("status of a blob not known, trying again", blob_key=key.hex(), problem=str(error))
                    await trio.sleep(self._settings.poll_s)
                    continue
                if reply.status == pb.COMPLETE:
                    return reply
                if reply.status not in (pb.QUEUED, pb.ENCODED, pb.GATHERING_SIGNATURES):
                    name = "FAILED" if reply.status == pb.FAILED else f"status {reply.status}"
                    raise DAFailoverRequested(f"{target} gave up blob {key.hex()}: {name}")
                await trio.sleep(self._settings.poll_s)
        raise DAFailoverRequested(f"{target} did not get blob {key.hex()} attested in {self._settings.timeout_s} s")

    async def _certificate(self, reply: Any) -> Certificate:
        batch, signed = reply.signed_batch, reply.signed_batch.attestation
        header = self._messages.read_batch_header(batch.header)
        absent = self._messages.read_non_signers(signed)
        indices = await self._signature_indices(header.reference_block_number, signed, absent)
        attestation, quorums = self._messages.read_attestation(signed, indices)
        percentages = dict(zip(quorums, signed.quorum_signed_percentages))
        for quorum in self._settings.quorums:
            if percentages.get(quorum, 0) < CONFIRMATION_THRESHOLD_PERCENT:
                raise DAFailoverRequested(
                    f"{percentages.get(quorum, 0)} % of quorum {quorum} signed; {CONFIRMATION_THRESHOLD_PERCENT} % must"
                )
        inclusion = self._messages.read_inclusion(reply.blob_inclusion_info)
        return Certificate(self._settings.certificate_version, header, inclusion, attestation, quorums)

    async def _signature_indices(
        self, reference_block: int, signed: Any, absent: tuple[G1Point, ...]
    ) -> SignatureIndices:
        quorums = self._messages.read_quorums(signed.quorum_numbers)
        if self._indices is not None:
            ids = [keccak256(key.x.to_bytes(32, "big") + key.y.to_bytes(32, "big")) for key in absent]
            return await self._indices.indices(reference_block, quorums, ids)
        if absent:
            raise NonSignersUnknown(
                f"{counted(len(absent), 'operator')} did not sign: give an L1 with EigenDA's OperatorStateRetriever, "
                "which alone says where their stakes stand"
            )
        log.warning("no L1 to ask for the registries' places: 0 for each, right only where operators never changed")
        return first_indices(quorums)


@asynccontextmanager
async def open_disperser(
    target: str,
    worker: BlobWorker,
    payer: Payer,
    settings: DisperserSettings,
    *,
    plaintext: bool = False,
    indices: SignatureIndexReader | None = None,
) -> AsyncIterator[DisperserClient]:
    """A DisperserClient of `target` (host:port) that is closed when the block ends. Raises DAError without grpcio."""
    async with GrpcPeer(target, plaintext=plaintext) as peer:
        yield DisperserClient(peer, worker, payer, settings, indices=indices)
