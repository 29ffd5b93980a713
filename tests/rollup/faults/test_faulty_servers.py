"""L1 and DA that are away, lie, break off, drip, lag or change their mind, and a batcher killed in the middle: nothing is
lost, nothing counts twice, heads heal by themselves, and the log says what happened. All parts are processes.

The tests follow each other on one network; the last one derives everything that happened to it again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fault_network import Answer, Exchange, FaultNetwork, open_fault_network
from fault_network.network import Node, wait_until
from fault_network.proxy import Fault, as_it_is, frozen

from openledger.genesis.dev_accounts import USERS

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

RECEIVER = b"\x7a" * 20
OUTAGE_S = float(os.environ.get("OPENLEDGER_TEST_OUTAGE_S", "0"))
"""How long the DA server and L1 stay away at least: minutes, for endurance."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultNetwork]:
    with open_fault_network(tmp_path_factory.mktemp("faults")) as opened:
        yield opened


class Once:
    """Each of the faults for one matching request, in this order; then none."""

    def __init__(self, matches: Callable[[Exchange], bool], *faults: Fault) -> None:
        self.matches = matches
        self.faults = list(faults)
        self.lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> Answer:
        fault: Fault = as_it_is
        with self.lock:
            if self.faults and self.matches(exchange):
                fault = self.faults.pop(0)
        return fault(exchange)

    @property
    def spent(self) -> bool:
        return not self.faults


def post(exchange: Exchange) -> bool:
    return exchange.method == "POST"


def get(exchange: Exchange) -> bool:
    return exchange.method == "GET"


def marks(*nodes: Node) -> list[int]:
    """How much each node has logged so far."""
    return [len(node.log) for node in nodes]


def test_a_da_server_that_lies_or_breaks_off_is_not_believed(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    assert sequencer.da is not None
    assert validator.da is not None
    before = marks(sequencer, validator)
    others: list[bytes] = []

    def another_certificate(exchange: Exchange) -> Answer:
        """A real one, of a blob that somebody else stored."""
        answer = Exchange(exchange.proxy, "POST", "/put", exchange.headers, b"somebody else's").forward()
        others.append(answer.body)
        return answer

    def another_blob(exchange: Exchange) -> Answer:
        path = f"/get/0x{others[0].hex()}"
        return Exchange(exchange.proxy, "GET", path, exchange.headers, b"").forward()

    posts = Once(
        post,
        another_certificate,
        lambda exchange: exchange.forward().cut(100),
        lambda exchange: exchange.forward().saying(b"\x01\x00\x02 no certificate"),
    )
    sequencer.da.fault = posts
    wait_until(lambda: others, "the first put")

    def flipped(exchange: Exchange) -> Answer:
        answer = exchange.forward()
        return answer.saying(answer.body[:-1] + bytes([answer.body[-1] ^ 1]))

    gets = Once(
        get,
        flipped,
        lambda exchange: exchange.forward().saying(exchange.forward().body[:-7]),
        lambda exchange: exchange.forward().cut(10),
        another_blob,
    )
    validator.da.fault = gets
    wait_until(lambda: posts.spent and gets.spent, lambda: f"all lies: {posts.faults} {gets.faults}\n{validator.log}")
    network.goes_on(USERS[0], RECEIVER)
    for said in ("batcher waits", "WrongPayload", "unusable commitment", "batcher goes on"):
        assert said in sequencer.log[before[0] :], said
    for said in ("derivation waits", "WrongPayload", "derivation goes on"):
        assert said in validator.log[before[1] :], said
    assert "unsafe chain replaced" not in validator.log


def test_while_the_da_server_is_down_data_goes_to_l1_and_returns_after(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    before = marks(sequencer, validator)
    network.da.kill()
    down_since = time.monotonic()
    sequencer.wait_for_log("posting to Ethereum", before[0])
    sequencer.wait_for_log("route=calldata", before[0])
    # Blocks go on. Whether they become safe meanwhile is not said: what was put on the DA server and not yet read
    # holds up all after it.
    made = sequencer.height()
    wait_until(lambda: sequencer.height() > made + 3, lambda: f"blocks:\n{sequencer.log[-3000:]}")
    if (left := OUTAGE_S - (time.monotonic() - down_since)) > 0:
        time.sleep(left)
    network.da.start()
    sequencer.wait_for_log("DA layer takes data again", before[0])
    network.goes_on(USERS[0], RECEIVER)


def test_slow_bytes_hold_nobody_up_for_good(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    before = marks(sequencer, validator)
    assert sequencer.da is not None
    assert validator.l1 is not None

    def drip(exchange: Exchange) -> Answer:
        return exchange.forward().dripping(0.5)

    sequencer.da.fault = Once(post, drip)
    validator.l1.fault = Once(lambda exchange: exchange.rpc_method == "eth_getBlockByNumber", drip)
    sequencer.wait_for_log("too slow", before[0])
    validator.wait_for_log("too slow", before[1])
    network.goes_on(USERS[0], RECEIVER)


def test_an_l1_that_is_down_breaks_off_or_lies_is_waited_for(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    before = marks(sequencer, validator)
    assert validator.l1 is not None

    def other_time(exchange: Exchange) -> Answer:
        answer = exchange.forward()
        return answer.saying(answer.body.replace(b'"timestamp":"0x6', b'"timestamp":"0x7'))

    lies = Once(
        lambda exchange: exchange.rpc_method == "eth_getBlockByNumber",
        other_time,
        lambda exchange: exchange.forward().cut(200),
        lambda exchange: exchange.forward().saying(b"<html>busy</html>"),
        lambda exchange: exchange.forward().saying(b'{"jsonrpc":"2.0","id":1,"result":[]}'),
    )
    validator.l1.fault = lies
    wait_until(lambda: lies.spent, "all lies")
    network.l1.kill()
    made = sequencer.height()
    # Blocks go on without L1.
    wait_until(lambda: sequencer.height() > made + 3, lambda: f"blocks:\n{sequencer.log[-3000:]}")
    for node, mark in zip((sequencer, validator), before):
        node.wait_for_log("cannot reach L1", mark)
        node.wait_for_health("driver", "L1")
    time.sleep(OUTAGE_S)
    network.l1.start()
    network.goes_on(USERS[0], RECEIVER)
    assert "L1DataInvalid" in validator.log[before[1] :]


def test_an_l1_that_lags_takes_nothing_back(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    assert validator.l1 is not None
    before = marks(validator)
    validator.l1.fault = frozen(network.l1_height() - 6)
    safe, seen = validator.height("safe"), validator.l1.seen.get("eth_getBlockByNumber", 0)
    wait_until(lambda: sequencer.height("safe") > safe + 4, "the sequencer to go on")
    wait_until(lambda: validator.l1.seen["eth_getBlockByNumber"] > seen + 4, "the validator to look at its L1")
    assert validator.height("safe") >= safe
    validator.l1.heal()
    network.goes_on(USERS[0], RECEIVER)
    assert "derivation starts again" not in validator.log[before[0] :]
