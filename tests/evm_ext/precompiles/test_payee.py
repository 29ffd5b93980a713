"""A payee's slot: where the bits are, and that nothing is lost or paid early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.precompiles.payee import MAX_AMOUNT, PayeeAccount

AMOUNTS = st.integers(0, MAX_AMOUNT)
ACCOUNTS = st.builds(PayeeAccount, st.integers(0, 2**32 - 10), AMOUNTS, st.tuples(AMOUNTS, AMOUNTS, AMOUNTS))


def test_the_word_is_epoch_claimable_and_three_pending_from_the_left():
    word = PayeeAccount(1, 2, (3, 4, 5)).encode()
    assert f"{word:064x}" == "00000001" + "00000000000002" + "00000000000003" + "00000000000004" + "00000000000005"


@given(ACCOUNTS)
def test_words_round_trip(account):
    assert PayeeAccount.decode(account.encode()) == account


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**9)), max_size=20), st.integers(0, 6))
def test_a_credit_is_claimable_from_the_third_epoch_after_it(credits, later):
    account, epoch = PayeeAccount(), 0
    history = []
    for passed, amount in credits:
        epoch += passed
        account = account.credited(epoch, amount)
        history.append((epoch, amount))
    now = account.at(epoch + later)
    assert now.claimable == sum(amount for when, amount in history if when + 3 <= epoch + later)
    assert now.total == sum(amount for _, amount in history)
    for ahead in range(3):
        ripens = epoch + later + 1 + ahead
        assert now.pending[ahead] == sum(amount for when, amount in history if when + 3 == ripens)


def test_more_than_56_bits_is_refused():
    full = PayeeAccount(0, 0, (0, 0, MAX_AMOUNT))
    with pytest.raises(OverflowError):
        full.credited(0, 1)
    with pytest.raises(OverflowError):
        PayeeAccount(0, MAX_AMOUNT, (1, 0, 0)).credited(1, 1)
