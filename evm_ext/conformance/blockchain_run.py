"""One blockchain test: its blocks imported in order, the refused ones refused, the head and its state compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from openledger.evm_ext import errors
from openledger.evm_ext.block import (
    EMPTY_REQUESTS_HASH,
    Block,
    Header,
    HeaderForm,
    block_from_payload,
    withdrawals_trie_root,
)
from openledger.evm_ext.building import ParentState, execute_block
from openledger.evm_ext.conformance.accounts import MemoryState, difference
from openledger.evm_ext.conformance.blockchain_fixture import BlockchainCase, BlockStep, PayloadStep
from openledger.evm_ext.conformance.networks import check_excess_blob_gas, schedule_of
from openledger.evm_ext.conformance.values import InvalidFixture, as_list, as_object, data, member, quantity
from openledger.evm_ext.payload import ExecutionPayload, Withdrawal
from openledger.evm_ext.transactions import BLOB
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.genesis import Genesis

_REFUSALS = (errors.InvalidBlock, errors.InvalidTransaction, errors.UnknownParent)


def run_blockchain_case(case: BlockchainCase) -> str | None:
    """What is wrong, in words; None if the case passes. Raises `InvalidFixture`."""
    chain = _Chain(case)
    if chain.state.root != case.genesis.state_root:
        return f"pre gives the state root 0x{chain.state.root.hex()}, genesis has 0x{case.genesis.state_root.hex()}"
    for index, step in enumerate(case.steps):
        refusal: errors.ExecutionError | None = None
        try:
            header = chain.add(step)
        except _REFUSALS as error:
            refusal = error
        if refusal is not None and step.exception is None:
            return f"block {index} was refused: {refusal}"
        if refusal is None:
            if step.exception is not None:
                note = " (this client does not check seals of proof of work)" if case.checks_seals else ""
                return f"block {index} was accepted, expected {step.exception}{note}"
            if isinstance(step, BlockStep) and step.block_hash is not None and header.hash != step.block_hash:
                return f"block {index} has the hash 0x{header.hash.hex()}, expected 0x{step.block_hash.hex()}"
    if chain.head.hash != case.last_block_hash:
        return f"the head is 0x{chain.head.hash.hex()}, expected 0x{case.last_block_hash.hex()}"
    if case.post_root is not None and chain.head.state_root != case.post_root:
        return f"the state root is 0x{chain.head.state_root.hex()}, expected 0x{case.post_root.hex()}"
    if case.post is not None:
        return difference(chain.state.reader(chain.head.state_root), case.post)
    return None


class _Chain:
    """All blocks of a test in memory; its head by total difficulty, the first seen of equals, the last one of stake."""

    def __init__(self, case: BlockchainCase) -> None:
        schedule = schedule_of(case.network, case.blobs)
        genesis = case.genesis
        check_excess_blob_gas(genesis.excess_blob_gas, schedule)
        self.rules = Rules.from_genesis(
            Genesis(
                rules="ethereum",
                chain_id=case.chain_id,
                timestamp=genesis.timestamp,
                gas_limit=genesis.gas_limit,
                hardforks=schedule,
                difficulty=genesis.difficulty,
            )
        )
        self.state = MemoryState(case.pre)
        self.head = genesis
        self._blocks = {genesis.hash: Block(genesis, ())}
        self._total_difficulty = {genesis.hash: genesis.difficulty}

    def add(self, step: BlockStep | PayloadStep) -> Header:
        """Import a block. Raises one of `_REFUSALS`."""
        block = Block.decode(step.raw) if isinstance(step, BlockStep) else _block_of_payload(step)
        header = block.header
        parent_block = self._blocks.get(header.parent_hash)
        if parent_block is None:
            raise errors.UnknownParent(f"no block 0x{header.parent_hash.hex()} is known")
        if header.hash in self._blocks:
            return header
        parent = parent_block.header
        before = ParentState(
            header=parent,
            reader=self.state.reader(parent.state_root),
            ancestor_hash=lambda number: self._ancestor_hash(parent, number),
            block_by_hash=self._blocks.get,
            total_difficulty=lambda: self._total_difficulty[parent.hash],
        )
        executed = execute_block(self.rules, before, block)
        self.state.add(executed.changes)
        total = self._total_difficulty[parent.hash] + header.difficulty
        self._blocks[header.hash] = block
        self._total_difficulty[header.hash] = total
        if header.difficulty == 0 or total > self._total_difficulty[self.head.hash]:
            self.head = header
        return header

    def _ancestor_hash(self, parent: Header, number: int) -> bytes:
        ancestor = parent
        while ancestor.number > number:
            ancestor = self._blocks[ancestor.parent_hash].header
        return ancestor.hash


# --- engine_newPayload ----------------------------------------------------------------------------------


def _block_of_payload(step: PayloadStep) -> Block:
    """The block of a call's parameters, checked as the Engine API has it checked.

    Raises `UndecodableBlock`, or `HeaderFieldMismatch` if it is not the block with the payload's hash."""
    wanted = {1: 1, 2: 1, 3: 3, 4: 4}.get(step.version)
    if wanted is None:
        raise InvalidFixture(f"engine_newPayloadV{step.version} is not known")
    if len(step.parameters) != wanted:
        raise errors.UndecodableBlock(f"engine_newPayloadV{step.version} has {wanted} parameters")
    fields = as_object(step.parameters[0], "the payload")
    form = HeaderForm.LONDON
    if fields.get("withdrawals") is not None:
        form = HeaderForm.SHANGHAI
    if step.version >= 3:
        form = HeaderForm.CANCUN if step.version == 3 else HeaderForm.PRAGUE
    try:
        payload = _payload(fields, form, step.parameters[2] if wanted > 2 else None)
        requests_hash = _requests_hash(step.parameters[3]) if wanted > 3 else EMPTY_REQUESTS_HASH
        hashes = as_list(step.parameters[1], "versioned hashes") if wanted > 1 else None
        versioned = None if hashes is None else [data(item, "a versioned hash") for item in hashes]
    except InvalidFixture as error:
        raise errors.UndecodableBlock(str(error)) from None
    block = block_from_payload(payload, requests_hash, form)
    if versioned is not None:
        carried = [item for tx in block.transactions if tx.type == BLOB for item in tx.blob_versioned_hashes]
        if carried != versioned:
            raise errors.InvalidBlock(
                f"the payload's blobs are not those of the call: {len(carried)}, {len(versioned)}"
            )
    return block


