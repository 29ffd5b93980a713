"""kill -9 of a batcher at the points where it hurts, an L1 that takes back what was safe, wrong clocks, full disks, a second
sequencer by mistake: real processes, and at the end a newcomer derives all of it again from L1 and DA alone.

The tests follow each other on one network.
"""

from __future__ import annotations

import re
import resource
import threading
from collections.abc import Callable, Iterator

import pytest
from fault_network import Answer, Exchange, FaultNetwork, Process, open_fault_network
from fault_network.network import WAIT_S, wait_until
from fault_network.proxy import Fault, Refused

from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.genesis.presets import DEVNET

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

RECEIVER = b"\x7b" * 20


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultNetwork]:
    with open_fault_network(tmp_path_factory.mktemp("killed")) as opened:
        yield opened


def kills(
    network: FaultNetwork, matches: Callable[[Exchange], bool], dead: threading.Event, first: Callable[[], None]
) -> Fault:
    """The matching request reaches the server; before its answer can come back the sequencer is dead."""

    def fault(exchange: Exchange) -> Answer:
        if dead.is_set() or not matches(exchange):
            return exchange.forward()
        first()
        exchange.forward()
        network.sequencer.kill()
        dead.set()
        raise Refused

    return fault


def restarted(network: FaultNetwork, sent: list[str]) -> None:
    """The sequencer starts again; all that it had built is there, becomes safe, and nothing of it changes."""
    sequencer = network.sequencer
    before = len(sequencer.log)
    sequencer.start()
    network.agree(max(network.included(each) for each in sent))
    network.goes_on(USERS[0], RECEIVER)
    assert "unsafe chain replaced" not in sequencer.log[before:]


def test_a_batcher_killed_between_da_and_l1_loses_nothing(network: FaultNetwork) -> None:
    sequencer = network.sequencer
    assert sequencer.da is not None
    dead = threading.Event()
    sent = [sequencer.send(USERS[1], RECEIVER)]
    kept = sequencer.hash(network.included(sent[0]))
    sequencer.da.fault = kills(network, lambda exchange: exchange.method == "POST", dead, lambda: None)
    assert dead.wait(WAIT_S)
    stored = network.da.log.count("blob stored")
    # The validator, killed too, goes on where it was: at what it knew as finalized, or later.
    validator = network.validator
    wait_until(lambda: validator.height("finalized") > 0, lambda: f"finality: {validator.log[-3000:]}")
    finalized = validator.height("finalized")
    validator.kill()
    before = len(validator.log)
    validator.start()
    restarted(network, sent)
    assert sequencer.hash(network.included(sent[0])) == kept
    assert network.da.log.count("blob stored") > stored
    started = re.findall(r"derivation starts .*l2_safe=(\d+)", validator.log[before:])
    assert [int(number) >= finalized for number in started] == [True], started


def test_a_batcher_killed_between_sending_and_inclusion_posts_nothing_with_effect_twice(network: FaultNetwork) -> None:
    sequencer = network.sequencer
    assert sequencer.l1 is not None
    inbox, dead = DEVNET.batch_inbox.hex(), threading.Event()
    sent = [sequencer.send(USERS[1], RECEIVER)]

    def stop_l1() -> None:
        """So that the transaction stays in the pool until after the death."""
        network.l1.tell("stop")
        network.l1.wait_for_log("stopped")

    def posts(exchange: Exchange) -> bool:
        return exchange.rpc_method == "eth_sendRawTransaction" and inbox in exchange.rpc["params"][0]

    sequencer.l1.fault = kills(network, posts, dead, stop_l1)
    assert dead.wait(WAIT_S)
    address = "0x" + BATCHER.address.hex()
    pending, mined = (int(network.l1_rpc("eth_getTransactionCount", address, at), 16) for at in ("pending", "latest"))
    assert pending == mined + 1
    network.l1.tell("go")
    restarted(network, sent)
    assert int(network.l1_rpc("eth_getTransactionCount", address, "latest"), 16) > pending


