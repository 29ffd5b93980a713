"""The batcher posts everything once with effect, through every way of dying in the middle."""

import pytest

from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import decode_transaction
from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.rollup.batcher import BatcherSettings
from openledger.rollup.codec.batcher_transaction import decode_commitment_data, decode_frames_data
from openledger.rollup.codec.batches import decode_batch
from openledger.rollup.codec.channels import Compression, decompress_channel, read_batches
from openledger.rollup.codec.span_batches import SpanBatch
from openledger.rollup.da.client import DAUnavailable
from openledger.rollup.l1.source import Inclusion, L1Fees, L1TransactionRejected, L1Unavailable
from openledger.rollup.l1.transactions import L1Sender, L1TransactionLost


class Crash(BaseException):
    """The process is gone."""


async def posted_payloads(network) -> list[bytes]:
    """Payloads behind all commitments in the inbox, in order."""
    payloads = []
    for number in range(1, network.l1.chain.head().number + 1):
        for transaction in network.l1.chain.block_by_number(number).transactions:
            if transaction.to == network.config.batch_inbox:
                payloads.append(await network.da.get(decode_commitment_data(transaction.data), number))
    return payloads


async def assert_derived(network) -> None:
    validator = network.open_node("check")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    validator.close()


async def test_a_channel_waits_for_its_blocks_or_its_time(network) -> None:
    batcher = network.make_batcher(max_channel_blocks=4, max_channel_duration_s=7.0)
    assert not await batcher.step()
    await network.advance(2)
    assert not await batcher.step()
    await network.advance(4)
    assert not await batcher.step()
    await network.advance(2)
    assert await batcher.step()
    await network.advance(2)
    assert not await batcher.step()
    network.clock.time += 7
    assert await batcher.step()


@pytest.mark.parametrize("compression", list(Compression))
async def test_a_large_channel_crosses_in_many_frames_payloads_and_transactions(network, compression) -> None:
    for nonce in range(4):
        network.send_l2(USERS[nonce], b"\x77" * 20, data=bytes(range(256)) * 3)
        await network.advance(2)
    batcher = network.make_batcher(max_frame_bytes=100, max_payload_bytes=400, compression=compression)
    await network.post(batcher=batcher)
    payloads = await posted_payloads(network)
    frames = [frame for payload in payloads for frame in decode_frames_data(payload)]
    assert len(payloads) > 2
    assert max(map(len, payloads)) <= 400
    assert [frame.frame_number for frame in frames] == list(range(len(frames)))
    assert len({frame.channel_id for frame in frames}) == 1
    content = decompress_channel(b"".join(frame.data for frame in frames))
    (span,) = (decode_batch(batch, chain_id=161_299) for batch in read_batches(content))
    assert isinstance(span, SpanBatch)
    assert span.block_count == 4
    await assert_derived(network)


async def test_many_waiting_blocks_are_cut_into_channels_of_bounded_size(network) -> None:
    await network.advance(40)
    await network.post(batcher=network.make_batcher(max_batch_bytes=500))
    assert len(await posted_payloads(network)) >= 3
    await assert_derived(network)


async def test_killed_between_da_and_l1_it_posts_again(network) -> None:
    await network.advance(8)
    batcher = network.make_batcher()

    async def dead(*_: object, **__: object) -> Inclusion:
        raise Crash

    batcher._sender.send = dead
    with pytest.raises(Crash):
        await batcher.step(flush=True)
    await network.advance(4)
    await network.post(batcher=network.make_batcher())
    assert len(await posted_payloads(network)) == 1
    await assert_derived(network)


async def test_killed_between_sending_and_inclusion_nothing_happens_twice_with_effect(network) -> None:
    await network.advance(8)

    async def dead() -> None:
        raise Crash

    going_on, network.clock.on_sleep = network.clock.on_sleep, dead
    with pytest.raises(Crash):
        await network.make_batcher().step(flush=True)
    network.clock.on_sleep = going_on
    await network.advance(4)
    # The dead batcher's transaction got in; the new one does not know and posts the same blocks and newer ones.
    await network.post(batcher=network.make_batcher())
    assert len(await posted_payloads(network)) == 2
    await assert_derived(network)


async def test_two_batchers_by_mistake_do_no_harm(network) -> None:
    one, other = network.make_batcher(), network.make_batcher(compression=Compression.ZLIB)
    for _ in range(3):
        await network.advance(6)
        await one.step(flush=True)
        await other.step(flush=True)
    await assert_derived(network)


