"""CREDIT pays only when the ledger itself calls it, at its own address, and its effect dies with its frame."""

import struct

import pytest
from eth.vm.message import Message
from eth_abi.abi import encode

from openledger.evm_ext import CallRequest
from openledger.evm_ext.overrides import StateOverride
from openledger.evm_ext.precompiles import PRECOMPILES
from openledger.evm_ext.precompiles.credit import CreditRefused
from openledger.evm_ext.proofs.settlement import Record, Settlement, encode_settlement
from openledger.genesis import predeploys
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import CREDIT, INFERENCE_LEDGER
from openledger.genesis.presets import DEVNET

CALL, CALLCODE, DELEGATECALL, STATICCALL = 0xF1, 0xF2, 0xF4, 0xFA


def forwarder(opcode: int, target: bytes, value: int = 0, revert: bool = False) -> bytes:
    """Runtime code that passes its calldata on by `opcode` and returns whether that succeeded (or reverts)."""
    code = bytes.fromhex("36600060003760006000366000")  # calldatacopy(0, 0, size); out 0 0, in 0 size
    if opcode in (CALL, CALLCODE):
        code += b"\x60" + bytes([value])
    code += b"\x73" + target + b"\x5a" + bytes([opcode])
    ending = "60005260206000" + ("fd" if revert else "f3")
    return code + bytes.fromhex(ending)


@pytest.fixture
def paid(world):
    """CREDIT's input for a fee of 10,000 to one contributor, and that contributor."""
    owner, alice, provider = (world.party() for _ in range(3))
    net, ids = world.datanet(owner, [alice])
    release = world.release(owner, owner, [net])
    group = world.group(
        world.channel(owner, provider, owner, 1), release, owner, [Record(10_000, ((ids[0], 10_000),))], 10_000
    )
    payload = encode_settlement(Settlement(bytes(32), (group,)))
    epoch = world.block // DEVNET.economy.epoch_blocks
    return struct.pack(">BI20sQ", 1, epoch, provider.address, 10_000) + payload, alice.address


def at_ledger(world, runtime: bytes) -> bytes:
    """Puts code in the ledger's place, to act with its address."""
    world.state.set_code(INFERENCE_LEDGER, runtime)
    world.state.set_balance(INFERENCE_LEDGER, 10**18)
    world.state.persist()
    return INFERENCE_LEDGER


def succeeded(world, through: bytes, data: bytes) -> bool:
    computation = world.raw(world.party().address, through, data)
    assert computation.is_success
    return bool(int.from_bytes(computation.output, "big"))


def test_a_call_from_the_ledger_pays(world, paid):
    data, alice = paid
    assert succeeded(world, at_ledger(world, forwarder(CALL, CREDIT)), data)
    assert world.credits(alice) == 3_800


@pytest.mark.parametrize(
    "runtime",
    [
        forwarder(DELEGATECALL, CREDIT),
        forwarder(CALLCODE, CREDIT),
        forwarder(STATICCALL, CREDIT),
        forwarder(CALL, CREDIT, value=1),
    ],
    ids=["DELEGATECALL", "CALLCODE", "STATICCALL", "value"],
)
def test_even_the_ledger_may_not_call_it_otherwise(world, paid, runtime):
    data, alice = paid
    assert not succeeded(world, at_ledger(world, runtime), data)
    assert world.credits(alice) == 0


def test_a_static_call_of_the_ledger_cannot_pay(world, paid):
    data, alice = paid
    ledger = at_ledger(world, forwarder(CALL, CREDIT))
    outer = world.code(forwarder(STATICCALL, ledger))
    computation = world.raw(world.party().address, outer, data)
    assert int.from_bytes(computation.output, "big") == 1  # the ledger's code ran, and was refused
    assert world.credits(alice) == 0


@pytest.mark.parametrize("opcode", [CALL, CALLCODE, DELEGATECALL, STATICCALL])
def test_other_contracts_cannot_call_it(world, paid, opcode):
    data, alice = paid
    assert not succeeded(world, world.code(forwarder(opcode, CREDIT)), data)
    assert world.credits(alice) == 0


