"""The transaction-shaped object of eth_call and its kin, and what they may pretend of accounts and blocks."""

from collections.abc import Callable
from typing import Any, TypeVar

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.overrides import BlockOverrides, StateOverride
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.transactions import Authorization
from openledger.evm_ext.vm.rules import BlockRules
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.hashing import checksummed
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.fields import field, named
from openledger.node.rpc.parameters import (
    decode_address,
    decode_bytes,
    decode_hash,
    decode_object,
    decode_quantity,
    decode_slot,
    decode_uint64,
    list_of,
)

MOST_ACCESS_LIST_ENTRIES = 10_000
MOST_OVERRIDES = 1_000
MOST_OVERRIDDEN_SLOTS = 10_000
MOST_WITHDRAWALS = 65_536

T = TypeVar("T")


def decode_call_request(value: Any, chain_id: int, rules: BlockRules | None = None) -> CallRequest:
    """Unknown fields are passed over, as geth does; `type` is one of them. With `rules`, fields of forks that are not
    active in the block are refused. Raises ValueError for a malformed field, ServerError for fields that do not fit."""
    fields = {name: item for name, item in decode_object(value).items() if item is not None}
    wanted = field(fields, "chainId", decode_quantity, chain_id)
    if wanted != chain_id:
        raise ServerError(f"chainId does not match node's (have={wanted}, want={chain_id})")
    max_fee, max_priority_fee = _fees(fields)
    request = CallRequest(
        sender=field(fields, "from", decode_address, bytes(20)),
        to=field(fields, "to", decode_address, None),
        gas=field(fields, "gas", decode_uint64, None),
        max_fee_per_gas=max_fee,
        max_priority_fee_per_gas=max_priority_fee,
        value=field(fields, "value", decode_quantity, 0),
        data=_data(fields),
        access_list=tuple(field(fields, "accessList", _ACCESS_LIST, ())),
        authorization_list=tuple(field(fields, "authorizationList", _AUTHORIZATIONS, ())),
        blob_versioned_hashes=tuple(field(fields, "blobVersionedHashes", _BLOB_HASHES, ())),
        max_fee_per_blob_gas=field(fields, "maxFeePerBlobGas", decode_quantity, 0),
        nonce=field(fields, "nonce", decode_uint64, None),
        is_legacy="gasPrice" in fields,
    )
    if rules is not None:
        _check_fork(fields, request, rules)
    return request


_FIELDS_SINCE = (
    ("authorizationList", Hardfork.PRAGUE, "set code tx"),
    ("blobVersionedHashes", Hardfork.CANCUN, "blob tx"),
    ("maxFeePerBlobGas", Hardfork.CANCUN, "blob tx"),
    ("accessList", Hardfork.BERLIN, "access list tx"),
)


def _check_fork(fields: dict[str, Any], request: CallRequest, rules: BlockRules) -> None:
    if rules.fork < Hardfork.LONDON and ("maxFeePerGas" in fields or "maxPriorityFeePerGas" in fields):
        raise ServerError("maxFeePerGas and maxPriorityFeePerGas are not valid before London is active")
    for name, since, kind in _FIELDS_SINCE:
        if name in fields and rules.fork < since:
            raise ServerError(
                f"err: transaction type not supported: {kind} (sender {checksummed(request.sender)}): "
                f"{name} is not valid before {since.name.title()}"
            )


def decode_block_overrides(value: Any) -> BlockOverrides:
    """geth's block overrides, also by the names that it had for them before. Raises ValueError."""
    fields = {name: item for name, item in decode_object(value).items() if item is not None}

    def find(decode: Callable[[Any], T], *names: str) -> T | None:
        return next((field(fields, name, decode) for name in names if name in fields), None)

    withdrawals = find(list_of(decode_withdrawal, MOST_WITHDRAWALS), "withdrawals")
    return BlockOverrides(
        number=find(decode_uint64, "number"),
        difficulty=find(decode_quantity, "difficulty"),
        timestamp=find(decode_uint64, "time"),
        gas_limit=find(decode_uint64, "gasLimit"),
        fee_recipient=find(decode_address, "feeRecipient", "coinbase"),
        prev_randao=find(decode_hash, "prevRandao", "random"),
        base_fee_per_gas=find(decode_quantity, "baseFeePerGas", "baseFee"),
        blob_base_fee=find(decode_quantity, "blobBaseFee"),
        parent_beacon_block_root=find(decode_hash, "beaconRoot"),
        withdrawals=None if withdrawals is None else tuple(withdrawals),
    )


