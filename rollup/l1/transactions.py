"""Sending one L1 transaction until it is included, whatever happens in between."""

import structlog

from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import BLOB, DYNAMIC_FEE, Transaction, sign_transaction
from openledger.rollup.clock import Clock
from openledger.rollup.l1.blob_transaction import TravellingBlobs
from openledger.rollup.l1.source import Inclusion, L1Fees, L1Submitter, L1TransactionRejected

log = structlog.get_logger(__name__)

TRANSACTION_GAS = 21_000
FLOOR_GAS_PER_TOKEN = 10  # EIP-7623
STANDARD_GAS_PER_TOKEN = 4
REPLACEMENT_PERCENT = 115
BLOB_REPLACEMENT_PERCENT = 200  # pools want every fee of a blob transaction doubled

_ABOUT_PROOFS = ("sidecar", "proof", "blob", "version", "rlp", "malformed", "decod", "cell")
"""What L1 clients say when the proofs beside blobs have the form of another fork; each has words of its own."""


class L1TransactionLost(Exception):
    """The account's nonce was used by another transaction: send again with a fresh one."""


def calldata_gas(data: bytes) -> int:
    """Gas of a plain call that carries `data` to an account without code (EIP-2028, EIP-7623)."""
    tokens = data.count(0) + 4 * (len(data) - data.count(0))
    return TRANSACTION_GAS + max(STANDARD_GAS_PER_TOKEN, FLOOR_GAS_PER_TOKEN) * tokens


class L1Sender:
    """Sends from one key, one transaction at a time."""

    def __init__(
        self,
        l1: L1Submitter,
        chain_id: int,
        private_key: bytes,
        clock: Clock,
        *,
        poll_interval_s: float = 1.0,
        resubmit_after_s: float = 48.0,
        max_fee_wei: int = 500_000_000_000,
    ) -> None:
        self.address = address_of(private_key)
        self._l1 = l1
        self._chain_id = chain_id
        self._key = private_key
        self._clock = clock
        self._poll_interval_s = poll_interval_s
        self._resubmit_after_s = resubmit_after_s
        self._max_fee_wei = max_fee_wei
        self._cell_proofs = False
        """Which proofs a pool last took that does not say which it wants."""

    async def send(
        self,
        to: bytes,
        data: bytes,
        *,
        gas: int | None = None,
        value: int = 0,
        blobs: TravellingBlobs | None = None,
    ) -> Inclusion:
        """Send a call (with `blobs` a blob transaction) and wait until it is included, offering more every
        `resubmit_after_s`.

        Raises `L1Unavailable` while L1 is away, `L1TransactionRejected` if it will not have the transaction, and
        `L1TransactionLost` if the nonce went to another one. Calling again is safe for data that may arrive twice.
        """
        nonce = await self._l1.nonce(self.address, pending=False)
        fees = await self._l1.fees()
        hashes = () if blobs is None else await blobs.versioned_hashes()
        sent: list[bytes] = []
        while True:
            signed = self._sign(to, data, calldata_gas(data) if gas is None else gas, value, nonce, fees, hashes)
            # Known before it leaves: when an answer is lost, L1 may have it all the same.
            sent.append(signed.hash)
            try:
                if blobs is None:
                    await self._l1.send_transaction(signed.raw)
                else:
                    await self._send_with(blobs, signed)
            except L1TransactionRejected as error:
                if not _tolerable(error):
                    raise
            deadline = self._clock.now() + self._resubmit_after_s
            while self._clock.now() < deadline:
                included = await self._included(sent, nonce)
                if included is not None:
                    return included
                await self._clock.sleep(self._poll_interval_s)
            fees = await self._raised(fees, BLOB_REPLACEMENT_PERCENT if blobs else REPLACEMENT_PERCENT)
            log.warning("L1 transaction not included yet, offering more", nonce=nonce, tip=fees.priority_fee_per_gas)

    async def _send_with(self, blobs: TravellingBlobs, signed: Transaction) -> None:
        """Hand in a blob transaction with the proofs that L1 wants now, a fork between two transactions included.

        An L1 that does not say what it wants, or says it wrongly, is given the other form when it refuses one."""
        wanted = await self._l1.wants_cell_proofs()
        cells = self._cell_proofs if wanted is None else wanted
        try:
            await self._l1.send_transaction(await blobs.network_form(signed, cells=cells))
        except L1TransactionRejected as error:
            if not any(word in str(error).lower() for word in _ABOUT_PROOFS):
                raise
            log.info("L1 refuses the proofs beside blobs, trying the other form", cells=not cells, reason=str(error))
            try:
                await self._l1.send_transaction(await blobs.network_form(signed, cells=not cells))
            except L1TransactionRejected:
                raise error from None
            self._cell_proofs = not cells

    async def _included(self, sent: list[bytes], nonce: int) -> Inclusion | None:
        used = await self._l1.nonce(self.address, pending=False) > nonce
        for transaction_hash in reversed(sent):
            found = await self._l1.inclusion(transaction_hash)
            if found is not None:
                return found
        if used:
            raise L1TransactionLost(f"nonce {nonce} of 0x{self.address.hex()} was used by another transaction")
        return None

    async def _raised(self, fees: L1Fees, percent: int) -> L1Fees:
        market = await self._l1.fees()
        return L1Fees(
            max(market.base_fee_per_gas, fees.base_fee_per_gas * percent // 100 + 1),
            max(market.priority_fee_per_gas, fees.priority_fee_per_gas * percent // 100 + 1),
            max(market.blob_base_fee_per_gas, fees.blob_base_fee_per_gas * percent // 100 + 1),
        )

    def _sign(
        self,
        to: bytes,
        data: bytes,
        gas: int,
        value: int,
        nonce: int,
        fees: L1Fees,
        hashes: tuple[bytes, ...],
    ) -> Transaction:
        fee_cap = min(2 * fees.base_fee_per_gas + fees.priority_fee_per_gas, self._max_fee_wei)
        return sign_transaction(
            self._key,
            type=BLOB if hashes else DYNAMIC_FEE,
            chain_id=self._chain_id,
            nonce=nonce,
            gas=gas,
            to=to,
            value=value,
            data=data,
            max_fee_per_gas=fee_cap,
            max_priority_fee_per_gas=min(fees.priority_fee_per_gas, fee_cap),
            max_fee_per_blob_gas=min(2 * fees.blob_base_fee_per_gas, self._max_fee_wei) if hashes else 0,
            blob_versioned_hashes=hashes,
        )


def _tolerable(error: L1TransactionRejected) -> bool:
    """Whether a refusal only means that a transaction with this nonce is pending or included, perhaps this very one."""
    message = str(error).lower()
    return "nonce too low" in message or "underpriced" in message
