"""What a batcher does again after a failure, and what it does not pay for twice."""

import pytest

from openledger.genesis.dev_accounts import BATCHER
from openledger.rollup.batcher import Batcher, BatcherSettings
from openledger.rollup.da.client import DAUnavailable, WrongPayload
from openledger.rollup.l1.source import L1Unavailable


class CountingDA:
    """The real client, counting what is put; `lies` makes every put end as one answered with another's certificate."""

    def __init__(self, da) -> None:
        self.da = da
        self.puts: list[bytes] = []
        self.lies = False

    async def put(self, payload: bytes) -> bytes:
        self.puts.append(payload)
        if self.lies:
            raise WrongPayload("the certificate is of another blob")
        return await self.da.put(payload)


def batcher_of(network, da: CountingDA, **settings) -> Batcher:
    chosen = BatcherSettings(max_channel_blocks=3, **settings)
    return Batcher(network.node.engine, network.l1_view, da, BATCHER.private_key, settings=chosen, clock=network.clock)


async def test_while_l1_is_away_a_channel_is_not_dispersed_again(network, monkeypatch) -> None:
    await network.advance(8)
    da = CountingDA(network.da)
    batcher = batcher_of(network, da)

    async def away(raw: bytes) -> bytes:
        raise L1Unavailable("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(network.l1_view, "send_transaction", away)
        for _ in range(5):
            with pytest.raises(L1Unavailable):
                await batcher.step(flush=True)
            await network.advance(20)  # new blocks wait meanwhile
    assert len(da.puts) == 1
    await network.post(batcher=batcher)
    assert len(set(da.puts)) == len(da.puts) == 2
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    validator.close()


async def test_a_commitment_that_waited_too_long_for_l1_is_made_anew(network, monkeypatch) -> None:
    await network.advance(8)
    da = CountingDA(network.da)
    batcher = batcher_of(network, da, keep_commitments_s=30.0)

    async def away(raw: bytes) -> bytes:
        raise L1Unavailable("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(network.l1_view, "send_transaction", away)
        for puts in (1, 1, 2):
            with pytest.raises(L1Unavailable):
                await batcher.step(flush=True)
            assert len(da.puts) == puts
            await network.advance(20)


async def test_a_channel_that_no_longer_stands_is_built_anew(network) -> None:
    await network.advance(8)
    da = CountingDA(network.da)
    batcher = batcher_of(network, da)
    network.da_transport.down = True
    with pytest.raises(DAUnavailable):
        await batcher.step(flush=True)
    network.da_transport.down = False
    # Another batcher of the same key was quicker.
    await network.post(batcher=network.make_batcher())
    safe = await network.node.driver.derive_to_tip()
    await network.advance(8)
    await network.post(batcher=batcher)
    await network.node.driver.derive_to_tip()
    assert batcher.counts.blocks == network.node.chain.head().number - safe.number
    assert network.node.chain.head("safe").hash == network.node.chain.head().hash


async def test_a_da_server_that_lies_for_long_is_left_for_l1(network) -> None:
    await network.advance(8)
    da = CountingDA(network.da)
    batcher = batcher_of(network, da)
    da.lies = True
    with pytest.raises(WrongPayload):
        await batcher.step(flush=True)
    await network.advance(60)
    await network.post(batcher=batcher)
    assert batcher.routes.current == "calldata"
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).number >= 4
    validator.close()