def decode_withdrawal(value: Any) -> Withdrawal:
    """A validator withdrawal; its amount is gwei. Raises ValueError."""
    fields = decode_object(value)
    return Withdrawal(
        index=field(fields, "index", decode_uint64),
        validator_index=field(fields, "validatorIndex", decode_uint64),
        address=field(fields, "address", decode_address),
        amount=field(fields, "amount", decode_uint64),
    )


def decode_state_overrides(value: Any) -> dict[bytes, StateOverride]:
    """geth's state override set: address to what to pretend of it. Raises ValueError."""
    fields = decode_object(value)
    if len(fields) > MOST_OVERRIDES:
        raise ValueError(f"{len(fields)} overridden accounts, at most {MOST_OVERRIDES}")
    return {
        named(address, decode_address)(address): named(address, _override)(item) for address, item in fields.items()
    }


def _override(value: Any) -> StateOverride:
    # geth reads these names in any case, and its test cases make use of that.
    fields = {name.lower(): item for name, item in decode_object(value).items() if item is not None}
    if "state" in fields and "statediff" in fields:
        raise ValueError("account has both 'state' and 'stateDiff'")
    return StateOverride(
        balance=field(fields, "balance", decode_quantity, None),
        nonce=field(fields, "nonce", decode_uint64, None),
        code=field(fields, "code", decode_bytes, None),
        state=field(fields, "state", _slots, None),
        state_diff=field(fields, "statediff", _slots, {}),
        move_precompile_to=field(fields, "moveprecompiletoaddress", decode_address, None),
    )


def _slots(value: Any) -> dict[int, int]:
    fields = decode_object(value)
    if len(fields) > MOST_OVERRIDDEN_SLOTS:
        raise ValueError(f"{len(fields)} overridden slots, at most {MOST_OVERRIDDEN_SLOTS}")
    return {named(slot, decode_slot)(slot): int.from_bytes(field(fields, slot, decode_hash), "big") for slot in fields}


def _fees(fields: dict[str, Any]) -> tuple[int, int]:
    """(max fee, max priority fee) in wei per gas; a gas price is both."""
    if "gasPrice" in fields:
        if "maxFeePerGas" in fields or "maxPriorityFeePerGas" in fields:
            raise ServerError("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
        price = field(fields, "gasPrice", decode_quantity)
        return price, price
    max_fee = field(fields, "maxFeePerGas", decode_quantity, 0)
    priority = field(fields, "maxPriorityFeePerGas", decode_quantity, 0)
    return max_fee, priority


def _data(fields: dict[str, Any]) -> bytes:
    data = field(fields, "data", decode_bytes, None)
    code = field(fields, "input", decode_bytes, None)
    if data is not None and code is not None and data != code:
        raise ValueError(
            'both "data" and "input" are set and not equal. Please use "input" to pass transaction call data'
        )
    return code if code is not None else data or b""


def _access_list_entry(value: Any) -> tuple[bytes, tuple[int, ...]]:
    fields = decode_object(value)
    keys = field(fields, "storageKeys", _STORAGE_KEYS, ())
    return field(fields, "address", decode_address), tuple(int.from_bytes(key, "big") for key in keys)


def _authorization(value: Any) -> Authorization:
    fields = decode_object(value)
    return Authorization(
        chain_id=field(fields, "chainId", decode_quantity),
        address=field(fields, "address", decode_address),
        nonce=field(fields, "nonce", decode_uint64),
        y_parity=field(fields, "v" if fields.get("yParity") is None else "yParity", _decode_parity),
        r=field(fields, "r", decode_quantity),
        s=field(fields, "s", decode_quantity),
    )


def _decode_parity(value: Any) -> int:
    return decode_quantity(value, 255)


_STORAGE_KEYS = list_of(decode_hash, MOST_ACCESS_LIST_ENTRIES)
_ACCESS_LIST = list_of(_access_list_entry, MOST_ACCESS_LIST_ENTRIES)
_AUTHORIZATIONS = list_of(_authorization, MOST_OVERRIDES)
_BLOB_HASHES = list_of(decode_hash, MOST_OVERRIDES)
