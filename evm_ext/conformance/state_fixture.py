"""State tests as test files hold them: one transaction on one state, for several forks and several inputs.

Formats: `state_tests` of the execution-spec tests, GeneralStateTests of ethereum/tests, and the StateTests of 2016,
which have one result and do not say of which fork.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.conformance.accounts import read_accounts
from openledger.evm_ext.conformance.values import (
    InvalidFixture,
    as_list,
    as_object,
    data,
    member,
    quantity,
    unbounded_quantity,
)
from openledger.evm_ext.transactions import AccessList, Authorization
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import BlobParameters

POSSIBLY_INVALID = "possibly invalid"
"""The exception of a case whose file does not say whether its transaction is valid: only the state shows it."""


@dataclass(frozen=True)
class StateEnvironment:
    """The block a state test's transaction is in. None stands for what the file does not say."""

    coinbase: bytes
    gas_limit: int
    number: int
    timestamp: int
    difficulty: int
    prev_randao: bytes
    base_fee_per_gas: int | None
    excess_blob_gas: int | None
    parent_excess_blob_gas: int
    parent_blob_gas_used: int


@dataclass(frozen=True)
class UnsignedTransaction:
    """A transaction's fields as a file gives them, before it is known to be one: numbers may be too large."""

    nonce: int
    gas: int
    to: bytes | None
    value: int
    data: bytes
    gas_price: int | None
    max_fee_per_gas: int | None
    max_priority_fee_per_gas: int | None
    access_list: AccessList | None
    max_fee_per_blob_gas: int | None
    blob_versioned_hashes: tuple[bytes, ...] | None
    authorizations: tuple[Authorization, ...] | None
    secret_key: bytes | None
    sender: bytes | None


@dataclass(frozen=True)
class StateCase:
    """One transaction under one fork with what must come of it.

    `raw` is the signed transaction where the file has it. `post_root` and `logs_hash` are 32 bytes."""

    name: str
    fork: str
    chain_id: int
    blobs: Mapping[str, BlobParameters]
    pre: Mapping[bytes, GenesisAccount]
    environment: StateEnvironment
    raw: bytes | None
    transaction: UnsignedTransaction
    post_root: bytes
    logs_hash: bytes | None
    exception: str | None
    post: Mapping[bytes, GenesisAccount] | None


def is_state_test(document: Any) -> bool:
    return isinstance(document, Mapping) and "transaction" in document and "pre" in document and "env" in document


def read_state_cases(name: str, document: Any, fork: str | None) -> Iterator[StateCase]:
    """The cases of one entry of a file, those of `fork` only if it is given; for a file that does not name its fork,
    `fork` says it. Raises `InvalidFixture`."""
    test = as_object(document, "the case")
    posts = test.get("post")
    if "postStateRoot" in test or not isinstance(posts, Mapping) or not _has_lists(posts):
        yield _read_single(name, test, fork)
        return
    config = as_object(test.get("config") or {}, "config")
    pre = read_accounts(member(test, "pre", "the case"), "pre")
    environment = _environment(member(test, "env", "the case"))
    for network, entries in posts.items():
        if fork is not None and network.lower() != fork.lower():
            continue
        listed = as_list(entries, f"post.{network}")
        for index, entry in enumerate(listed):
            where = f"post.{network}[{index}]"
            indexes = as_object(member(entry, "indexes", where), where)
            place = tuple(
                quantity(indexes.get(key, 0), f"{where}.indexes.{key}", 32) for key in ("data", "gas", "value")
            )
            expected = entry.get("expectException")
            yield StateCase(
                name=name if len(listed) == 1 else f"{name}[d{place[0]}g{place[1]}v{place[2]}]",
                fork=network,
                chain_id=quantity(config.get("chainid", config.get("chainId", 1)), "config.chainid", 64),
                blobs=read_blobs(config.get("blobSchedule")),
                pre=pre,
                environment=environment,
                raw=data(entry["txbytes"], f"{where}.txbytes") if entry.get("txbytes") is not None else None,
                transaction=_transaction(member(test, "transaction", "the case"), place),
                post_root=data(member(entry, "hash", where), f"{where}.hash", 32),
                logs_hash=data(entry["logs"], f"{where}.logs", 32) if entry.get("logs") is not None else None,
                exception=str(expected) if expected else None,
                post=read_accounts(entry["state"], f"{where}.state") if entry.get("state") else None,
            )


def _read_single(name: str, test: Mapping[str, Any], fork: str | None) -> StateCase:
    """The format of 2016: one result; an invalid transaction shows in nothing but the unchanged state."""
    if fork is None:
        raise InvalidFixture("the file does not name its fork: say it with --fork")
    transaction = _transaction(member(test, "transaction", "the case"), (0, 0, 0))
    return StateCase(
        name=name,
        fork=fork,
        chain_id=1,
        blobs={},
        pre=read_accounts(member(test, "pre", "the case"), "pre"),
        environment=_environment(member(test, "env", "the case")),
        raw=None,
        transaction=transaction,
        post_root=data(member(test, "postStateRoot", "the case"), "postStateRoot", 32),
        logs_hash=None,
        exception=POSSIBLY_INVALID,
        post=read_accounts(test["post"], "post") if test.get("post") else None,
    )


