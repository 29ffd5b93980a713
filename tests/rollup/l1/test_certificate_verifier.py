"""What the verifier contract on L1 says of a certificate, through a real L1."""

from pathlib import Path

import pytest
from eth_abi.abi import decode

from openledger.evm_ext.calls import CallRequest
from openledger.genesis.dev_accounts import USERS
from openledger.rollup.da.abi_certificate import decode_abi_certificate
from openledger.rollup.da.certificate import parse_certificate, split_standard_commitment
from openledger.rollup.l1.certificate_verifier import L1CertificateVerifier
from openledger.rollup.l1.source import L1DataInvalid

VECTOR = Path(__file__).parents[1] / "da/vectors/sepolia-certificate-v3.hex"
CERTIFICATE = parse_certificate(*split_standard_commitment(bytes.fromhex(VECTOR.read_text())))


def returning(status: int) -> bytes:
    """Init code of a contract that answers one word."""
    runtime = bytes([0x60, status, 0x5F, 0x52, 0x60, 0x20, 0x5F, 0xF3])
    return bytes([0x67]) + runtime + bytes.fromhex("5f5260086018f3")


async def deploy(network, init_code: bytes) -> bytes:
    transaction = network._signed(network.l1.chain, network.l1.pool, USERS[0], None, 0, init_code, 300_000)
    network.l1.pool.add(transaction.raw)
    await network.advance(8)
    block_hash, index = network.l1.chain.transaction_location(transaction.hash)
    address = network.l1.chain.receipts(block_hash)[index].contract_address
    assert network.l1.chain.state(network.l1.chain.head().hash).code(address)
    return address


@pytest.mark.parametrize(("status", "valid"), [(1, True), (0, False), (5, False)])
async def test_only_status_one_is_valid(network, status: int, valid: bool) -> None:
    verifier = L1CertificateVerifier(network.l1_view, await deploy(network, returning(status)))
    assert await verifier.is_valid(CERTIFICATE) is valid


async def test_an_address_without_the_contract_is_no_verdict(network) -> None:
    with pytest.raises(L1DataInvalid, match="verifier"):
        await L1CertificateVerifier(network.l1_view, b"\x77" * 20).is_valid(CERTIFICATE)


async def test_the_contract_gets_the_certificate_in_solidity_form(network) -> None:
    # Answers its calldata as it is.
    echo = await deploy(network, bytes.fromhex("66365f5f37365ff35f5260076019f3"))
    asked = []
    real = network.l1_view.call

    async def call(to: bytes, calldata: bytes) -> bytes:
        chain = network.l1.chain
        asked.append(chain.call(CallRequest(to=to, data=calldata), chain.head().hash).output)
        return await real(to, calldata)

    network.l1_view.call = call
    with pytest.raises(L1DataInvalid):
        await L1CertificateVerifier(network.l1_view, echo).is_valid(CERTIFICATE)
    (encoded,) = decode(["bytes"], asked[0][4:])
    assert asked[0][:4].hex() == "9077193b"
    assert decode_abi_certificate(3, encoded) == CERTIFICATE
