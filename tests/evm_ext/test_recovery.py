"""Senders of many transactions at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext import decode_transaction
from openledger.evm_ext.errors import InvalidSignature
from openledger.evm_ext.transactions import encode_transaction, recover_senders


def test_senders_recovered_together_are_those_recovered_alone_and_wrong_ones_are_left_to_who_asks(tools):
    signed = [tools.signed(index % 5, 1337, index, b"\x01" * 20) for index in range(50)]
    broken = replace(signed[7], s=0)
    raw = [transaction.raw for transaction in signed]
    raw[7] = encode_transaction(broken)
    transactions = [decode_transaction(item) for item in raw]
    recover_senders(transactions)
    for index, transaction in enumerate(transactions):
        if index == 7:
            assert "sender" not in transaction.__dict__
            with pytest.raises(InvalidSignature):
                _ = transaction.sender
        else:
            assert transaction.__dict__["sender"] == tools.ADDRESSES[index % 5]


def test_what_was_signed_is_the_same_taken_from_the_encoding_and_from_the_fields(tools):
    for kind in (1, 2):
        for data in (b"", b"\x00", b"\x7f", b"\x80", b"x" * 60, b"y" * 300):
            transaction = decode_transaction(tools.signed(1, 1337, 0, b"\x02" * 20, type=kind, data=data).raw)
            assert transaction.signing_hash == replace(transaction).signing_hash
            assert transaction.sender == tools.ADDRESSES[1]
