"""A DA server that speaks the EigenDA proxy's REST API in its memstore form, without a transport.

Certificates it gives out are those of a small EigenDA network (issuer.py, operator_network.py), whose operators keep
the chunks of every blob; blobs and chunks are in memory, on disk or in a bucket (stores/).
The node serves `DAServer.handle` over HTTP. The transport must refuse bodies longer than `max_body_bytes`
before it reads them, and let request paths of 64 KiB through: a certificate stands in the path as hex.
"""

import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson
import structlog
import trio

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.certificate import (
    MAX_CERTIFICATE_BYTES,
    CertificateParsingFailed,
    InvalidCommitment,
    certificate_key,
    encode_generic_commitment,
    encode_standard_commitment,
    parse_certificate,
    serialize_certificate,
    split_standard_commitment,
)
from openledger.rollup.da.chunks import ChunksMissing
from openledger.rollup.da.encoding import (
    MAX_BLOB_BYTES,
    BlobDecodingFailed,
    PayloadTooLarge,
    decode_payload,
    encoded_length,
    max_payload_length,
)
from openledger.rollup.da.issuer import QUORUMS, CertificateIssuer
from openledger.rollup.da.memstore_config import DerivationError, InvalidConfig, MemstoreConfig
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork, TooFewOperators
from openledger.rollup.da.operators import OperatorKey
from openledger.rollup.da.srs import SrsError
from openledger.rollup.da.stores import BlobStore, DiskStore, MemoryStore, S3Settings, S3Store, StoreError
from openledger.rollup.da.verification import (
    CertificateNotRecent,
    InvalidCertificate,
    verify_recency,
)
from openledger.rollup.da.worker import BlobWorker, WorkerDied, open_blob_worker

MAX_BODY_BYTES = MAX_BLOB_BYTES
APIS = frozenset({"op-generic", "op-keccak", "standard", "admin"})
_PRUNE_INTERVAL_S = 0.5
_PUTS_AT_ONCE = 4
_BLOB_ENTRY, _ERROR_ENTRY = b"\x00", b"\x01"
_TEXT = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
_BYTES = {"content-type": "application/octet-stream"}
_JSON = {"content-type": "application/json"}

_STANDARD = re.compile(r"/get/(?:0x)?((?:[0-9a-fA-F]{2})[0-9a-fA-F]*)")
_KECCAK = re.compile(r"/(?:get|put)/(?:0x)?00([0-9a-fA-F]{64})")
_GENERIC = re.compile(r"/get/(?:0x)?01([0-9a-fA-F]{2})([0-9a-fA-F]{2}[^/]+)")
_ONE_BYTE = re.compile(r"/get/(?:0x)?([0-9a-fA-F]{2})")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """One HTTP request: `path` without the query, percent-decoded; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """One HTTP response; header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class DAServerSettings:
    """`folder` holds the blobs, unless `storage` keeps them in memory or in the bucket of `s3`; `development` allows the
    development SRS; `srs_folder` has EigenDA's files; `network` says who keeps chunks."""

    folder: Path
    development: bool
    storage: Literal["disk", "memory", "s3"] = "disk"
    s3: S3Settings | None = None
    network: NetworkParameters = field(default_factory=NetworkParameters)
    srs_folder: Path | None = None
    apis_enabled: frozenset[str] = frozenset({"op-generic", "op-keccak", "standard"})
    memstore: MemstoreConfig = field(default_factory=MemstoreConfig)
    version: str = "openledger"


