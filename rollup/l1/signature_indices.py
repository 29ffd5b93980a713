"""EigenDA's OperatorStateRetriever on L1: where the registries keep what a certificate's check will look up."""

from collections.abc import Sequence

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.signature_indices import SignatureIndices
from openledger.rollup.l1.source import L1DataInvalid, L1Submitter

_SELECTOR = keccak256(b"getCheckSignaturesIndices(address,uint32,bytes,bytes32[])")[:4]


class L1SignatureIndexReader:
    """A `SignatureIndexReader` that asks the retriever at one address about the registry coordinator at another."""

    def __init__(self, l1: L1Submitter, retriever: bytes, registry_coordinator: bytes) -> None:
        self._l1 = l1
        self._retriever = retriever
        self._coordinator = registry_coordinator

    async def indices(self, reference_block: int, quorums: bytes, non_signer_ids: Sequence[bytes]) -> SignatureIndices:
        """See `SignatureIndexReader`. Raises L1DataInvalid when the answer does not fit the question."""
        arguments: bytes = encode(
            ["address", "uint32", "bytes", "bytes32[]"],
            ["0x" + self._coordinator.hex(), reference_block, quorums, list(non_signer_ids)],
        )
        answer = await self._l1.call(self._retriever, _SELECTOR + arguments)
        try:
            ((bitmaps, keys, totals, stakes),) = decode(["(uint32[],uint32[],uint32[],uint32[][])"], answer)
        except DecodingError as error:
            raise L1DataInvalid(f"0x{self._retriever.hex()} is not an OperatorStateRetriever: {error}") from error
        if len(bitmaps) != len(non_signer_ids) or not len(keys) == len(totals) == len(stakes) == len(quorums):
            raise L1DataInvalid("the OperatorStateRetriever answered for other quorums or operators")
        return SignatureIndices(bitmaps, keys, totals, stakes)
