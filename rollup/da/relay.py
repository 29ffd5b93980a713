"""Reads blobs from an EigenDA relay over gRPC, and holds them against their certificate before they are believed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openledger.rollup.da.certificate import Certificate, serialize_certificate
from openledger.rollup.da.client import InvalidCommitment, WrongPayload
from openledger.rollup.da.encoding import BYTES_PER_ELEMENT, BlobDecodingFailed, decode_payload
from openledger.rollup.da.grpc_peer import GrpcPeer
from openledger.rollup.da.hashes import blob_key
from openledger.rollup.da.verification import CommitmentMismatch
from openledger.rollup.da.worker import BlobWorker


class RelayClient:
    """One relay."""

    def __init__(self, peer: GrpcPeer, worker: BlobWorker) -> None:
        # Generated code imports grpcio, which the peer has found by now.
        from openledger.rollup.da.grpc import relay_pb2, relay_pb2_grpc

        self._peer = peer
        self._worker = worker
        self._pb: Any = relay_pb2
        self._stub: Any = relay_pb2_grpc.RelayStub(peer.channel)

    async def get(self, certificate: Certificate) -> bytes:
        """The payload a certificate commits to.

        Raises BlobNotFound, WrongPayload (another relay may be honest), InvalidCommitment (status 4: what is committed
        to is no payload), DAUnavailable, DAError.
        """
        key = blob_key(certificate.inclusion.certificate.header)
        blob = (await self._peer.call(self._stub.GetBlob, self._pb.GetBlobRequest(blob_key=key))).blob
        return await payload_of(self._worker, blob, certificate, self._peer.target)


async def payload_of(worker: BlobWorker, blob: bytes, certificate: Certificate, source: str) -> bytes:
    """The payload in a blob that `source` gave for a certificate; trailing zeros may be left out.

    Raises WrongPayload (it is another blob), InvalidCommitment (status 4: what is committed to is no payload), WorkerDied.
    """
    length = certificate.commitment.length
    if len(blob) > length * BYTES_PER_ELEMENT:
        raise WrongPayload(f"{source} answered {len(blob)} bytes for a blob of {length} elements")
    try:
        await worker.verify_blob(blob, certificate.version, serialize_certificate(certificate))
    except (CommitmentMismatch, BlobDecodingFailed) as error:
        raise WrongPayload(f"{source}: {error}") from error
    try:
        return decode_payload(await worker.encoded_payload(blob, length))
    except BlobDecodingFailed as error:
        raise InvalidCommitment(str(error), 4) from error


@asynccontextmanager
async def open_relay(target: str, worker: BlobWorker, *, plaintext: bool = False) -> AsyncIterator[RelayClient]:
    """A RelayClient of `target` (host:port) that is closed when the block ends. Raises DAError without grpcio."""
    async with GrpcPeer(target, plaintext=plaintext) as peer:
        yield RelayClient(peer, worker)
