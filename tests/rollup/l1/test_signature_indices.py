"""What is asked of EigenDA's OperatorStateRetriever, and which answers are believed."""

from typing import Any

import pytest
from eth_abi import decode, encode

from openledger.rollup.da.signature_indices import SignatureIndices
from openledger.rollup.l1.signature_indices import L1SignatureIndexReader
from openledger.rollup.l1.source import L1DataInvalid

RETRIEVER, COORDINATOR = b"\x11" * 20, b"\x22" * 20
NON_SIGNERS = [b"\x31" * 32, b"\x32" * 32]
STRUCT = "(uint32[],uint32[],uint32[],uint32[][])"


class Contract:
    """An L1 that gives one answer and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: tuple[bytes, bytes] = (b"", b"")

    async def call(self, to: bytes, calldata: bytes) -> bytes:
        self.asked = (to, calldata)
        return self.answer


def reader(l1: Any) -> L1SignatureIndexReader:
    return L1SignatureIndexReader(l1, RETRIEVER, COORDINATOR)


async def test_the_retriever_is_asked_about_the_block_its_quorums_and_operators() -> None:
    l1 = Contract(encode([STRUCT], [([1, 2], [3, 4], [5, 6], [[7], [8, 9]])]))
    found = await reader(l1).indices(4_000_000, b"\0\1", NON_SIGNERS)
    assert found == SignatureIndices((1, 2), (3, 4), (5, 6), ((7,), (8, 9)))
    to, calldata = l1.asked
    assert to == RETRIEVER
    assert calldata[:4].hex() == "4f739f74"  # as the deployed contracts know it
    arguments = decode(["address", "uint32", "bytes", "bytes32[]"], calldata[4:])
    assert arguments == ("0x" + COORDINATOR.hex(), 4_000_000, b"\0\1", tuple(NON_SIGNERS))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        encode([STRUCT], [([1], [3, 4], [5, 6], [[7], [8]])]),
        encode([STRUCT], [([1, 2], [3], [5, 6], [[7], [8]])]),
        encode([STRUCT], [([1, 2], [3, 4], [5, 6], [[7]])]),
    ],
)
async def test_an_answer_that_does_not_fit_the_question_is_refused(answer: bytes) -> None:
    with pytest.raises(L1DataInvalid, match="OperatorStateRetriever"):
        await reader(Contract(answer)).indices(4_000_000, b"\0\1", NON_SIGNERS)
