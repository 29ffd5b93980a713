"""A case: a state, a block, one transaction. An outcome: what became of it. Both as JSON, for vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import Authorization, Transaction, sign_transaction
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.hashing import keccak256

KEYS = tuple(keccak256(b"fuzz key %d" % number) for number in range(4))
SENDER_KEY = KEYS[0]
SENDER = address_of(SENDER_KEY)
CHAIN_ID = 31337
ETHER = 10**18
BLOCK_GAS_LIMIT = 30_000_000
_SCALARS = ("value", "nonce", "type", "max_fee", "priority_fee", "max_blob_fee", "is_op")


@dataclass(frozen=True)
class BlockValues:
    """What a transaction can see of its block."""

    number: int = 20
    timestamp: int = 2_000_000_000
    coinbase: bytes = b"\xcb" * 20
    gas_limit: int = BLOCK_GAS_LIMIT
    base_fee: int = 0
    prev_randao: bytes = b"\x5a" * 32
    difficulty: int = 0
    excess_blob_gas: int = 0
    ancestors: Mapping[int, bytes] = field(default_factory=dict)
    """Hashes of earlier blocks by number; those not here hash to Keccak-256 of their decimal number."""

    def ancestor_hash(self, number: int) -> bytes:
        known = self.ancestors.get(number)
        return keccak256(b"%d" % number) if known is None else known


@dataclass(frozen=True)
class Case:
    """One transaction of `SENDER` on a state. Fees of 0 are allowed; the types are Ethereum's."""

    fork: Hardfork
    accounts: Mapping[bytes, GenesisAccount]
    to: bytes | None
    gas: int
    data: bytes = b""
    value: int = 0
    nonce: int = 0
    type: int = 0
    max_fee: int = 0
    priority_fee: int = 0
    access_list: tuple[tuple[bytes, tuple[int, ...]], ...] = ()
    authorizations: tuple[Authorization, ...] = ()
    blob_hashes: tuple[bytes, ...] = ()
    max_blob_fee: int = 0
    is_op: bool = False
    """Whether the rules are an OP chain's, Isthmus', with the fees that its L1Block contract names."""
    before: tuple[bytes, ...] = ()
    """Signed transactions that the block has before this one; those that are not valid are left out."""
    block: BlockValues = BlockValues()

    @cached_property
    def transaction(self) -> Transaction:
        """The transaction, signed."""
        return sign_transaction(
            SENDER_KEY,
            type=self.type,
            chain_id=CHAIN_ID if self.type or self.fork >= Hardfork.SPURIOUS_DRAGON else None,
            nonce=self.nonce,
            gas=self.gas,
            to=self.to,
            value=self.value,
            data=self.data,
            max_fee_per_gas=self.max_fee,
            max_priority_fee_per_gas=self.max_fee if self.type < 2 else self.priority_fee,
            access_list=self.access_list,
            authorization_list=self.authorizations,
            max_fee_per_blob_gas=self.max_blob_fee,
            blob_versioned_hashes=self.blob_hashes,
        )

    def to_json(self) -> dict[str, Any]:
        """The inverse of `case_from_json`; fields with their default value are left out."""
        found: dict[str, Any] = {"fork": self.fork.name}
        found["accounts"] = {
            address.hex(): {
                "balance": account.balance,
                "nonce": account.nonce,
                "code": account.code.hex(),
                "storage": {str(slot): value for slot, value in account.storage.items()},
            }
            for address, account in self.accounts.items()
        }
        found["to"] = None if self.to is None else self.to.hex()
        found["gas"] = self.gas
        found["data"] = self.data.hex()
        for name in _SCALARS:
            if getattr(self, name):
                found[name] = getattr(self, name)
        if self.access_list:
            found["access_list"] = [[address.hex(), list(slots)] for address, slots in self.access_list]
        if self.authorizations:
            found["authorizations"] = [
                [item.chain_id, item.address.hex(), item.nonce, item.y_parity, item.r, item.s]
                for item in self.authorizations
            ]
        if self.before:
            found["before"] = [item.hex() for item in self.before]
        if self.blob_hashes:
            found["blob_hashes"] = [item.hex() for item in self.blob_hashes]
        block = {
            item.name: value.hex() if isinstance(value := getattr(self.block, item.name), bytes) else value
            for item in fields(BlockValues)
            if item.name != "ancestors" and value_differs(self.block, item.name)
        }
        if self.block.ancestors:
            block["ancestors"] = {str(number): known.hex() for number, known in self.block.ancestors.items()}
        if block:
            found["block"] = block
        return found


