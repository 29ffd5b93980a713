"""Blockchain tests as test files hold them: blocks, valid and invalid, one after the other.

Formats: `blockchain_tests` and `blockchain_tests_engine` of the execution-spec tests, BlockchainTests of
ethereum/tests, and those of 2016, which do not say of which fork they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.block import Header
from openledger.evm_ext.conformance.accounts import read_accounts
from openledger.evm_ext.conformance.state_fixture import read_blobs
from openledger.evm_ext.conformance.values import InvalidFixture, as_list, as_object, data, member, quantity
from openledger.evm_ext.errors import UndecodableBlock
from openledger.evm_ext.header_json import header_from_json
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import BlobParameters


@dataclass(frozen=True)
class BlockStep:
    """A block to import. `exception` is why it has to be refused, None if it has to be accepted; `block_hash` is what
    the file says of it, where it does."""

    raw: bytes
    exception: str | None
    block_hash: bytes | None


@dataclass(frozen=True)
class PayloadStep:
    """The parameters of an `engine_newPayload` of a version; `exception` as in `BlockStep`."""

    version: int
    parameters: list[Any]
    exception: str | None


@dataclass(frozen=True)
class BlockchainCase:
    """A chain from its first block on. `checks_seals`: the blocks carry real proofs of work, and some may be invalid for
    nothing but their seal; files of 2016, which do not say, are such."""

    name: str
    network: str
    chain_id: int
    blobs: Mapping[str, BlobParameters]
    pre: Mapping[bytes, GenesisAccount]
    genesis: Header
    steps: tuple[BlockStep | PayloadStep, ...]
    last_block_hash: bytes
    post: Mapping[bytes, GenesisAccount] | None
    post_root: bytes | None
    checks_seals: bool


def is_blockchain_test(document: Any) -> bool:
    return isinstance(document, Mapping) and ("blocks" in document or "engineNewPayloads" in document)


def read_blockchain_case(name: str, document: Any, fork: str | None) -> BlockchainCase | None:
    """The case, None if it is of another network than `fork`. For a file that does not name its network, `fork` says
    it. Raises `InvalidFixture`."""
    test = as_object(document, "the case")
    config = as_object(test.get("config") or {}, "config")
    network = test.get("network", config.get("network"))
    if network is None:
        if fork is None:
            raise InvalidFixture("the file does not name its network: say it with --fork")
        network = fork
    elif fork is not None and str(network).lower() != fork.lower():
        return None
    genesis = _genesis(test)
    post = test.get("postState")
    post_root = test.get("postStateHash")
    return BlockchainCase(
        name=name,
        network=str(network),
        chain_id=quantity(config.get("chainid", config.get("chainId", 1)), "config.chainid", 64),
        blobs=read_blobs(config.get("blobSchedule")),
        pre=read_accounts(member(test, "pre", "the case"), "pre"),
        genesis=genesis,
        steps=_payload_steps(test) if "engineNewPayloads" in test else _block_steps(test),
        last_block_hash=data(member(test, "lastblockhash", "the case"), "lastblockhash", 32),
        post=read_accounts(post, "postState") if isinstance(post, Mapping) else None,
        post_root=data(post_root, "postStateHash", 32) if post_root is not None else None,
        checks_seals=test.get("sealEngine", "Ethash") == "Ethash",
    )


def _genesis(test: Mapping[str, Any]) -> Header:
    try:
        return header_from_json(member(test, "genesisBlockHeader", "the case"))
    except UndecodableBlock as error:
        raise InvalidFixture(f"genesisBlockHeader: {error}") from None


def _block_steps(test: Mapping[str, Any]) -> tuple[BlockStep, ...]:
    steps = []
    for index, entry in enumerate(as_list(test["blocks"], "blocks")):
        where = f"blocks[{index}]"
        block = as_object(entry, where)
        header = block.get("blockHeader")
        exception = _exception(block)
        if exception is None and header is None:
            exception = "invalid"  # older files: a block without its header written out is to be refused
        claimed = header.get("hash") if isinstance(header, Mapping) else None
        steps.append(
            BlockStep(
                raw=_lenient_bytes(member(block, "rlp", where), f"{where}.rlp"),
                exception=exception,
                block_hash=data(claimed, f"{where}.blockHeader.hash", 32) if claimed and exception is None else None,
            )
        )
    return tuple(steps)


def _exception(block: Mapping[str, Any]) -> str | None:
    for key, value in block.items():
        if key.startswith("expectException") and value:
            return str(value)
    return None


def _lenient_bytes(value: Any, where: str) -> bytes:
    """As `data`; but some files hold blocks that are not even hex, to be refused."""
    try:
        return data(value, where)
    except InvalidFixture:
        if isinstance(value, str):
            return value.encode()
        raise


def _payload_steps(test: Mapping[str, Any]) -> tuple[PayloadStep, ...]:
    steps = []
    for index, entry in enumerate(as_list(test["engineNewPayloads"], "engineNewPayloads")):
        where = f"engineNewPayloads[{index}]"
        call = as_object(entry, where)
        exception = call.get("validationError") or call.get("errorCode")
        steps.append(
            PayloadStep(
                version=quantity(call.get("newPayloadVersion", call.get("version")), f"{where}.newPayloadVersion", 8),
                parameters=as_list(member(call, "params", where), f"{where}.params"),
                exception=str(exception) if exception else None,
            )
        )
    return tuple(steps)
