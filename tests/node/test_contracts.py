"""Calls, events and reverts are encoded and read by a contract's ABI."""

import json

import pytest
from eth_abi import encode
from web3 import Web3

from openledger.node.contracts import Contract, UnknownEntry

ABI = json.loads(
    """[
 {"type":"function","name":"transfer","inputs":[{"name":"to","type":"address"},{"name":"amount","type":"uint256"}],"outputs":[{"name":"","type":"bool"}]},
 {"type":"function","name":"settle","inputs":[{"name":"parts","type":"tuple[]","components":[{"name":"id","type":"uint32"},{"name":"root","type":"bytes32"}]}],"outputs":[]},
 {"type":"event","name":"Transfer","inputs":[{"name":"from","type":"address","indexed":true},{"name":"to","type":"address","indexed":true},{"name":"amount","type":"uint256","indexed":false}]},
 {"type":"error","name":"TooLittle","inputs":[{"name":"needed","type":"uint256"},{"name":"had","type":"uint256"}]}
]"""
)
TOKEN = Contract(b"\x11" * 20, ABI)


def test_calldata_is_what_web3_makes_of_the_same_call() -> None:
    peer = Web3().eth.contract(abi=ABI)
    to = "0x" + "22" * 20
    assert TOKEN.encode("transfer", to, 5) == bytes.fromhex(
        peer.encode_abi("transfer", [Web3.to_checksum_address(to), 5])[2:]
    )
    parts = [(7, b"\x01" * 32), (8, b"\x02" * 32)]
    assert TOKEN.encode("settle", parts) == bytes.fromhex(peer.encode_abi("settle", [parts])[2:])


def test_an_event_is_read_with_its_indexed_and_plain_arguments() -> None:
    topics = [TOKEN.topic("Transfer"), b"\0" * 12 + b"\x33" * 20, b"\0" * 12 + b"\x44" * 20]
    event = TOKEN.event(topics, encode(["uint256"], [9]))
    assert event is not None
    assert event.name == "Transfer"
    assert event.arguments == {"from": "0x" + "33" * 20, "to": "0x" + "44" * 20, "amount": 9}
    assert TOKEN.event([b"\0" * 32], b"") is None
    assert TOKEN.event([], b"") is None


@pytest.mark.parametrize(
    ("revert", "said"),
    [
        (b"", "without a reason"),
        (bytes.fromhex("08c379a0") + encode(["string"], ["no funds"]), "no funds"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "arithmetic overflow"),
        (
            Web3.keccak(text="TooLittle(uint256,uint256)")[:4] + encode(["uint256"] * 2, [5, 3]),
            "TooLittle(needed 5, had 3)",
        ),
        (b"\x08\xc3\x79\xa0\xff", "0x08c379a0ff"),
    ],
)
def test_a_revert_is_explained(revert: bytes, said: str) -> None:
    assert said in TOKEN.explain(bytes(revert))


def test_an_unknown_function_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownEntry, match="transfer"):
        TOKEN.encode("transferAll")
