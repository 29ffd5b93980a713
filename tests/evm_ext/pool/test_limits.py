"""Who gets a place when there are not enough, and how long a place is kept."""

from __future__ import annotations

import pytest

from openledger.evm_ext import PoolLimits, TransactionPool, errors
from openledger.evm_ext.pool.admission import validate_replacement
from openledger.evm_ext.pool.limits import SLOT_BYTES
from openledger.evm_ext.transactions import BLOB

CHAIN_ID = 161299
TO = b"\xbb" * 20


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def open_pool(chain):
    opened = []

    def open_one(clock=None, **limits) -> TransactionPool:
        pool = TransactionPool(chain, PoolLimits(**limits), clock=clock or Clock())
        opened.append(pool)
        return pool

    yield open_one
    for pool in opened:
        pool.close()


def nonces(content: dict, sender: bytes) -> list[int]:
    return list(content.get(sender, {}))


def test_the_cheapest_transaction_makes_room_for_a_dearer_one(tools, open_pool):
    pool = open_pool(global_slots=3, global_queue=1)
    cheap = pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_priority_fee_per_gas=5).raw)
    for key, tip in ((1, 9), (2, 7), (3, 6)):
        pool.add(tools.signed(key, CHAIN_ID, 0, TO, max_priority_fee_per_gas=tip).raw)
    with pytest.raises(errors.Underpriced, match=r"^transaction underpriced: the pool is full"):
        pool.add(tools.signed(4, CHAIN_ID, 0, TO, max_priority_fee_per_gas=5).raw)
    assert cheap in pool
    pool.add(tools.signed(4, CHAIN_ID, 0, TO, max_priority_fee_per_gas=8).raw)
    assert cheap not in pool
    assert len(pool) == 4


def test_a_transaction_counts_a_slot_for_every_32_kib(tools, open_pool):
    pool = open_pool(global_slots=5, global_queue=0)
    large = {"data": bytes(3 * SLOT_BYTES), "gas": 2_000_000}  # and a little: four slots
    first = pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_priority_fee_per_gas=5, **large).raw)
    small = pool.add(tools.signed(1, CHAIN_ID, 0, TO, max_priority_fee_per_gas=9).raw)
    pool.add(tools.signed(2, CHAIN_ID, 0, TO, max_priority_fee_per_gas=7, **large).raw)
    with pytest.raises(errors.Underpriced):
        pool.add(tools.signed(3, CHAIN_ID, 0, TO, max_priority_fee_per_gas=6, **large).raw)
    assert first not in pool
    assert small in pool
    with pytest.raises(errors.OversizedData, match=r"^oversized data"):
        pool.add(tools.signed(4, CHAIN_ID, 0, TO, data=bytes(4 * SLOT_BYTES), gas=3_000_000).raw)


def test_what_cannot_be_executed_yet_pushes_out_nothing_that_can(tools, open_pool):
    pool = open_pool(global_slots=1, global_queue=1)
    for key in (0, 1):
        pool.add(tools.signed(key, CHAIN_ID, 0, TO, max_priority_fee_per_gas=1).raw)
    with pytest.raises(errors.FutureReplacesPending, match=r"^future transaction tries to replace pending"):
        pool.add(tools.signed(2, CHAIN_ID, 5, TO, max_priority_fee_per_gas=10**9).raw)
    assert pool.status().pending == 2


def test_one_account_may_have_many_until_others_need_the_room(tools, open_pool):
    pool = open_pool(account_slots=2, global_slots=6, global_queue=10)
    for nonce in range(6):
        pool.add(tools.signed(0, CHAIN_ID, nonce, TO).raw)
    for key in (1, 2):
        for nonce in range(2):
            pool.add(tools.signed(key, CHAIN_ID, nonce, TO, max_priority_fee_per_gas=1).raw)
    pending, _ = pool.content()
    assert {key: nonces(pending, tools.ADDRESSES[key]) for key in (0, 1, 2)} == {0: [0, 1], 1: [0, 1], 2: [0, 1]}
    with pytest.raises(errors.PoolFull, match=r"^txpool is full"):
        pool.add(tools.signed(0, CHAIN_ID, 2, TO, max_priority_fee_per_gas=10**10).raw)
    assert pool.status().pending == 6


def test_an_account_queues_so_many_and_the_lowest_nonces_stay(tools, open_pool):
    pool = open_pool(account_queue=3)
    for nonce in (9, 8, 7):
        pool.add(tools.signed(0, CHAIN_ID, nonce, TO).raw)
    with pytest.raises(errors.AccountLimitExceeded, match=r"^account limit exceeded: 3 .* before nonce 0"):
        pool.add(tools.signed(0, CHAIN_ID, 10, TO).raw)
    pool.add(tools.signed(0, CHAIN_ID, 2, TO).raw)
    assert nonces(pool.content()[1], tools.ADDRESSES[0]) == [2, 7, 8]
    pool.add(tools.signed(0, CHAIN_ID, 0, TO).raw)
    pool.add(tools.signed(0, CHAIN_ID, 1, TO).raw)
    pending, queued = pool.content()
    assert nonces(pending, tools.ADDRESSES[0]) == [0, 1, 2]
    assert nonces(queued, tools.ADDRESSES[0]) == [7, 8]