def test_nobody_can_call_it_directly(world, paid):
    data, alice = paid
    computation = world.raw(world.party().address, CREDIT, data)
    assert isinstance(computation.error, CreditRefused)
    assert computation.get_gas_remaining() == 0
    assert world.credits(alice) == 0


def test_an_account_that_delegates_to_it_pays_nobody(world, paid):
    """EIP-7702: code at a precompile's address is empty; and were it run, the guard refuses."""
    data, alice = paid
    account = world.code(b"\xef\x01\x00" + CREDIT)
    ledger = at_ledger(world, forwarder(CALL, account))
    world.raw(world.party().address, ledger, data)
    assert world.credits(alice) == 0
    for to, delegation in ((account, False), (account, True), (CREDIT, True)):
        message = Message(
            gas=1_000_000,
            to=to,
            sender=INFERENCE_LEDGER,
            value=0,
            data=data,
            code=b"",
            code_address=CREDIT,
            is_delegation=delegation,
        )
        context = world.state.transaction_context_class(gas_price=0, origin=INFERENCE_LEDGER)
        computation = world.state.computation_class(world.state, message, context)
        with pytest.raises(CreditRefused):
            PRECOMPILES[CREDIT](computation)
        assert world.credits(alice) == 0


def test_an_account_that_delegates_to_the_ledgers_code_pays_nobody(world, paid):
    data, alice = paid
    at_ledger(world, forwarder(CALL, CREDIT))
    account = world.code(b"\xef\x01\x00" + INFERENCE_LEDGER)
    assert not succeeded(world, account, data)
    assert world.credits(alice) == 0


def test_a_payer_called_back_by_a_withdrawal_cannot_settle_or_credit(world):
    """The payer is a contract that, when paid, calls settle and CREDIT and notes whether either worked."""
    owner, alice, provider = (world.party() for _ in range(3))
    net, ids = world.datanet(owner, [alice])
    release = world.release(owner, owner, [net])
    # Its own provider, so that settle's only obstacle is the ledger's guard.
    payer = world.code(b"\x00")
    world.state.set_balance(payer, 10**22)
    world.send(payer, "StakeManager", "stake", value=DEVNET.economy.min_provider_stake_wei)
    delay = world.view("InferenceLedger", "minWithdrawDelay")
    terms = (payer, provider.address, delay, bytes(32))
    channel = world.send(payer, "InferenceLedger", "open", terms[0], terms[1], terms[2], terms[3], value=10**16).value
    group = world.group(channel, release, provider, [Record(10, ((ids[0], 10_000),))])
    payload = encode_settlement(Settlement(bytes(32), (group,)))
    settle = keccak256(b"settle(bytes)")[:4] + encode(["bytes"], [payload])
    credit = struct.pack(">BI20sQ", 1, world.block // 10, payer, 10) + payload
    world.state.set_code(payer, _caller([(INFERENCE_LEDGER, settle), (CREDIT, credit)]))
    world.send(payer, "InferenceLedger", "requestWithdraw", channel)
    world.mine(delay)
    world.send(payer, "InferenceLedger", "withdraw", channel)
    assert [world.state.get_storage(payer, slot) for slot in range(2)] == [1, 1]  # both ran, both failed
    assert world.credits(alice.address) == 0
    # The same settle by the same sender works outside the callback.
    world.send(payer, "InferenceLedger", "topUp", channel, value=10**16)
    world.send(payer, "InferenceLedger", "settle", payload)
    assert world.credits(alice.address) > 0


def _caller(calls: list[tuple[bytes, bytes]]) -> bytes:
    """Runtime code that makes these calls from data behind it and stores 1 + success of each in its slot."""
    size = 61 * len(calls) + 1
    code, tail = b"", b""
    for slot, (target, data) in enumerate(calls):
        where, length = (size + len(tail)).to_bytes(3, "big"), len(data).to_bytes(3, "big")
        code += b"\x62" + length + b"\x62" + where + b"\x60\x00\x39"  # codecopy(0, where, length)
        code += b"\x60\x00\x60\x00\x62" + length + b"\x60\x00\x60\x00\x73" + target
        code += b"\x62" + (2_000_000).to_bytes(3, "big") + b"\xf1"
        code += b"\x60\x01\x01\x60" + bytes([slot]) + b"\x55"
        tail += data
    assert len(code) <= size - 1
    return code.ljust(size - 1, b"\x5b") + b"\x00" + tail


def test_a_reverted_frame_takes_its_credits_with_it(world, paid):
    data, alice = paid
    ledger = at_ledger(world, forwarder(CALL, CREDIT, revert=True))
    assert world.raw(world.party().address, ledger, data).is_error
    assert world.credits(alice) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda d: b"",
        lambda d: d[:32],
        lambda d: b"\x02" + d[1:],
        lambda d: d[:25] + (9_999).to_bytes(8, "big") + d[33:],
        lambda d: d[:25] + (10_001).to_bytes(8, "big") + d[33:],
        lambda d: d[:-1],
        lambda d: d + b"\0",
        lambda d: d[:33],
    ],
    ids=["empty", "cut header", "version", "budget low", "budget high", "cut", "extra", "no settlement"],
)
def test_malformed_input_fails_the_call_and_pays_nobody(world, paid, change):
    data, alice = paid
    ledger = at_ledger(world, forwarder(CALL, CREDIT))
    assert not succeeded(world, ledger, change(data))
    assert world.credits(alice) == 0


