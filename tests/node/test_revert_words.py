"""The errors that people run into are said in words, and the words are of errors that exist."""

from __future__ import annotations

import re

import pytest
from eth_abi import encode

from openledger.genesis.hashing import keccak256
from openledger.node import predeploy_contracts, revert_words
from openledger.node.revert_words import in_words

CONTRACTS = (
    predeploy_contracts.datanet_registry(),
    predeploy_contracts.model_registry(),
    predeploy_contracts.inference_ledger(),
    predeploy_contracts.rewards_distributor(),
)
ERRORS = {
    entry["name"]: (contract, entry) for contract in CONTRACTS for entry in contract.abi if entry["type"] == "error"
}
NAMES = [re.match(r"\w+", pattern)[0] for pattern, _ in revert_words._MEANINGS]  # type: ignore[index]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_a_contract_becomes_a_sentence(name: str) -> None:
    contract, entry = ERRORS[name]
    types = [i["type"] for i in entry["inputs"]]
    values = ["0x" + "ab" * 20 if t == "address" else b"\x07" * 32 if t == "bytes32" else 3 for t in types]
    selector = keccak256(f"{name}({','.join(types)})".encode())[:4]
    explained = contract.explain(selector + encode(types, values))
    assert explained.startswith(name + "(")
    said = in_words(explained)
    assert name not in said
    assert "{" not in said


def test_other_messages_stay_as_they_are() -> None:
    assert in_words("SomethingElse(value 3)") == "SomethingElse(value 3)"
