"""Receipts and vouchers: what a provider signs about an answer, and what a payer signs to pay for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from eth_abi.abi import encode as abi_encode

from openledger.evm_ext.proofs.eip712 import Domain, TypedMessage
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import INFERENCE_LEDGER


class Mode(IntEnum):
    """Whether the tokens can be recomputed bit for bit."""

    EXACT = 0
    ATTESTED = 1


def mode_of(numerics: str) -> Mode:
    """A receipt's mode by the release's numerics: only those named `exact-…` give the same bits everywhere."""
    return Mode.EXACT if numerics.startswith("exact-") else Mode.ATTESTED


class StopReason(IntEnum):
    """Why the answer ended."""

    END_OF_TEXT = 0
    STOP_SEQUENCE = 1
    MAX_TOKENS = 2
    CANCELLED = 3


class Visibility(IntEnum):
    PUBLIC = 0
    PRIVATE = 1


def ledger_domain(chain_id: int) -> Domain:
    """The domain of receipts and vouchers."""
    return Domain(chain_id, INFERENCE_LEDGER)


@dataclass(frozen=True)
class Receipt(TypedMessage):
    """What was asked of which release, what came out, why and for how much; signed by the provider.

    The fee is `cumulative_after - cumulative_before`, in micro-OPEN. The body behind the hashes is
    stored by content hash. The seed of the answer's sampling is keccak(request_hash).
    """

    STRUCT: ClassVar[str] = "Receipt"
    TYPES: ClassVar[Mapping[str, str]] = {
        "release": "uint32",
        "numerics": "string",
        "mode": "uint8",
        "request_hash": "bytes32",
        "prompt_tokens_hash": "bytes32",
        "output_tokens_hash": "bytes32",
        "stop_reason": "uint8",
        "sampling_hash": "bytes32",
        "fingerprint": "bytes32",
        "retrieval_root": "bytes32",
        "evidence_hash": "bytes32",
        "vector_hash": "bytes32",
        "channel_id": "bytes32",
        "cumulative_before": "uint64",
        "cumulative_after": "uint64",
        "l2_block_number": "uint64",
        "l2_block_hash": "bytes32",
        "visibility": "uint8",
    }

    release: int
    numerics: str
    mode: int
    request_hash: bytes
    prompt_tokens_hash: bytes
    output_tokens_hash: bytes
    stop_reason: int
    sampling_hash: bytes
    fingerprint: bytes
    retrieval_root: bytes
    evidence_hash: bytes
    vector_hash: bytes
    channel_id: bytes
    cumulative_before: int
    cumulative_after: int
    l2_block_number: int
    l2_block_hash: bytes
    visibility: int = Visibility.PUBLIC

    @property
    def fee(self) -> int:
        """What this answer cost, in micro-OPEN."""
        return self.cumulative_after - self.cumulative_before


@dataclass(frozen=True)
class Voucher(TypedMessage):
    """Up to `max_claimable` micro-OPEN of a channel, ever, may be claimed; signed by its authorizer."""

    STRUCT: ClassVar[str] = "Voucher"
    TYPES: ClassVar[Mapping[str, str]] = {"channel_id": "bytes32", "max_claimable": "uint64"}

    channel_id: bytes
    max_claimable: int


@dataclass(frozen=True)
class ChannelTerms:
    """Who pays whom: what a channel's id is made of. `withdraw_delay` is in L2 blocks."""

    payer: bytes
    receiver: bytes
    authorizer: bytes
    withdraw_delay: int
    salt: bytes

    @property
    def id(self) -> bytes:
        """keccak(abi.encode(payer, receiver, authorizer, withdrawDelay, salt))."""
        return keccak256(
            abi_encode(
                ["address", "address", "address", "uint32", "bytes32"],
                [self.payer, self.receiver, self.authorizer, self.withdraw_delay, self.salt],
            )
        )


def tokens_hash(tokens: tuple[int, ...] | list[int]) -> bytes:
    """The hash of a token sequence: keccak over u32 big-endian."""
    return keccak256(b"".join(token.to_bytes(4, "big") for token in tokens))
