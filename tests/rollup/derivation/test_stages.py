"""The pure stages, each rule by a test of its own."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.block import EMPTY_UNCLES_HASH, Header
from openledger.evm_ext.transactions import DepositTransaction, sign_transaction, transaction_from_deposit
from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.genesis.presets import preset
from openledger.rollup.blocks import BlockId, L2BlockRef
from openledger.rollup.codec.batcher_transaction import encode_frames_data
from openledger.rollup.codec.batches import SingularBatch, encode_singular_batch
from openledger.rollup.codec.channels import Compression, compress_channel
from openledger.rollup.codec.deposits import upgrade_source_hash
from openledger.rollup.codec.frames import Frame
from openledger.rollup.config import RollupConfig
from openledger.rollup.derivation.batch_checks import Validity, check_singular_batch
from openledger.rollup.derivation.batch_stage import BatchStage
from openledger.rollup.derivation.channel_assembler import ChannelAssembler
from openledger.rollup.derivation.channel_reader import ChannelReader
from openledger.rollup.derivation.errors import ResetRequired
from openledger.rollup.derivation.frame_queue import FrameQueue, prune
from openledger.rollup.derivation.l1_retrieval import BatcherInput, batcher_inputs

A, B = b"a" * 16, b"b" * 16
L1_TIME = 4


def frames(*parts: tuple[bytes, int, bool]) -> list[Frame]:
    return [Frame(channel, number, b"x", last) for channel, number, last in parts]


def names(found: Iterable[Frame]) -> list[tuple[bytes, int]]:
    return [(frame.channel_id, frame.frame_number) for frame in found]


def header(number: int, parent: bytes = bytes(32), timestamp: int | None = None) -> Header:
    return Header(
        parent_hash=parent,
        uncles_hash=EMPTY_UNCLES_HASH,
        fee_recipient=bytes(20),
        state_root=bytes(32),
        transactions_root=bytes(32),
        receipts_root=bytes(32),
        logs_bloom=bytes(256),
        difficulty=0,
        number=number,
        gas_limit=30_000_000,
        gas_used=0,
        timestamp=1000 + L1_TIME * number if timestamp is None else timestamp,
        extra_data=b"",
        prev_randao=bytes(32),
        nonce=bytes(8),
        base_fee_per_gas=7,
        withdrawals_root=bytes(32),
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=bytes(32),
        requests_hash=bytes(32),
    )


def l1_chain(length: int) -> list[Header]:
    chain = [header(0)]
    for number in range(1, length):
        chain.append(header(number, chain[-1].hash))
    return chain


CHAIN = l1_chain(40)
CONFIG = replace(
    RollupConfig.from_genesis(preset("devnet"), CHAIN[0].hash, b"\x02" * 32, CHAIN[0].timestamp),
    seq_window_size=10,
    max_sequencer_drift=20,
)
PARENT = L2BlockRef(b"\x50" * 32, 7, b"\x49" * 32, CHAIN[5].timestamp, BlockId(CHAIN[5].hash, 5), 0)
NEXT_TIME = PARENT.timestamp + 2
GOOD = SingularBatch(PARENT.hash, 5, CHAIN[5].hash, NEXT_TIME, (b"\x02tx",))


# --- batcher transactions ---


def l1_call(key: bytes, to: bytes | None, data: bytes, kind: int = 2) -> bytes:
    return sign_transaction(
        key, type=kind, chain_id=900, nonce=0, gas=100_000, to=to, data=data, max_fee_per_gas=10**9
    ).raw


def test_only_the_batchers_calls_to_the_inbox_carry_data() -> None:
    inbox = CONFIG.batch_inbox
    transactions = (
        l1_call(BATCHER.private_key, inbox, b"one"),
        l1_call(USERS[0].private_key, inbox, b"from a stranger"),
        l1_call(BATCHER.private_key, bytes(20), b"to another address"),
        l1_call(BATCHER.private_key, None, b"a creation"),
        l1_call(BATCHER.private_key, inbox, b"two", kind=0),
        l1_call(BATCHER.private_key, inbox, b"three", kind=1),
        b"\x05unknown type",
        b"\x02garbage",
        b"",
    )
    found = batcher_inputs(transactions, inbox, BATCHER.address)
    assert [item.calldata for item in found] == [b"one", b"two", b"three"]


# --- frame queue ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(A, 0, False), (A, 1, False), (A, 2, True)], [(A, 0), (A, 1), (A, 2)]),
        ([(A, 0, False), (A, 2, True)], [(A, 0)]),
        ([(A, 0, True), (A, 1, False)], [(A, 0)]),
        ([(A, 0, False), (A, 1, False), (B, 0, True)], [(B, 0)]),
        ([(A, 0, False), (A, 1, True), (B, 0, True)], [(A, 0), (A, 1), (B, 0)]),
        ([(A, 0, False), (B, 1, False), (A, 1, True)], [(A, 0), (A, 1)]),
        ([(A, 0, False), (A, 0, False), (A, 1, True)], [(A, 0), (A, 1)]),
        ([(A, 1, False), (A, 2, True)], [(A, 1), (A, 2)]),
    ],
)
def test_frames_that_cannot_become_a_channel_are_pruned(
    before: list[tuple[bytes, int, bool]], after: list[tuple[bytes, int]]
) -> None:
    assert names(prune(frames(*before))) == after


@given(st.lists(st.builds(Frame, st.sampled_from([A, B]), st.integers(0, 3), st.just(b""), st.booleans()), max_size=12))
def test_after_pruning_each_pair_is_contiguous(given_frames: list[Frame]) -> None:
    kept = prune(given_frames)
    for current, following in itertools.pairwise(kept):
        if current.channel_id == following.channel_id:
            assert not current.is_last
            assert following.frame_number == current.frame_number + 1
        else:
            assert current.is_last
            assert following.frame_number == 0
    assert prune(kept) == kept


def test_one_bad_frame_rejects_its_whole_transaction_and_no_other() -> None:
    queue = FrameQueue()
    good = encode_frames_data(frames((A, 0, True)))
    queue.add(good + b"\xff")
    queue.add(b"\x07unknown version")
    queue.add(b"")
    assert queue.next_frame() is None
    queue.add(good)
    assert names([queue.next_frame() or pytest.fail("no frame")]) == [(A, 0)]


# --- channel assembler ---


def test_a_channel_is_its_frames_in_order() -> None:
    assembler = ChannelAssembler(50)
    assert assembler.add(Frame(A, 0, b"one", False), 10) is None
    assert assembler.add(Frame(A, 1, b"two", True), 60) == b"onetwo"
    assert assembler.add(Frame(A, 1, b"two", True), 60) is None


def test_a_channel_times_out_one_block_after_its_timeout() -> None:
    assembler = ChannelAssembler(50)
    assembler.add(Frame(A, 0, b"one", False), 10)
    assert assembler.add(Frame(A, 1, b"two", True), 61) is None


def test_frames_out_of_order_or_of_another_channel_are_dropped_and_a_first_frame_starts_over() -> None:
    assembler = ChannelAssembler(50)
    assembler.add(Frame(A, 0, b"one", False), 10)
    assert assembler.add(Frame(A, 2, b"three", True), 10) is None
    assert assembler.add(Frame(B, 1, b"other", True), 10) is None
    assert assembler.add(Frame(A, 1, b"two", True), 10) == b"onetwo"
    assembler.add(Frame(A, 0, b"old", False), 10)
    assembler.add(Frame(B, 0, b"new", False), 10)
    assert assembler.add(Frame(A, 1, b"old", True), 10) is None
    assert assembler.add(Frame(B, 1, b"er", True), 10) == b"newer"


# --- channel reader ---


def test_a_channel_is_read_up_to_its_first_bad_batch() -> None:
    reader = ChannelReader(161_299)
    good = encode_singular_batch(GOOD)
    reader.open(compress_channel([good, b"\x02future", good], Compression.ZLIB))
    assert reader.next_batch() == GOOD
    assert reader.next_batch() is None
    assert reader.next_batch() is None
    reader.open(b"\x00garbage")
    assert reader.next_batch() is None
    reader.open(compress_channel([good, good], Compression.BROTLI))
    assert reader.next_batch() == GOOD
    reader.flush()
    assert reader.next_batch() is None


# --- batch checks ---


def verdict(batch: SingularBatch, inclusion: int = 8, parent: L2BlockRef = PARENT) -> Validity:
    return check_singular_batch(CONFIG, CHAIN[5:9], parent, batch, inclusion).validity


def test_a_good_batch_is_accepted() -> None:
    assert verdict(GOOD) is Validity.ACCEPT
    assert verdict(replace(GOOD, transactions=(b"\xc0legacy", b"\x01x", b"\x02x", b"\x04x"))) is Validity.ACCEPT


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": NEXT_TIME + 2},
        {"parent_hash": b"\x51" * 32},
        {"epoch_number": 4, "epoch_hash": CHAIN[4].hash},
        {"epoch_number": 7, "epoch_hash": CHAIN[7].hash},
        {"epoch_hash": CHAIN[6].hash},
        {"epoch_number": 6, "epoch_hash": CHAIN[6].hash},
        {"transactions": (b"",)},
        {"transactions": (b"\x7edeposit",)},
        {"transactions": (b"\x03blob",)},
        {"transactions": (b"\x05future",)},
    ],
)
def test_each_broken_rule_drops_the_batch(change: dict[str, object]) -> None:
    assert verdict(replace(GOOD, **change)) is Validity.DROP  # type: ignore[arg-type]


def test_a_past_batch_is_skipped_and_not_dropped() -> None:
    assert verdict(replace(GOOD, timestamp=NEXT_TIME - 2, parent_hash=b"\x51" * 32)) is Validity.PAST


def test_a_batch_must_arrive_within_the_sequencing_window() -> None:
    assert verdict(GOOD, inclusion=15) is Validity.ACCEPT
    assert verdict(GOOD, inclusion=16) is Validity.DROP


def test_past_the_drift_only_an_empty_batch_that_could_not_move_on_is_valid() -> None:
    slow = [CHAIN[5], header(6, CHAIN[5].hash, CHAIN[5].timestamp + 100)]
    parent = replace(PARENT, timestamp=CHAIN[5].timestamp + 20)
    late = replace(GOOD, timestamp=parent.timestamp + 2)
    assert check_singular_batch(CONFIG, slow, parent, late, 8).validity is Validity.DROP
    empty = replace(late, transactions=())
    assert check_singular_batch(CONFIG, slow, parent, empty, 8).validity is Validity.ACCEPT
    assert check_singular_batch(CONFIG, CHAIN[5:7], parent, empty, 8).validity is Validity.DROP
    at_the_drift = replace(PARENT, timestamp=CHAIN[5].timestamp + 18)
    last = replace(GOOD, timestamp=at_the_drift.timestamp + 2)
    assert check_singular_batch(CONFIG, slow, at_the_drift, last, 8).validity is Validity.ACCEPT


# --- batch stage ---


class Feed:
    """Batches by the L1 block they are read in; knows when its channel was flushed."""

    def __init__(self) -> None:
        self.batches: list[SingularBatch] = []
        self.flushed = 0

    async def pull(self) -> SingularBatch | None:
        return self.batches.pop(0) if self.batches else None

    def flush(self) -> None:
        self.flushed += 1
        self.batches.clear()


def child(parent: L2BlockRef, batch: SingularBatch) -> L2BlockRef:
    same = batch.epoch_number == parent.l1_origin.number
    return L2BlockRef(
        bytes([parent.number + 1]) * 32,
        parent.number + 1,
        parent.hash,
        batch.timestamp,
        BlockId(batch.epoch_hash, batch.epoch_number),
        parent.sequence_number + 1 if same else 0,
    )


async def test_batches_up_to_the_safe_heads_epoch_are_drained() -> None:
    feed = Feed()
    stage = BatchStage(CONFIG, CHAIN[3], feed.pull, feed.flush, lambda number: None)
    for number in (3, 4, 5):
        feed.batches = [GOOD]
        assert await stage.next_batch(PARENT, CHAIN[number]) is None
        assert feed.batches == []
    feed.batches = [GOOD]
    assert await stage.next_batch(PARENT, CHAIN[6]) == GOOD


async def test_an_invalid_batch_flushes_its_channel_and_a_past_one_does_not() -> None:
    feed = Feed()
    stage = BatchStage(CONFIG, CHAIN[5], feed.pull, feed.flush, lambda number: None)
    await stage.next_batch(PARENT, CHAIN[5])
    feed.batches = [replace(GOOD, timestamp=NEXT_TIME - 2), GOOD]
    assert await stage.next_batch(PARENT, CHAIN[6]) == GOOD
    feed.batches = [replace(GOOD, parent_hash=bytes(32)), GOOD]
    assert await stage.next_batch(PARENT, CHAIN[6]) is None
    assert feed.flushed == 1


async def test_empty_batches_fill_an_epoch_once_its_window_has_passed_and_move_on() -> None:
    feed = Feed()
    stage = BatchStage(CONFIG, CHAIN[5], feed.pull, feed.flush, lambda number: None)
    parent = PARENT
    made: list[SingularBatch] = []
    for origin in CHAIN[5:18]:
        while (batch := await stage.next_batch(parent, origin)) is not None:
            made.append(batch)
            parent = child(parent, batch)
        assert origin.number >= 15 or not made
    # One L2 block per 2 s, an L1 block per 4 s: epoch 5 has one block left, 6 and 7 have two each.
    assert [batch.epoch_number for batch in made] == [5, 6, 6, 7, 7]
    assert all(not batch.transactions for batch in made)
    assert [batch.timestamp for batch in made] == [NEXT_TIME + 2 * index for index in range(5)]


async def test_a_safe_head_of_another_l1_chain_asks_for_a_reset() -> None:
    feed = Feed()
    stage = BatchStage(CONFIG, CHAIN[5], feed.pull, feed.flush, lambda number: None)
    foreign = replace(PARENT, l1_origin=BlockId(b"\x66" * 32, 5))
    await stage.next_batch(foreign, CHAIN[5])
    with pytest.raises(ResetRequired):
        await stage.next_batch(foreign, CHAIN[6])


def test_a_deposit_typed_l1_transaction_counts_by_its_sender() -> None:
    deposit = DepositTransaction(
        upgrade_source_hash("x"), BATCHER.address, CONFIG.batch_inbox, 0, 0, 21_000, False, b"data"
    )
    raw = transaction_from_deposit(deposit).raw
    assert batcher_inputs((raw,), CONFIG.batch_inbox, BATCHER.address) == (BatcherInput(b"data"),)