async def test_da_down_is_told_and_nothing_is_lost(network) -> None:
    await network.advance(8)
    network.da_transport.down = True
    batcher = network.make_batcher()
    with pytest.raises(DAUnavailable):
        await batcher.step(flush=True)
    await network.advance(8)
    network.da_transport.down = False
    await network.post(batcher=batcher)
    await assert_derived(network)


async def test_a_channel_that_derivation_passed_over_is_posted_again(network) -> None:
    await network.advance(8)
    status = network.node.driver.status
    batcher = network.make_batcher()
    batcher._current_l1 = lambda: status.current_l1.number if status.current_l1 else None
    assert await batcher.step(flush=True)
    assert not await batcher.step(flush=True)
    # L1 forgets the block that held it.
    l1 = network.l1.chain
    parent = l1.header_by_number(l1.head().number - 1)
    network.l1.pool.close()
    l1.set_heads(unsafe=parent.hash)
    network.l1.pool = network.l1_view._pool = TransactionPool(l1)
    await network.advance(24, sequence=False)
    await network.node.driver.derive_to_tip()
    assert network.node.chain.head("safe").number == 0
    assert await batcher.step(flush=True)
    await network.node.driver.derive_to_tip()
    assert network.node.chain.head("safe").hash == network.node.chain.head().hash


def test_settings_that_devnet_uses_close_channels_quickly() -> None:
    settings = BatcherSettings()
    assert settings.max_channel_blocks == 10
    assert settings.max_channel_duration_s == 5.0


class StubbornL1:
    """An L1 that includes a transaction only once it offers enough."""

    def __init__(self, wanted_tip: int) -> None:
        self.wanted_tip = wanted_tip
        self.count = 0
        self.sent: list[bytes] = []
        self.included: dict[bytes, Inclusion] = {}

    async def nonce(self, address: bytes, *, pending: bool) -> int:
        return self.count

    async def fees(self) -> L1Fees:
        return L1Fees(10, 100)

    async def send_transaction(self, raw: bytes) -> bytes:
        transaction = decode_transaction(raw)
        if transaction.nonce < self.count:
            raise L1TransactionRejected("nonce too low")
        self.sent.append(raw)
        if transaction.max_priority_fee_per_gas >= self.wanted_tip:
            self.count += 1
            self.included[transaction.hash] = Inclusion(b"\x01" * 32, 1, True)
        return transaction.hash

    async def inclusion(self, transaction_hash: bytes) -> Inclusion | None:
        return self.included.get(transaction_hash)


def sender(l1: object, network) -> L1Sender:
    network.clock.on_sleep = None
    return L1Sender(l1, 900, BATCHER.private_key, network.clock, resubmit_after_s=10)  # type: ignore[arg-type]


async def test_a_transaction_that_lies_around_is_replaced_with_one_that_offers_more(network) -> None:
    l1 = StubbornL1(wanted_tip=150)
    included = await sender(l1, network).send(bytes(20), b"x")
    assert included.succeeded
    assert len(l1.sent) == 4  # 100, 116, 134, 155


async def test_a_nonce_that_went_to_somebody_else_is_named(network) -> None:
    l1 = StubbornL1(wanted_tip=10**30)
    real = l1.inclusion

    async def meanwhile(transaction_hash: bytes) -> Inclusion | None:
        l1.count = 1
        return await real(transaction_hash)

    l1.inclusion = meanwhile  # type: ignore[method-assign]
    with pytest.raises(L1TransactionLost, match=address_of(BATCHER.private_key).hex()):
        await sender(l1, network).send(bytes(20), b"x")


async def test_l1_being_away_or_refusing_is_passed_on(network) -> None:
    class Away(StubbornL1):
        async def fees(self) -> L1Fees:
            raise L1Unavailable("cannot reach L1")

    class Refusing(StubbornL1):
        async def send_transaction(self, raw: bytes) -> bytes:
            raise L1TransactionRejected("insufficient funds for gas * price + value")

    with pytest.raises(L1Unavailable):
        await sender(Away(1), network).send(bytes(20), b"x")
    with pytest.raises(L1TransactionRejected, match="insufficient funds"):
        await sender(Refusing(1), network).send(bytes(20), b"x")


# --- routes and failover ---


async def inbox_calls(network) -> list[bytes]:
    """Calldata of every transaction in the inbox, in order."""
    found = []
    for number in range(1, network.l1.chain.head().number + 1):
        for transaction in network.l1.chain.block_by_number(number).transactions:
            if transaction.to == network.config.batch_inbox:
                found.append(transaction.data)
    return found


