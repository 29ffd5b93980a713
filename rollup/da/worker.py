"""The child process that does the field and curve arithmetic, and the parent's side of it.

The arithmetic holds Python's global lock, so it runs here: `python -m openledger.rollup.da.worker`. Frames in
both directions are a u32 big-endian length and a msgpack array. The child lives as long as its standard input
is open, so it never outlives its parent.
"""

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any, BinaryIO

import msgpack
import structlog
import trio

from openledger.rollup.da.certificate import CertificateParsingFailed, parse_certificate
from openledger.rollup.da.chunk_proofs import prove_chunks, verify_chunks
from openledger.rollup.da.chunks import (
    ChunkParameters,
    ChunksMissing,
    decode_chunk,
    encode_chunk,
    encode_chunks,
    reconstruct,
)
from openledger.rollup.da.curve import G1Point, G2Point
from openledger.rollup.da.encoding import (
    BYTES_PER_ELEMENT,
    BlobDecodingFailed,
    PayloadTooLarge,
    blob_from_encoded_payload,
    elements_from_bytes,
    elements_to_bytes,
    encode_payload,
    encoded_payload_from_blob,
)
from openledger.rollup.da.srs import BlobCommitment, DevelopmentSrsRefused, SrsError, SrsFileInvalid, open_srs
from openledger.rollup.da.verification import (
    CommitmentMismatch,
    InvalidCertificate,
    verify_blob,
    verify_certificate,
)

_MAX_FRAME_BYTES = 512 * 1024 * 1024
# Ctrl-C in a terminal goes to every process of the foreground group; when this one ends is its parent's to say.
_DEAF_TO_INTERRUPT = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")
_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        BlobDecodingFailed,
        CertificateParsingFailed,
        ChunksMissing,
        CommitmentMismatch,
        DevelopmentSrsRefused,
        InvalidCertificate,
        PayloadTooLarge,
        SrsError,
        SrsFileInvalid,
    )
}

log = structlog.get_logger(__name__)


class WorkerDied(Exception):
    """The worker process ended in the middle of a request; the next request starts a new one."""


@dataclass(frozen=True)
class PreparedBlob:
    """A payload ready to be stored: the blob's bytes (coefficients), its commitments and its chunks with their proofs."""

    blob: bytes
    commitment: BlobCommitment
    chunks: list[bytes]


class BlobWorker:
    """The parent's side. Requests run one after another; a cancelled one kills the process, the next restarts it."""

    def __init__(self, *, development: bool, srs_folder: Path | None = None) -> None:
        open_srs(development=development, folder=srs_folder)  # refuse now what the child would refuse later
        self._settings = [development, str(srs_folder) if srs_folder else None]
        self._process: trio.Process | None = None
        self._lock = trio.Lock()

    async def prepare(self, payload: bytes, max_blob_bytes: int, parameters: ChunkParameters) -> PreparedBlob:
        """Encode a payload, commit to its blob and cut it. Raises PayloadTooLarge, SrsError, WorkerDied."""
        blob, commitment, chunks = await self._call("prepare", payload, max_blob_bytes, astuple(parameters))
        return PreparedBlob(blob, _commitment(commitment), chunks)

    async def commit(self, payload: bytes, max_blob_bytes: int) -> tuple[bytes, BlobCommitment]:
        """Encode a payload: the blob's bytes and its commitments. Raises PayloadTooLarge, SrsError, WorkerDied."""
        blob, commitment = await self._call("commit", payload, max_blob_bytes)
        return blob, _commitment(commitment)

    async def recover(
        self,
        kept: list[tuple[list[int], bytes]],
        version: int,
        serialized: bytes,
        parameters: ChunkParameters,
    ) -> bytes:
        """The blob behind a certificate, out of what operators kept: (chunk indices, chunks one after the other) each.

        Chunks of an operator that do not verify are left out. Raises ChunksMissing, SrsError, WorkerDied."""
        blob: bytes = await self._call("recover", kept, version, serialized, astuple(parameters))
        return blob

    async def encoded_payload(self, blob: bytes, length: int) -> bytes:
        """The encoded payload of a stored blob. Raises BlobDecodingFailed, WorkerDied."""
        encoded: bytes = await self._call("encoded_payload", blob, length)
        return encoded

    async def verify_certificate(self, version: int, serialized: bytes) -> None:
        """See rollup/da/verification.py. Raises InvalidCertificate, CertificateParsingFailed, WorkerDied."""
        await self._call("verify_certificate", version, serialized)

    async def verify_payload(self, payload: bytes, version: int, serialized: bytes) -> None:
        """That a payload is the one the certificate commits to. Raises CommitmentMismatch, WorkerDied."""
        await self._call("verify_payload", payload, version, serialized)

    async def verify_blob(self, blob: bytes, version: int, serialized: bytes) -> None:
        """That a blob is the one the certificate commits to; trailing zeros may be left out.

        Raises CommitmentMismatch, BlobDecodingFailed, WorkerDied."""
        await self._call("verify_blob", blob, version, serialized)

    async def aclose(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        await pipe.aclose()

    async def _call(self, *request: Any) -> Any:
        async with self._lock:
            try:
                process = await self._running()
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.send_all(_frame(request))
                kind, *answer = _unpack(await _receive_frame(process.stdout))
            except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError) as error:
                await self.aclose()
                raise WorkerDied("the blob worker process died during a request; try again") from error
            except BaseException:
                # Cancelled half-way: the stream is no longer at a frame's edge.
                await self.aclose()
                raise
        if kind == "ok":
            return answer[0]
        raise _ERRORS.get(answer[0], RuntimeError)(answer[1])

    async def _running(self) -> trio.Process:
        if self._process is not None and self._process.poll() is not None:
            log.warning("blob worker ended", exit_status=self._process.returncode)
            await self.aclose()
        if self._process is None:
            command = [sys.executable, "-P", "-m", "openledger.rollup.da.worker"]
            self._process = await trio.lowlevel.open_process(
                [*_DEAF_TO_INTERRUPT, *command], stdin=PIPE, stdout=PIPE, env={**os.environ, "PYTHONSAFEPATH": "1"}
            )
            assert self._process.stdin is not None
            await self._process.stdin.send_all(_frame(self._settings))
        return self._process


