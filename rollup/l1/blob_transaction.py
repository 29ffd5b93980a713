"""Blob transactions as they travel to L1's pool, in the form of proofs that it wants at that moment (EIP-4844, EIP-7594).

A transaction names its blobs by their commitments alone, so the same signed transaction travels with one proof a blob
before Osaka and with the proofs of the blobs' cells since.
"""

from collections.abc import Sequence

import trio

from openledger.evm_ext.blobs import BlobSidecar, encode_network, sidecar_of
from openledger.evm_ext.transactions import Transaction


class TravellingBlobs:
    """The blobs of one transaction (131,072 bytes each); what it takes to send them is computed when first needed."""

    def __init__(self, blobs: Sequence[bytes]) -> None:
        self._blobs = tuple(blobs)
        self._forms: dict[bool, BlobSidecar] = {}

    async def versioned_hashes(self) -> tuple[bytes, ...]:
        """What the transaction names the blobs by."""
        return (await self._form(cells=False)).hashes

    async def network_form(self, transaction: Transaction, *, cells: bool) -> bytes:
        """A signed transaction with the blobs beside it, and proofs of their cells or one of each blob."""
        return encode_network(transaction, await self._form(cells=cells))

    async def _form(self, *, cells: bool) -> BlobSidecar:
        if cells not in self._forms:
            if cells:
                plain = await self._form(cells=False)
                self._forms[cells] = await trio.to_thread.run_sync(plain.with_cells)
            else:
                self._forms[cells] = await trio.to_thread.run_sync(sidecar_of, self._blobs)
        return self._forms[cells]
