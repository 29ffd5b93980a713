"""Blobs survive their operators and their server, in every kind of storage."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from openledger.rollup.da import DAServerSettings, Request, open_da_server
from openledger.rollup.da.certificate import certificate_key, parse_certificate, split_generic_commitment
from openledger.rollup.da.chunks import ChunkParameters
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork, TooFewOperators
from openledger.rollup.da.server import DAServer
from openledger.rollup.da.srs import DevelopmentSrs
from openledger.rollup.da.stores import DiskStore, KeyExists, MemoryStore, S3Settings, S3Store, StoreError
from openledger.rollup.da.verification import certificate_checks

PAYLOAD = b"keep me " * 400
NETWORK = NetworkParameters(operators=8, chunks=ChunkParameters(64, 8, 8))


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Settings]:
    """A bucket behind a real S3 protocol on a port of loopback."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'openledger-node[dev]'")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        server.start()
        host, port = server.get_host_and_port()
        settings = S3Settings("blobs-of-a-test", "some/folder/", f"http://{host}:{port}")
        boto3.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region).create_bucket(
            Bucket=settings.bucket
        )
        yield settings
        server.stop()


@pytest.fixture(params=["memory", "disk", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DAServerSettings:
    made = DAServerSettings(tmp_path / "da", development=True, storage=request.param, network=NETWORK)
    if request.param == "s3":
        bucket: S3Settings = request.getfixturevalue("s3")
        return replace(made, s3=replace(bucket, prefix=f"{tmp_path.name}/"))
    return made


def admin(settings: DAServerSettings) -> DAServerSettings:
    return replace(settings, apis_enabled=settings.apis_enabled | {"admin"})


async def put(server: DAServer, payload: bytes = PAYLOAD) -> bytes:
    answer = await server.handle(Request("POST", "/put", body=payload))
    assert answer.status == 200, answer.body
    return answer.body


async def get(server: DAServer, commitment: bytes) -> tuple[int, bytes]:
    answer = await server.handle(Request("GET", f"/get/0x{commitment.hex()}"))
    return answer.status, answer.body


def key_of(commitment: bytes) -> bytes:
    return certificate_key(split_generic_commitment(commitment)[1])


async def test_a_blob_that_was_lost_comes_back_from_two_of_eight_operators(settings: DAServerSettings) -> None:
    async with open_da_server(admin(settings)) as server:
        commitment = await put(server)
        assert await get(server, commitment) == (200, PAYLOAD)
        server._store.drop(key_of(commitment))
        assert await get(server, commitment) == (200, PAYLOAD)
        # 7 of 64 chunks are kept by each operator, 8 are needed.
        offline = {"online": {str(number): number in (2, 6) for number in range(8)}}
        answer = await server.handle(Request("PATCH", "/operators", body=orjson.dumps(offline)))
        assert [operator["online"] for operator in orjson.loads(answer.body)].count(True) == 2
        assert await get(server, commitment) == (200, PAYLOAD)
        server.operators.online[2] = False
        status, reason = await get(server, commitment)
        assert status == 500
        assert b"not found" in reason


async def test_an_operator_that_changed_its_chunks_is_left_out(tmp_path: Path) -> None:
    settings = DAServerSettings(tmp_path, development=True, storage="memory", network=NETWORK)
    async with open_da_server(settings) as server:
        commitment = await put(server)
        key, store = key_of(commitment), server._store
        assert isinstance(store, MemoryStore)
        store.drop(key)
        kept = dict(store._chunks[key])
        kept[0] = kept[0][:-1] + bytes([kept[0][-1] ^ 1])
        kept[1] = kept[1][:64]
        store._chunks[key] = kept
        assert await get(server, commitment) == (200, PAYLOAD)
        store._chunks[key] = {number: kept[number] for number in (0, 1, 5)}
        assert (await get(server, commitment))[0] == 500


async def test_below_the_threshold_of_stake_nothing_is_confirmed(tmp_path: Path) -> None:
    settings = admin(DAServerSettings(tmp_path, development=True, storage="memory", network=NETWORK))
    async with open_da_server(settings) as server:
        server.operators.online[:3] = [False] * 3
        certificate = parse_certificate(*split_generic_commitment(await put(server)))
        assert len(certificate.attestation.non_signer_public_keys) == 3
        found = {check.name: check.verdict for check in certificate_checks(certificate, DevelopmentSrs())}
        assert found.pop("quorum keys") == "unchecked"  # who of them is in which quorum stands on L1
        assert set(found.values()) == {"good"}
        server.operators.online[3] = False
        answer = await server.handle(Request("POST", "/put", body=PAYLOAD))
        assert answer.status == 503
        assert b"4 of 8 operators are online" in answer.body


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"online": 3}', b'{"online": {"x": true}}', b'{"online": {"8": true}}', b'{"online": {"0": 1}}'],
)
async def test_operators_are_changed_by_what_makes_sense_only(tmp_path: Path, body: bytes) -> None:
    settings = DAServerSettings(tmp_path, development=True, storage="memory", network=NETWORK)
    async with open_da_server(admin(settings)) as server:
        answer = await server.handle(Request("PATCH", "/operators", body=body))
        assert answer.status == 400
        assert all(server.operators.online)
    async with open_da_server(settings) as server:
        assert (await server.handle(Request("GET", "/operators"))).status == 404