def test_too_little_gas_pays_nobody_and_enough_pays_all(world, paid):
    data, alice = paid
    ledger = at_ledger(world, forwarder(CALL, CREDIT))
    for gas in range(2_000, 400_000, 23_000):
        before = world.credits(alice)
        computation = world.raw(world.party().address, ledger, data, gas=gas)
        done = computation.is_success and int.from_bytes(computation.output, "big") == 1
        assert world.credits(alice) - before == (3_800 if done else 0)
    assert done


def test_an_epoch_before_a_payees_is_refused(world, paid):
    data, alice = paid
    world.mine(50)
    ledger = at_ledger(world, forwarder(CALL, CREDIT))
    epoch = world.block // DEVNET.economy.epoch_blocks
    assert succeeded(world, ledger, data[:1] + epoch.to_bytes(4, "big") + data[5:])
    assert not succeeded(world, ledger, data)
    assert world.credits(alice) == 3_800


def test_the_distributor_takes_money_from_the_ledger_alone(world):
    assert world.raw(world.party().address, predeploys.REWARDS_DISTRIBUTOR, value=1).is_error


@pytest.mark.parametrize(
    ("runtime", "paid"),
    [
        (forwarder(CALL, CREDIT), 1),
        (forwarder(CALL, CREDIT, value=1), 0),
        (forwarder(CALLCODE, CREDIT), 0),
        (forwarder(DELEGATECALL, CREDIT), 0),
        (forwarder(STATICCALL, CREDIT), 0),
    ],
    ids=["CALL", "value", "CALLCODE", "DELEGATECALL", "STATICCALL"],
)
def test_our_own_vm_guards_it_alike(chain_world, make_story, runtime, paid):
    world = chain_world
    story = make_story(world)
    group = story.group(0, [Record(10_000)])
    payload = encode_settlement(Settlement(bytes(32), (group,)))
    data = struct.pack(">BI20sQ", 1, world.block, story.provider.address, 10_000) + payload
    override = {INFERENCE_LEDGER: StateOverride(code=runtime, balance=1)}
    head = world.chain.head().hash
    result = world.chain.call(CallRequest(to=INFERENCE_LEDGER, data=data), head, override)
    assert int.from_bytes(result.output, "big") == paid
    elsewhere = b"\x77" * 20
    override = {elsewhere: StateOverride(code=runtime, balance=1)}
    result = world.chain.call(CallRequest(to=elsewhere, data=data), head, override)
    assert result.success
    assert int.from_bytes(result.output, "big") == 0
    # An account that delegates to CREDIT (EIP-7702) is called as one without code: nothing is credited.
    delegating = {
        INFERENCE_LEDGER: StateOverride(code=forwarder(CALL, elsewhere), balance=1),
        elsewhere: StateOverride(code=b"\xef\x01\x00" + CREDIT),
    }
    result = world.chain.call(CallRequest(to=INFERENCE_LEDGER, data=data), head, delegating)
    assert result.gas_used < 100_000  # a credit of six payees costs more than 120,000
