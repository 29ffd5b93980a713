"""An EigenDA network on loopback, behind the real gRPC services: what a client of it needs to be tested against."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import grpc
from coincurve import PublicKey

from openledger.genesis.hashing import checksummed, keccak256
from openledger.rollup.da import disperser_messages as messages
from openledger.rollup.da.assignment import Operator, assigned_chunks
from openledger.rollup.da.certificate import BatchHeader, BlobCertificate
from openledger.rollup.da.chunk_proofs import prove_chunks
from openledger.rollup.da.chunks import encode_chunk, encode_chunks
from openledger.rollup.da.curve import g1_from_integers, g2_from_integers, to_compressed
from openledger.rollup.da.disperser import DisperserSettings
from openledger.rollup.da.encoding import elements_from_bytes
from openledger.rollup.da.grpc import (
    common_v2_pb2,
    disperser_v2_pb2,
    disperser_v2_pb2_grpc,
    relay_pb2,
    relay_pb2_grpc,
    validator_pb2,
    validator_pb2_grpc,
)
from openledger.rollup.da.hashes import batch_header_hash, batch_root, blob_key
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork
from openledger.rollup.da.payments import Payer, PaymentHeader, anchor_hash, payment_state_hash
from openledger.rollup.da.srs import DevelopmentSrs

PAYLOAD = bytes(range(256)) * 20
PAYER = Payer(b"\x42" * 32)
CHAIN_ID, DISPERSER_ID = 17_000, 3
SETTINGS = DisperserSettings(CHAIN_ID, DISPERSER_ID, poll_s=0.01, timeout_s=120)
MIN_SYMBOLS, PRICE = 4_096, 7
SRS = DevelopmentSrs()


def signer(digest: bytes, signature: bytes) -> str:
    key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    return checksummed(keccak256(key.format(compressed=False)[1:])[12:])


class Network:
    """A disperser, a relay and operators. What they are given is checked; `fault` makes them misbehave."""

    def __init__(self) -> None:
        self.operators = OperatorNetwork(99, NetworkParameters(), 2)
        self.blobs: dict[bytes, Any] = {}
        self.payments: list[PaymentHeader] = []
        self.statuses = [disperser_v2_pb2.QUEUED, disperser_v2_pb2.ENCODED, disperser_v2_pb2.GATHERING_SIGNATURES]
        self.fault = ""
        self.hiccups = 0
        self.spent = 1_000
        self.chain_id, self.disperser_id = CHAIN_ID, DISPERSER_ID

    # The disperser.

    def DisperseBlob(self, request: Any, context: Any) -> Any:
        if self.fault in ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "PERMISSION_DENIED", "INTERNAL"):
            context.abort(getattr(grpc.StatusCode, self.fault), "says the test")
        header, payment = messages.read_blob_header(request.blob_header)
        key = blob_key(header)
        anchor = anchor_hash(int.from_bytes(request.chain_id, "big"), request.disperser_id, key)
        wrong = [
            name
            for name, holds in {
                "commitment": SRS.commit_with_length(elements_from_bytes(request.blob)) == header.commitment,
                "signature": signer(key, request.signature) == payment.account_id,
                "anchor": signer(anchor, request.anchor_signature) == payment.account_id,
                "chain": request.chain_id == self.chain_id.to_bytes(32, "big"),
                "disperser": request.disperser_id == self.disperser_id,
                "time": abs(payment.timestamp_ns - time.time_ns()) < 60_000_000_000,
                "payment": payment.cumulative_payment in (0, self.spent + MIN_SYMBOLS * PRICE),
            }.items()
            if not holds
        ]
        if wrong:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, ", ".join(wrong))
        self.payments.append(payment)
        self.spent = max(self.spent, payment.cumulative_payment)
        self.blobs[key] = request
        return disperser_v2_pb2.DisperseBlobReply(
            result=disperser_v2_pb2.QUEUED, blob_key=b"\1" * 32 if self.fault == "other key" else key
        )

    def GetBlobStatus(self, request: Any, context: Any) -> Any:
        if request.blob_key not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        if self.hiccups:
            self.hiccups -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        if self.fault == "FAILED":
            return disperser_v2_pb2.BlobStatusReply(status=disperser_v2_pb2.FAILED)
        if self.statuses:
            return disperser_v2_pb2.BlobStatusReply(status=self.statuses.pop(0))
        if self.fault == "slow":
            return disperser_v2_pb2.BlobStatusReply(status=disperser_v2_pb2.GATHERING_SIGNATURES)
        handed = self.blobs[request.blob_key]
        header, _ = messages.read_blob_header(handed.blob_header)
        blob = BlobCertificate(header, handed.signature, (2, 5))
        proof = b"\x11" * 32 + b"\x22" * 32
        batch = BatchHeader(batch_root(blob, 2, proof), 4_000_000)
        signers = [number for number, online in enumerate(self.operators.online) if online]
        digest = keccak256(b"other") if self.fault == "signature" else batch_header_hash(batch)
        attestation = self.operators.attest(digest, signers)
        percent = 100 * len(signers) // len(self.operators.online)
        return disperser_v2_pb2.BlobStatusReply(
            status=disperser_v2_pb2.COMPLETE,
            signed_batch=disperser_v2_pb2.SignedBatch(
                header=common_v2_pb2.BatchHeader(
                    batch_root=batch.batch_root, reference_block_number=batch.reference_block_number
                ),
                attestation=disperser_v2_pb2.Attestation(
                    non_signer_pubkeys=[compressed(key) for key in attestation.non_signer_public_keys],
                    apk_g2=to_compressed(g2_from_integers(attestation.signers_public_key_g2)),
                    quorum_apks=[compressed(key) for key in attestation.quorum_public_keys],
                    sigma=b"\xff" * 32 if self.fault == "point" else compressed(attestation.signature),
                    quorum_numbers=[0, 1],
                    quorum_signed_percentages=bytes([percent, percent]),
                ),
            ),
            blob_inclusion_info=disperser_v2_pb2.BlobInclusionInfo(
                blob_certificate=common_v2_pb2.BlobCertificate(
                    blob_header=handed.blob_header, signature=handed.signature, relay_keys=blob.relay_keys
                ),
                blob_index=2,
                inclusion_proof=proof,
            ),
        )

    def GetBlobCommitment(self, request: Any, context: Any) -> Any:
        commitment = SRS.commit_with_length(elements_from_bytes(request.blob))
        return disperser_v2_pb2.BlobCommitmentReply(blob_commitment=messages.commitment_message(commitment))

    def GetPaymentState(self, request: Any, context: Any) -> Any:
        digest = payment_state_hash(bytes.fromhex(request.account_id[2:]), request.timestamp)
        if signer(digest, request.signature) != request.account_id:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "not signed by the account")
        return disperser_v2_pb2.GetPaymentStateReply(
            payment_global_params=disperser_v2_pb2.PaymentGlobalParams(
                min_num_symbols=MIN_SYMBOLS, price_per_symbol=PRICE
            ),
            cumulative_payment=messages.uint_bytes(self.spent),
            onchain_cumulative_payment=messages.uint_bytes(10**18),
            reservation=disperser_v2_pb2.Reservation(symbols_per_second=100, start_timestamp=5, end_timestamp=6),
        )

    # The relay.

    def GetBlob(self, request: Any, context: Any) -> Any:
        if request.blob_key not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        blob = self.blobs[request.blob_key].blob
        if self.fault == "relay":
            blob = blob[:-1] + bytes([blob[-1] ^ 1])
        return relay_pb2.GetBlobReply(blob=blob.rstrip(b"\0").ljust(-(-len(blob.rstrip(b"\0")) // 32) * 32, b"\0"))


def compressed(point: Any) -> bytes:
    return to_compressed(g1_from_integers(point))


@contextmanager
def served(network: Network, credentials: Any = None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 17 << 20)])
    disperser_v2_pb2_grpc.add_DisperserServicer_to_server(network, server)
    relay_pb2_grpc.add_RelayServicer_to_server(network, server)
    if credentials is None:
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        address = f"localhost:{server.add_secure_port('localhost:0', credentials)}"
    server.start()
    try:
        yield address
    finally:
        server.stop(0).wait()


STAKES = (40, 25, 20, 15)


class OperatorServices:
    """The operators' retrieval API, one address each; an operator that is not online does not answer at all.

    As an `OperatorDirectory` it is the registries: in quorum 1 the first operator has no stake."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.spoilt: set[int] = set()
        """Operators whose chunks are not what they should be."""
        self.asked: list[int] = []
        self._targets: list[str] = []
        self._encoded: dict[bytes, list[bytes]] = {}
        self._lock = Lock()

    async def operators(self, reference_block: int, quorums: bytes) -> Mapping[int, list[Operator]]:
        assert reference_block == 4_000_000
        return self.known

    @property
    def known(self) -> Mapping[int, list[Operator]]:
        sockets = [f"{target.rpartition(':')[0]}:1;2;3;{target.rpartition(':')[2]}" for target in self._targets]
        keys = self.network.operators.keys
        everybody = [Operator(key.operator_id, *rest) for key, *rest in zip(keys, STAKES, sockets)]
        return {0: everybody, 1: everybody[1:]}

    def chunks(self, number: int, key: bytes) -> list[bytes]:
        """What operator `number` keeps of a blob."""
        parameters = self.network.operators.parameters.chunks
        with self._lock:
            if key not in self._encoded:
                coefficients = elements_from_bytes(self.network.blobs[key].blob)
                chunks = encode_chunks(coefficients, parameters)
                proofs = prove_chunks(coefficients, chunks, parameters, SRS)
                self._encoded[key] = [encode_chunk(*item) for item in zip(proofs, chunks)]
        indices = assigned_chunks(self.known, [0, 1], parameters)[self.network.operators.keys[number].operator_id]
        kept = [self._encoded[key][index] for index in indices]
        if number in self.spoilt:
            kept[-1] = kept[-1][:-1] + bytes([kept[-1][-1] ^ 1])
        return kept

    @contextmanager
    def served(self) -> Iterator[None]:
        with ExitStack() as stack:
            for number in range(len(self.network.operators.keys)):
                server = grpc.server(ThreadPoolExecutor(1))
                validator_pb2_grpc.add_RetrievalServicer_to_server(_OneOperator(self, number), server)
                self._targets.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
                server.start()
                stack.callback(lambda server=server: server.stop(0).wait())
            yield


class _OneOperator:
    def __init__(self, services: OperatorServices, number: int) -> None:
        self._services, self._number = services, number

    def GetChunks(self, request: Any, context: Any) -> Any:
        self._services.asked.append(self._number)
        if not self._services.network.operators.online[self._number]:
            context.abort(grpc.StatusCode.UNAVAILABLE, "off")
        if request.blob_key not in self._services.network.blobs or request.quorum_id != 0:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        return validator_pb2.GetChunksReply(
            chunks=self._services.chunks(self._number, request.blob_key), chunk_encoding_format=validator_pb2.GNARK
        )
