"""Talks to an EigenDA proxy, or to our own DA server, and does not take its word.

A payload that comes back is believed only when it is the one its commitment commits to: by hash in keccak mode,
by recomputing the blob's KZG commitment in generic mode when the client was given a `BlobWorker`. With
`verify_certificates` the certificate itself is held against all that can be checked without an L1, and with a
`CertificateVerifier` against what the contract on L1 says of its signers' stakes.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import httpx
import orjson
import structlog
import trio

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.certificate import (
    Certificate,
    CertificateParsingFailed,
    parse_certificate,
    split_generic_commitment,
)
from openledger.rollup.da.certificate import InvalidCommitment as InvalidFraming
from openledger.rollup.da.encoding import MAX_BLOB_BYTES
from openledger.rollup.da.verification import (
    CertificateNotRecent,
    CommitmentMismatch,
    InvalidCertificate,
    verify_recency,
)
from openledger.rollup.da.worker import BlobWorker

_MAX_ERROR_BYTES = 4096
_MAX_COMMITMENT_BYTES = 64 * 1024
_OCTETS = {"content-type": "application/octet-stream"}

log = structlog.get_logger(__name__)


class CertificateVerifier(Protocol):
    """Who knows the operators' stakes."""

    async def is_valid(self, certificate: Certificate) -> bool:
        """Whether the certificate's signers had the stake that is needed. Raises while it cannot tell."""
        ...


class DAError(Exception):
    """The DA layer refused the request or answered nonsense; trying the same again does not help."""


class DAUnavailable(DAError):
    """The DA layer cannot be reached, is overloaded or asks to fail over; try again later."""


class DAFailoverRequested(DAUnavailable):
    """The DA layer answered 503: data is to go to Ethereum itself for the time being."""


class BlobNotFound(DAError):
    """The DA server does not have the blob (any more); another server may."""


