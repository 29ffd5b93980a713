"""What derivation and the sequencer ask of L1, whoever answers: an RPC endpoint or a chain in this process."""

from dataclasses import dataclass
from typing import Literal, Protocol

from openledger.evm_ext.block import Header
from openledger.evm_ext.receipts import Receipt

Label = Literal["latest", "safe", "finalized"]

ENCODINGS = ("gzip", "identity")
"""How an answer of L1 may be packed: in other ways a few bytes can stand for gigabytes."""


class L1Error(Exception):
    """L1 could not answer."""


class L1Unavailable(L1Error):
    """L1 is down, unreachable, or lags: the same question may be answered later."""


class L1BlockMissing(L1Unavailable):
    """L1 does not have (or no longer has) a block that it was asked for by hash."""


class L1DataInvalid(L1Error):
    """L1's answer contradicts the block it belongs to: another hash, transactions or receipts of another root."""


class L1Source(Protocol):
    """A verified view of L1. Every method may raise `L1Unavailable` or `L1DataInvalid`."""

    async def header_by_number(self, number: int) -> Header | None:
        """The canonical header at a height, None if L1 is not there yet."""
        ...

    async def header_by_hash(self, block_hash: bytes) -> Header:
        """The header with a hash; raises `L1BlockMissing`."""
        ...

    async def header_by_label(self, label: Label) -> Header:
        """The header a label points to; a chain that has finalized nothing answers with its genesis."""
        ...

    async def transactions(self, header: Header) -> tuple[bytes, ...]:
        """The block's transactions, encoded, checked against the header's root."""
        ...

    async def receipts(self, header: Header) -> tuple[Receipt, ...]:
        """The block's receipts, checked against the header's root."""
        ...


@dataclass(frozen=True)
class Inclusion:
    """Where a transaction was included, and whether it succeeded."""

    block_hash: bytes
    block_number: int
    succeeded: bool


@dataclass(frozen=True)
class L1Fees:
    """What a transaction should offer now, in wei per gas and per blob gas."""

    base_fee_per_gas: int
    priority_fee_per_gas: int
    blob_base_fee_per_gas: int = 1


class L1TransactionRejected(L1Error):
    """L1 does not take a transaction; the message is L1's."""


class L1CallFailed(L1Error):
    """A contract on L1 reverted a call."""


class L1Submitter(Protocol):
    """The side of L1 that takes transactions. Every method may raise `L1Unavailable`."""

    async def nonce(self, address: bytes, *, pending: bool) -> int:
        """The account's next nonce, counting pending transactions or only included ones."""
        ...

    async def fees(self) -> L1Fees:
        """What the next block asks for."""
        ...

    async def wants_cell_proofs(self) -> bool | None:
        """Whether the pool wants proofs of cells beside blobs now (since Osaka, EIP-7594) instead of one proof a blob;
        None if L1 does not say."""
        ...

    async def send_transaction(self, raw: bytes) -> bytes:
        """Hand in a signed transaction; its hash, also if it was known already. Raises `L1TransactionRejected`."""
        ...

    async def inclusion(self, transaction_hash: bytes) -> Inclusion | None:
        """Where the transaction stands in the canonical chain, None if it does not."""
        ...

    async def call(self, to: bytes, calldata: bytes) -> bytes:
        """What a contract answers at the latest block. This is L1's word; raises `L1CallFailed` if it reverts."""
        ...