def test_an_l1_that_takes_back_what_was_safe_is_followed(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    before = [len(node.log) for node in (sequencer, validator)]
    sent = sequencer.send(USERS[1], RECEIVER)
    network.agree(network.included(sent))
    dropped = [node.height("safe") for node in (sequencer, validator)]
    said = len(network.l1.log)
    network.l1.tell("reorg 3")
    network.l1.wait_for_log("reorganised", said)
    for node, mark in zip((sequencer, validator), before):
        node.wait_for_log("derivation starts again", mark)
    network.goes_on(USERS[0], RECEIVER)
    # The transaction whose block was safe is still there, or again.
    network.agree(max(network.included(sent), *dropped))


def test_a_clock_that_was_wrong_stops_blocks_only_until_it_is_right(network: FaultNetwork) -> None:
    sequencer = network.sequencer
    before = len(sequencer.log)
    sequencer.set_clock(-3600)
    sequencer.wait_for_health("sequencer", "ahead of this machine's clock")
    sequencer.set_clock(0)
    network.goes_on(USERS[0], RECEIVER)
    # A clock that is ahead: blocks of the future are derived by others all the same, and waited for when it is right.
    height = sequencer.height()
    sequencer.set_clock(9)
    wait_until(lambda: sequencer.height() > height + 9, "the blocks of the future")
    network.goes_on(USERS[0], RECEIVER)
    sequencer.set_clock(0)
    network.goes_on(USERS[0], RECEIVER)
    for said in ("is the clock right?", "the clock has reached the newest block"):
        assert said in sequencer.log[before:]


def test_whoever_is_stopped_by_a_full_disk_starts_again_when_there_is_room(network: FaultNetwork) -> None:
    sequencer, validator, everybody = (
        network.sequencer,
        network.validator,
        (network.da, network.sequencer, network.validator),
    )
    before = {process.name: len(process.log) for process in everybody}
    acknowledged = sequencer.send(USERS[1], RECEIVER)
    limit_files(network.da, 0)
    sequencer.wait_for_log("failed (500)", before["sequencer"])
    for node in (sequencer, validator):
        limit_files(node, 0)
    for node, service in ((sequencer, "sequencer"), (validator, "driver")):
        node.wait_for_health(service, "nothing more is written there")
    with pytest.raises(AssertionError, match="error"):
        sequencer.send(USERS[2], RECEIVER)
    for process in everybody:
        limit_files(process, resource.RLIM_INFINITY)
    for process in everybody:
        process.wait_for_log("starting again", before[process.name])
        assert not process.ended, "it goes on under its process id"
    wait_until(lambda: sequencer.health().get("sequencer") == "ready", lambda: sequencer.log[-3000:])
    network.agree(network.included(acknowledged))
    network.goes_on(USERS[0], RECEIVER)


def limit_files(process: Process, size: int) -> None:
    """No file of it grows beyond a size any more, the log included: what a full disk does to a process."""
    assert process.running is not None
    resource.prlimit(process.running.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_second_sequencer_by_mistake_does_no_lasting_harm(network: FaultNetwork) -> None:
    """The same keys in a second machine: each builds its own blocks, both post, L1's order decides."""
    sequencer, validator = network.sequencer, network.validator
    safe = validator.height("safe")
    before = len(sequencer.log)
    twin = network.node("twin", "sequencer")
    twin.start()
    # It begins with an empty folder, knows no peer, and derives all that happened above from L1 and DA alone.
    twin.wait_for_safe(safe)
    assert twin.hash(safe) == validator.hash(safe)
    sent = [(sequencer, sequencer.send(USERS[2], RECEIVER)), (twin, twin.send(USERS[3], RECEIVER))]
    for node, each in sent:
        wait_until(lambda node=node, each=each: node.rpc("eth_getTransactionReceipt", each), node.log[-3000:])
    wait_until(lambda: "unsafe chain replaced" in twin.log + sequencer.log[before:], "one of them to give in")
    twin.kill()
    network.goes_on(USERS[0], RECEIVER)
    network.agree(network.included(sent[0][1]))
