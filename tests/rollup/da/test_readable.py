"""`openledger da cert` on a real certificate of EigenDA's network and on our own, in every framing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from typer.testing import CliRunner

from openledger.node.cli.main import app
from openledger.rollup.da import certificate as codec
from openledger.rollup.da.abi_certificate import decode_abi_certificate, encode_abi_certificate
from openledger.rollup.da.certificate import Certificate, CertificateParsingFailed, parse_certificate
from openledger.rollup.da.curve import G1Point
from openledger.rollup.da.encoding import blob_from_encoded_payload, encode_payload
from openledger.rollup.da.issuer import CertificateIssuer
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork
from openledger.rollup.da.readable import find_certificate
from openledger.rollup.da.srs import DevelopmentSrs, FileSrs
from openledger.rollup.da.verification import certificate_checks

SEPOLIA_FILE = Path(__file__).parent / "vectors/sepolia-certificate-v3.hex"
SEPOLIA = parse_certificate(*codec.split_standard_commitment(bytes.fromhex(SEPOLIA_FILE.read_text())))
PAYLOAD = b"what was stored"
OURS = CertificateIssuer(b"\x11" * 32, OperatorNetwork(0x1234567, NetworkParameters(), 2)).issue(
    DevelopmentSrs().commit_with_length(blob_from_encoded_payload(encode_payload(PAYLOAD)))
)


def verdicts(*arguments: str) -> tuple[int, dict[str, str]]:
    done = CliRunner().invoke(app, ["da", "cert", "verify", "--json", *arguments])
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    return done.exit_code, {check["name"]: check["verdict"] for check in checks}


def test_a_real_certificate_is_good_and_what_only_l1_knows_is_said() -> None:
    status, found = verdicts(str(SEPOLIA_FILE))
    assert status == 0
    assert found.pop("stakes") == "unchecked"
    assert set(found.values()) == {"good"}
    assert {"inclusion", "length proof", "commitments", "signature", "quorum keys", "dispersal"} <= set(found)


def test_our_certificate_is_good_with_its_payload_and_false_with_another(tmp_path: Path) -> None:
    file, payload = tmp_path / "certificate", tmp_path / "payload"
    file.write_bytes(b"\x01" + codec.encode_generic_commitment(OURS))
    payload.write_bytes(PAYLOAD)
    options = ("--development", "--payload", str(payload), "--l1-inclusion-block", "5")
    status, found = verdicts(str(file), *options)
    assert status == 0
    assert (found["payload"], found["recency"], found["quorum keys"]) == ("good", "good", "good")
    payload.write_bytes(PAYLOAD + b"!")
    status, found = verdicts(str(file), *options)
    assert (status, found["payload"]) == (1, "false")
    status, found = verdicts(str(file))
    assert (status, found["length proof"]) == (1, "false")  # not a certificate of the real ceremony


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("source", [SEPOLIA, OURS], ids=["real", "ours"])
def test_every_framing_shows_the_same_certificate(source: Certificate, version: int, tmp_path: Path) -> None:
    certificate = replace(source, version=version)
    abi = encode_abi_certificate(certificate)
    assert decode_abi_certificate(version, abi) == certificate
    framings = {
        "standard": codec.encode_standard_commitment(certificate),
        "op-generic": codec.encode_generic_commitment(certificate),
        "batcher transaction": b"\x01" + codec.encode_generic_commitment(certificate),
        "abi": abi,
    }
    shown: dict[str, dict[str, Any]] = {}
    for framing, data in framings.items():
        assert find_certificate(data).certificate == certificate
        (tmp_path / "file").write_text("0x" + data.hex())
        done = CliRunner().invoke(app, ["da", "cert", "show", str(tmp_path / "file")])
        shown[framing] = json.loads(done.stdout)
        assert shown[framing].pop("framing") == framing
    first = shown["standard"]
    assert all(other == first for other in shown.values())
    assert first["batchHeader"]["referenceBlockNumber"] == certificate.batch_header.reference_block_number


def test_the_reference_block_stands_in_the_second_word_of_the_abi_form() -> None:
    body = encode_abi_certificate(SEPOLIA)[32:]
    assert int.from_bytes(body[32:64], "big") == 4_146_428


def test_an_abi_form_with_a_gap_or_a_changed_offset_is_refused() -> None:
    abi = encode_abi_certificate(OURS)
    moved = bytearray(abi)
    moved[32 * 3 + 31] += 32
    for bad in (abi + bytes(32), abi[:-32], bytes(moved), encode(["uint256"], [32]), b"\x20".rjust(32, b"\0") * 40):
        with pytest.raises(CertificateParsingFailed):
            find_certificate(bad)


def test_quorums_and_keys_that_do_not_fit_are_found() -> None:
    def false(certificate: Certificate) -> list[str]:
        return [check.name for check in certificate_checks(certificate, FileSrs(Path())) if check.verdict == "false"]

    assert false(SEPOLIA) == []
    keys = SEPOLIA.attestation.quorum_public_keys
    for changed in ((keys[0],), (keys[0], keys[0]), (keys[0], G1Point(3, 3))):
        attestation = replace(SEPOLIA.attestation, quorum_public_keys=changed)
        assert false(replace(SEPOLIA, attestation=attestation)) == (
            ["quorums", "quorum keys"] if len(changed) == 1 else ["quorum keys"]
        )
    assert false(replace(SEPOLIA, signed_quorum_numbers=b"\x00\x02")) == ["quorums"]


def test_a_file_without_a_certificate_gets_an_error_of_one_line(tmp_path: Path) -> None:
    for data in (b"\x07", b"\x01\x01\x00\x09\xc0", b"\x02\xc0", b"\x01\x01\x05\x02\xc0"):
        (tmp_path / "file").write_bytes(data)
        done = CliRunner().invoke(app, ["da", "cert", "show", str(tmp_path / "file")])
        assert done.exit_code == 1
        assert "holds no certificate" in str(done.exception)