async def test_a_server_that_starts_again_has_the_same_operators_and_blobs(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        commitment = await put(server)
        ids = [key.operator_id for key in server.operators.keys]
    async with open_da_server(settings) as server:
        same = [key.operator_id for key in server.operators.keys] == ids
        assert same == (settings.storage != "memory")
        assert (await get(server, commitment))[0] == (200 if same else 500)


def stores(settings: DAServerSettings) -> Any:
    if settings.storage == "s3":
        assert settings.s3 is not None
        return S3Store(settings.s3)
    return MemoryStore() if settings.storage == "memory" else DiskStore(settings.folder)


def test_every_store_keeps_its_promises(settings: DAServerSettings) -> None:
    store = stores(settings)
    key, other = b"\x01" * 32, b"\x02" * 32
    assert (store.get(key), store.get_chunks(key, 0), store.get_keccak(key)) == (None, None, None)
    store.put(key, b"blob", {0: b"zero", 300: b"far"})
    with pytest.raises(KeyExists):
        store.put(key, b"another")
    assert (store.get(key), store.get_chunks(key, 0), store.get_chunks(key, 300)) == (b"blob", b"zero", b"far")
    assert store.get_chunks(key, 1) is None
    store.drop(key)
    assert (store.get(key), store.get_chunks(key, 300)) == (None, b"far")
    store.put_keccak(key, b"payload")
    store.put_keccak(key, b"payload")
    assert store.get_keccak(key) == b"payload"
    assert store.secret(b"s" * 64) == store.secret(b"t" * 64) == b"s" * 64
    store.put(other, b"young")
    assert store.prune(10**18) == 0
    assert store.prune(0) == 2
    assert (store.get(other), store.get_chunks(key, 0)) == (None, None)
    assert store.get_keccak(key) == b"payload"
    store.close()


def test_a_bucket_that_is_not_there_is_named(s3: S3Settings) -> None:
    with pytest.raises(StoreError, match="no-such-bucket"):
        S3Store(replace(s3, bucket="no-such-bucket"))


def test_every_operator_keeps_its_own_run_of_chunks() -> None:
    network = OperatorNetwork(7, NetworkParameters(5, ChunkParameters(64, 8, 14)), 2)
    runs = [network.assignment(number) for number in range(5)]
    assert [len(run) for run in runs] == [10] * 5
    assert len({index for run in runs for index in run}) == 50
    assert [key.operator_id for key in network.keys] == sorted(key.operator_id for key in network.keys)
    network.online = [False] * 5
    with pytest.raises(TooFewOperators):
        network.confirm()
    for operators in (0, 15, 2_000):
        with pytest.raises(ValueError, match="operators"):
            NetworkParameters(operators, ChunkParameters(64, 8, 14))
