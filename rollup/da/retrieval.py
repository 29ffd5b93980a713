"""Reads payloads from EigenDA itself, without a proxy: from the relays that a certificate names, and when none of them
gives the blob, out of the chunks that the operators keep. Nothing is believed that the certificate does not commit to.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog
import trio

from openledger.rollup.da.assignment import Operator, OperatorDirectory, assigned_chunks
from openledger.rollup.da.certificate import (
    Certificate,
    serialize_certificate,
    split_generic_commitment,
)
from openledger.rollup.da.certificate import (
    InvalidCommitment as InvalidFraming,
)
from openledger.rollup.da.chunks import ChunkParameters, ChunksMissing
from openledger.rollup.da.client import (
    BlobNotFound,
    CertificateVerifier,
    DAError,
    DAUnavailable,
    InvalidCommitment,
    checked_certificate,
)
from openledger.rollup.da.grpc_peer import GrpcPeer
from openledger.rollup.da.hashes import blob_key
from openledger.rollup.da.relay import RelayClient, payload_of
from openledger.rollup.da.verification import BLOB_VERSIONS
from openledger.rollup.da.worker import BlobWorker, WorkerDied

_AT_ONCE = 16
"""So many operators are asked at a time, and so many connections to relays are kept."""

_PROOF_BYTES = 32

CHUNKS = {
    version: ChunkParameters(known.chunks, known.coding_rate, known.max_operators)
    for version, known in BLOB_VERSIONS.items()
}
"""How blobs of each version are cut on the public networks."""

log = structlog.get_logger(__name__)


class RelayDirectory(Protocol):
    """Who knows where relays are: a configuration, or the relay registry on L1."""

    async def relay(self, key: int) -> str | None:
        """HOST:PORT of the relay with that key, None if there is none. Raises what L1 raises."""
        ...


class ConfiguredRelays:
    """A RelayDirectory of what is written down, before another one is asked."""

    def __init__(self, targets: Mapping[int, str], otherwise: RelayDirectory | None = None) -> None:
        self._targets = targets
        self._otherwise = otherwise

    async def relay(self, key: int) -> str | None:
        """See `RelayDirectory`."""
        target = self._targets.get(key)
        if target is None and self._otherwise is not None:
            return await self._otherwise.relay(key)
        return target


class PayloadReader:
    """What stands behind commitments. Use `open_payload_reader`.

    Every certificate is held against all that can be checked without an L1, with a `verifier` also against what the
    contract there says. Relays speak TLS unless `plaintext`; operators never do.
    """

    def __init__(
        self,
        worker: BlobWorker,
        relays: RelayDirectory,
        *,
        operators: OperatorDirectory | None = None,
        verifier: CertificateVerifier | None = None,
        plaintext: bool = False,
        chunks: Mapping[int, ChunkParameters] = CHUNKS,
    ) -> None:
        self._worker = worker
        self._relays = relays
        self._operators = operators
        self._verifier = verifier
        self._plaintext = plaintext
        self._chunks = chunks
        self._open: dict[str, GrpcPeer] = {}

    async def aclose(self) -> None:
        """Closes the connections."""
        while self._open:
            await self._open.popitem()[1].aclose()

    async def get(self, commitment: bytes, l1_inclusion_block: int | None = None) -> bytes:
        """The payload behind an op-generic commitment that stands in that L1 block.

        Raises InvalidCommitment (derivation drops it), BlobNotFound, DAUnavailable, DAError, and what L1 raises.
        """
        try:
            version, serialized = split_generic_commitment(commitment)
        except InvalidFraming as error:
            raise InvalidCommitment(str(error), 0) from error
        certificate = await checked_certificate(
            self._worker, self._verifier, version, serialized, l1_inclusion_block or 0
        )
        return await self.read(certificate)

    async def read(self, certificate: Certificate) -> bytes:
        """The payload of a certificate that was checked already. Raises as `get`."""
        failures: list[str] = []
        missing = True
        for key in certificate.inclusion.certificate.relay_keys:
            target = await self._relays.relay(key)
            if target is None:
                failures.append(f"relay {key} is not known")
                continue
            try:
                return await (await self._relay(target)).get(certificate)
            except InvalidCommitment:
                raise
            except (DAError, WorkerDied) as error:
                missing = missing and isinstance(error, BlobNotFound)
                failures.append(f"relay {key}: {error}")
                log.warning("a relay does not give the blob", relay=key, target=target, problem=str(error))
        if self._operators is not None:
            try:
                return await self._out_of_chunks(certificate, self._operators)
            except ChunksMissing as error:
                missing = False
                failures.append(f"operators: {error}")
        said = "; ".join(failures) or "the certificate names no relay, and the operators are not known"
        if missing:
            raise BlobNotFound(said)
        raise DAUnavailable(said)

    async def _relay(self, target: str) -> RelayClient:
        peer = self._open.pop(target, None)
        if peer is None:
            if len(self._open) >= _AT_ONCE:
                await self._open.pop(next(iter(self._open))).aclose()  # the one that was asked longest ago
            peer = GrpcPeer(target, plaintext=self._plaintext)
        self._open[target] = peer
        return RelayClient(peer, self._worker)

    async def _out_of_chunks(self, certificate: Certificate, directory: OperatorDirectory) -> bytes:
        """Raises ChunksMissing, DAError, and what L1 raises."""
        header = certificate.inclusion.certificate.header
        parameters = self._chunks.get(header.version)
        if parameters is None:
            raise DAError(f"how blobs of version {header.version} are cut is not known")
        quorums = bytes(sorted(header.quorum_numbers))
        operators = await directory.operators(certificate.batch_header.reference_block_number, quorums)
        try:
            assigned = assigned_chunks(operators, quorums, parameters)
        except ValueError as error:
            raise DAError(f"the blob's quorums cannot be: {error}") from error
        known = {item.operator_id: item for quorum in quorums for item in operators[quorum]}
        order = sorted(assigned, key=lambda operator_id: -len(assigned[operator_id]))
        needed = parameters.needed(certificate.commitment.length)
        size = _PROOF_BYTES + 32 * parameters.chunk_length(certificate.commitment.length)
        kept: list[tuple[list[int], bytes]] = []
        reason = "no operator gave any"
        for start in range(0, len(order), _AT_ONCE):
            async with trio.open_nursery() as nursery:
                for operator_id in order[start : start + _AT_ONCE]:
                    nursery.start_soon(
                        self._collect, known[operator_id], certificate, quorums[0], assigned[operator_id], size, kept
                    )
            if len({index for indices, _ in kept for index in indices}) < needed:
                continue
            try:
                serialized = serialize_certificate(certificate)
                blob = await self._worker.recover(kept, certificate.version, serialized, parameters)
            except ChunksMissing as error:
                reason = str(error)  # some did not verify: more operators make up for them
                continue
            return await payload_of(self._worker, blob, certificate, "the operators")
        raise ChunksMissing(f"{len(kept)} of {len(order)} operators answer, their chunks are not enough: {reason}")

    async def _collect(
        self,
        operator: Operator,
        certificate: Certificate,
        quorum: int,
        indices: list[int],
        size: int,
        kept: list[tuple[list[int], bytes]],
    ) -> None:
        """Puts what an operator keeps into `kept`; one that does not answer, or answers nonsense, is left out."""
        from openledger.rollup.da.grpc import validator_pb2, validator_pb2_grpc

        target = operator.retrieval_target
        if target is None:
            return
        pb: Any = validator_pb2
        request = pb.GetChunksRequest(blob_key=blob_key(certificate.inclusion.certificate.header), quorum_id=quorum)
        try:
            async with GrpcPeer(target, plaintext=True) as peer:
                stub: Any = validator_pb2_grpc.RetrievalStub(peer.channel)
                reply = await peer.call(stub.GetChunks, request)
        except DAError as error:
            log.debug("an operator does not give its chunks", target=target, problem=str(error))
            return
        chunks: Sequence[bytes] = reply.chunks
        if reply.chunk_encoding_format != pb.GNARK or [len(chunk) for chunk in chunks] != [size] * len(indices):
            log.debug("an operator gives other chunks than it keeps", target=target, chunks=len(chunks))
            return
        kept.append((indices, b"".join(chunks)))


@asynccontextmanager
async def open_payload_reader(
    worker: BlobWorker,
    relays: RelayDirectory,
    *,
    operators: OperatorDirectory | None = None,
    verifier: CertificateVerifier | None = None,
    plaintext: bool = False,
    chunks: Mapping[int, ChunkParameters] = CHUNKS,
) -> AsyncIterator[PayloadReader]:
    """A PayloadReader whose connections are closed when the block ends."""
    reader = PayloadReader(worker, relays, operators=operators, verifier=verifier, plaintext=plaintext, chunks=chunks)
    try:
        yield reader
    finally:
        with trio.CancelScope(shield=True):
            await reader.aclose()
