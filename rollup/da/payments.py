"""Who pays for a dispersal: the payment header, what is signed, and an account's state at the disperser.

A cumulative payment of 0 pays out of the account's reservation; any other takes from its on-demand deposit, and says
what the account will have paid in all, this dispersal included.
"""

import hashlib
from dataclasses import dataclass

from coincurve import PrivateKey

from openledger.genesis.hashing import checksummed, keccak256
from openledger.rollup.da.encoding import BYTES_PER_ELEMENT
from openledger.rollup.da.hashes import payment_header_hash

_ANCHOR_DOMAIN = b"disperser.DisperseBlobRequest"


@dataclass(frozen=True)
class PaymentHeader:
    """`account_id` is the payer's EIP-55 address; the time in nanoseconds keeps two dispersals of a blob apart."""

    account_id: str
    timestamp_ns: int
    cumulative_payment: int

    @property
    def hash(self) -> bytes:
        """What the blob header holds of it."""
        return payment_header_hash(self.account_id, self.timestamp_ns, self.cumulative_payment)


@dataclass(frozen=True)
class Payer:
    """The account that pays: a secp256k1 private key of 32 bytes."""

    private_key: bytes

    def __repr__(self) -> str:
        return f"Payer({self.account_id})"

    @property
    def address(self) -> bytes:
        """20 bytes."""
        public: bytes = PrivateKey(self.private_key).public_key.format(compressed=False)
        return keccak256(public[1:])[12:]

    @property
    def account_id(self) -> str:
        """The address with EIP-55 capitals."""
        return checksummed(self.address)

    def sign(self, digest: bytes) -> bytes:
        """r ‖ s ‖ v of a 32-byte digest, v 0 or 1."""
        signature: bytes = PrivateKey(self.private_key).sign_recoverable(digest, hasher=None)
        return signature


@dataclass(frozen=True)
class PaymentState:
    """An account at the disperser: prices, what its reservation allows, what it has deposited and used (wei)."""

    min_symbols: int
    price_per_symbol: int
    cumulative_payment: int
    deposited: int
    reserved_symbols_per_second: int
    reservation_start_s: int
    reservation_end_s: int

    def on_demand_payment(self, blob_bytes: int) -> int:
        """The cumulative payment that pays for one more blob: its 32-byte symbols, rounded up to whole minimum sizes."""
        symbols, unit = -(-blob_bytes // BYTES_PER_ELEMENT), max(1, self.min_symbols)
        return self.cumulative_payment + -(-symbols // unit) * unit * self.price_per_symbol


def anchor_hash(chain_id: int, disperser_id: int, blob_key: bytes) -> bytes:
    """What ties a dispersal to one disperser on one chain; the anchor signature is over this."""
    return keccak256(_ANCHOR_DOMAIN + chain_id.to_bytes(32, "big") + disperser_id.to_bytes(4, "big") + blob_key)


def payment_state_hash(address: bytes, timestamp_ns: int) -> bytes:
    """What a request for an account's payment state signs."""
    request = len(address).to_bytes(4, "big") + address + timestamp_ns.to_bytes(8, "big")
    return hashlib.sha256(keccak256(request)).digest()
