"""Taking payment for a call: a voucher on a channel, or the 402 answer that says how to make one.

A voucher is cumulative: "of channel X, up to N micro-OPEN may be claimed, ever". A call is admitted when the voucher
covers what the channel already owes, what its calls in progress may still cost, and the most that this call can cost;
afterwards only what was used is owed. Every call needs a voucher for more than the one before it: so a voucher that
somebody overheard buys nothing, and no two calls have the same request hash. The header is `X-Payment`: JSON, or base64 of it, with `channelId`,
`maxClaimable` (micro-OPEN) and `signature` (EIP-712, by the channel's authorizer).
"""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import orjson

from openledger.evm_ext.proofs.eip712 import Domain, InvalidSignature
from openledger.evm_ext.proofs.receipt import Voucher, ledger_domain
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.predeploys import INFERENCE_LEDGER
from openledger.node.receipts import ReceiptBook

PAYMENT_HEADER = "x-payment"
MAX_HEADER_BYTES = 2048
MAX_AMOUNT = (1 << 64) - 1


class PaymentRequired(Exception):
    """A call is not paid for. `code` names what is wrong, the message says what to do."""

    def __init__(self, code: str, message: str, needed: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.needed = needed
        """The smallest `maxClaimable` that would be accepted, in micro-OPEN, where that is what is wrong."""


class ChannelState(Protocol):
    """What the ledger says of a channel; amounts in micro-OPEN."""

    @property
    def payer(self) -> bytes: ...
    @property
    def receiver(self) -> bytes: ...
    @property
    def authorizer(self) -> bytes: ...
    @property
    def deposit(self) -> int: ...
    @property
    def total_claimed(self) -> int: ...
    @property
    def closing(self) -> bool: ...


class _VoucherHeader(msgspec.Struct, frozen=True):
    channelId: str
    maxClaimable: int | str
    signature: str


@dataclass(frozen=True)
class SignedVoucher:
    """A voucher and its 65-byte signature."""

    voucher: Voucher
    signature: bytes

    def header(self) -> str:
        """The value of the `X-Payment` header."""
        return orjson.dumps(
            {
                "channelId": "0x" + self.voucher.channel_id.hex(),
                "maxClaimable": str(self.voucher.max_claimable),
                "signature": "0x" + self.signature.hex(),
            }
        ).decode()


def parse_voucher(header: str) -> SignedVoucher:
    """The voucher in a header. Raises PaymentRequired("malformed_voucher")."""
    text = header.strip()
    try:
        if len(text) > MAX_HEADER_BYTES:
            raise ValueError(f"longer than {MAX_HEADER_BYTES} bytes")
        if not text.startswith("{"):
            text = base64.b64decode(text, validate=True).decode()
        fields = msgspec.json.decode(text, type=_VoucherHeader)
        channel_id = bytes.fromhex(fields.channelId.removeprefix("0x"))
        signature = bytes.fromhex(fields.signature.removeprefix("0x"))
        amount = int(fields.maxClaimable)
        if len(channel_id) != 32 or len(signature) != 65 or not 0 <= amount <= MAX_AMOUNT:
            raise ValueError("channelId is 32 bytes, signature 65, maxClaimable a u64")
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise PaymentRequired(
            "malformed_voucher",
            f"the {PAYMENT_HEADER} header is not a voucher ({error}): send JSON, or base64 of it, "
            "with channelId, maxClaimable and signature",
        ) from error
    return SignedVoucher(Voucher(channel_id, amount), signature)


@dataclass(frozen=True)
class Admission:
    """A call that is paid for, and the address that pays."""

    voucher: SignedVoucher
    payer: bytes


class Payments:
    """Admits calls for one provider. `channel_state(id)` reads the ledger; None means there is no such channel."""

    def __init__(
        self,
        chain_id: int,
        provider: bytes,
        book: ReceiptBook,
        channel_state: Callable[[bytes], ChannelState | None],
    ) -> None:
        self.chain_id = chain_id
        self.provider = provider
        self._book = book
        self._channel_state = channel_state
        self._domain: Domain = ledger_domain(chain_id)
        self._reserved: defaultdict[bytes, int] = defaultdict(int)
        self._accepted: dict[bytes, int] = {}

    def owed(self, channel_id: bytes, state: ChannelState) -> int:
        """What the channel owes in all, settled or not: where the next receipt begins."""
        book = self._book.channel(channel_id)
        return max(state.total_claimed, book.cumulative if book else 0)

    def owed_by(self, channel_id: bytes) -> int:
        """What the channel owes in all. Raises PaymentRequired("unknown_channel")."""
        return self.owed(channel_id, self._channel(channel_id))

    def next_voucher(self, channel_id: bytes, state: ChannelState, most: int) -> int:
        """The smallest `maxClaimable` that admits a call costing at most `most`."""
        return max(self.owed(channel_id, state) + self._reserved[channel_id] + most, self._last(channel_id) + 1)

    def _last(self, channel_id: bytes) -> int:
        book = self._book.channel(channel_id)
        return max(self._accepted.get(channel_id, 0), book.max_claimable if book else 0)

    @contextmanager
    def admit(self, voucher: SignedVoucher, most: int) -> Iterator[Admission]:
        """Hold `most` micro-OPEN of the channel for a call while the scope is open.

        Raises PaymentRequired: unknown_channel, foreign_voucher (made out to another provider), bad_signature,
        channel_closing, replayed_voucher, voucher_too_small, deposit_too_small.
        """
        self.check(voucher, most)
        channel_id = voucher.voucher.channel_id
        self._accepted[channel_id] = voucher.voucher.max_claimable
        self._reserved[channel_id] += most
        try:
            yield Admission(voucher, self._channel(channel_id).payer)
        finally:
            self._reserved[channel_id] -= most
            if not self._reserved[channel_id]:
                del self._reserved[channel_id]

    def needed(self, signed: SignedVoucher, most: int) -> int:
        """The smallest `maxClaimable` that would admit this call. Raises PaymentRequired("unknown_channel")."""
        channel_id = signed.voucher.channel_id
        return self.next_voucher(channel_id, self._channel(channel_id), most)

    def check(self, signed: SignedVoucher, most: int) -> None:
        """Raises PaymentRequired as `admit` does, and holds nothing."""
        channel_id = signed.voucher.channel_id
        shown = f"0x{channel_id.hex()}"
        state = self._channel(channel_id)
        if state.receiver != self.provider:
            raise PaymentRequired(
                "foreign_voucher",
                f"channel {shown} pays 0x{state.receiver.hex()}, not this provider 0x{self.provider.hex()}: "
                "open a channel with this provider",
            )
        try:
            signer = signed.voucher.recover(self._domain, signed.signature)
        except InvalidSignature as error:
            raise PaymentRequired("bad_signature", f"the voucher's signature is not valid: {error}") from error
        if signer != state.authorizer:
            raise PaymentRequired(
                "bad_signature",
                f"the voucher is signed by 0x{signer.hex()}, the channel's authorizer is 0x{state.authorizer.hex()}: "
                f"sign it with that key, for chain {self.chain_id} and ledger 0x{INFERENCE_LEDGER.hex()}",
            )
        if state.closing:
            raise PaymentRequired("channel_closing", f"the payer asked channel {shown} back: open a new one")
        needed = self.next_voucher(channel_id, state, most)
        if signed.voucher.max_claimable <= self._last(channel_id):
            raise PaymentRequired(
                "replayed_voucher",
                f"a voucher for {self._last(channel_id)} micro-OPEN was used on this channel already: "
                f"sign a new one, for at least {needed}",
                needed,
            )
        if signed.voucher.max_claimable < needed:
            raise PaymentRequired(
                "voucher_too_small",
                f"the voucher allows {signed.voucher.max_claimable} micro-OPEN in all, this call may bring the channel "
                f"to {needed}: sign a voucher for at least that (only what is used is claimed)",
                needed,
            )
        if state.deposit < self.owed(channel_id, state) + self._reserved[channel_id] + most:
            raise PaymentRequired(
                "deposit_too_small",
                f"channel {shown} holds {state.deposit} micro-OPEN, this call may bring it to {needed}: top it up",
                needed,
            )

    def _channel(self, channel_id: bytes) -> ChannelState:
        state = self._channel_state(channel_id)
        if state is None:
            raise PaymentRequired(
                "unknown_channel",
                f"there is no channel 0x{channel_id.hex()} on chain {self.chain_id}: open one with this provider",
            )
        return state

    def terms(
        self,
        release: int,
        price_in: int,
        price_out: int,
        needed: int | None,
        resource: str = "/v1/chat/completions",
    ) -> dict[str, Any]:
        """What a 402 answer offers: how a call of this release can be paid (the shape of x402's requirements)."""
        return {
            "x402Version": 1,
            "accepts": [
                {
                    "scheme": "batch-settlement",
                    "network": f"eip155:{self.chain_id}",
                    "payTo": "0x" + self.provider.hex(),
                    "asset": "native",
                    "maxAmountRequired": str(needed * MICRO_OPEN_WEI) if needed is not None else None,
                    "resource": resource,
                    "description": "open a channel on the ledger, then send a cumulative voucher with every call",
                    "extra": {
                        "ledger": "0x" + INFERENCE_LEDGER.hex(),
                        "release": release,
                        "unit": "micro-OPEN (1e12 wei)",
                        "priceInPer1000Tokens": price_in,
                        "priceOutPer1000Tokens": price_out,
                        "minimumMaxClaimable": needed,
                        "header": PAYMENT_HEADER,
                        "typedData": {
                            "domain": {
                                "name": "Openledger",
                                "version": "1",
                                "chainId": self.chain_id,
                                "verifyingContract": "0x" + INFERENCE_LEDGER.hex(),
                            },
                            "primaryType": "Voucher",
                            "types": {"Voucher": "channelId bytes32, maxClaimable uint64"},
                        },
                    },
                }
            ],
        }
