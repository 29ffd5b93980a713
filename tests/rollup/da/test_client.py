"""The client against the real server over real HTTP, and against servers that lie, stall or break."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
import trio

from openledger.genesis.hashing import keccak256
from openledger.rollup.da import (
    BlobNotFound,
    DAClient,
    DAError,
    DAServerSettings,
    DAUnavailable,
    InvalidCommitment,
    Request,
    Response,
    WrongPayload,
    open_blob_worker,
    open_da_client,
    open_da_server,
)
from openledger.rollup.da.certificate import (
    BatchHeader,
    Certificate,
    encode_generic_commitment,
    parse_certificate,
    split_generic_commitment,
)
from openledger.rollup.l1.source import L1Unavailable

Serve = Callable[[Any], Any]
PAYLOAD = bytes(range(256)) * 40


async def test_payload_comes_back_over_http(settings: DAServerSettings, serve_http: Serve) -> None:
    async with (
        open_da_server(settings) as server,
        serve_http(server.handle) as url,
        open_da_client(url) as client,
    ):
        assert await client.healthy()
        commitment = await client.put(PAYLOAD)
        assert commitment[:2] == b"\x01\x00"
        assert await client.get(commitment, 12) == PAYLOAD
        digest = await client.put_keccak(PAYLOAD)
        assert digest == keccak256(PAYLOAD)
        assert await client.get_keccak(digest) == PAYLOAD


async def test_trustless_client_believes_the_right_payload_only(settings: DAServerSettings, serve_http: Serve) -> None:
    lying = False

    async with open_da_server(settings) as server, open_blob_worker(development=True) as worker:

        async def handle(request: Request) -> Response:
            answer = await server.handle(request)
            if lying and request.method == "GET":
                return Response(200, {}, answer.body[:-1] + b"!")
            if lying:
                return await server.handle(Request("POST", "/put", body=request.body + b"!"))
            return answer

        async with serve_http(handle) as url, open_da_client(url, worker=worker) as client:
            commitment = await client.put(PAYLOAD)
            digest = await client.put_keccak(PAYLOAD)
            assert await client.get(commitment) == PAYLOAD
            lying = True
            with pytest.raises(WrongPayload):
                await client.get(commitment)
            with pytest.raises(WrongPayload):
                await client.get_keccak(digest)
            with pytest.raises(WrongPayload):
                await client.put(PAYLOAD)


class Verifier:
    """What the contract on L1 says."""

    def __init__(self) -> None:
        self.answer: bool | None = True

    async def is_valid(self, certificate: Certificate) -> bool:
        if self.answer is None:
            raise L1Unavailable("L1 is away")
        return self.answer


async def test_a_certificate_that_is_not_true_is_dropped_without_asking_the_server(
    settings: DAServerSettings, serve_http: Serve
) -> None:
    asked = 0

    async with open_da_server(settings) as server, open_blob_worker(development=True) as worker:

        async def handle(request: Request) -> Response:
            nonlocal asked
            asked += request.method == "GET"
            return await server.handle(request)

        verifier = Verifier()
        async with (
            serve_http(handle) as url,
            open_da_client(url, worker=worker, verify_certificates=True, verifier=verifier) as client,
        ):
            commitment = await client.put(PAYLOAD)
            assert await client.get(commitment, 7) == PAYLOAD
            good = parse_certificate(*split_generic_commitment(commitment))
            keys = replace(good.attestation, quorum_public_keys=good.attestation.quorum_public_keys[:1])
            old = BatchHeader(good.batch_header.batch_root, 5)
            for changed, status in (
                (replace(good, attestation=keys), 3),
                (replace(good, signed_quorum_numbers=b"\x00"), 3),
                (replace(good, batch_header=old), 2),
            ):
                with pytest.raises(InvalidCommitment) as dropped:
                    await client.get(encode_generic_commitment(changed), 5 + 14_401)
                assert dropped.value.status_code == status
            assert asked == 1
            verifier.answer = False
            with pytest.raises(InvalidCommitment, match="contract on L1") as dropped:
                await client.get(commitment)
            assert dropped.value.status_code == 3
            verifier.answer = None  # that it cannot be told now drops nothing
            with pytest.raises(L1Unavailable):
                await client.get(commitment)
    with pytest.raises(ValueError, match="BlobWorker"):
        DAClient("http://da", verify_certificates=True)


async def test_each_failure_has_its_error(settings: DAServerSettings, serve_http: Serve) -> None:
    async with (
        open_da_server(settings) as server,
        serve_http(server.handle) as url,
        DAClient(url, backoff_s=0.01) as client,
    ):
        good = await client.put(PAYLOAD)
        with pytest.raises(InvalidCommitment) as dropped:
            await client.get(b"\x01\x00\x03\xc0", 5)
        assert dropped.value.status_code == 1
        with pytest.raises(InvalidCommitment) as unknown:
            await client.get(b"\x01\x0a" + good[2:])
        assert unknown.value.status_code == 0
        with pytest.raises(BlobNotFound):
            await client.get_keccak(bytes(32))
        await server.handle(Request("PATCH", "/memstore/config", body=b'{"PutReturnsFailoverError":true}'))
        with pytest.raises(DAUnavailable):
            await client.put(PAYLOAD)
        await server.handle(
            Request("PATCH", "/memstore/config", body=b'{"PutReturnsFailoverError":false,"MaxBlobSizeBytes":64}')
        )
        with pytest.raises(DAError, match="max blob size") as refused:
            await client.put(PAYLOAD)
        assert not isinstance(refused.value, DAUnavailable)


async def test_missing_blob_is_not_an_invalid_commitment(
    settings: DAServerSettings, serve_http: Serve, tmp_path: Any
) -> None:
    other = DAServerSettings(tmp_path / "other", development=True)
    async with open_da_server(settings) as server, open_da_server(other) as elsewhere:
        commitment = (await elsewhere.handle(Request("POST", "/put", body=PAYLOAD))).body
        async with serve_http(server.handle) as url, open_da_client(url) as client:
            with pytest.raises(BlobNotFound):
                await client.get(commitment)


async def test_nobody_listening_is_unavailable() -> None:
    async with DAClient("http://127.0.0.1:1", attempts=2, backoff_s=0.01) as client:
        with pytest.raises(DAUnavailable, match="cannot reach"):
            await client.put(b"x")
        assert not await client.healthy()


async def test_passing_failure_is_tried_again() -> None:
    calls = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(500, text="oops") if calls == 2 else httpx.Response(200, content=b"abc")

    async with DAClient("http://da", backoff_s=0.001, transport=httpx.MockTransport(answer)) as client:
        assert await client.get_keccak(keccak256(b"abc")) == b"abc"
    assert calls == 3


async def test_failover_signal_is_not_tried_again() -> None:
    calls = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(503, text="down")

    async with DAClient("http://da", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(DAUnavailable):
            await client.put(b"x")
    assert calls == 1


@pytest.mark.parametrize("body", [b"", b"\x01\x00\x03\xc0", b"<html>", b"\x01\x00\x09", bytes(100_000)])
async def test_put_answered_with_nonsense_is_an_error(body: bytes) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    async with DAClient("http://da", transport=transport) as client:
        with pytest.raises(DAError):
            await client.put(b"x")


async def test_endless_answer_is_cut_off() -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1 << 20
            yield bytes(1 << 20)

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=endless()))
    async with DAClient("http://da", transport=transport) as client:
        with pytest.raises(DAError, match="more than"):
            await client.get_keccak(bytes(32))
    assert sent < 20 << 20


async def test_server_that_hangs_times_out(serve_http: Serve) -> None:
    async def hang(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    async with serve_http(hang) as url, DAClient(url, timeout_s=0.2, deadline_s=0.5, attempts=1) as client:
        with trio.fail_after(120):
            with pytest.raises(DAUnavailable, match="ReadTimeout"):
                await client.get_keccak(bytes(32))
            # A dispersal may be silent for as long as it may take.
            with pytest.raises(DAUnavailable, match=r"too slow: no whole answer to POST in 0\.5 s"):
                await client.put(b"x")
