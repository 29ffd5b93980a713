"""A chain posted in spans, as another batcher would, is derived alike."""

import pytest

from openledger.genesis.dev_accounts import USERS
from openledger.rollup.codec.batcher_transaction import encode_frames_data
from openledger.rollup.codec.batches import SPAN_BATCH, encode_singular_batch
from openledger.rollup.codec.channels import Compression, compress_channel
from openledger.rollup.codec.frames import Frame
from openledger.rollup.codec.span_batches import encode_span_batch

RECEIVER = b"\x77" * 20


def span(network, first: int, last: int, **override) -> bytes:
    """The span batch of the sequencer's blocks `first` to `last`."""
    chain, engine = network.node.chain, network.node.engine
    parent = engine.ref_by_number(first - 1)
    refs = [engine.ref_by_number(number) for number in range(first, last + 1)]
    fields = {
        "relative_timestamp": refs[0].timestamp - network.config.l2_genesis_time,
        "parent_check": parent.hash[:20],
        "l1_origin_check": refs[-1].l1_origin.hash[:20],
        "first_changes_origin": refs[0].sequence_number == 0,
        "blocks": [
            (ref.l1_origin.number, engine.batch(chain.header_by_number(ref.number)).transactions) for ref in refs
        ],
    }
    return bytes([SPAN_BATCH]) + encode_span_batch(**{**fields, **override})


async def post(network, *batches: bytes) -> None:
    channel = compress_channel(batches, Compression.BROTLI)
    await network.post_payload(encode_frames_data([Frame(b"s" * 16, 0, channel, True)]))


async def derived(network, name: str = "validator") -> int:
    validator = network.open_node(name)
    number = (await validator.driver.derive_to_tip()).number
    chain = network.node.chain
    for height in range(number + 1):
        assert validator.chain.header_by_number(height).hash == chain.header_by_number(height).hash
    validator.close()
    return number


@pytest.fixture
async def busy(network):
    network.deposit_open(USERS[4], RECEIVER, 10)
    for account in USERS[:3]:
        network.send_l2(account, RECEIVER, value=1)
        await network.advance(4)
    network.send_l2(USERS[3], None, data=bytes.fromhex("60016000f3"))
    await network.advance(4)
    return network


async def test_one_span_is_the_whole_chain(busy) -> None:
    head = busy.node.chain.head().number
    await post(busy, span(busy, 1, head))
    assert await derived(busy) == head


async def test_spans_may_overlap_what_is_safe_and_mix_with_singular_batches(busy) -> None:
    engine, chain = busy.node.engine, busy.node.chain
    await post(busy, span(busy, 1, 3))
    await post(busy, span(busy, 2, 3), span(busy, 2, 5), encode_singular_batch(engine.batch(chain.header_by_number(6))))
    assert await derived(busy) == 6
    await post(busy, span(busy, 1, 7))
    assert await derived(busy, "other") == 7


@pytest.mark.parametrize(
    "override",
    [
        {"parent_check": b"\x01" * 20},
        {"l1_origin_check": b"\x01" * 20},
        {"relative_timestamp": 6},
        {"relative_timestamp": 3},
        {"relative_timestamp": 0},
    ],
)
async def test_a_span_that_does_not_join_the_chain_is_dropped(busy, override) -> None:
    await post(busy, span(busy, 1, 4, **override))
    assert await derived(busy) == 0
    await post(busy, span(busy, 1, 4))
    assert await derived(busy, "other") == 4


async def test_a_span_counts_up_to_its_first_invalid_block_and_takes_its_channel_with_it(busy) -> None:
    engine, chain = busy.node.engine, busy.node.chain
    refs = [engine.ref_by_number(number) for number in range(1, 5)]
    assert [ref.l1_origin.number for ref in refs] == [0, 1, 1, 2]
    transactions = [engine.batch(chain.header_by_number(ref.number)).transactions for ref in refs]
    # The third block claims an epoch whose time has not come for it.
    blocks = list(zip((0, 1, 2, 2), transactions))
    good = encode_singular_batch(engine.batch(chain.header_by_number(3)))
    await post(busy, span(busy, 1, 4, blocks=blocks), good)
    assert await derived(busy) == 2
    await post(busy, span(busy, 1, 5))
    assert await derived(busy, "other") == 5
