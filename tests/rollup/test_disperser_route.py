"""A rollup on EigenDA without a proxy: the batcher hands channels to a disperser over gRPC, and whoever has L1 and the
relays derives the same chain."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from openledger.evm_ext.blobs import decode_network
from openledger.evm_ext.block import Header
from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.rollup.batcher import Batcher, BatcherSettings
from openledger.rollup.codec.batcher_transaction import decode_commitment_data
from openledger.rollup.da import DAUnavailable, open_blob_worker
from openledger.rollup.da.certificate import parse_certificate, split_generic_commitment
from openledger.rollup.da.direct import DirectDA
from openledger.rollup.da.disperser import DisperserSettings, open_disperser
from openledger.rollup.da.retrieval import ConfiguredRelays, open_payload_reader
from openledger.rollup.da.verification import certificate_checks
from openledger.rollup.driver import Driver

from .da.eigenda_network import PAYER, SRS, Network, served

SETTINGS = DisperserSettings(chain_id=900, poll_s=0.01)


@pytest.fixture
def eigenda() -> Network:
    network = Network()
    network.chain_id, network.disperser_id = 900, 0
    return network


@pytest.fixture
def target(eigenda: Network) -> Iterator[str]:
    with served(eigenda) as address:
        yield address


@pytest.fixture
async def da(eigenda: Network, target: str) -> AsyncIterator[DirectDA]:
    """What a sequencer and everybody else reads and writes by; on-demand, so that each dispersal is seen to be paid."""
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(open_blob_worker(development=True))
        relays = ConfiguredRelays({2: target})
        reader = await stack.enter_async_context(open_payload_reader(worker, relays, plaintext=True))
        disperser = await stack.enter_async_context(open_disperser(target, worker, PAYER, SETTINGS, plaintext=True))
        yield DirectDA(reader, disperser, on_demand=True)


class Beacon:
    """Blobs of the transactions that L1 took."""

    def __init__(self, network: Any) -> None:
        self._blobs: dict[bytes, bytes] = {}
        send = network.l1_view.send_transaction

        async def kept(raw: bytes) -> bytes:
            _, sidecar = decode_network(raw)
            if sidecar is not None:
                self._blobs |= dict(zip(sidecar.hashes, sidecar.blobs, strict=True))
            taken: bytes = await send(raw)
            return taken

        network.l1_view.send_transaction = kept

    async def blobs(self, header: Header, versioned_hashes: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(self._blobs[item] for item in versioned_hashes)


def make_batcher(network: Any, da: DirectDA, **settings: Any) -> Batcher:
    chosen = BatcherSettings(max_channel_blocks=3, **settings)
    return Batcher(network.node.engine, network.l1_view, da, BATCHER.private_key, settings=chosen, clock=network.clock)


async def post_blocks(network: Any, batcher: Batcher, user: int) -> None:
    network.send_l2(USERS[user], b"\x77" * 20, value=1)
    await network.advance(8)
    await network.post(batcher=batcher)


def inbox(network: Any) -> list[bytes]:
    """Calldata of every transaction in the batch inbox; nothing where its data is in blobs."""
    l1 = network.l1.chain
    return [
        transaction.data
        for number in range(1, l1.head().number + 1)
        for transaction in l1.block_by_number(number).transactions
        if transaction.to == network.config.batch_inbox
    ]


async def assert_derived(network: Any, da: DirectDA, beacon: Beacon | None = None) -> None:
    validator = network.open_node("validator", da=da)
    driver = Driver(validator.engine, network.l1_view, da, blobs=beacon, clock=network.clock)
    assert (await driver.derive_to_tip()).hash == network.node.chain.head().hash
    validator.close()


async def test_channels_are_dispersed_paid_and_derived_from_the_relays(network, eigenda: Network, da: DirectDA) -> None:
    batcher = make_batcher(network, da)
    for user in range(2):
        await post_blocks(network, batcher, user)
    posted = inbox(network)
    assert len(posted) == len(eigenda.payments) >= 2
    for data in posted:
        commitment = decode_commitment_data(data)
        assert commitment is not None
        checks = list(certificate_checks(parse_certificate(*split_generic_commitment(commitment)), SRS))
        assert {check.verdict for check in checks} == {"good"}
    paid = [payment.cumulative_payment for payment in eigenda.payments]
    assert paid == sorted(set(paid))
    assert batcher.routes.current == "da"
    await assert_derived(network, da)


@pytest.mark.parametrize("fallback", ["calldata", "blobs"])
async def test_while_the_disperser_is_away_channels_go_to_ethereum_and_then_back(
    network, eigenda: Network, da: DirectDA, fallback: str
) -> None:
    beacon = Beacon(network)
    batcher = make_batcher(network, da, fallback=fallback, failback_after_s=10)
    await post_blocks(network, batcher, 0)
    eigenda.fault = "UNAVAILABLE"  # what a proxy says with 503
    await post_blocks(network, batcher, 1)
    assert (batcher.routes.current, batcher.routes.count) == (fallback, 1)
    on_ethereum = len(inbox(network))
    eigenda.fault = ""
    network.clock.time += 10
    await post_blocks(network, batcher, 2)
    assert batcher.routes.current == "da"
    assert [data[:1] for data in inbox(network)[on_ethereum:]] == [b"\1"] * (len(inbox(network)) - on_ethereum)
    assert (b"" if fallback == "blobs" else b"\0") in {data[:1] for data in inbox(network)[:on_ethereum]}
    await assert_derived(network, da, beacon)


@pytest.mark.parametrize("fault", ["PERMISSION_DENIED", "signature"])
async def test_an_account_or_certificate_that_is_no_good_is_waited_for_and_then_gone_round(
    network, eigenda: Network, da: DirectDA, fault: str
) -> None:
    batcher = make_batcher(network, da, failover_after_s=30)
    await network.advance(8)
    eigenda.fault = fault
    with pytest.raises(DAUnavailable):
        await batcher.step(flush=True)
    assert inbox(network) == []
    network.clock.time += 31
    assert await batcher.step(flush=True)
    assert (batcher.routes.current, batcher.routes.count) == ("calldata", 1)
    await assert_derived(network, da)


async def test_a_batcher_that_died_after_dispersing_disperses_again(network, eigenda: Network, da: DirectDA) -> None:
    class Crash(BaseException):
        pass

    async def dead(*_: object, **__: object) -> None:
        raise Crash

    await network.advance(8)
    batcher = make_batcher(network, da)
    batcher._sender.send = dead  # type: ignore[method-assign,assignment]
    with pytest.raises(Crash):
        await batcher.step(flush=True)
    await network.post(batcher=make_batcher(network, da))
    assert len(eigenda.payments) == len(inbox(network)) + 1
    await assert_derived(network, da)
