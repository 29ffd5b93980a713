"""EigenDA's relay registry on L1: where the relays are that a certificate names by their keys."""

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError

from openledger.genesis.hashing import keccak256
from openledger.rollup.l1.source import L1DataInvalid, L1Submitter

_SELECTOR = keccak256(b"relayKeyToUrl(uint32)")[:4]


class L1RelayDirectory:
    """A `RelayDirectory` that asks IEigenDARelayRegistry at an address."""

    def __init__(self, l1: L1Submitter, address: bytes) -> None:
        self._l1 = l1
        self._address = address

    async def relay(self, key: int) -> str | None:
        """See `RelayDirectory`. Raises L1DataInvalid when the contract answers nonsense."""
        answer = await self._l1.call(self._address, _SELECTOR + encode(["uint32"], [key]))
        try:
            url = str(decode(["string"], answer)[0])
        except DecodingError as error:
            raise L1DataInvalid(f"0x{self._address.hex()} is not a relay registry: {error}") from error
        return url.removeprefix("https://").rstrip("/") or None
