"""Headers in JSON by the names of the RPC and of the public tests, of every form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openledger.evm_ext.block import HEADER_FIELDS, Header, HeaderForm
from openledger.evm_ext.errors import UndecodableBlock
from openledger.evm_ext.header_json import RPC_NAMES, header_from_json, header_to_json

BLOCK = json.loads((Path(__file__).parent / "vectors" / "op_mainnet_120794432.json").read_text())
TEST_NAMES = {
    "sha3Uncles": "uncleHash",
    "miner": "coinbase",
    "transactionsRoot": "transactionsTrie",
    "receiptsRoot": "receiptTrie",
    "logsBloom": "bloom",
}


@pytest.fixture
def document():
    return dict(BLOCK["parent"])


def header_of(form: HeaderForm) -> Header:
    whole = replace(header_from_json(BLOCK["parent"]), requests_hash=b"\x07" * 32, form=HeaderForm.PRAGUE)
    neutral = {name: type(getattr(whole, name))() for name in HEADER_FIELDS[form:]}
    return replace(whole, form=form, **{name: bytes(32) if value == b"" else value for name, value in neutral.items()})


@pytest.mark.parametrize("form", list(HeaderForm))
def test_a_header_of_each_form_comes_back(form):
    header = header_of(form)
    shown = header_to_json(header)
    assert header_from_json(shown) == header == Header.decode(header.encode())
    assert set(shown) == {"hash"} | {RPC_NAMES[name] for name in HEADER_FIELDS[:form]}


def test_a_real_header_has_its_hash_and_other_fields_of_a_block_do_not_matter(document):
    document.update(size="0x123", totalDifficulty="0x0", uncles=[], transactions=["0x12"], requestsHash=None)
    assert header_from_json(document).hash.hex() == "9506905902f5c3613c5441a8697c09e7aafdb64082924d8bd2857f9e34a47a9a"


def test_the_names_of_the_public_tests_are_read(document):
    renamed = {TEST_NAMES.get(name, name): value for name, value in document.items()}
    assert header_from_json(renamed) == header_from_json(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stateRoot": None}, "lacks stateRoot"),
        ({"baseFeePerGas": None}, "lacks baseFeePerGas"),
        ({"excessBlobGas": None}, "lacks excessBlobGas"),
        ({"stateRoot": "0x12"}, "stateRoot must have 32 bytes"),
        ({"logsBloom": "zz"}, "logsBloom must be hex"),
        ({"number": "many"}, "number must be a number"),
        ({"number": 1.5}, "number must be a number"),
        ({"number": True}, "number must be a number"),
        ({"gasUsed": "-0x1"}, "gasUsed"),
        ({"gasLimit": "0x" + "f" * 65}, "gasLimit is out of range"),
        ({"timestamp": []}, "timestamp must be a number"),
        ({"gasUsed": "0x1"}, "hash is 0x9506"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(document, change, words):
    with pytest.raises(UndecodableBlock, match=words):
        header_from_json({**document, **change})


@pytest.mark.parametrize("value", [None, [], "0x", 5])
def test_what_is_no_object_is_no_header(value):
    with pytest.raises(UndecodableBlock, match="must be an object"):
        header_from_json(value)
