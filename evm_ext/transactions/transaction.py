"""`Transaction`: one of any type, together with the bytes it came as."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import encode_sequence, encode_uint
from openledger.evm_ext.errors import InvalidSignature
from openledger.evm_ext.fees import flz_compress_len
from openledger.evm_ext.kept import kept, quickly_made
from openledger.evm_ext.signatures import SECP256K1_HALF_N, SECP256K1_N, recover_address
from openledger.evm_ext.transactions.authorization import Authorization
from openledger.evm_ext.transactions.deposit import DepositTransaction
from openledger.evm_ext.transactions.fields import legacy_fields, typed_fields
from openledger.evm_ext.transactions.kinds import DEPOSIT, LEGACY, AccessList
from openledger.genesis.hashing import keccak256

SIGNED_PAYLOAD = "_signed_payload"


@quickly_made
@dataclass(frozen=True, eq=False)
class Transaction:
    """A transaction of any type. Fields a type does not have keep their defaults.

    `raw` is the canonical encoding (EIP-2718 envelope, or the bare list for type 0). For types 0 and 1
    both fee fields equal the gas price. `to` None creates a contract. For type 0x7E `deposit` holds what
    only deposits have, all fee fields and the nonce are 0 and there is no signature. Equal if the hash is.
    """

    raw: bytes
    type: int
    chain_id: int | None
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: bytes | None
    value: int
    data: bytes
    access_list: AccessList = ()
    max_fee_per_blob_gas: int = 0
    blob_versioned_hashes: tuple[bytes, ...] = ()
    authorization_list: tuple[Authorization, ...] = ()
    y_parity: int = 0
    r: int = 0
    s: int = 0
    deposit: DepositTransaction | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transaction) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    @kept
    def hash(self) -> bytes:
        return keccak256(self.raw)

    @kept
    def sender(self) -> bytes:
        """Who signed (or, for a deposit, who L1 says). Recovered on first use, then kept.

        Raises `InvalidSignature`; of a high s only for transactions that name their chain, since without one they may be
        older than EIP-2 (`vm.validity` knows). The recovery releases the GIL."""
        if self.deposit is not None:
            return self.deposit.sender
        if self.s > SECP256K1_HALF_N and self.chain_id is not None:
            raise InvalidSignature(f"invalid sender: signature s is above half the curve order (EIP-2): {self.s:#x}")
        if not 0 < self.r < SECP256K1_N or self.s == 0:
            raise InvalidSignature("invalid sender: signature r or s out of range")
        sender = recover_address(self.signing_hash, self.y_parity, self.r, self.s)
        if sender is None:
            raise InvalidSignature("invalid sender: no public key can be recovered from the signature")
        return sender

    @kept
    def signing_hash(self) -> bytes:
        """The 32 bytes that the sender signed."""
        payload: bytes | None = self.__dict__.get(SIGNED_PAYLOAD)
        if payload is not None:
            return keccak256(self.raw[:1] + encode_sequence((payload,)))
        if self.type == LEGACY:
            fields = list(legacy_fields(self))
            if self.chain_id is not None:
                fields += (encode_uint(self.chain_id), encoding.EMPTY_STRING, encoding.EMPTY_STRING)
            return keccak256(encode_sequence(fields))
        return keccak256(bytes((self.type,)) + encode_sequence(typed_fields(self)))

    @property
    def gas_price(self) -> int:
        """The most per gas; for types 0 and 1 the price itself."""
        return self.max_fee_per_gas

    def effective_gas_price(self, base_fee_per_gas: int) -> int:
        """Wei per gas paid in a block with this base fee (EIP-1559); 0 for a deposit."""
        return min(self.max_fee_per_gas, base_fee_per_gas + self.max_priority_fee_per_gas)

    def effective_tip(self, base_fee_per_gas: int) -> int:
        """Wei per gas that go to the block's fee recipient; negative if the fee cap is below the base fee."""
        return min(self.max_priority_fee_per_gas, self.max_fee_per_gas - base_fee_per_gas)

    @property
    def v(self) -> int:
        """The signature's v as JSON-RPC shows it: EIP-155 for protected type 0, else the parity."""
        if self.type != LEGACY:
            return self.y_parity
        return self.y_parity + (27 if self.chain_id is None else 35 + 2 * self.chain_id)

    @property
    def is_create(self) -> bool:
        return self.to is None

    @kept
    def flz_size(self) -> int:
        """Length in bytes of the encoding after FastLZ, which the L1 fee is charged on (Fjord)."""
        return flz_compress_len(self.raw)


def transaction_from_deposit(deposit: DepositTransaction) -> Transaction:
    """The deposit in the form that blocks hold."""
    return Transaction(
        raw=deposit.encode(),
        type=DEPOSIT,
        chain_id=None,
        nonce=0,
        max_priority_fee_per_gas=0,
        max_fee_per_gas=0,
        gas=deposit.gas,
        to=deposit.to,
        value=deposit.value,
        data=deposit.data,
        deposit=deposit,
    )
