"""What is asked of EigenDA's relay registry and of its operators' registries, and which answers are believed."""

from typing import Any

import pytest
from eth_abi import decode, encode

from openledger.rollup.da.assignment import Operator
from openledger.rollup.l1.operator_directory import L1OperatorDirectory
from openledger.rollup.l1.relay_registry import L1RelayDirectory
from openledger.rollup.l1.source import L1DataInvalid

REGISTRY, COORDINATOR = b"\x11" * 20, b"\x22" * 20
STATE = ["(address,bytes32,uint96)[][]", "string[][]"]
ADDRESS = "0x" + "77" * 20


class Contract:
    """An L1 that gives one answer and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: tuple[bytes, bytes] = (b"", b"")

    async def call(self, to: bytes, calldata: bytes) -> bytes:
        self.asked = (to, calldata)
        return self.answer


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("relay-0-mainnet-ethereum.eigenda.xyz:443", "relay-0-mainnet-ethereum.eigenda.xyz:443"),
        ("https://relay:443/", "relay:443"),
        ("", None),
    ],
)
async def test_a_relays_key_is_looked_up(url: str, target: str | None) -> None:
    l1: Any = Contract(encode(["string"], [url]))
    assert await L1RelayDirectory(l1, REGISTRY).relay(7) == target
    to, calldata = l1.asked
    assert to == REGISTRY
    assert calldata.hex() == "631eabb8" + f"{7:064x}"  # as the deployed contract knows it


async def test_operators_of_each_quorum_come_with_stake_and_socket() -> None:
    one, two = b"\x31" * 32, b"\x32" * 32
    operators = [[(ADDRESS, one, 5), (ADDRESS, two, 6)], [(ADDRESS, two, 7)]]
    l1: Any = Contract(encode(STATE, [operators, [["a:1;2;3;4", "b:1;2;3;4"], ["b:1;2;3;4"]]]))
    found = await L1OperatorDirectory(l1, REGISTRY, COORDINATOR).operators(4_000_000, b"\0\1")
    assert found == {
        0: [Operator(one, 5, "a:1;2;3;4"), Operator(two, 6, "b:1;2;3;4")],
        1: [Operator(two, 7, "b:1;2;3;4")],
    }
    to, calldata = l1.asked
    assert to == REGISTRY
    arguments = decode(["address", "bytes", "uint32"], calldata[4:])
    assert arguments == ("0x" + COORDINATOR.hex(), b"\0\1", 4_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        encode(STATE, [[[(ADDRESS, b"\x31" * 32, 5)]], [["a"]]]),
        encode(STATE, [[[(ADDRESS, b"\x31" * 32, 5)], []], [[], []]]),
    ],
)
async def test_an_answer_that_does_not_fit_the_question_is_refused(answer: bytes) -> None:
    l1: Any = Contract(answer)
    with pytest.raises(L1DataInvalid, match="OperatorStateRetriever"):
        await L1OperatorDirectory(l1, REGISTRY, COORDINATOR).operators(1, b"\0\1")


async def test_an_address_without_a_registry_is_named() -> None:
    l1: Any = Contract(b"")
    with pytest.raises(L1DataInvalid, match=r"0x1111.* is not a relay registry"):
        await L1RelayDirectory(l1, REGISTRY).relay(0)