def read_blobs(value: Any) -> dict[str, BlobParameters]:
    """`config.blobSchedule`, with the forks' names in lower case. Raises `InvalidFixture`."""
    schedule = {}
    for fork, entry in as_object(value or {}, "config.blobSchedule").items():
        where = f"config.blobSchedule.{fork}"
        schedule[fork.lower()] = BlobParameters(
            quantity(member(entry, "target", where), f"{where}.target", 32),
            quantity(member(entry, "max", where), f"{where}.max", 32),
            quantity(member(entry, "baseFeeUpdateFraction", where), f"{where}.baseFeeUpdateFraction", 64),
        )
        if not schedule[fork.lower()].base_fee_update_fraction:
            raise InvalidFixture(f"{where}.baseFeeUpdateFraction must not be 0")
    return schedule


def _has_lists(posts: Mapping[str, Any]) -> bool:
    return bool(posts) and all(isinstance(entries, list) for entries in posts.values())


def _environment(value: Any) -> StateEnvironment:
    env = as_object(value, "env")

    def optional(name: str) -> int | None:
        return None if env.get(name) is None else quantity(env[name], f"env.{name}")

    return StateEnvironment(
        coinbase=data(member(env, "currentCoinbase", "env"), "env.currentCoinbase", 20),
        gas_limit=quantity(member(env, "currentGasLimit", "env"), "env.currentGasLimit"),
        number=quantity(member(env, "currentNumber", "env"), "env.currentNumber", 64),
        timestamp=quantity(member(env, "currentTimestamp", "env"), "env.currentTimestamp", 64),
        difficulty=optional("currentDifficulty") or 0,
        prev_randao=(optional("currentRandom") or 0).to_bytes(32, "big"),
        base_fee_per_gas=optional("currentBaseFee"),
        excess_blob_gas=optional("currentExcessBlobGas"),
        parent_excess_blob_gas=optional("parentExcessBlobGas") or 0,
        parent_blob_gas_used=optional("parentBlobGasUsed") or 0,
    )


def _transaction(value: Any, place: tuple[int, ...]) -> UnsignedTransaction:
    fields = as_object(value, "transaction")

    def chosen(name: str, index: int) -> Any:
        entry = member(fields, name, "transaction")
        if not isinstance(entry, list):
            return entry
        if index >= len(entry):
            raise InvalidFixture(f"transaction.{name} has {len(entry)} entries, the result is for number {index}")
        return entry[index]

    def optional(name: str) -> int | None:
        return None if fields.get(name) is None else unbounded_quantity(fields[name], f"transaction.{name}")

    to = data(fields.get("to") or "", "transaction.to")
    access_list: AccessList | None = None
    if fields.get("accessLists") is not None:
        listed = as_list(fields["accessLists"], "transaction.accessLists")
        if place[0] < len(listed) and listed[place[0]] is not None:
            access_list = _access_list(listed[place[0]])
    elif fields.get("accessList") is not None:
        access_list = _access_list(fields["accessList"])
    hashes = fields.get("blobVersionedHashes")
    authorizations = fields.get("authorizationList")
    secret = fields.get("secretKey")
    sender = fields.get("sender")
    return UnsignedTransaction(
        nonce=unbounded_quantity(fields.get("nonce", 0), "transaction.nonce"),
        gas=unbounded_quantity(chosen("gasLimit", place[1]), "transaction.gasLimit"),
        to=to or None,
        value=unbounded_quantity(chosen("value", place[2]), "transaction.value"),
        data=data(chosen("data", place[0]), "transaction.data"),
        gas_price=optional("gasPrice"),
        max_fee_per_gas=optional("maxFeePerGas"),
        max_priority_fee_per_gas=optional("maxPriorityFeePerGas"),
        access_list=access_list,
        max_fee_per_blob_gas=optional("maxFeePerBlobGas"),
        blob_versioned_hashes=None
        if hashes is None
        else tuple(data(item, "transaction.blobVersionedHashes") for item in as_list(hashes, "blobVersionedHashes")),
        authorizations=None
        if authorizations is None
        else tuple(_authorization(item) for item in as_list(authorizations, "transaction.authorizationList")),
        secret_key=data(secret, "transaction.secretKey").rjust(32, b"\0") if secret is not None else None,
        sender=data(sender, "transaction.sender", 20) if sender is not None else None,
    )


def _access_list(value: Any) -> AccessList:
    where = "transaction.accessLists"
    return tuple(
        (
            data(member(entry, "address", where), f"{where}.address", 20),
            tuple(quantity(key, f"{where}.storageKeys") for key in as_list(entry.get("storageKeys") or [], where)),
        )
        for entry in as_list(value, where)
    )


def _authorization(value: Any) -> Authorization:
    where = "transaction.authorizationList"
    entry = as_object(value, where)
    parity = entry.get("yParity", entry.get("v"))
    return Authorization(
        chain_id=unbounded_quantity(member(entry, "chainId", where), f"{where}.chainId"),
        address=data(member(entry, "address", where), f"{where}.address", 20),
        nonce=unbounded_quantity(member(entry, "nonce", where), f"{where}.nonce"),
        y_parity=unbounded_quantity(parity, f"{where}.yParity"),
        r=unbounded_quantity(member(entry, "r", where), f"{where}.r"),
        s=unbounded_quantity(member(entry, "s", where), f"{where}.s"),
    )