@pytest.mark.parametrize("batch_kind", ["span", "singular"])
async def test_both_kinds_of_batches_give_the_same_chain(network, batch_kind) -> None:
    for nonce in range(3):
        network.send_l2(USERS[nonce], b"\x77" * 20, value=1)
        await network.advance(6)
        await network.post(batcher=network.make_batcher(batch_kind=batch_kind))
    await assert_derived(network)


async def test_on_503_a_channel_goes_into_calldata_and_the_da_layer_is_tried_again_later(network) -> None:
    batcher = network.make_batcher(failback_after_s=10)
    await network.advance(8)
    network.da_transport.status = 503
    await network.post(batcher=batcher)
    assert (batcher.routes.current, batcher.routes.count) == ("calldata", 1)
    assert (await inbox_calls(network))[-1][0] == 0
    await network.advance(6)
    network.da_transport.status = None
    await network.post(batcher=batcher)
    kinds = [data[0] for data in await inbox_calls(network)]
    await network.advance(12)
    await network.post(batcher=batcher)
    assert batcher.routes.current == "da"
    assert [data[0] for data in await inbox_calls(network)][len(kinds) :] == [1]
    await assert_derived(network)


async def test_a_da_layer_that_only_fails_is_waited_for_before_data_goes_elsewhere(network) -> None:
    batcher = network.make_batcher(failover_after_s=30)
    await network.advance(8)
    network.da_transport.down = True
    with pytest.raises(DAUnavailable):
        await batcher.step(flush=True)
    assert await inbox_calls(network) == []
    network.clock.time += 31
    assert await batcher.step(flush=True)
    assert (batcher.routes.current, batcher.routes.count) == ("calldata", 1)
    network.da_transport.down = False
    await assert_derived(network)


async def test_without_a_fallback_503_is_waited_out(network) -> None:
    batcher = network.make_batcher(fallback="none")
    await network.advance(8)
    network.da_transport.status = 503
    with pytest.raises(DAUnavailable, match="503"):
        await batcher.step(flush=True)
    network.da_transport.status = None
    await network.post(batcher=batcher)
    await assert_derived(network)


async def test_a_channel_that_half_went_to_da_starts_anew_in_calldata(network) -> None:
    for nonce in range(3):
        network.send_l2(USERS[nonce], b"\x77" * 20, data=bytes(range(256)) * 4)
        await network.advance(4)
    batcher = network.make_batcher(max_frame_bytes=200, max_payload_bytes=400)
    real, puts = network.da.put, 0

    async def put(payload: bytes) -> bytes:
        nonlocal puts
        puts += 1
        if puts > 1:
            network.da_transport.status = 503
        return await real(payload)

    network.da.put = put
    await network.post(batcher=batcher)
    assert {data[0] for data in await inbox_calls(network)} == {0, 1}
    network.da_transport.status = None
    await assert_derived(network)


async def test_a_dry_run_measures_and_posts_nothing(network) -> None:
    batcher = network.make_batcher(dry_run=True)
    await network.advance(8)
    await network.post(batcher=batcher)
    assert await inbox_calls(network) == []
    assert batcher.counts.blocks == network.node.chain.head().number
    assert batcher.counts.channel_bytes > 0


async def test_channels_close_near_the_target_size(network) -> None:
    import random

    for nonce in range(8):
        network.send_l2(USERS[nonce % 5], b"\x77" * 20, data=random.Random(nonce).randbytes(2_000))
        await network.advance(2)
    batcher = network.make_batcher(target_channel_bytes=5_000)
    await network.post(batcher=batcher)
    assert 3 <= batcher.counts.channels <= 5
    assert batcher.counts.channel_bytes / batcher.counts.channels < 6_500
    await assert_derived(network)


async def test_a_backlog_makes_the_sequencer_keep_blocks_small(network) -> None:
    batcher = network.make_batcher(throttle_backlog_bytes=5_000, throttle_block_bytes=1_500)
    network.sequencer._data_limit = batcher.data_limit
    small, large = b"\x01" * 500, b"\x01" * 5_500
    network.send_l2(USERS[0], b"\x77" * 20, data=large)
    await network.advance(2)
    assert batcher.data_limit() is not None
    assert batcher.backlog()[0] == network.node.chain.head().number
    for user in USERS[:5]:
        network.send_l2(user, b"\x77" * 20, data=small)
    network.send_l2(USERS[0], b"\x77" * 20, data=large)
    await network.advance(2)
    assert len(network.node.chain.block_by_number(network.node.chain.head().number).transactions) == 1 + 2
    await network.post(batcher=batcher)
    assert batcher.data_limit() is None
    await network.advance(4)
    waiting = network.node.pool.status()
    assert (waiting.pending, waiting.queued) == (0, 0)
    await network.post(batcher=batcher)
    await assert_derived(network)
