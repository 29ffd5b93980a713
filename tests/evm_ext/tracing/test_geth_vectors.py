"""Traces published by go-ethereum and op-geth, on the forks of their time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openledger.evm_ext.block import EMPTY_UNCLES_HASH, Block, Header, header_form
from openledger.evm_ext.building import ParentState
from openledger.evm_ext.conformance.accounts import MemoryState
from openledger.evm_ext.receipts import BLOOM_BYTES
from openledger.evm_ext.tracing import BlockReplay, Budget, new_tracer
from openledger.evm_ext.transactions import decode_transaction
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.genesis import Genesis, GenesisAccount, encode_holocene_extra_data
from openledger.genesis.hardforks import Hardfork, HardforkSchedule

CASES = json.loads(Path(__file__).with_name("vectors").joinpath("geth.json").read_text())


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _accounts(alloc) -> dict[bytes, GenesisAccount]:
    return {
        _bytes(address): GenesisAccount(
            balance=int(account.get("balance", "0x0"), 16),
            nonce=int(account.get("nonce", "0")),
            code=_bytes(account.get("code", "0x")),
            storage={int(slot, 16): int(value, 16) for slot, value in account.get("storage", {}).items()},
        )
        for address, account in alloc.items()
    }


def _genesis(case) -> Genesis:
    if "config" in case:
        return Genesis(
            rules="ethereum",
            chain_id=case["config"]["chainId"],
            timestamp=0,
            gas_limit=1,
            hardforks=HardforkSchedule.from_config(case["config"]),
        )
    return Genesis(rules="op", chain_id=10, timestamp=0, gas_limit=1, extra_data=encode_holocene_extra_data(250, 6))


def _header(case, rules: Rules) -> Header:
    context = {name: int(value, 16 if value.startswith("0x") else 10) for name, value in case["context"].items()}
    number, timestamp = context["number"], context["timestamp"]
    header = Header(
        parent_hash=bytes(32),
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=context["miner"].to_bytes(20, "big"),
        state_root=EMPTY_ROOT,
        transactions_root=EMPTY_ROOT,
        receipts_root=EMPTY_ROOT,
        logs_bloom=bytes(BLOOM_BYTES),
        difficulty=context["difficulty"],
        number=number,
        gas_limit=context["gasLimit"],
        gas_used=0,
        timestamp=timestamp,
        extra_data=b"",
        prev_randao=bytes(32),
        nonce=bytes(8),
        base_fee_per_gas=context.get("baseFeePerGas", 0),
    )
    fork = Hardfork.PRAGUE if rules.is_op else rules.at(number, timestamp, merged=not header.difficulty).fork
    return replace(header, form=header_form(fork))


@pytest.mark.parametrize("case", CASES, ids=[case["source"].split()[1] for case in CASES])
def test_a_published_trace_is_ours(case):
    rules = Rules.from_genesis(_genesis(case))
    state = MemoryState(_accounts(case["alloc"]))
    block = Block(_header(case, rules), (decode_transaction(_bytes(case["input"])),))
    parent = ParentState(
        replace(block.header, number=block.header.number - 1), state.reader(state.root), lambda _number: bytes(32)
    )
    replay = BlockReplay(rules, parent, block)
    tracer = new_tracer(case["tracer"], case.get("tracerConfig", {}), Budget(10_000_000))
    replay.trace_next(tracer)
    result = json.loads(json.dumps(tracer.result()))
    if case["tracer"] == "flatCallTracer":
        for row in result:  # the files know no block
            del row["blockHash"]
            del row["transactionHash"]
    if "before answers had code hashes" in case["source"]:
        for accounts in result.values():
            for account in accounts.values():
                account.pop("codeHash", None)
    expected = case["result"]
    if "added_later" in case:
        expected = expected | {name: value for name, value in case["added_later"].items() if name != "reason"}
    assert result == expected