def value_differs(block: BlockValues, name: str) -> bool:
    return bool(getattr(block, name) != getattr(BlockValues(), name))


def case_from_json(found: Mapping[str, Any]) -> Case:
    """The inverse of `Case.to_json`."""
    block = dict(found.get("block", {}))
    for name in ("coinbase", "prev_randao"):
        if name in block:
            block[name] = bytes.fromhex(block[name])
    if "ancestors" in block:
        block["ancestors"] = {int(number): bytes.fromhex(known) for number, known in block["ancestors"].items()}
    case = Case(
        fork=Hardfork[found["fork"]],
        accounts={
            bytes.fromhex(address): GenesisAccount(
                balance=account["balance"],
                nonce=account["nonce"],
                code=bytes.fromhex(account["code"]),
                storage={int(slot): value for slot, value in account["storage"].items()},
            )
            for address, account in found["accounts"].items()
        },
        to=None if found["to"] is None else bytes.fromhex(found["to"]),
        gas=found["gas"],
        data=bytes.fromhex(found["data"]),
        access_list=tuple((bytes.fromhex(a), tuple(slots)) for a, slots in found.get("access_list", ())),
        authorizations=tuple(
            Authorization(chain_id, bytes.fromhex(address), nonce, y_parity, r, s)
            for chain_id, address, nonce, y_parity, r, s in found.get("authorizations", ())
        ),
        blob_hashes=tuple(map(bytes.fromhex, found.get("blob_hashes", ()))),
        before=tuple(map(bytes.fromhex, found.get("before", ()))),
        block=BlockValues(**block),
    )
    return replace(case, **{name: found[name] for name in _SCALARS if name in found})


@dataclass(frozen=True)
class AccountAfter:
    """An account as a runner reports it. `storage` has no zeros."""

    balance: int
    nonce: int
    code: bytes
    storage: Mapping[int, int]

    @property
    def is_nothing(self) -> bool:
        return not (self.balance or self.nonce or self.code or self.storage)


@dataclass(frozen=True)
class Outcome:
    """What a runner says of a case. `refused`: the transaction is not valid, and nothing else is known. `output` is
    None where a runner cannot tell. `accounts` leaves out what is empty."""

    refused: bool
    success: bool = False
    gas_used: int = 0
    output: bytes | None = None
    logs: tuple[tuple[bytes, tuple[bytes, ...], bytes], ...] = ()
    accounts: Mapping[bytes, AccountAfter] = field(default_factory=dict)
    error: str = ""
    """In the runner's words; not compared."""

    @property
    def slots(self) -> dict[bytes, set[int]]:
        """All slots it knows a value of, by account."""
        return {address: set(account.storage) for address, account in self.accounts.items()}


REFUSED = Outcome(True)


def difference(one: Outcome, other: Outcome) -> str | None:
    """The first thing that two outcomes do not agree on, in words; None if they agree."""
    if one.refused or other.refused:
        if one.refused != other.refused:
            return f"refused: {one.refused} and {other.refused} ({one.error or other.error})"
        return None
    if one.success != other.success:
        return f"success: {one.success} and {other.success} ({one.error or other.error})"
    if one.gas_used != other.gas_used:
        return f"gas used: {one.gas_used} and {other.gas_used} ({one.error or other.error})"
    if one.output is not None and other.output is not None and one.output != other.output:
        return f"output: {one.output.hex()} and {other.output.hex()}"
    if one.logs != other.logs:
        return f"logs: {one.logs} and {other.logs}"
    for address in sorted(set(one.accounts) | set(other.accounts)):
        nothing = AccountAfter(0, 0, b"", {})
        mine, theirs = one.accounts.get(address, nothing), other.accounts.get(address, nothing)
        for name in ("balance", "nonce", "code", "storage"):
            if getattr(mine, name) != getattr(theirs, name):
                return f"{name} of {address.hex()}: {getattr(mine, name)!r} and {getattr(theirs, name)!r}"
    return None