class _Failure(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Dropped(Exception):
    """A 418 answer: derivation shall drop the commitment."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.reason = DerivationError(status_code, message)


class DAServer:
    """Answers requests; made by `open_da_server`."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, settings: DAServerSettings, store: BlobStore, worker: BlobWorker, secret: bytes) -> None:
        self._settings = settings
        self._config = settings.memstore
        self._store = store
        self._worker = worker
        self.operators = OperatorNetwork(int.from_bytes(secret[32:], "big"), settings.network, len(QUORUMS))
        self._issuer = CertificateIssuer(secret[:32], self.operators)
        self._puts = trio.CapacityLimiter(_PUTS_AT_ONCE)

    @property
    def config(self) -> MemstoreConfig:
        """The memstore configuration now in force."""
        return self._config

    async def handle(self, request: Request) -> Response:
        """The answer to a request. Never raises but for cancellation."""
        try:
            return await self._route(request)
        except _Failure as failure:
            return _text(failure.status, failure.message)
        except _Dropped as dropped:
            return Response(418, _JSON, orjson.dumps(dropped.reason.to_json()) + b"\n")
        except (StoreError, WorkerDied, SrsError) as error:
            log.error("DA request failed", method=request.method, path=request.path[:80], error=str(error))
            return _text(500, str(error))
        except Exception as error:
            log.exception("DA request failed", method=request.method, path=request.path[:80])
            return _text(500, f"internal error: {type(error).__name__}")

    async def run(self) -> None:
        """Deletes expired blobs until cancelled."""
        while True:
            await trio.sleep(_PRUNE_INTERVAL_S)
            if self._config.blob_expiration_ns:
                pruned = await trio.to_thread.run_sync(self._store.prune, self._config.blob_expiration_ns)
                if pruned:
                    log.info("expired blobs pruned", count=pruned)

    async def _route(self, request: Request) -> Response:
        method, path = request.method, request.path
        if path == "/get" or path.startswith("/get/"):
            self._require_method(method, "GET")
            return await self._get(request)
        if path == "/put" or path.startswith("/put/"):
            self._require_method(method, "POST")
            return await self._put(request)
        if path == "/health":
            self._require_method(method, "GET")
            return Response(200)
        if path == "/config":
            self._require_method(method, "GET")
            return _json(self._proxy_config())
        if path == "/memstore/config":
            return self._memstore_config(request)
        if path == "/operators" and "admin" in self._settings.apis_enabled:
            return self._operators(request)
        if path == "/admin/eigenda-dispersal-backend" and "admin" in self._settings.apis_enabled:
            return self._dispersal_backend(request)
        raise _Failure(404, "404 page not found")

    async def _get(self, request: Request) -> Response:
        path = request.path
        standard = request.query.get("commitment_mode") == "standard"
        if standard and (match := _STANDARD.fullmatch(path)):
            self._require_api("standard")
            return await self._get_certificate(request, match[1])
        if match := _KECCAK.fullmatch(path):
            self._require_api("op-keccak")
            payload = await trio.to_thread.run_sync(self._store.get_keccak, bytes.fromhex(match[1]))
            if payload is None:
                raise _Failure(400, f"keccak commitment {match[1]} not found")
            return Response(200, _BYTES, payload)
        if match := _GENERIC.fullmatch(path):
            self._require_api("op-generic")
            if match[1] != "00":
                raise _Failure(400, f"unknown DA layer byte {match[1]}; 00 is EigenDA")
            return await self._get_certificate(request, match[2])
        if not standard and (match := _ONE_BYTE.fullmatch(path)):
            raise _Failure(400, f"unsupported commitment type {match[1]}")
        raise _Failure(404, "404 page not found")

    async def _get_certificate(self, request: Request, commitment_hex: str) -> Response:
        if len(commitment_hex) > 2 * (MAX_CERTIFICATE_BYTES + 1):
            raise _Failure(400, f"certificate can not exceed {MAX_CERTIFICATE_BYTES} bytes")
        try:
            version, serialized = split_standard_commitment(bytes.fromhex(commitment_hex))
        except InvalidCommitment as error:
            raise _Failure(400, str(error)) from error
        except ValueError as error:
            raise _Failure(400, f"certificate is not hex: {error}") from error
        l1_block = _l1_inclusion_block(request.query)
        try:
            certificate = parse_certificate(version, serialized)
            verify_recency(certificate, l1_block)
        except CertificateParsingFailed as error:
            raise _Dropped(1, str(error)) from error
        except CertificateNotRecent as error:
            raise _Dropped(2, str(error)) from error
        await trio.sleep(self._config.get_latency_ns / 1e9)
        key = certificate_key(serialized)
        entry = await trio.to_thread.run_sync(self._store.get, key)
        if entry is None:
            entry = await self._recovered(key, version, serialized)
        if entry is None:
            # A certificate that contradicts itself can never have a blob; any other may only be missing here.
            try:
                await self._worker.verify_certificate(version, serialized)
            except InvalidCertificate as error:
                raise _Dropped(3, str(error)) from error
            raise _Failure(500, f"payload not found for key: {key.hex()}")
        if entry[:1] == _ERROR_ENTRY:
            reason = orjson.loads(entry[1:])
            raise _Dropped(reason["StatusCode"], reason["Msg"])
        try:
            encoded = await self._worker.encoded_payload(entry[1:], certificate.commitment.length)
            if _wants_encoded_payload(request.query):
                return Response(200, _BYTES, encoded)
            return Response(200, _BYTES, decode_payload(encoded))
        except BlobDecodingFailed as error:
            raise _Dropped(4, str(error)) from error

    async def _put(self, request: Request) -> Response:
        if len(request.body) > MAX_BODY_BYTES:
            raise _Failure(400, f"http: request body too large: the limit is {MAX_BODY_BYTES} bytes")
        if match := _KECCAK.fullmatch(request.path):
            self._require_api("op-keccak")
            digest = bytes.fromhex(match[1])
            if keccak256(request.body) != digest:
                raise _Failure(400, f"keccak mismatch: the body's hash is {keccak256(request.body).hex()}")
            await trio.to_thread.run_sync(self._store.put_keccak, digest, request.body)
            return Response(200)
        if request.path not in ("/put", "/put/"):
            raise _Failure(404, "404 page not found")
        standard = request.path == "/put" and request.query.get("commitment_mode") == "standard"
        self._require_api("standard" if standard else "op-generic")
        async with self._puts:
            return await self._put_payload(request.body, standard)

    async def _put_payload(self, payload: bytes, standard: bool) -> Response:
        config = self._config
        if config.put_returns_failover_error:
            await trio.sleep(config.put_latency_ns / 1e9)
            raise _Failure(503, "DA layer is down: memstore in failover simulation mode")
        if encoded_length(len(payload)) > config.max_blob_bytes:
            raise _Failure(
                400,
                f"blob size exceeds max blob size: blob length {encoded_length(len(payload))}, "
                f"max blob size {config.max_blob_bytes}",
            )
        try:
            self.operators.confirm()
            chunk_parameters = self._settings.network.chunks
            prepared = await self._worker.prepare(payload, config.max_blob_bytes, chunk_parameters)
            certificate = self._issuer.issue(prepared.commitment, config.certificate_version)
        except PayloadTooLarge as error:
            raise _Failure(400, str(error)) from error
        except TooFewOperators as error:
            raise _Failure(503, str(error)) from error
        error_entry = config.overwrite_put_with_derivation_error
        entry = _ERROR_ENTRY + orjson.dumps(error_entry.to_json()) if error_entry else _BLOB_ENTRY + prepared.blob
        await trio.sleep(config.put_latency_ns / 1e9)
        kept = {
            number: b"".join(prepared.chunks[index] for index in self.operators.assignment(number))
            for number, online in enumerate(self.operators.online)
            if online and not error_entry
        }
        await trio.to_thread.run_sync(self._store.put, certificate_key(serialize_certificate(certificate)), entry, kept)
        encode = encode_standard_commitment if standard else encode_generic_commitment
        log.info("blob stored", payload_bytes=len(payload), blob_bytes=len(prepared.blob))
        return Response(200, _BYTES, encode(certificate))

    async def _recovered(self, key: bytes, version: int, serialized: bytes) -> bytes | None:
        """The entry of a blob that is lost, out of the chunks of the operators that are left; None if they do not do."""

        def collect() -> list[tuple[list[int], bytes]]:
            found = []
            for number, online in enumerate(self.operators.online):
                data = self._store.get_chunks(key, number) if online else None
                if data is not None:
                    found.append((self.operators.assignment(number), data))
            return found

        kept = await trio.to_thread.run_sync(collect)
        if not kept:
            return None
        try:
            blob = await self._worker.recover(kept, version, serialized, self._settings.network.chunks)
        except ChunksMissing as error:
            log.error("blob lost", key=key.hex(), reason=str(error))
            return None
        log.warning("blob given back by the operators", key=key.hex(), operators=len(kept))
        return _BLOB_ENTRY + blob

    def _operators(self, request: Request) -> Response:
        if request.method == "PATCH":
            try:
                wanted = {int(number): online for number, online in orjson.loads(request.body)["online"].items()}
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
                raise _Failure(400, 'the body is {"online": {"0": false, …}} with operators\' numbers') from error
            for number, online in wanted.items():
                if not 0 <= number < len(self.operators.online) or not isinstance(online, bool):
                    raise _Failure(400, f"there is no operator {number}, or {online!r} is neither true nor false")
            for number, online in wanted.items():
                self.operators.online[number] = online
            log.info("operators changed", online=sum(self.operators.online))
        else:
            self._require_method(request.method, "GET")
        return _json(
            [
                {
                    "number": number,
                    "operatorId": "0x" + key.operator_id.hex(),
                    "online": self.operators.online[number],
                    "chunks": self.operators.assignment(number),
                }
                for number, key in enumerate(self.operators.keys)
            ]
        )

    def _memstore_config(self, request: Request) -> Response:
        if request.method == "PATCH":
            try:
                self._config = self._config.updated(request.body)
            except InvalidConfig as error:
                raise _Failure(400, str(error)) from error
            log.info("memstore configuration changed", **self._config.to_json())
        else:
            self._require_method(request.method, "GET")
        return _json(self._config.to_json())

    def _dispersal_backend(self, request: Request) -> Response:
        if request.method == "PUT":
            try:
                wanted = orjson.loads(request.body)["eigenDADispersalBackend"]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise _Failure(400, "failed to unmarshal JSON: parsing eigenDADispersalBackend") from error
            if wanted != "V2":
                raise _Failure(400, f"dispersal backend {wanted!r} is not there; only V2 is")
        else:
            self._require_method(request.method, "GET")
        return _json({"eigenDADispersalBackend": "V2"})

    def _proxy_config(self) -> dict[str, Any]:
        return {
            "version": self._settings.version,
            "chain_id": "",
            "directory_address": "",
            "cert_verifier_address": "",
            "max_payload_size_bytes": max_payload_length(self._config.max_blob_bytes),
            "apis_enabled": sorted(self._settings.apis_enabled),
            "read_only_mode": False,
        }

    def _require_api(self, api: str) -> None:
        if api not in self._settings.apis_enabled:
            raise _Failure(403, f"`{api}` API is not enabled")

    @staticmethod
    def _require_method(method: str, wanted: str) -> None:
        if method != wanted:
            raise _Failure(405, f"method {method} not allowed; use {wanted}")


@asynccontextmanager
async def open_da_server(settings: DAServerSettings) -> AsyncIterator[DAServer]:
    """A DA server on its folder, with its worker process and the pruning of expired blobs, until the block ends.

    Raises DevelopmentSrsRefused, StoreError (another process holds the folder, or it is damaged), ValueError for
    an unknown API name.
    """
    if unknown := settings.apis_enabled - APIS:
        raise ValueError(f"unknown DA APIs: {', '.join(sorted(unknown))}; known are {', '.join(sorted(APIS))}")
    settings = replace(settings, folder=settings.folder.expanduser())
    async with open_blob_worker(development=settings.development, srs_folder=settings.srs_folder) as worker:
        store = await trio.to_thread.run_sync(_open_store, settings)
        try:
            fresh = secrets.token_bytes(32) + OperatorKey.generate().secret.to_bytes(32, "big")
            server = DAServer(settings, store, worker, await trio.to_thread.run_sync(store.secret, fresh))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run)
                yield server
                nursery.cancel_scope.cancel()
        finally:
            store.close()


def _open_store(settings: DAServerSettings) -> BlobStore:
    if settings.storage == "memory":
        return MemoryStore()
    if settings.storage == "s3":
        if settings.s3 is None:
            raise ValueError("storage s3 needs a bucket")
        return S3Store(settings.s3)
    return DiskStore(settings.folder)


def _l1_inclusion_block(query: Mapping[str, str]) -> int:
    text = query.get("l1_inclusion_block_number", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) >= 1 << 64:
        raise _Failure(400, f"l1_inclusion_block_number is not a decimal u64: {text[:40]}")
    return int(text)


def _wants_encoded_payload(query: Mapping[str, str]) -> bool:
    return query.get("return_encoded_payload", "false").lower() in ("", "true", "1")


def _text(status: int, message: str) -> Response:
    return Response(status, _TEXT, message.encode() + b"\n")


def _json(value: Any) -> Response:
    return Response(200, _JSON, orjson.dumps(value))
