"""EIP-7702 in the pool: what a delegated account and the signer of an authorization may have waiting."""

from __future__ import annotations

import pytest

from openledger.evm_ext import TransactionPool, errors
from openledger.evm_ext.transactions import SET_CODE, sign_authorization

CHAIN_ID = 161299
TO = b"\xbb" * 20
DELEGATED = 7
"""The key whose account has a delegation from the start."""


@pytest.fixture
def pool(chain):
    pool = TransactionPool(chain)
    yield pool
    pool.close()


@pytest.fixture
def set_code(tools):
    def make(key: int, nonce: int, *authorities: int, **fields):
        authorizations = tuple(
            sign_authorization(tools.KEYS[item], chain_id=CHAIN_ID, address=TO, nonce=0) for item in authorities
        )
        return tools.signed(key, CHAIN_ID, nonce, TO, type=SET_CODE, authorization_list=authorizations, **fields)

    return make


def test_a_delegated_account_has_one_transaction_in_flight(tools, chain, pool):
    with pytest.raises(errors.GappedNonceOfDelegated, match=r"^gapped-nonce tx from delegated accounts"):
        pool.add(tools.signed(DELEGATED, CHAIN_ID, 1, TO).raw)
    first = tools.signed(DELEGATED, CHAIN_ID, 0, TO, max_fee_per_gas=10**10, max_priority_fee_per_gas=10)
    pool.add(first.raw)
    second = tools.signed(DELEGATED, CHAIN_ID, 1, TO)
    with pytest.raises(errors.InFlightLimitReached, match=r"^in-flight transaction limit reached for delegated"):
        pool.add(second.raw)
    replacement = tools.signed(DELEGATED, CHAIN_ID, 0, TO, max_fee_per_gas=2 * 10**10, max_priority_fee_per_gas=20)
    pool.add(replacement.raw)
    assert first.hash not in pool
    tools.extend(chain, (replacement,))
    assert pool.add(second.raw) == second.hash


def test_the_signer_of_a_waiting_authorization_is_limited_as_if_delegated(tools, chain, pool, set_code):
    carrier = set_code(0, 0, 1)
    pool.add(carrier.raw)
    with pytest.raises(errors.GappedNonceOfDelegated):
        pool.add(tools.signed(1, CHAIN_ID, 3, TO).raw)
    pool.add(tools.signed(1, CHAIN_ID, 0, TO).raw)
    with pytest.raises(errors.InFlightLimitReached):
        pool.add(tools.signed(1, CHAIN_ID, 1, TO).raw)
    # Replaced by one without authorizations, nothing is left that could spend for the account.
    pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=10**12, max_priority_fee_per_gas=10**10).raw)
    pool.add(tools.signed(1, CHAIN_ID, 1, TO).raw)


def test_an_authorization_is_refused_while_its_signer_has_several_waiting(tools, pool, set_code):
    pool.add(tools.signed(1, CHAIN_ID, 0, TO).raw)
    pool.add(set_code(0, 0, 1).raw)  # one is no conflict
    for nonce in range(2):
        pool.add(tools.signed(2, CHAIN_ID, nonce, TO).raw)
    with pytest.raises(errors.AuthorityReserved, match=r"^authority already reserved"):
        pool.add(set_code(3, 0, 2).raw)


def test_who_delegates_itself_has_one_in_flight(tools, pool, set_code):
    pool.add(set_code(0, 0, 0).raw)
    with pytest.raises(errors.InFlightLimitReached):
        pool.add(tools.signed(0, CHAIN_ID, 1, TO).raw)


def test_an_authorization_nobody_signed_binds_nobody(tools, pool):
    from dataclasses import replace

    good = sign_authorization(tools.KEYS[1], chain_id=CHAIN_ID, address=TO, nonce=0)
    bad = replace(good, s=0)
    pool.add(tools.signed(0, CHAIN_ID, 0, TO, type=SET_CODE, authorization_list=(bad,)).raw)
    for nonce in range(3):
        pool.add(tools.signed(1, CHAIN_ID, nonce, TO).raw)
    assert pool.status().pending == 4


def test_several_carriers_of_one_authority_are_counted(tools, pool, set_code):
    for key in (0, 2):
        pool.add(set_code(key, 0, 1).raw)
    pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=10**12, max_priority_fee_per_gas=10**10).raw)
    with pytest.raises(errors.GappedNonceOfDelegated):  # the other one still waits
        pool.add(tools.signed(1, CHAIN_ID, 4, TO).raw)