class InvalidCommitment(DAError):
    """No payload will ever be behind this commitment: derivation drops it.

    `status_code`: 1 certificate parsing, 2 recency, 3 invalid certificate, 4 blob decoding; 0 when its framing
    is unknown.
    """

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class WrongPayload(DAError):
    """The server gave bytes that are not those committed to; another server may be honest."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes


class DAClient:
    """An EigenDA client in op-generic mode. Use as an async context manager, or call `aclose`.

    `timeout_s` bounds a connection's silence (but that of a put, which takes as long as the dispersal), `deadline_s`
    each attempt as a whole: bytes that keep dripping do not hold anybody up. `attempts` is how often a failed connection
    or a passing server error is tried, with `backoff_s` (doubled each time) between. `worker` makes reads trustless;
    with it `verify_certificates` and `verifier` do so for certificates.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 30.0,
        deadline_s: float = 120.0,
        attempts: int = 3,
        backoff_s: float = 0.25,
        worker: BlobWorker | None = None,
        verify_certificates: bool = False,
        verifier: CertificateVerifier | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Raises ValueError if certificates are to be verified without a worker."""
        if (verify_certificates or verifier is not None) and worker is None:
            raise ValueError("certificates are verified by a BlobWorker: give one")
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=timeout_s,
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            # A few compressed bytes can stand for gigabytes, and blobs are random to a compressor.
            headers={"accept-encoding": "identity"},
        )
        self._base_url = base_url
        self._put_timeout = httpx.Timeout(timeout_s, read=None)
        self._deadline_s = deadline_s
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._worker = worker
        self._verify_certificates = verify_certificates
        self._verifier = verifier

    async def __aenter__(self) -> "DAClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def put(self, payload: bytes) -> bytes:
        """Stores a payload; the op-generic commitment (it begins 01 00; L1 calldata puts one more 01 before).

        Raises DAUnavailable, DAError; WrongPayload when the certificate is for other bytes.
        """
        answer = await self._request("POST", "/put", _MAX_COMMITMENT_BYTES, body=payload)
        self._raise_for(answer)
        try:
            version, serialized = split_generic_commitment(answer.body)
            parse_certificate(version, serialized)
        except (InvalidFraming, CertificateParsingFailed) as error:
            raise DAError(f"{self._base_url} answered a put with an unusable commitment: {error}") from error
        await self._check(payload, version, serialized)
        return answer.body

    async def get(self, commitment: bytes, l1_inclusion_block: int | None = None) -> bytes:
        """The payload behind an op-generic commitment that stands in that L1 block.

        Raises InvalidCommitment (derivation drops it), BlobNotFound, WrongPayload, DAUnavailable, DAError.
        """
        try:
            version, serialized = split_generic_commitment(commitment)
        except InvalidFraming as error:
            raise InvalidCommitment(str(error), 0) from error
        if self._worker is not None and (self._verify_certificates or self._verifier is not None):
            await checked_certificate(self._worker, self._verifier, version, serialized, l1_inclusion_block or 0)
        query = {} if l1_inclusion_block is None else {"l1_inclusion_block_number": str(l1_inclusion_block)}
        answer = await self._request("GET", f"/get/0x{commitment.hex()}", MAX_BLOB_BYTES, query=query)
        self._raise_for(answer)
        await self._check(answer.body, version, serialized)
        return answer.body

    async def put_keccak(self, payload: bytes) -> bytes:
        """Stores a payload under its keccak256, which is returned. Raises DAUnavailable, DAError."""
        digest = keccak256(payload)
        answer = await self._request("POST", f"/put/0x00{digest.hex()}", _MAX_ERROR_BYTES, body=payload)
        self._raise_for(answer)
        return digest

    async def get_keccak(self, digest: bytes) -> bytes:
        """The payload with that keccak256. Raises BlobNotFound, WrongPayload, DAUnavailable, DAError."""
        answer = await self._request("GET", f"/get/0x00{digest.hex()}", MAX_BLOB_BYTES)
        if answer.status == 400:
            raise BlobNotFound(f"{self._base_url} does not have {digest.hex()}: {_reason(answer)}")
        self._raise_for(answer)
        if keccak256(answer.body) != digest:
            raise WrongPayload(f"{self._base_url} answered other bytes than those with hash {digest.hex()}")
        return answer.body

    async def healthy(self) -> bool:
        """Whether the server answers its health check now."""
        try:
            return (await self._http.get("/health")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _check(self, payload: bytes, version: int, serialized: bytes) -> None:
        if self._worker is None:
            return
        try:
            await self._worker.verify_payload(payload, version, serialized)
        except CommitmentMismatch as error:
            raise WrongPayload(f"{self._base_url}: {error}") from error
        except CertificateParsingFailed as error:
            raise InvalidCommitment(str(error), 1) from error

    async def _request(
        self,
        method: str,
        path: str,
        limit: int,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> _Answer:
        for attempt in range(1, self._attempts + 1):
            try:
                with trio.fail_after(self._deadline_s):
                    async with self._http.stream(
                        method,
                        path,
                        params=query or None,
                        content=body,
                        headers=_OCTETS if body is not None else None,
                        timeout=httpx.USE_CLIENT_DEFAULT if body is None else self._put_timeout,
                    ) as response:
                        received = await self._read(response, limit)
                answer = _Answer(response.status_code, received)
                if not _worth_retrying(answer) or attempt == self._attempts:
                    return answer
                problem = f"{answer.status} {_reason(answer)}"
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                if attempt == self._attempts:
                    raise DAUnavailable(f"cannot reach the DA server {self._base_url}: {problem}") from error
            except trio.TooSlowError as error:
                raise DAUnavailable(
                    f"the DA server {self._base_url} is too slow: no whole answer to {method} in {self._deadline_s:g} s"
                ) from error
            log.warning("DA request failed, trying again", method=method, attempt=attempt, problem=problem)
            await trio.sleep(self._backoff_s * 2 ** (attempt - 1))
        raise AssertionError("attempts must be at least 1")

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        if response.status_code != 200:
            limit = _MAX_ERROR_BYTES
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise DAError(f"{self._base_url} compressed its answer ({encoding}) though it was asked not to")
        received = bytearray()
        async for piece in response.aiter_bytes():
            received += piece
            if len(received) > limit:
                if response.status_code != 200:
                    return bytes(received[:limit])
                raise DAError(f"{self._base_url} answered more than {limit} bytes")
        return bytes(received)

    def _raise_for(self, answer: _Answer) -> None:
        if answer.status == 200:
            return
        reason = _reason(answer)
        if answer.status == 418:
            raise _dropped(answer.body)
        if answer.status == 503:
            raise DAFailoverRequested(f"{self._base_url} asks to fail over (503): {reason}")
        if answer.status in (429, 502, 504):
            raise DAUnavailable(f"{self._base_url} is not available ({answer.status}): {reason}")
        if answer.status == 404 or (answer.status == 500 and "not found" in reason):
            raise BlobNotFound(f"{self._base_url} does not have the blob: {reason}")
        if answer.status >= 500:
            raise DAUnavailable(f"{self._base_url} failed ({answer.status}): {reason}")
        raise DAError(f"{self._base_url} refused the request ({answer.status}): {reason}")


async def checked_certificate(
    worker: BlobWorker, verifier: CertificateVerifier | None, version: int, serialized: bytes, l1_inclusion_block: int
) -> Certificate:
    """A certificate that holds against every check without an L1, and with a verifier those on L1; 0 is no L1 block.

    Raises InvalidCommitment (1 parsing, 2 recency, 3 invalid), and what the verifier raises while L1 is away."""
    try:
        certificate = parse_certificate(version, serialized)
        verify_recency(certificate, l1_inclusion_block)
        await worker.verify_certificate(version, serialized)
    except CertificateParsingFailed as error:
        raise InvalidCommitment(str(error), 1) from error
    except CertificateNotRecent as error:
        raise InvalidCommitment(str(error), 2) from error
    except InvalidCertificate as error:
        raise InvalidCommitment(str(error), 3) from error
    if verifier is not None and not await verifier.is_valid(certificate):
        raise InvalidCommitment("the contract on L1 says that the certificate is not valid", 3)
    return certificate


@asynccontextmanager
async def open_da_client(
    base_url: str,
    *,
    worker: BlobWorker | None = None,
    verify_certificates: bool = False,
    verifier: CertificateVerifier | None = None,
    deadline_s: float = 120.0,
) -> AsyncIterator[DAClient]:
    """A DAClient that is closed when the block ends."""
    async with DAClient(
        base_url, deadline_s=deadline_s, worker=worker, verify_certificates=verify_certificates, verifier=verifier
    ) as client:
        yield client


def _reason(answer: _Answer) -> str:
    return answer.body[:300].decode("utf-8", "replace").strip()


def _worth_retrying(answer: _Answer) -> bool:
    # 503 is the signal to fail over to another DA layer, so the caller decides; a missing blob stays missing.
    if answer.status == 500:
        return "not found" not in _reason(answer)
    return answer.status in (429, 502, 504)


def _dropped(body: bytes) -> InvalidCommitment:
    try:
        reason = orjson.loads(body)
        return InvalidCommitment(str(reason["Msg"]), int(reason["StatusCode"]))
    except (ValueError, KeyError, TypeError):
        return InvalidCommitment(body[:250].decode("utf-8", "replace"), 0)
