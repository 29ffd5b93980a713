"""The transaction pool: what it takes, in which order it gives, what it survives."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from openledger.evm_ext import TransactionPool, errors
from openledger.evm_ext.transactions import transaction_from_deposit

CHAIN_ID = 161299
TO = b"\xbb" * 20


@pytest.fixture
def pool(chain):
    pool = TransactionPool(chain)
    yield pool
    pool.close()


def test_pending_and_queued_follow_the_nonces(tools, chain, pool):
    taken: list[bytes] = []
    pool.listeners.append(taken.append)
    transactions = {nonce: tools.signed(0, CHAIN_ID, nonce, TO) for nonce in (0, 1, 3)}
    hashes = [pool.add(transactions[nonce].raw) for nonce in (3, 0, 1)]
    assert taken == hashes
    assert pool.pending_nonce(tools.ADDRESSES[0]) == 2
    assert [item.nonce for item in pool.pending()] == [0, 1]
    pending, queued = pool.content()
    assert list(pending[tools.ADDRESSES[0]]) == [0, 1]
    assert list(queued[tools.ADDRESSES[0]]) == [3]
    assert (pool.status().pending, pool.status().queued) == (2, 1)
    pool.add(tools.signed(0, CHAIN_ID, 2, TO).raw)
    assert (pool.status().pending, pool.status().queued) == (4, 0)
    assert pool.get(hashes[0]).nonce == 3


def test_best_tips_come_first_and_a_sender_s_nonces_in_order(tools, chain, pool):
    for key, tip in ((0, 1), (1, 5), (2, 3)):
        for nonce in range(2):
            pool.add(
                tools.signed(key, CHAIN_ID, nonce, TO, max_priority_fee_per_gas=(tip + 10 * nonce) * tools.GWEI).raw
            )
    order = [(tools.ADDRESSES.index(item.sender), item.nonce) for item in pool.pending()]
    assert order == [(1, 0), (1, 1), (2, 0), (2, 1), (0, 0), (0, 1)]


def test_a_fee_cap_below_the_base_fee_waits(tools, chain, pool):
    pool.add(tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=1000, max_priority_fee_per_gas=1).raw)
    pool.add(tools.signed(0, CHAIN_ID, 1, TO).raw)
    assert list(pool.pending()) == []
    assert len(list(pool.pending(base_fee=999))) == 2


def test_replacement_needs_ten_percent_on_both_fees(tools, chain, pool):
    def bid(cap, tip):
        return tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=cap, max_priority_fee_per_gas=tip).raw

    first = pool.add(bid(10_000_000_000, 1000))
    for cap, tip in ((10_999_999_999, 1100), (11_000_000_000, 1099)):
        with pytest.raises(errors.ReplacementUnderpriced, match=r"^replacement transaction underpriced"):
            pool.add(bid(cap, tip))
    second = pool.add(bid(11_000_000_000, 1100))
    assert first not in pool
    assert second in pool
    assert len(pool) == 1


@pytest.mark.parametrize(
    ("key", "fields", "error", "text"),
    [
        (0, {"chain_id": 1}, errors.WrongChainId, "invalid chain id for signer"),
        (0, {"gas": 20_999}, errors.IntrinsicGasTooLow, "intrinsic gas too low"),
        (0, {"gas": 22_000, "data": b"\xff" * 60}, errors.FloorGasTooLow, "insufficient gas for floor data gas cost"),
        (0, {"gas": 60_000_001}, errors.ExceedsBlockGasLimit, "exceeds block gas limit"),
        (0, {"value": 10**30}, errors.InsufficientFunds, "insufficient funds for gas * price + value"),
        (8, {"value": 10**15, "gas": 21_000, "max_fee_per_gas": 1}, errors.InsufficientFunds, "insufficient funds"),
        (
            0,
            {"max_priority_fee_per_gas": 101 * 10**9},
            errors.TipAboveFeeCap,
            "max priority fee per gas higher than max fee per gas",
        ),
        (9, {}, errors.SenderNotEOA, "sender not an eoa"),
        (0, {"data": bytes(130 * 1024), "gas": 10**7}, errors.OversizedData, "oversized data"),
        (0, {"to": None, "data": bytes(49_153), "gas": 10**7}, errors.InitCodeTooLarge, "max initcode size exceeded"),
        (0, {"max_fee_per_gas": 10**16}, errors.PoolRejection, "tx fee"),
        (
            0,
            {"type": 3, "blob_versioned_hashes": (b"\x01" + bytes(31),), "max_fee_per_blob_gas": 1},
            errors.UnsupportedTransactionType,
            "transaction type not supported",
        ),
        (0, {"type": 4}, errors.InvalidSetCodeTransaction, "EIP-7702 transaction with empty auth list"),
    ],
)
def test_bad_transactions_get_the_error_that_says_why(tools, pool, key, fields, error, text):
    fields = {"to": TO, "chain_id": CHAIN_ID, **fields}
    if "max_fee_per_gas" in fields:
        fields.setdefault("max_priority_fee_per_gas", 1)
    chain_id, to = fields.pop("chain_id"), fields.pop("to")
    raw = tools.signed(key, chain_id, 0, to, **fields).raw
    with pytest.raises(error) as caught:
        pool.add(raw)
    assert str(caught.value).startswith(text)
    assert len(pool) == 0


def test_deposits_nonsense_and_bad_signatures_are_refused(tools, pool):
    with pytest.raises(errors.UnsupportedTransactionType):
        pool.add(transaction_from_deposit(tools.l1_info()).raw)
    for raw in (b"", b"\x02", b"\xc0", b"\x02\xc0", b"\x05\xc0", b"\xff" * 30, b"\x85hello"):
        with pytest.raises(errors.InvalidTransaction):
            pool.add(raw)
    from dataclasses import replace

    from openledger.evm_ext.signatures import SECP256K1_N
    from openledger.evm_ext.transactions import encode_transaction

    good = tools.signed(0, CHAIN_ID, 0, TO)
    for bad in (
        replace(good, s=SECP256K1_N - good.s, y_parity=1 - good.y_parity),
        replace(good, r=0),
        replace(good, s=0),
        replace(good, r=SECP256K1_N),
    ):
        with pytest.raises(errors.InvalidSignature, match=r"^invalid sender"):
            pool.add(encode_transaction(bad))


def test_what_is_known_or_past_is_refused(tools, chain, pool):
    transaction = tools.signed(0, CHAIN_ID, 0, TO)
    pool.add(transaction.raw)
    with pytest.raises(errors.AlreadyKnown, match=r"^already known"):
        pool.add(transaction.raw)
    tools.extend(chain, (transaction,))
    assert len(pool) == 0
    with pytest.raises(errors.NonceTooLow, match=r"^nonce too low: next nonce 1, tx nonce 0"):
        pool.add(transaction.raw)


def test_the_balance_has_to_cover_all_of_a_sender_s_transactions(tools, pool):
    each = {"gas": 21_000, "max_fee_per_gas": 10**10, "max_priority_fee_per_gas": 1}  # 2.1e14 of 1e15
    for nonce in range(4):
        pool.add(tools.signed(8, CHAIN_ID, nonce, TO, **each).raw)
    with pytest.raises(errors.InsufficientFunds, match="queued cost"):
        pool.add(tools.signed(8, CHAIN_ID, 4, TO, **each).raw)
    # replacing one counts it once
    pool.add(tools.signed(8, CHAIN_ID, 3, TO, gas=21_000, max_fee_per_gas=11 * 10**9, max_priority_fee_per_gas=2).raw)


def test_a_reorganisation_puts_transactions_back(tools, chain, pool):
    parent = chain.head()
    info = tools.l1_info_transaction()
    transactions = [tools.signed(0, CHAIN_ID, nonce, TO) for nonce in range(3)]
    for transaction in transactions:
        pool.add(transaction.raw)
    old = tools.extend(chain, (info, *transactions))
    assert len(pool) == 0
    new = chain.build(
        parent.hash,
        tools.attributes(parent, (info.raw, transactions[0].raw), suggested_fee_recipient=b"\x01" * 20),
    )
    assert new.hash != old.hash
    chain.set_heads(unsafe=new.hash)
    assert [item.nonce for item in pool.pending()] == [1, 2]
    assert pool.pending_nonce(tools.ADDRESSES[0]) == 3


def test_a_block_is_built_from_the_pool(tools, chain, pool):
    for key in range(4):
        for nonce in range(3):
            pool.add(tools.signed(key, CHAIN_ID, nonce, TO, value=1).raw)
    head = chain.head()
    block = chain.build(head.hash, tools.attributes(head, (tools.l1_info_transaction().raw,)), pool.pending())
    assert len(block.transactions) == 13
    chain.set_heads(unsafe=block.hash)
    assert len(pool) == 0


def test_what_was_acknowledged_is_there_after_a_restart(tools, chain, tmp_path):
    journal = tmp_path / "transactions.journal"
    pool = TransactionPool(chain, journal=journal)
    hashes = [pool.add(tools.signed(0, CHAIN_ID, nonce, TO).raw) for nonce in range(5)]
    pool.close()
    with open(journal, "ab") as file:
        file.write(b"\x00\x00\x01\x00torn")
    pool = TransactionPool(chain, journal=journal)
    assert all(item in pool for item in hashes)
    late = pool.add(tools.signed(1, CHAIN_ID, 0, TO).raw)
    tools.extend(chain, (pool.get(hashes[0]),))
    pool.close()
    pool = TransactionPool(chain, journal=journal)
    assert hashes[0] not in pool
    assert [item.nonce for item in pool.pending()] == [1, 2, 3, 4, 0]
    assert late in pool
    pool.close()


def test_what_the_disk_did_not_take_was_never_added(tools, chain, tmp_path, monkeypatch):
    pool = TransactionPool(chain, journal=tmp_path / "transactions.journal")
    first = pool.add(tools.signed(0, CHAIN_ID, 0, TO).raw)
    better = tools.signed(0, CHAIN_ID, 0, TO, max_fee_per_gas=10**12, max_priority_fee_per_gas=10**10)
    other = tools.signed(1, CHAIN_ID, 0, TO)

    def full(_entry: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(pool._journal, "append", full)
        for refused in (better, other):
            with pytest.raises(errors.NotKept, match="No space left on device"):
                pool.add(refused.raw)
            assert refused.hash not in pool
    assert first in pool
    assert pool.add(other.raw) == other.hash
    assert pool.add(better.raw) == better.hash
    pool.close()


def test_the_journal_is_shortened_when_blocks_have_emptied_the_pool(tools, chain, tmp_path):
    journal = tmp_path / "transactions.journal"
    pool = TransactionPool(chain, journal=journal)
    for nonce in range(300):
        pool.add(tools.signed(0, CHAIN_ID, nonce, TO, gas=21_000).raw)
    before = journal.stat().st_size
    head = chain.head()
    block = chain.build(head.hash, tools.attributes(head), pool.pending())
    chain.set_heads(unsafe=block.hash)
    assert len(pool) == 0
    assert journal.stat().st_size < before // 100
    pool.close()


_CHILD = """
    import sys
    from pathlib import Path
    from openledger.evm_ext import Chain, TransactionPool, sign_transaction
    from openledger.genesis.genesis import Genesis, GenesisAccount, encode_holocene_extra_data
    from openledger.evm_ext.signatures import address_of

    folder = Path(sys.argv[1])
    key = b"\\x11" * 32
    genesis = Genesis(rules="op", chain_id=1, timestamp=1, gas_limit=30_000_000, base_fee_per_gas=7,
                      extra_data=encode_holocene_extra_data(250, 6),
                      alloc={address_of(key): GenesisAccount(balance=10**24)})
    chain = Chain.open(folder / "chain", genesis)
    pool = TransactionPool(chain, journal=folder / "pool.journal")
    for item in list(pool.pending()):
        print("held", item.hash.hex(), flush=True)
    print("ready", flush=True)
    nonce = pool.pending_nonce(address_of(key))
    while True:
        transaction = sign_transaction(key, chain_id=1, nonce=nonce, gas=21_000, to=b"\\x22" * 20, max_fee_per_gas=10)
        print("acknowledged", pool.add(transaction.raw).hex(), flush=True)
        nonce += 1
"""


def test_kill_9_loses_no_acknowledged_transaction(tmp_path):
    acknowledged: set[str] = set()
    for round_number in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_CHILD), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        assert child.stdout is not None
        held = set()
        seen = 0
        for line in child.stdout:
            word, *rest = line.split()
            if word == "held":
                held.add(rest[0])
            elif word == "acknowledged":
                acknowledged.add(rest[0])
                seen += 1
                if seen == 10 + 7 * round_number:
                    break
            elif word == "ready":
                assert acknowledged <= held
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            word, *rest = line.split() or [""]
            if word == "acknowledged" and rest and len(rest[0]) == 64:
                acknowledged.add(rest[0])
        child.wait()
        child.stdout.close()
    assert len(acknowledged) >= 50
