"""The disperser and relay clients against a real gRPC server, whose operators check and sign as a network would."""

import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from openledger.genesis.hashing import checksummed
from openledger.node.cli.main import app
from openledger.node.errors import UserError
from openledger.rollup.da import BlobNotFound, DAError, DAUnavailable, WrongPayload, open_blob_worker
from openledger.rollup.da import disperser_messages as messages
from openledger.rollup.da.certificate import (
    Certificate,
    encode_generic_commitment,
    parse_certificate,
    split_generic_commitment,
)
from openledger.rollup.da.client import DAFailoverRequested
from openledger.rollup.da.disperser import DisperserSettings, NonSignersUnknown, open_disperser
from openledger.rollup.da.relay import open_relay
from openledger.rollup.da.signature_indices import SignatureIndices
from openledger.rollup.da.verification import certificate_checks
from openledger.rollup.da.worker import BlobWorker

from .eigenda_network import CHAIN_ID, DISPERSER_ID, MIN_SYMBOLS, PAYER, PAYLOAD, PRICE, SETTINGS, SRS, Network, served


class Registries:
    """Where one operator that did not sign stands, as L1's retriever would say."""

    asked: tuple[int, bytes, Sequence[bytes]] = (0, b"", ())

    async def indices(self, reference_block: int, quorums: bytes, non_signer_ids: Sequence[bytes]) -> SignatureIndices:
        self.asked = (reference_block, quorums, non_signer_ids)
        return SignatureIndices((4,), (5, 6), (7, 8), ((9,), (10,)))


