"""What does not belong into the batch inbox changes nothing, or exactly what the rules say it changes."""

import pytest

from openledger.evm_ext.transactions import DEPOSIT, sign_transaction
from openledger.genesis.dev_accounts import USERS
from openledger.rollup.codec.batcher_transaction import encode_commitment_data, encode_frames_data
from openledger.rollup.codec.batches import SingularBatch, encode_singular_batch
from openledger.rollup.codec.channels import Compression, compress_channel
from openledger.rollup.codec.frames import Frame
from openledger.rollup.da.client import DAUnavailable


def channel_payload(*batches: bytes, channel_id: bytes = b"c" * 16) -> bytes:
    channel = compress_channel(batches, Compression.ZLIB)
    return encode_frames_data([Frame(channel_id, 0, channel, True)])


async def assert_derived_alike(network) -> None:
    """A fresh node and the sequencer's own node arrive at the sequencer's head."""
    head = network.node.chain.head()
    await network.post()
    validator = network.open_node("fresh")
    await validator.driver.derive_to_tip()
    assert validator.chain.head("safe").hash == head.hash
    validator.close()


GARBAGE = {
    "empty calldata": b"",
    "unknown version": b"\x55" + bytes(40),
    "garbage frames": b"\x00" + bytes(range(100)),
    "commitment without a body": b"\x01",
    "commitment of an unknown type": b"\x01\x07" + bytes(32),
    "keccak commitment on a generic chain": b"\x01\x00" + bytes(32),
    "certificate that is no RLP": b"\x01\x01\x00\x03garbage",
    "certificate of an unknown version": b"\x01\x01\x00\x77garbage",
    "commitment of another DA layer": b"\x01\x01\x0cgarbage",
}


async def test_garbage_from_the_batcher_itself_is_skipped(network) -> None:
    await network.advance(4)
    for data in GARBAGE.values():
        await network.post_to_inbox(data)
    await assert_derived_alike(network)


async def test_garbage_behind_good_commitments_is_skipped(network) -> None:
    await network.advance(4)
    frame = Frame(b"d" * 16, 0, b"not compressed", True)
    out_of_order = [Frame(b"e" * 16, 1, b"x", False), Frame(b"e" * 16, 0, b"y", True)]
    for payload in (
        b"garbage",
        b"\x00",
        b"\x01nested commitment",
        encode_frames_data([frame]),
        encode_frames_data([frame]) + b"\xff",
        encode_frames_data(out_of_order),
        channel_payload(b"\x00not a batch"),
        channel_payload(b"\x01\x00\x00span"),
        channel_payload(b"\x09future version"),
    ):
        await network.post_payload(payload)
    await assert_derived_alike(network)


async def test_a_strangers_batch_is_ignored(network) -> None:
    await network.advance(4)
    head = network.node.engine.ref(network.node.chain.head())
    batch = SingularBatch(head.hash, head.l1_origin.number, head.l1_origin.hash, head.timestamp + 2)
    commitment = await network.da.put(channel_payload(encode_singular_batch(batch)))
    await network.post_to_inbox(encode_commitment_data(commitment), account=USERS[3])
    await assert_derived_alike(network)


async def test_a_batch_with_a_wrong_parent_takes_the_rest_of_its_channel_with_it(network) -> None:
    await network.advance(8)
    chain, engine = network.node.chain, network.node.engine
    first = engine.batch(chain.header_by_number(1))
    orphan = SingularBatch(b"\x99" * 32, first.epoch_number, first.epoch_hash, first.timestamp)
    await network.post_payload(channel_payload(encode_singular_batch(orphan), encode_singular_batch(first)))
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).number == 0
    await network.post_payload(channel_payload(encode_singular_batch(first), encode_singular_batch(orphan)))
    assert (await validator.driver.derive_to_tip()).number == 1
    validator.close()
    await assert_derived_alike(network)


async def test_posting_everything_twice_has_no_further_effect(network) -> None:
    await network.advance(8)
    await network.post()
    await network.post(batcher=network.make_batcher())
    await network.advance(8)
    await assert_derived_alike(network)


def unpayable(nonce: int) -> bytes:
    return sign_transaction(
        b"\x12" * 32,
        chain_id=161_299,
        nonce=nonce,
        gas=21_000,
        to=bytes(20),
        value=1,
        max_fee_per_gas=10**9,
    ).raw


@pytest.mark.parametrize("transaction", [unpayable(0), unpayable(5), b"\x02garbage", b"\xc0"])
async def test_an_invalid_payload_is_replaced_by_its_deposits_and_its_channel_dropped(network, transaction) -> None:
    await network.advance(8)
    network.send_l2(USERS[0], b"\x77" * 20, value=1)
    await network.advance(4)
    chain, engine = network.node.chain, network.node.engine
    first, second = (engine.batch(chain.header_by_number(number)) for number in (1, 2))
    poisoned = SingularBatch(
        first.parent_hash, first.epoch_number, first.epoch_hash, first.timestamp, (*first.transactions, transaction)
    )
    await network.post_payload(channel_payload(encode_singular_batch(poisoned), encode_singular_batch(second)))
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).number == 1
    block = validator.chain.block_by_number(1)
    assert [item.type for item in block.transactions] == [DEPOSIT] * len(block.transactions)
    # The sequencer's own chain held the same deposits there, so its history stands.
    await network.node.driver.derive_to_tip()
    assert validator.chain.header_by_number(1).hash == chain.header_by_number(1).hash
    validator.close()
    await assert_derived_alike(network)


async def test_a_batch_that_contradicts_the_unsafe_chain_wins(network) -> None:
    await network.advance(8)
    network.send_l2(USERS[0], b"\x77" * 20, value=1)
    await network.advance(4)
    chain, engine = network.node.chain, network.node.engine
    with_transaction = next(n for n in range(1, 10) if engine.batch(chain.header_by_number(n)).transactions)
    batches = [engine.batch(chain.header_by_number(number)) for number in range(1, with_transaction + 1)]
    stripped = SingularBatch(
        batches[-1].parent_hash, batches[-1].epoch_number, batches[-1].epoch_hash, batches[-1].timestamp
    )
    old = chain.header_by_number(with_transaction).hash
    await network.post_payload(
        channel_payload(*map(encode_singular_batch, batches[:-1]), encode_singular_batch(stripped))
    )
    await network.node.driver.derive_to_tip()
    assert network.node.driver.status.reorgs == 1
    assert chain.header_by_number(with_transaction).hash != old
    # The transaction that fell out is in the pool again and gets into the next blocks.
    await network.advance(8)
    assert chain.state(chain.head().hash).balance(b"\x77" * 20) == 1
    await assert_derived_alike(network)


async def test_derivation_waits_while_da_is_down_and_goes_on_where_it_was(network) -> None:
    await network.advance(12)
    await network.post()
    head = network.node.chain.head()
    validator = network.open_node("validator")
    network.da_transport.down = True
    with pytest.raises(DAUnavailable):
        await validator.driver.derive_to_tip()
    with pytest.raises(DAUnavailable):
        await validator.driver.step()
    network.da_transport.down = False
    assert (await validator.driver.derive_to_tip()).hash == head.hash
    validator.close()