@asynccontextmanager
async def open_blob_worker(*, development: bool, srs_folder: Path | None = None) -> AsyncIterator[BlobWorker]:
    """A BlobWorker whose process ends with the block. Raises DevelopmentSrsRefused."""
    worker = BlobWorker(development=development, srs_folder=srs_folder)
    try:
        yield worker
    finally:
        await worker.aclose()


def _frame(values: Any) -> bytes:
    data: bytes = msgpack.packb(values)
    return len(data).to_bytes(4, "big") + data


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, max_bin_len=_MAX_FRAME_BYTES, max_str_len=_MAX_FRAME_BYTES)


def _integers(values: list[bytes]) -> list[int]:
    return [int.from_bytes(value, "big") for value in values]


def _commitment(values: list[Any]) -> BlobCommitment:
    commitment, length_commitment, length_proof, length = values
    return BlobCommitment(
        G1Point(*_integers(commitment)),
        G2Point(*_integers(length_commitment)),
        G2Point(*_integers(length_proof)),
        length,
    )


def _commitment_values(commitment: BlobCommitment) -> list[Any]:
    points = (commitment.commitment, commitment.length_commitment, commitment.length_proof)
    return [*([value.to_bytes(32, "big") for value in astuple(point)] for point in points), commitment.length]


async def _receive_frame(stream: trio.abc.ReceiveStream) -> bytes:
    length = int.from_bytes(await _receive_exactly(stream, 4), "big")
    if length > _MAX_FRAME_BYTES:
        raise EOFError(f"frame of {length} bytes")
    return await _receive_exactly(stream, length)


async def _receive_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = await stream.receive_some(min(count - len(received), 1 << 20))
        if not piece:
            raise EOFError("end of stream")
        received += piece
    return bytes(received)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    settings = _read_frame(requests)
    if settings is None:
        return
    development, folder = settings
    srs = open_srs(development=development, folder=Path(folder) if folder else None)

    def prepare(payload: bytes, max_blob_bytes: int, cut: list[int]) -> Any:
        coefficients = blob_from_encoded_payload(encode_payload(payload, max_blob_bytes))
        commitment = srs.commit_with_length(coefficients)
        parameters = ChunkParameters(*cut)
        chunks = encode_chunks(coefficients, parameters)
        proofs = prove_chunks(coefficients, chunks, parameters, srs)
        # As the operators do before they sign; here once for all of them.
        proved = dict(enumerate(zip(proofs, chunks)))
        verify_chunks(commitment.commitment, proved, commitment.length, parameters, srs)
        frames = [encode_chunk(proof, chunk) for proof, chunk in zip(proofs, chunks)]
        return elements_to_bytes(coefficients), _commitment_values(commitment), frames

    def commit(payload: bytes, max_blob_bytes: int) -> Any:
        coefficients = blob_from_encoded_payload(encode_payload(payload, max_blob_bytes))
        return elements_to_bytes(coefficients), _commitment_values(srs.commit_with_length(coefficients))

    def recover(kept: list[Any], version: int, serialized: bytes, cut: list[int]) -> bytes:
        commitment = parse_certificate(version, serialized).commitment
        parameters = ChunkParameters(*cut)
        frame = 32 + 32 * parameters.chunk_length(commitment.length)
        found: dict[int, list[int]] = {}
        for indices, data in kept:
            try:
                chunks = {
                    index: decode_chunk(data[frame * place : frame * (place + 1)])
                    for place, index in enumerate(indices)
                }
                verify_chunks(commitment.commitment, chunks, commitment.length, parameters, srs)
            except ValueError:
                continue  # this operator lost or changed something: the others make up for it
            found |= {index: coefficients for index, (_, coefficients) in chunks.items()}
        return elements_to_bytes(reconstruct(found, commitment.length, parameters))

    def verify_payload(payload: bytes, version: int, serialized: bytes) -> None:
        certificate = parse_certificate(version, serialized)
        verify_blob(blob_from_encoded_payload(encode_payload(payload)), certificate, srs)

    def check_blob(blob: bytes, version: int, serialized: bytes) -> None:
        certificate = parse_certificate(version, serialized)
        padded = blob.ljust(certificate.commitment.length * BYTES_PER_ELEMENT, b"\0")
        verify_blob(elements_from_bytes(padded), certificate, srs)

    operations: dict[str, Callable[..., Any]] = {
        "prepare": prepare,
        "commit": commit,
        "recover": recover,
        "encoded_payload": encoded_payload_from_blob,
        "verify_certificate": lambda version, data: verify_certificate(parse_certificate(version, data), srs),
        "verify_payload": verify_payload,
        "verify_blob": check_blob,
    }
    while (request := _read_frame(requests)) is not None:
        name, *arguments = request
        try:
            answer = ["ok", operations[name](*arguments)]
        except Exception as error:
            answer = ["error", type(error).__name__, str(error)]
        answers.write(_frame(answer))
        answers.flush()


def _read_frame(stream: BinaryIO) -> Any:
    header = stream.read(4)
    if len(header) < 4:
        return None
    data = stream.read(int.from_bytes(header, "big"))
    return _unpack(data)


def main() -> None:
    """The child process."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print must not break a frame
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
