"""The REST semantics of EigenDA's proxy in memstore form, on the transport-neutral handler."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from openledger.genesis.hashing import keccak256
from openledger.rollup.da import DAServer, DAServerSettings, Request, Response, open_da_server
from openledger.rollup.da.certificate import (
    BatchHeader,
    encode_generic_commitment,
    parse_certificate,
    serialize_certificate,
    split_generic_commitment,
    split_standard_commitment,
)
from openledger.rollup.da.encoding import decode_payload
from openledger.rollup.da.issuer import CertificateIssuer
from openledger.rollup.da.memstore_config import MemstoreConfig
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork
from openledger.rollup.da.srs import DevelopmentSrs, DevelopmentSrsRefused
from openledger.rollup.da.stores import StoreError
from openledger.rollup.da.verification import verify_certificate

PAYLOAD = b"a payload of several field elements" * 5


async def put(server: DAServer, payload: bytes = PAYLOAD, path: str = "/put", **query: str) -> Response:
    return await server.handle(Request("POST", path, query, {}, payload))


async def get(server: DAServer, commitment: bytes | str, **query: str) -> Response:
    text = commitment if isinstance(commitment, str) else "0x" + commitment.hex()
    return await server.handle(Request("GET", f"/get/{text}", query))


async def patch(server: DAServer, **update: object) -> Response:
    return await server.handle(Request("PATCH", "/memstore/config", {}, {}, json.dumps(update).encode()))


async def test_generic_put_answers_raw_commitment_whose_certificate_verifies(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        for path in ("/put", "/put/"):
            answer = await put(server, path=path)
            assert answer.status == 200
            assert answer.body[:3] == b"\x01\x00\x03"
            certificate = parse_certificate(*split_generic_commitment(answer.body))
            verify_certificate(certificate, DevelopmentSrs())
            assert (await get(server, answer.body)).body == PAYLOAD
            assert (await get(server, answer.body.hex().upper())).body == PAYLOAD


async def test_standard_mode_leaves_out_type_and_layer(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        answer = await put(server, commitment_mode="standard")
        assert answer.body[0] == 3
        assert parse_certificate(*split_standard_commitment(answer.body)).version == 4
        assert (await get(server, answer.body, commitment_mode="standard")).body == PAYLOAD
        assert (await get(server, b"\x01\x00" + answer.body)).body == PAYLOAD


async def test_keccak_mode_stores_under_the_hash(settings: DAServerSettings) -> None:
    digest = keccak256(PAYLOAD).hex()
    async with open_da_server(settings) as server:
        assert (await get(server, f"0x00{digest}")).status == 400
        assert await put(server, path=f"/put/0x00{digest}") == Response(200)
        assert await put(server, path=f"/put/0x00{digest}") == Response(200)
        assert (await get(server, f"00{digest}")).body == PAYLOAD
        mismatch = await put(server, PAYLOAD + b"!", path=f"/put/00{digest}")
        assert mismatch.status == 400
        assert b"keccak mismatch" in mismatch.body


@pytest.mark.parametrize("flag", ["", "true", "1", "TRUE"])
async def test_encoded_payload_on_request(settings: DAServerSettings, flag: str) -> None:
    async with open_da_server(settings) as server:
        commitment = (await put(server)).body
        encoded = (await get(server, commitment, return_encoded_payload=flag)).body
        assert encoded != PAYLOAD
        assert decode_payload(encoded) == PAYLOAD
        assert (await get(server, commitment, return_encoded_payload="0")).body == PAYLOAD


async def test_empty_payload_is_stored(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        answer = await get(server, (await put(server, b"")).body)
        assert (answer.status, answer.body) == (200, b"")


async def test_same_payload_twice_gives_two_commitments(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        assert (await put(server)).body != (await put(server)).body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/get/0x02", 400),
        ("/get/0x0203", 404),
        ("/get/0x010a03c0", 400),
        ("/get/0x010000c0", 400),
        ("/get/0x010004c0", 400),
        ("/get/0x010003zz", 400),
        ("/get/0x010003c", 400),
        ("/get/", 404),
        ("/get", 404),
        ("/put", 405),
        ("/nothing", 404),
        ("/admin/eigenda-dispersal-backend", 404),
    ],
)
async def test_bad_path_is_refused(settings: DAServerSettings, path: str, status: int) -> None:
    async with open_da_server(settings) as server:
        answer = await server.handle(Request("GET", path))
        assert answer.status == status
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body.endswith(b"\n")


@pytest.mark.parametrize("number", ["x", "-1", "1.5", str(1 << 64), "１"])
async def test_bad_l1_block_number_is_refused(settings: DAServerSettings, number: str) -> None:
    async with open_da_server(settings) as server:
        commitment = (await put(server)).body
        assert (await get(server, commitment, l1_inclusion_block_number=number)).status == 400
        assert (await get(server, commitment, l1_inclusion_block_number=str(2**32))).status == 200
        assert (await get(server, commitment, l1_inclusion_block_number="")).status == 200


async def test_commitment_that_must_be_dropped_is_a_teapot(settings: DAServerSettings) -> None:
    issuer = CertificateIssuer(b"\x01" * 32, OperatorNetwork(3, NetworkParameters(), 2))
    certificate = issuer.issue(DevelopmentSrs().commit_with_length([1, 2]))
    old = replace(certificate, batch_header=BatchHeader(bytes(32), 7))
    async with open_da_server(settings) as server:
        unparsable = await get(server, "0x010003c0")
        stale = await get(server, encode_generic_commitment(old), l1_inclusion_block_number="99999")
        contradictory = await get(server, encode_generic_commitment(old))
        for answer, status_code in ((unparsable, 1), (stale, 2), (contradictory, 3)):
            assert answer.status == 418
            assert json.loads(answer.body)["StatusCode"] == status_code
            assert json.loads(answer.body)["Msg"]
        # Sound, but dispersed elsewhere: may only be missing here, so it is not dropped.
        missing = await get(server, encode_generic_commitment(certificate))
        assert missing.status == 500
        assert b"not found" in missing.body


async def test_payload_over_the_limit_is_refused(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        assert (await put(server, bytes(16 * 1024 * 1024 + 1))).status == 400
        assert b"max blob size" in (await put(server, bytes(16_252_898))).body
        await patch(server, MaxBlobSizeBytes=1024)
        assert (await put(server, bytes(961))).status == 200
        assert (await put(server, bytes(962))).status == 400


async def test_disabled_api_is_forbidden(settings: DAServerSettings) -> None:
    async with open_da_server(replace(settings, apis_enabled=frozenset({"standard"}))) as server:
        assert (await put(server)).status == 403
        assert (await get(server, "0x010003c0")).status == 403
        assert (await get(server, "0x00" + "ab" * 32)).status == 403
        assert (await put(server, path="/put/00" + "ab" * 32)).status == 403
        assert (await put(server, commitment_mode="standard")).status == 200


async def test_unknown_api_name_is_refused(settings: DAServerSettings) -> None:
    with pytest.raises(ValueError, match="arb"):
        async with open_da_server(replace(settings, apis_enabled=frozenset({"arb"}))):
            pass


async def test_failover_is_simulated(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        await patch(server, PutReturnsFailoverError=True)
        assert (await put(server)).status == 503
        await patch(server, PutReturnsFailoverError=False)
        assert (await put(server)).status == 200


async def test_put_under_a_derivation_error_answers_it_to_every_get(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        await patch(server, NullableDerivationError={"StatusCode": 4, "Msg": "spoiled", "Reset": False})
        commitment = (await put(server)).body
        await patch(server, NullableDerivationError={"Reset": True})
        answer = await get(server, commitment)
        assert (answer.status, json.loads(answer.body)) == (418, {"StatusCode": 4, "Msg": "spoiled"})
        assert (await get(server, (await put(server)).body)).status == 200


async def test_configuration_pages(settings: DAServerSettings) -> None:
    settings = replace(settings, apis_enabled=frozenset({"op-generic", "admin"}))
    async with open_da_server(settings) as server:
        assert await server.handle(Request("GET", "/health")) == Response(200)
        config = json.loads((await server.handle(Request("GET", "/config"))).body)
        assert config["max_payload_size_bytes"] == 16_252_897
        assert config["apis_enabled"] == ["admin", "op-generic"]
        assert (config["chain_id"], config["read_only_mode"]) == ("", False)
        memstore = json.loads((await patch(server, PutLatency="10ms", BlobExpiration="25m0s")).body)
        assert memstore["PutLatency"] == "10ms"
        assert memstore["BlobExpiration"] == "25m0s"
        assert memstore["CertVersion"] == 4
        assert json.loads((await server.handle(Request("GET", "/memstore/config"))).body) == memstore
        assert (await patch(server, PutLatency="soon")).status == 400
        backend = Request("GET", "/admin/eigenda-dispersal-backend")
        assert json.loads((await server.handle(backend)).body) == {"eigenDADispersalBackend": "V2"}
        v1 = replace(backend, method="PUT", body=b'{"eigenDADispersalBackend":"V1"}')
        assert (await server.handle(v1)).status == 400


async def test_version_3_certificates_on_request(settings: DAServerSettings) -> None:
    settings = replace(settings, memstore=MemstoreConfig(certificate_version=3))
    async with open_da_server(settings) as server:
        commitment = (await put(server)).body
        assert commitment[2] == 2
        assert (await get(server, commitment)).body == PAYLOAD


async def test_expired_blob_is_gone(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        kept = (await put(server)).body
        await patch(server, BlobExpiration="100ms")
        await trio.sleep(1.2)
        assert (await get(server, kept)).status == 500


async def test_stored_blobs_and_keys_survive_a_restart(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        first = (await put(server)).body
    async with open_da_server(settings) as server:
        assert (await get(server, first)).body == PAYLOAD
        second = (await put(server)).body
    before, after = (parse_certificate(*split_generic_commitment(c)) for c in (first, second))
    assert before.attestation.quorum_public_keys == after.attestation.quorum_public_keys


async def test_two_servers_cannot_share_a_folder(settings: DAServerSettings) -> None:
    async with open_da_server(settings):
        with pytest.raises(StoreError, match="another node"):
            async with open_da_server(settings):
                pass


async def test_development_srs_is_refused_off_a_development_chain(settings: DAServerSettings) -> None:
    with pytest.raises(DevelopmentSrsRefused):
        async with open_da_server(replace(settings, development=False)):
            pass


async def test_worker_killed_with_kill_9_is_replaced(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        commitment = (await put(server)).body
        process = server._worker._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        assert (await get(server, commitment)).body == PAYLOAD


async def test_concurrent_puts_and_gets_agree(settings: DAServerSettings) -> None:
    async with open_da_server(settings) as server:
        read: dict[bytes, bytes] = {}

        async def round_trip(payload: bytes) -> None:
            read[payload] = (await get(server, (await put(server, payload)).body)).body

        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(round_trip, bytes([index]) * (index * 37))
        assert all(payload == answer for payload, answer in read.items())
        assert len(read) == 20


def test_acknowledged_put_survives_kill_9(tmp_path: Path) -> None:
    script = """
        import sys, trio
        from pathlib import Path
        from openledger.rollup.da import DAServerSettings, Request, open_da_server

        async def main():
            async with open_da_server(DAServerSettings(Path(sys.argv[1]), development=True)) as server:
                while True:
                    payload = sys.stdin.readline().encode()
                    answer = await server.handle(Request("POST", "/put", body=payload))
                    print(answer.body.hex(), flush=True)

        trio.run(main)
    """
    folder = tmp_path / "da"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(script), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    commitments = []
    for index in range(3):
        process.stdin.write(f"payload {index}\n")
        process.stdin.flush()
        commitments.append(bytes.fromhex(next(line for line in process.stdout if line.startswith("0100"))))
    process.kill()
    process.wait()

    async def read_all() -> None:
        async with open_da_server(DAServerSettings(folder, development=True)) as server:
            for index, commitment in enumerate(commitments):
                assert (await get(server, commitment)).body == f"payload {index}\n".encode()

    trio.run(read_all)


def test_certificate_key_is_the_hash_of_the_serialised_certificate(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_da_server(DAServerSettings(tmp_path, development=True)) as server:
            version, serialized = split_generic_commitment((await put(server)).body)
            assert serialize_certificate(parse_certificate(version, serialized)) == serialized
            assert server._store.get(keccak256(serialized)) is not None

    trio.run(main)