def _payload(fields: Mapping[str, Any], form: HeaderForm, beacon_root: Any) -> ExecutionPayload:
    def number(name: str) -> int:
        return quantity(member(fields, name, "the payload"), name, 256 if name == "baseFeePerGas" else 64)

    def octets(name: str) -> bytes:
        return data(member(fields, name, "the payload"), name)

    withdrawals = _withdrawals(fields.get("withdrawals") or [])
    return ExecutionPayload(
        parent_hash=octets("parentHash"),
        fee_recipient=octets("feeRecipient"),
        state_root=octets("stateRoot"),
        receipts_root=octets("receiptsRoot"),
        logs_bloom=octets("logsBloom"),
        prev_randao=octets("prevRandao"),
        block_number=number("blockNumber"),
        gas_limit=number("gasLimit"),
        gas_used=number("gasUsed"),
        timestamp=number("timestamp"),
        extra_data=octets("extraData"),
        base_fee_per_gas=number("baseFeePerGas"),
        block_hash=octets("blockHash"),
        transactions=tuple(
            data(item, "transactions")
            for item in as_list(member(fields, "transactions", "the payload"), "transactions")
        ),
        withdrawals=withdrawals,
        withdrawals_root=withdrawals_trie_root(withdrawals),
        blob_gas_used=number("blobGasUsed") if form >= HeaderForm.CANCUN else 0,
        excess_blob_gas=number("excessBlobGas") if form >= HeaderForm.CANCUN else 0,
        parent_beacon_block_root=data(beacon_root, "parentBeaconBlockRoot") if form >= HeaderForm.CANCUN else bytes(32),
    )


def _withdrawals(value: Any) -> tuple[Withdrawal, ...]:
    return tuple(
        Withdrawal(
            index=quantity(member(item, "index", "a withdrawal"), "index", 64),
            validator_index=quantity(member(item, "validatorIndex", "a withdrawal"), "validatorIndex", 64),
            address=data(member(item, "address", "a withdrawal"), "address", 20),
            amount=quantity(member(item, "amount", "a withdrawal"), "amount", 64),
        )
        for item in as_list(value, "withdrawals")
    )


def _requests_hash(value: Any) -> bytes:
    """EIP-7685 over the requests of a call: in order of their types, none of them empty."""
    requests = [data(item, "executionRequests") for item in as_list(value, "executionRequests")]
    kinds = [request[:1] for request in requests]
    if any(len(request) < 2 for request in requests) or kinds != sorted(set(kinds)):
        raise errors.UndecodableBlock("executionRequests are empty or out of order")
    return hashlib.sha256(b"".join(hashlib.sha256(request).digest() for request in requests)).digest()
