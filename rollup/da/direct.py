"""EigenDA without a proxy, as a DA layer: blobs go to its disperser, payloads come from its relays and operators."""

from typing import Protocol

from openledger.rollup.da.certificate import encode_generic_commitment
from openledger.rollup.da.client import CertificateVerifier, DAError, DAUnavailable
from openledger.rollup.da.disperser import DisperserClient
from openledger.rollup.da.retrieval import PayloadReader
from openledger.rollup.da.worker import WorkerDied


class DALayer(Protocol):
    """Where payloads are stored and found: a proxy's client, or EigenDA itself."""

    async def put(self, payload: bytes) -> bytes:
        """Store a payload; its op-generic commitment. Raises DAUnavailable, DAError."""
        ...

    async def get(self, commitment: bytes, l1_inclusion_block: int | None = None) -> bytes:
        """The payload behind an op-generic commitment. Raises InvalidCommitment, BlobNotFound, DAUnavailable, DAError."""
        ...


class DirectDA:
    """A `DALayer` on EigenDA itself. Without a `disperser` nothing can be stored; `on_demand` pays from the deposit.

    A certificate is given out only after every check that needs no L1, and with a `verifier` the contract's there too.
    """

    def __init__(
        self,
        reader: PayloadReader,
        disperser: DisperserClient | None = None,
        *,
        on_demand: bool = False,
        verifier: CertificateVerifier | None = None,
    ) -> None:
        self._reader = reader
        self._disperser = disperser
        self._on_demand = on_demand
        self._verifier = verifier

    async def put(self, payload: bytes) -> bytes:
        """See `DALayer`. A disperser that refuses the account, or whose certificate is not valid, is one that cannot take
        data now: all its failures are DAUnavailable, like a proxy's, so that the batcher goes elsewhere after a while."""
        if self._disperser is None:
            raise DAError("nothing can be dispersed: this node has no account at a disperser ([eigenda] key)")
        try:
            certificate = await self._disperser.disperse(payload, on_demand=self._on_demand)
        except DAUnavailable:
            raise
        except (DAError, WorkerDied) as error:
            raise DAUnavailable(str(error)) from error
        if self._verifier is not None and not await self._verifier.is_valid(certificate):
            raise DAUnavailable("the contract on L1 says that the disperser's certificate is not valid")
        return encode_generic_commitment(certificate)

    async def get(self, commitment: bytes, l1_inclusion_block: int | None = None) -> bytes:
        """See `DALayer`."""
        return await self._reader.get(commitment, l1_inclusion_block)
