"""The output oracle on L1: which L2 output roots were proposed (OP-Stack, L2OutputOracle)."""

from dataclasses import dataclass
from typing import Any

from eth_abi import encode
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from openledger.genesis.hashing import keccak256
from openledger.rollup.l1.source import L1DataInvalid, L1Submitter


@dataclass(frozen=True)
class ProposedOutput:
    """An output root as it stands on L1; `timestamp` is when L1 took it, in seconds."""

    index: int
    root: bytes
    timestamp: int
    l2_block_number: int


class OutputOracle:
    """Reads the oracle, and encodes what is sent to it. Methods raise what L1 raises."""

    def __init__(self, l1: L1Submitter, address: bytes) -> None:
        self.address = address
        self._l1 = l1

    async def next_block_number(self) -> int:
        """The L2 block whose output is to be proposed next."""
        return await self._number("nextBlockNumber()")

    async def next_index(self) -> int:
        """How many outputs stand on L1."""
        return await self._number("nextOutputIndex()")

    async def output(self, index: int) -> ProposedOutput:
        """The output with that index, which must stand on L1."""
        answer = await self._l1.call(self.address, _call("getL2Output(uint256)", index))
        root, timestamp, number = self._decoded(["bytes32", "uint128", "uint128"], answer)
        return ProposedOutput(index, root, timestamp, number)

    @staticmethod
    def propose(root: bytes, l2_block_number: int, l1_block_hash: bytes, l1_block_number: int) -> bytes:
        """Calldata that proposes an output, valid only while that L1 block is canonical."""
        selector = keccak256(b"proposeL2Output(bytes32,uint256,bytes32,uint256)")[:4]
        types = ["bytes32", "uint256", "bytes32", "uint256"]
        arguments: bytes = encode(types, [root, l2_block_number, l1_block_hash, l1_block_number])
        return selector + arguments

    @staticmethod
    def delete_from(index: int) -> bytes:
        """Calldata with which the challenger deletes this output and all after it."""
        return _call("deleteL2Outputs(uint256)", index)

    async def _number(self, signature: str) -> int:
        return int(self._decoded(["uint256"], await self._l1.call(self.address, _call(signature)))[0])

    def _decoded(self, kinds: list[str], answer: bytes) -> tuple[Any, ...]:
        try:
            return tuple(decode(kinds, answer))
        except DecodingError as error:
            raise L1DataInvalid(f"the output oracle 0x{self.address.hex()} answered 0x{answer[:64].hex()}") from error


def _call(signature: str, *arguments: int) -> bytes:
    return keccak256(signature.encode())[:4] + b"".join(argument.to_bytes(32, "big") for argument in arguments)
