"""EigenDA's certificate verifier on L1, which alone knows the operators' stakes (IEigenDACertVerifier.checkDACert)."""

from eth_abi import encode

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.abi_certificate import encode_abi_certificate
from openledger.rollup.da.certificate import Certificate
from openledger.rollup.l1.source import L1DataInvalid, L1Submitter

_SELECTOR = keccak256(b"checkDACert(bytes)")[:4]
_SUCCESS = 1


class L1CertificateVerifier:
    """A `CertificateVerifier` that asks the contract at an address. Raises what L1 raises."""

    def __init__(self, l1: L1Submitter, address: bytes) -> None:
        self._l1 = l1
        self._address = address

    async def is_valid(self, certificate: Certificate) -> bool:
        """See `CertificateVerifier`. The contract answers a status and does not revert: 1 is valid."""
        arguments: bytes = encode(["bytes"], [encode_abi_certificate(certificate)])
        answer = await self._l1.call(self._address, _SELECTOR + arguments)
        if len(answer) != 32:
            raise L1DataInvalid(
                f"checkDACert at 0x{self._address.hex()} answered {len(answer)} bytes: is it the verifier?"
            )
        return int.from_bytes(answer, "big") == _SUCCESS