def self_signed() -> tuple[bytes, bytes]:
    """Key and certificate for localhost, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return private, certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def target(network: Network) -> Iterator[str]:
    with served(network) as address:
        yield address


async def test_a_payload_goes_through_the_disperser_and_comes_back_from_a_relay(
    worker: BlobWorker, network: Network, target: str
) -> None:
    for version in (3, 4):
        certificate = await dispersed(worker, target, replace(SETTINGS, certificate_version=version))
        assert [check.name for check in certificate_checks(certificate, SRS) if check.verdict != "good"] == []
        commitment = encode_generic_commitment(certificate)
        assert parse_certificate(*split_generic_commitment(commitment)) == certificate
        assert certificate.version == version
    assert network.payments[0].account_id == checksummed(PAYER.address)
    assert network.payments[0].cumulative_payment == 0
    async with open_relay(target, worker, plaintext=True) as relay:
        assert await relay.get(certificate) == PAYLOAD
        network.fault = "relay"
        with pytest.raises(WrongPayload):
            await relay.get(certificate)
        network.blobs.clear()
        with pytest.raises(BlobNotFound):
            await relay.get(certificate)


async def dispersed(
    worker: BlobWorker, target: str, settings: DisperserSettings = SETTINGS, **options: Any
) -> Certificate:
    async with open_disperser(target, worker, PAYER, settings, plaintext=True, **options) as client:
        return await client.disperse(PAYLOAD)


@pytest.fixture
async def worker() -> AsyncIterator[BlobWorker]:
    async with open_blob_worker(development=True) as running:
        yield running


async def test_who_did_not_sign_needs_an_l1_to_ask(worker: BlobWorker, network: Network, target: str) -> None:
    network.operators.online[1] = False
    with pytest.raises(NonSignersUnknown, match="1 operator did not sign"):
        await dispersed(worker, target)
    registries = Registries()
    certificate = await dispersed(worker, target, indices=registries)
    absent = network.operators.keys[1]
    assert registries.asked == (4_000_000, b"\0\1", [absent.operator_id])
    attestation = certificate.attestation
    assert attestation.non_signer_public_keys == (absent.public_g1,)
    assert attestation.non_signer_quorum_bitmap_indices == (4,)
    assert (attestation.quorum_key_indices, attestation.total_stake_indices) == ((5, 6), (7, 8))
    assert attestation.non_signer_stake_indices == ((9,), (10,))
    network.operators.online[2] = network.operators.online[3] = False
    with pytest.raises(DAFailoverRequested, match="25 % of quorum 0"):
        await dispersed(worker, target, indices=registries)


async def test_on_demand_pays_for_whole_minimum_sizes_on_top_of_what_was_spent(
    worker: BlobWorker, network: Network, target: str
) -> None:
    async with open_disperser(target, worker, PAYER, SETTINGS, plaintext=True) as client:
        state = await client.payment_state()
        assert (state.cumulative_payment, state.deposited, state.reservation_end_s) == (1_000, 10**18, 6)
        for _ in range(2):
            await client.disperse(PAYLOAD, on_demand=True)
        blob, commitment = await worker.commit(PAYLOAD, 1 << 20)
        assert await client.blob_commitment(blob) == commitment
    assert [payment.cumulative_payment for payment in network.payments] == [
        1_000 + MIN_SYMBOLS * PRICE,
        1_000 + 2 * MIN_SYMBOLS * PRICE,
    ]
    assert state.on_demand_payment(32 * (MIN_SYMBOLS + 1)) == 1_000 + 2 * MIN_SYMBOLS * PRICE


FAULTS: list[tuple[str, type[DAError], str]] = [
    ("RESOURCE_EXHAUSTED", DAUnavailable, "no capacity left"),
    ("UNAVAILABLE", DAFailoverRequested, "fail over"),
    ("INTERNAL", DAUnavailable, "INTERNAL: says the test"),
    ("PERMISSION_DENIED", DAError, "refused the request"),
    ("FAILED", DAFailoverRequested, "gave up blob"),
    ("slow", DAFailoverRequested, "attested in 0.3 s"),
    ("other key", DAError, "its key is"),
    ("signature", DAError, "aggregate signature"),
    ("point", messages.MalformedAnswer, "sigma"),
]


async def test_what_goes_wrong_is_said_by_its_kind(worker: BlobWorker, network: Network, target: str) -> None:
    for fault, kind, said in FAULTS:
        network.fault = fault
        with pytest.raises(DAError, match=said) as caught:
            await dispersed(worker, target, replace(SETTINGS, timeout_s=0.3 if fault == "slow" else 20))
        assert type(caught.value) is kind, fault


async def test_another_chain_is_refused_and_nobody_home_means_fail_over(
    worker: BlobWorker, network: Network, target: str
) -> None:
    with pytest.raises(DAError, match="chain, disperser"):
        await dispersed(worker, target, replace(SETTINGS, chain_id=1, disperser_id=0))
    with served(Network()) as gone:
        pass
    with pytest.raises(DAFailoverRequested):
        await dispersed(worker, gone)


async def test_a_cancelled_dispersal_leaves_at_once(worker: BlobWorker, network: Network, target: str) -> None:
    """Were it not to leave, the disperser's own time limit would end it with an error."""
    network.fault = "slow"
    with trio.move_on_after(1) as hurry:
        await dispersed(worker, target)
    assert hurry.cancelled_caught


async def test_a_disperser_that_restarts_meanwhile_still_has_the_blob(
    worker: BlobWorker, network: Network, target: str
) -> None:
    network.hiccups = 9
    await dispersed(worker, target)
    assert len(network.blobs) == 1
    network.hiccups = 10
    with pytest.raises(DAFailoverRequested, match="restarting"):
        await dispersed(worker, target)


