"""Servers that drip, or pack gigabytes into a few bytes: a client gives up in time and says why. Over real sockets."""

from collections.abc import Callable, Iterator

import brotli
import pytest
import trio
from fault_network.proxy import Answer, Exchange, FaultyProxy

from openledger.rollup.da.client import DAClient, DAError, DAUnavailable
from openledger.rollup.l1.beacon import BeaconClient, BlobsUnavailable
from openledger.rollup.l1.client import L1Client
from openledger.rollup.l1.source import L1DataInvalid, L1Error, L1Unavailable

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x384"}'
BOMB = brotli.compress(bytes(64 << 20), quality=5)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Exchange], Answer]], FaultyProxy]]:
    opened: list[FaultyProxy] = []

    def start(answer: Callable[[Exchange], Answer]) -> FaultyProxy:
        opened.append(FaultyProxy(0, answer))
        return opened[-1]

    yield start
    for proxy in opened:
        proxy.close()


async def test_dripping_answers_are_given_up_after_the_deadline(serve, network) -> None:
    # Never silent for as long as a client's patience with silence.
    url = serve(lambda exchange: Answer(200, ANSWER * 100).dripping(0.05)).url
    header = await network.l1_view.header_by_label("latest")
    with trio.fail_after(120):
        async with DAClient(url, deadline_s=0.5) as da, L1Client(url, deadline_s=0.5) as l1:
            for request in (da.put(b"x"), da.get_keccak(bytes(32))):
                with pytest.raises(DAUnavailable, match="too slow"):
                    await request
            with pytest.raises(L1Unavailable, match="too slow: no whole answer to eth_chainId"):
                await l1.chain_id()
        async with BeaconClient([url], deadline_s=0.5, attempts=1) as beacon:
            with pytest.raises(BlobsUnavailable, match="TooSlowError"):
                await beacon.blobs(header, [b"\x01" + bytes(31)])


async def test_an_answer_that_would_unfold_to_gigabytes_is_refused(serve, network) -> None:
    asked: list[str] = []

    def bomb(exchange: Exchange) -> Answer:
        asked.append(exchange.headers.get("accept-encoding", ""))
        return Answer(200, BOMB, (("content-encoding", "br"),))

    url = serve(bomb).url
    async with DAClient(url, attempts=1) as da, L1Client(url, attempts=1) as l1:
        with pytest.raises(DAError, match="compressed its answer"):
            await da.get_keccak(bytes(32))
        with pytest.raises(L1DataInvalid, match="packed its answer to eth_chainId as br"):
            await l1.chain_id()
    async with BeaconClient([url], attempts=1) as beacon:
        with pytest.raises(BlobsUnavailable, match="packed as br"):
            await beacon.blobs(await network.l1_view.header_by_label("latest"), [b"\x01" + bytes(31)])
    assert asked == ["identity", "gzip, identity", "gzip, identity"]


@pytest.mark.parametrize("result", [b"1", b"true", b'"x"', b'"0x-1"', b'"0x_1"', b"[]", b"[1]", b"{}", b'{"logs":1}'])
async def test_an_l1_that_answers_nonsense_is_told_apart_from_a_fault_of_our_own(serve, network, result) -> None:
    url = serve(lambda exchange: Answer(200, b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}")).url
    header = await network.l1_view.header_by_label("latest")
    async with L1Client(url, attempts=1) as l1:
        for request in (
            lambda: l1.header_by_number(1),
            lambda: l1.header_by_hash(bytes(32)),
            lambda: l1.header_by_label("safe"),
            lambda: l1.transactions(header),
            lambda: l1.fees(),
            lambda: l1.nonce(bytes(20), pending=False),
            lambda: l1.call(bytes(20), b""),
        ):
            with pytest.raises(L1Error):
                await request()
        # Of these some may be said of an empty block, or mean that there is nothing yet.
        for request in (lambda: l1.receipts(header), lambda: l1.inclusion(bytes(32))):
            try:
                assert await request() in (None, ())
            except L1Error:
                pass
