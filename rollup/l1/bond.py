"""One key's bond in the output oracle: OPEN that it lets the oracle take when it proposes or challenges."""

import structlog

from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import OPEN_WEI
from openledger.rollup.l1.output_oracle import BondTerms, OutputOracle
from openledger.rollup.l1.source import L1Error, L1Submitter
from openledger.rollup.l1.transactions import L1Sender

log = structlog.get_logger(__name__)

APPROVAL_GAS = 100_000


class BondMissing(L1Error):
    """The account has too little OPEN on L1 for a bond."""


class Bond:
    """What an account has staked, and how it comes to stake more."""

    def __init__(self, oracle: OutputOracle, l1: L1Submitter, sender: L1Sender) -> None:
        self.free = 0
        """Wei that could be withdrawn when `secure` was last called; `locked` are not."""
        self.locked = 0
        self._oracle = oracle
        self._l1 = l1
        self._sender = sender

    async def secure(self, terms: BondTerms, needed: int, allow: int) -> None:
        """See to it that the oracle can take `needed` wei now, and if it must be allowed to, then `allow` wei at most.

        The oracle takes what is missing from the free bond by itself. Raises `BondMissing`, and what L1 raises.
        """
        self.free, self.locked = await self._oracle.bond_of(self._sender.address)
        missing = needed - self.free
        if missing <= 0:
            return
        held = await self._ask(terms.token, "balanceOf(address)", self._sender.address)
        if held < missing:
            raise BondMissing(
                f"0x{self._sender.address.hex()} holds {held / OPEN_WEI:g} OPEN on L1 and {self.free / OPEN_WEI:g} in its "
                f"bond that are free, but {needed / OPEN_WEI:g} are needed: send it OPEN on L1"
            )
        if (
            await self._ask(terms.token, "allowance(address,address)", self._sender.address, self._oracle.address)
            >= missing
        ):
            return
        amount = min(held, max(needed, allow))
        data = keccak256(b"approve(address,uint256)")[:4] + self._oracle.address.rjust(32, b"\0")
        included = await self._sender.send(terms.token, data + amount.to_bytes(32, "big"), gas=APPROVAL_GAS)
        if not included.succeeded:
            raise BondMissing(f"the token 0x{terms.token.hex()} refused that the oracle takes {amount} wei of it")
        log.info("bond allowed", account="0x" + self._sender.address.hex(), open=amount / OPEN_WEI)

    async def _ask(self, token: bytes, signature: str, *accounts: bytes) -> int:
        words = b"".join(account.rjust(32, b"\0") for account in accounts)
        return int.from_bytes(await self._l1.call(token, keccak256(signature.encode())[:4] + words), "big")