def test_the_command_prints_a_commitment_that_verifies(network: Network, tmp_path: Path) -> None:
    payload, key, roots = tmp_path / "payload", tmp_path / "key", tmp_path / "roots.pem"
    payload.write_bytes(PAYLOAD)
    key.write_text(PAYER.private_key.hex())
    key.chmod(0o600)
    private, certificate_pem = self_signed()
    roots.write_bytes(certificate_pem)
    flags = ["--chain-id", str(CHAIN_ID), "--disperser-id", str(DISPERSER_ID), "--development", "--on-demand"]
    with served(network, grpc.ssl_server_credentials([(private, certificate_pem)])) as target:
        command = ["da", "disperse", str(payload), "--disperser", target, "--key-file", str(key)]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "openledger.node.cli.main", *command, *flags],
            env={**os.environ, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    certificate = parse_certificate(*split_generic_commitment(bytes.fromhex(done.stdout.removeprefix("0x"))))
    assert all(check.verdict == "good" for check in certificate_checks(certificate, SRS))
    assert network.payments[0].cumulative_payment > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--srs-folder"),
        (["--development", "--l1-rpc-url", "http://127.0.0.1:1"], "belong together"),
        (["--development", "--registry-coordinator", "0x12"], "40 hex digits"),
        (["--development", "--plaintext"], "cannot be reached"),
    ],
)
def test_the_command_says_what_is_missing(tmp_path: Path, flags: list[str], said: str) -> None:
    key = tmp_path / "key"
    key.write_text(PAYER.private_key.hex())
    key.chmod(0o600)
    command = ["da", "disperse", str(key), "--disperser", "127.0.0.1:1", "--key-file", str(key)]
    refused = CliRunner().invoke(app, [*command, *flags])
    assert isinstance(refused.exception, UserError)
    assert said in str(refused.exception)


async def test_without_grpcio_the_extra_is_named(worker: BlobWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(DAError, match=r"openledger-node\[eigenda\]"):
        await dispersed(worker, "127.0.0.1:1")


def test_generated_code_is_what_protoc_makes_of_the_protos(tmp_path: Path) -> None:
    tools = pytest.importorskip("grpc_tools")
    assert tools is not None
    root = Path(__file__).parents[3]
    folder = root / "rollup" / "da" / "grpc"
    flags = ["--proto_path=.typing", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    protos = [f".typing/openledger/rollup/da/grpc/{path.name}" for path in sorted(folder.glob("*.proto"))]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *flags, *protos], cwd=root, check=True)
    made = tmp_path / "openledger" / "rollup" / "da" / "grpc"
    for path in sorted(folder.glob("*_pb2*.py")):
        assert (made / path.name).read_text() == path.read_text(), path.name


def test_field_numbers_are_those_of_the_published_api() -> None:
    wanted = {
        "common": {"BlobCommitment": "commitment=1 length_commitment=2 length_proof=3 length=4"},
        "common_v2": {
            "PaymentHeader": "account_id=1 timestamp=2 cumulative_payment=3",
            "BlobHeader": "version=1 quorum_numbers=2 commitment=3 payment_header=4",
            "BlobCertificate": "blob_header=1 signature=2 relay_keys=3",
            "BatchHeader": "batch_root=1 reference_block_number=2",
        },
        "disperser_v2": {
            "DisperseBlobRequest": "blob=1 blob_header=2 signature=3 anchor_signature=5 disperser_id=6 chain_id=7",
            "BlobStatusReply": "status=1 signed_batch=2 blob_inclusion_info=3",
            "Attestation": "non_signer_pubkeys=1 apk_g2=2 quorum_apks=3 sigma=4 quorum_numbers=5 "
            "quorum_signed_percentages=6",
            "GetPaymentStateRequest": "account_id=1 signature=2 timestamp=3",
        },
        "relay": {"GetBlobRequest": "blob_key=1", "GetBlobReply": "blob=1"},
        "validator": {
            "GetChunksRequest": "blob_key=1 quorum_id=2",
            "GetChunksReply": "chunks=1 chunk_encoding_format=2",
        },
    }
    for module, kinds in wanted.items():
        found = importlib.import_module(f"openledger.rollup.da.grpc.{module}_pb2").DESCRIPTOR.message_types_by_name
        for name, fields in kinds.items():
            assert " ".join(f"{field.name}={field.number}" for field in found[name].fields) == fields