def test_too_large_a_queue_loses_the_accounts_silent_for_longest(tools, open_pool):
    clock = Clock()
    pool = open_pool(clock, global_queue=3)
    for key in range(3):
        clock.now += 1
        pool.add(tools.signed(key, CHAIN_ID, 5, TO).raw)
    clock.now += 1
    pool.add(tools.signed(0, CHAIN_ID, 6, TO).raw)
    queued = pool.content()[1]
    assert [nonces(queued, tools.ADDRESSES[key]) for key in range(3)] == [[5, 6], [], [5]]


def test_what_waits_too_long_for_a_nonce_is_forgotten(tools, chain, open_pool):
    clock = Clock()
    pool = open_pool(clock, lifetime_s=100.0)
    executable = pool.add(tools.signed(0, CHAIN_ID, 0, TO).raw)
    pool.add(tools.signed(0, CHAIN_ID, 5, TO).raw)
    clock.now = 70.0
    other = pool.add(tools.signed(1, CHAIN_ID, 5, TO).raw)
    clock.now = 150.0
    tools.extend(chain)
    assert sorted([executable, other]) == sorted(item for item in (executable, other) if item in pool)
    assert len(pool) == 2


def test_a_balance_that_falls_demotes_what_follows(tools, chain, open_pool):
    pool = open_pool()
    rich = {"gas": 21_000, "max_fee_per_gas": 2 * 10**9, "max_priority_fee_per_gas": 1}
    for nonce, value in ((0, 0), (1, 4 * 10**14), (2, 0)):
        pool.add(tools.signed(8, CHAIN_ID, nonce, TO, value=value, **rich).raw)
    assert pool.status().pending == 3
    # Another transaction with the first nonce takes most of the balance.
    drain = tools.signed(8, CHAIN_ID, 0, TO, value=7 * 10**14, **rich)
    tools.extend(chain, (drain,))
    pending, queued = pool.content()
    assert nonces(pending, tools.ADDRESSES[8]) == []
    assert nonces(queued, tools.ADDRESSES[8]) == [2]
    assert pool.pending_nonce(tools.ADDRESSES[8]) == 1


def test_a_gas_limit_that_falls_takes_out_what_no_longer_fits(tools, chain, open_pool):
    pool = open_pool()
    fits = pool.add(tools.signed(0, CHAIN_ID, 0, TO, gas=100_000).raw)
    too_large = pool.add(tools.signed(1, CHAIN_ID, 0, TO, gas=50_000_000, max_fee_per_gas=10**9).raw)
    tools.extend(chain, gas_limit=30_000_000)
    assert fits in pool
    assert too_large not in pool


def test_the_price_limit_is_a_least_tip(tools, open_pool):
    pool = open_pool(minimum_tip=10)
    with pytest.raises(
        errors.Underpriced, match=r"^transaction gas price below minimum: gas tip cap 9, minimum needed 10"
    ):
        pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_priority_fee_per_gas=9).raw)


def test_without_a_price_limit_no_tip_does_but_is_not_replaced_by_none(tools, open_pool):
    transaction = tools.signed(0, CHAIN_ID, 0, TO, max_priority_fee_per_gas=0)
    with pytest.raises(errors.Underpriced, match="gas tip cap 0, minimum needed 1"):
        open_pool().add(transaction.raw)
    pool = open_pool(minimum_tip=0)
    pool.add(transaction.raw)
    dearer = {"max_fee_per_gas": 2 * transaction.max_fee_per_gas, "max_priority_fee_per_gas": 0}
    with pytest.raises(errors.ReplacementUnderpriced):
        pool.add(tools.signed(0, CHAIN_ID, 0, TO, **dearer).raw)


def test_the_price_bump_can_be_set(tools, open_pool):
    pool = open_pool(price_bump_percent=50)
    pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=10**10, max_priority_fee_per_gas=100).raw)
    with pytest.raises(errors.ReplacementUnderpriced, match="50 %"):
        pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=2 * 10**10, max_priority_fee_per_gas=149).raw)
    pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=15 * 10**9, max_priority_fee_per_gas=150).raw)
    assert len(pool) == 1


def blobs(tools, fee: int, tip: int, blob_fee: int):
    return tools.signed(
        0,
        CHAIN_ID,
        0,
        TO,
        type=BLOB,
        max_fee_per_gas=fee,
        max_priority_fee_per_gas=tip,
        max_fee_per_blob_gas=blob_fee,
        blob_versioned_hashes=(b"\x01" + bytes(31),),
    )


@pytest.mark.parametrize("bid", [(199, 20, 6), (200, 19, 6), (200, 20, 5)])
def test_replacing_blobs_takes_double_of_all_three_fees(tools, bid):
    old = blobs(tools, 100, 10, 3)
    with pytest.raises(errors.ReplacementUnderpriced, match="100 %"):
        validate_replacement(blobs(tools, *bid), old, PoolLimits())
    validate_replacement(blobs(tools, 200, 20, 6), old, PoolLimits())
    plain = tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=10**6, max_priority_fee_per_gas=10**5)
    with pytest.raises(errors.ReplacementUnderpriced, match="do not replace each other"):
        validate_replacement(plain, old, PoolLimits())
