"""A call is admitted only when a fresh voucher of the right channel covers it; every refusal says what to do."""

import base64
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from openledger.evm_ext.proofs.eip712 import address_of
from openledger.evm_ext.proofs.receipt import Voucher, ledger_domain
from openledger.node.payments import PaymentRequired, Payments, SignedVoucher, parse_voucher
from openledger.node.receipts import BookedReceipt, ReceiptBook, SentSettlement, StaleChannel

CHAIN = 161_299
PAYER, STRANGER = b"\x11" * 32, b"\x22" * 32
PROVIDER = b"\xaa" * 20
CHANNEL = b"\xcc" * 32


@dataclass(frozen=True)
class Channel:
    receiver: bytes = PROVIDER
    authorizer: bytes = address_of(PAYER)
    payer: bytes = b"\x99" * 20
    deposit: int = 1000
    total_claimed: int = 0
    closing: bool = False


def voucher(amount: int, key: bytes = PAYER, chain: int = CHAIN, channel: bytes = CHANNEL) -> SignedVoucher:
    message = Voucher(channel, amount)
    return SignedVoucher(message, message.sign(ledger_domain(chain), key))


def payments(tmp_path: Path, channel: Channel | None = Channel()) -> Payments:
    book = ReceiptBook(tmp_path / "book.sqlite")
    return Payments(CHAIN, PROVIDER, book, lambda identifier: channel if identifier == CHANNEL else None)


def booked(before: int, after: int, digest: bytes = b"\x01" * 32) -> BookedReceipt:
    return BookedReceipt(digest, CHANNEL, 1, before, after, b"\0", b"\x02" * 32)


@pytest.mark.parametrize(
    ("channel", "given", "code"),
    [
        (None, voucher(100), "unknown_channel"),
        (Channel(receiver=b"\xbb" * 20), voucher(100), "foreign_voucher"),
        (Channel(), voucher(100, key=STRANGER), "bad_signature"),
        (Channel(), voucher(100, chain=1), "bad_signature"),
        (Channel(), SignedVoucher(Voucher(CHANNEL, 100), b"\0" * 65), "bad_signature"),
        (Channel(closing=True), voucher(100), "channel_closing"),
        (Channel(), voucher(49), "voucher_too_small"),
        (Channel(total_claimed=60), voucher(100), "voucher_too_small"),
        (Channel(deposit=40), voucher(100), "deposit_too_small"),
    ],
)
def test_a_call_that_is_not_paid_for_is_refused_by_name(
    tmp_path: Path, channel: Channel | None, given: SignedVoucher, code: str
) -> None:
    with pytest.raises(PaymentRequired) as refused, payments(tmp_path, channel).admit(given, most=50):
        pass
    assert refused.value.code == code


def test_a_voucher_is_good_once_and_the_refusal_names_the_next(tmp_path: Path) -> None:
    desk = payments(tmp_path)
    with desk.admit(voucher(100), most=50):
        pass
    with pytest.raises(PaymentRequired) as refused, desk.admit(voucher(100), most=50):
        pass
    assert refused.value.code == "replayed_voucher"
    assert refused.value.needed == 101
    with desk.admit(voucher(101), most=50):
        pass


def test_calls_in_progress_count_until_they_end(tmp_path: Path) -> None:
    desk = payments(tmp_path)
    with desk.admit(voucher(50), most=50):
        with pytest.raises(PaymentRequired) as refused, desk.admit(voucher(99), most=50):
            pass
        assert refused.value.needed == 100
        with desk.admit(voucher(100), most=50):
            pass
    assert desk.next_voucher(CHANNEL, Channel(), 50) == 101


def test_what_is_owed_survives_a_restart_and_bounds_the_next_call(tmp_path: Path) -> None:
    book = ReceiptBook(tmp_path / "book.sqlite")
    book.add(booked(0, 30), 100, b"\x05" * 65)
    book.close()
    desk = payments(tmp_path)
    assert desk.owed(CHANNEL, Channel()) == 30
    with pytest.raises(PaymentRequired) as refused, desk.admit(voucher(100), most=1):
        pass
    assert refused.value.code == "replayed_voucher"


def test_the_header_is_read_as_json_and_as_base64_and_signed_as_wallets_sign() -> None:
    made = voucher(7)
    assert parse_voucher(made.header()) == made
    assert parse_voucher(base64.b64encode(made.header().encode()).decode()) == made
    typed = encode_typed_data(full_message=made.voucher.typed_data(ledger_domain(CHAIN)))
    assert bytes(Account.sign_message(typed, PAYER).signature) == made.signature


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{}",
        "{",
        "%%%",
        '{"channelId":"0x00","maxClaimable":1,"signature":"0x"}',
        "x" * 3000,
        '{"channelId":5}',
        "{}" * 9,
    ],
)
def test_a_header_that_is_no_voucher_is_refused(header: str) -> None:
    with pytest.raises(PaymentRequired, match="not a voucher"):
        parse_voucher(header)


def test_receipts_of_a_channel_form_a_chain_without_gaps(tmp_path: Path) -> None:
    book = ReceiptBook(tmp_path / "book.sqlite")
    book.add(booked(10, 30), 100, b"\x05" * 65)
    with pytest.raises(StaleChannel):
        book.add(booked(29, 40, b"\x03" * 32), 100, b"\x05" * 65)
    book.add(booked(30, 40, b"\x03" * 32), 90, b"\x06" * 65)
    channel = book.channel(CHANNEL)
    assert channel is not None
    assert (channel.cumulative, channel.max_claimable, channel.signature) == (40, 100, b"\x05" * 65)
    assert [r.before for r in book.open_receipts(10)] == [10, 30]


def test_a_settlement_is_recorded_before_it_is_sent_and_can_be_taken_back(tmp_path: Path) -> None:
    book = ReceiptBook(tmp_path / "book.sqlite")
    book.add(booked(0, 30), 100, b"\x05" * 65)
    book.begin_settlement(b"\x09" * 32, b"payload", 4, [b"\x01" * 32])
    book.close()
    book = ReceiptBook(tmp_path / "book.sqlite")
    assert book.unfinished_settlement() == SentSettlement(b"\x09" * 32, b"payload", 4)
    assert book.open_receipts(10) == []
    book.abandon_settlement(b"\x09" * 32)
    assert book.receipt(b"\x01" * 32) == booked(0, 30)
    book.begin_settlement(b"\x09" * 32, b"payload", 4, [b"\x01" * 32])
    book.finish_settlement(b"\x09" * 32)
    assert book.receipt(b"\x01" * 32) == replace(booked(0, 30), state="settled", root=b"\x09" * 32)
    assert book.unfinished_settlement() is None
    assert book.unpublished_settlements() == [b"\x09" * 32]
    book.mark_published(b"\x09" * 32)
    assert book.unpublished_settlements() == []
