"""EigenDA's operators as L1's registries have them at a block: their stakes, and where they answer."""

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.assignment import Operator, Operators
from openledger.rollup.l1.source import L1DataInvalid, L1Submitter

_SELECTOR = keccak256(b"getOperatorStateWithSocket(address,bytes,uint32)")[:4]


class L1OperatorDirectory:
    """An `OperatorDirectory` that asks the OperatorStateRetriever at one address about the registry coordinator at
    another."""

    def __init__(self, l1: L1Submitter, retriever: bytes, registry_coordinator: bytes) -> None:
        self._l1 = l1
        self._retriever = retriever
        self._coordinator = registry_coordinator

    async def operators(self, reference_block: int, quorums: bytes) -> Operators:
        """See `OperatorDirectory`. Raises L1DataInvalid when the answer does not fit the question."""
        arguments: bytes = encode(
            ["address", "bytes", "uint32"], ["0x" + self._coordinator.hex(), quorums, reference_block]
        )
        answer = await self._l1.call(self._retriever, _SELECTOR + arguments)
        try:
            found, sockets = decode(["(address,bytes32,uint96)[][]", "string[][]"], answer)
        except DecodingError as error:
            raise L1DataInvalid(f"0x{self._retriever.hex()} is not an OperatorStateRetriever: {error}") from error
        if [len(items) for items in found] != [len(items) for items in sockets] or len(found) != len(quorums):
            raise L1DataInvalid("the OperatorStateRetriever answered for other quorums")
        return {
            quorum: [Operator(item[1], item[2], socket) for item, socket in zip(items, places)]
            for quorum, items, places in zip(quorums, found, sockets)
        }
