"""Tracing changes nothing, under the rules of every fork: random programs with and without a tracer."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from openledger.evm_ext.block import EMPTY_UNCLES_HASH, Block, Header, header_form
from openledger.evm_ext.building import ParentState
from openledger.evm_ext.conformance.accounts import MemoryState
from openledger.evm_ext.receipts import BLOOM_BYTES
from openledger.evm_ext.tracing import BlockReplay, Budget, new_tracer
from openledger.evm_ext.transactions import sign_transaction
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hardforks import Hardfork, HardforkSchedule

CONTRACTS = [bytes([fill]) * 20 for fill in (0xA1, 0xA2, 0xA3)]
GWEI = 10**9


def _header(fork: Hardfork) -> Header:
    merged = fork >= Hardfork.PARIS
    return Header(
        parent_hash=bytes(32),
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=b"\xfe" * 20,
        state_root=EMPTY_ROOT,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=0 if merged else 131_072,
        number=5,
        gas_limit=30_000_000,
        gas_used=0,
        timestamp=1000,
        extra_data=b"",
        prev_randao=bytes(31) + b"\x07",
        nonce=bytes(8),
        base_fee_per_gas=7 if fork >= Hardfork.LONDON else 0,
        form=header_form(fork),
    )


@pytest.mark.parametrize("fork", [fork for fork in Hardfork if fork != Hardfork.DAO_FORK], ids=lambda fork: fork.name)
def test_a_traced_block_is_the_same_block(tools, fork):
    chance = random.Random(fork)
    rules = Rules.from_genesis(
        Genesis(rules="ethereum", chain_id=1337, timestamp=0, gas_limit=1, hardforks=HardforkSchedule.always(fork))
    )
    header = _header(fork)
    assert rules.of(header).fork == fork
    for _ in range(4):
        accounts = {
            address: GenesisAccount(nonce=1, balance=20, code=tools.random_program(chance, CONTRACTS))
            for address in CONTRACTS
        }
        if fork >= Hardfork.PRAGUE:
            accounts |= tools.system_contracts
        accounts[tools.ADDRESSES[0]] = GenesisAccount(balance=tools.ETHER)
        state = MemoryState(accounts)
        transactions = tuple(
            sign_transaction(
                tools.KEYS[0],
                chain_id=1337 if fork >= Hardfork.SPURIOUS_DRAGON else None,
                nonce=nonce,
                to=chance.choice((*CONTRACTS, None)),
                type=0,
                gas=chance.choice((60_000, 400_000)),
                max_fee_per_gas=GWEI,
                value=chance.choice((0, 3)),
                data=chance.randbytes(30),
            )
            for nonce in range(3)
        )
        block = Block(header, transactions)
        parent = ParentState(replace(header, number=4), state.reader(state.root), lambda number: bytes([number]) * 32)
        plain = BlockReplay(rules, parent, block)
        plain.skip_to(len(transactions))
        expected = plain.processor.finish()
        for name in ("", "callTracer", "prestateTracer"):
            replay = BlockReplay(rules, parent, block)
            results = []
            for _ in transactions:
                tracer = new_tracer(name, {}, Budget(50_000_000))
                replay.trace_next(tracer)
                results.append(tracer.result())
            executed = replay.processor.finish()
            assert executed.receipts == expected.receipts
            assert executed.changes.root == expected.changes.root
            if name == "":
                for result, receipt in zip(results, expected.receipts):
                    assert result["gas"] == receipt.gas_used
                    _check_gas_adds_up(result["structLogs"])


@pytest.mark.parametrize(("fork", "refund"), [(Hardfork.ISTANBUL, 24_000), (Hardfork.LONDON, 0)])
def test_a_self_destruct_counts_in_the_refund_until_london(tools, fork, refund):
    rules = Rules.from_genesis(
        Genesis(rules="ethereum", chain_id=1337, timestamp=0, gas_limit=1, hardforks=HardforkSchedule.always(fork))
    )
    caller, mortal = CONTRACTS[:2]
    code = "6000600060006000600073" + mortal.hex() + "5af100"
    state = MemoryState(
        {
            caller: GenesisAccount(nonce=1, code=bytes.fromhex(code)),
            mortal: GenesisAccount(nonce=1, code=bytes.fromhex("33ff")),
            tools.ADDRESSES[0]: GenesisAccount(balance=tools.ETHER),
        }
    )
    transaction = sign_transaction(
        tools.KEYS[0], chain_id=1337, nonce=0, to=caller, type=0, gas=100_000, max_fee_per_gas=GWEI
    )
    block = Block(_header(fork), (transaction,))
    parent = ParentState(replace(block.header, number=4), state.reader(state.root), lambda number: bytes(32))
    tracer = new_tracer("", {}, Budget(100_000))
    BlockReplay(rules, parent, block).trace_next(tracer)
    rows = tracer.result()["structLogs"]
    assert (rows[-1]["op"], rows[-1].get("refund", 0)) == ("STOP", refund)


def test_rows_of_execution_apis_are_ours(tools):
    case = json.loads(Path(__file__).with_name("vectors").joinpath("execution_apis.json").read_text())
    fork = Hardfork[case["fork"]]
    rules = Rules.from_genesis(
        Genesis(rules="ethereum", chain_id=1337, timestamp=0, gas_limit=1, hardforks=HardforkSchedule.always(fork))
    )
    state = MemoryState({tools.ADDRESSES[0]: GenesisAccount(balance=tools.ETHER)})
    data = bytes.fromhex(case["input"][2:])
    fields = {"chain_id": None, "nonce": 0, "to": None, "type": 0, "max_fee_per_gas": GWEI}
    transaction = sign_transaction(tools.KEYS[0], gas=case["gas"], data=data, **fields)
    block = Block(_header(fork), (transaction,))
    parent = ParentState(replace(block.header, number=4), state.reader(state.root), lambda number: bytes(32))
    tracer = new_tracer("", case["options"], Budget(100_000))
    BlockReplay(rules, parent, block).trace_next(tracer)
    assert tracer.result() == case["result"]


def _check_gas_adds_up(rows):
    """Between two rows of one message without another in between, the gas goes down by the cost of the first."""
    for row, following in pairwise(rows):
        if row["depth"] == following["depth"] and "CREATE" not in row["op"] and "CALL" not in row["op"]:
            assert row["gas"] - row["gasCost"] == following["gas"], (row, following)
