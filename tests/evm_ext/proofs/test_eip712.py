from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.proofs.datanet import Contribution, registry_domain
from openledger.evm_ext.proofs.eip712 import InvalidMessage, InvalidSignature, address_of, recover_signer
from openledger.evm_ext.proofs.receipt import ChannelTerms, Receipt, Voucher, ledger_domain

KEY = bytes(31) + b"\x07"
CHAIN = 161_299


def word(n: int) -> bytes:
    return n.to_bytes(32, "big")


RECEIPT = Receipt(
    release=3,
    numerics="exact-1",
    mode=0,
    request_hash=word(1),
    prompt_tokens_hash=word(2),
    output_tokens_hash=word(3),
    stop_reason=2,
    sampling_hash=word(4),
    fingerprint=word(5),
    retrieval_root=word(6),
    evidence_hash=word(7),
    vector_hash=word(8),
    channel_id=word(9),
    cumulative_before=100,
    cumulative_after=150,
    l2_block_number=12,
    l2_block_hash=word(10),
    visibility=0,
)
VOUCHER = Voucher(word(9), 1_000_000)
CONTRIBUTION = Contribution(1, b"\x11" * 20, word(1), word(2), 500, word(3), 1_800_000_000)
MESSAGES = [(RECEIPT, ledger_domain), (VOUCHER, ledger_domain), (CONTRIBUTION, registry_domain)]


@pytest.mark.parametrize(("message", "domain_of"), MESSAGES, ids=lambda v: getattr(v, "STRUCT", ""))
def test_eth_account_signs_and_hashes_the_same(message, domain_of):
    domain = domain_of(CHAIN)
    signable = encode_typed_data(full_message=message.typed_data(domain))
    theirs = Account.sign_message(signable, KEY)
    assert message.sign(domain, KEY) == bytes(theirs.signature)
    assert message.hash(domain) == bytes(theirs.message_hash)
    assert message.recover(domain, bytes(theirs.signature)) == address_of(KEY)
    assert address_of(KEY) == bytes.fromhex(Account.from_key(KEY).address[2:])


@pytest.mark.parametrize(("message", "domain_of"), MESSAGES, ids=lambda v: getattr(v, "STRUCT", ""))
def test_json_round_trips_and_refuses_other_fields(message, domain_of):
    kind = type(message)
    shown = message.to_json()
    assert kind.from_json(shown) == message
    assert kind.from_json({k: hex(v) if isinstance(v, int) else v for k, v in shown.items()}) == message
    with pytest.raises(InvalidMessage, match="exactly the fields"):
        kind.from_json({**shown, "extra": 1})
    for name, value in shown.items():
        if name == "numerics":
            continue
        wrong = -1 if isinstance(value, int) else value[:-2]
        with pytest.raises(InvalidMessage, match=name):
            kind.from_json({**shown, name: wrong})


def test_a_signature_speaks_to_one_chain_and_one_contract():
    signature = VOUCHER.sign(ledger_domain(CHAIN), KEY)
    assert VOUCHER.recover(ledger_domain(CHAIN), signature) == address_of(KEY)
    assert VOUCHER.recover(ledger_domain(CHAIN + 1), signature) != address_of(KEY)
    assert VOUCHER.recover(registry_domain(CHAIN), signature) != address_of(KEY)
    assert replace(VOUCHER, max_claimable=1).recover(ledger_domain(CHAIN), signature) != address_of(KEY)


def test_malleable_and_malformed_signatures_are_refused():
    domain = ledger_domain(CHAIN)
    good = VOUCHER.sign(domain, KEY)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = good[:32] + word(order - int.from_bytes(good[32:64], "big")) + bytes([55 - good[64]])
    for bad, why in (
        (good[:-1], "65 bytes"),
        (good[:64] + b"\x01", "27 or 28"),
        (high_s, "lower half"),
        (bytes(64) + b"\x1b", "no key"),
        (b"\xff" * 32 + good[32:], "no key"),
    ):
        with pytest.raises(InvalidSignature, match=why):
            recover_signer(VOUCHER.hash(domain), bad)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=70), st.binary(min_size=32, max_size=32))
def test_recovery_never_raises_anything_else(signature, digest):
    try:
        assert len(recover_signer(digest, signature)) == 20
    except InvalidSignature:
        pass


@pytest.mark.parametrize(
    ("field", "value"),
    [("release", 1 << 32), ("release", True), ("mode", -1), ("numerics", b"exact-1"), ("fingerprint", b"short")],
)
def test_values_that_do_not_fit_their_type_are_refused(field, value):
    with pytest.raises(InvalidMessage, match=field):
        replace(RECEIPT, **{field: value})


def test_the_fee_is_the_difference_of_the_cumulative_amounts():
    assert RECEIPT.fee == 50


def test_channel_ids_differ_in_every_term():
    terms = ChannelTerms(b"\x01" * 20, b"\x02" * 20, b"\x03" * 20, 40, word(1))
    others = [
        replace(terms, payer=b"\x04" * 20),
        replace(terms, receiver=b"\x04" * 20),
        replace(terms, authorizer=b"\x04" * 20),
        replace(terms, withdraw_delay=41),
        replace(terms, salt=word(2)),
    ]
    assert len({terms.id, *(other.id for other in others)}) == 6
