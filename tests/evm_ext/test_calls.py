"""eth_call and eth_estimateGas: results, reverts, limits, overrides, and the estimate that suffices."""

from __future__ import annotations

import pytest

from openledger.evm_ext import CallRequest, StateOverride, errors
from openledger.evm_ext.calls import run_request
from openledger.evm_ext.transactions import sign_authorization
from openledger.genesis import predeploys
from openledger.genesis.genesis import GenesisAccount

CHAIN_ID = 161299
CONTRACTS = {
    name: bytes([0xC0 + index]) * 20
    for index, name in enumerate(
        ("COUNTER", "REVERTER", "LOOP", "SPENDER", "CLEARER", "ENVIRONMENT", "RELAY", "INVALID", "SLOT")
    )
}
CODE = {
    "COUNTER": "5f546001018 05f55 5f52 60205ff3",
    "REVERTER": "602a5f52 60205ffd",
    "LOOP": "5b5f56",
    # needs at least 100,000 gas at its GAS opcode, else reverts
    "SPENDER": "620186a0 5a 11 600d57 5f5ffd 00 5b 00",
    "CLEARER": "5f5f55 00",
    "ENVIRONMENT": "43 5f52 42 602052 48 604052 33 606052 34 608052 60a05ff3",
    # calls COUNTER with all gas
    "RELAY": "5f5f5f5f5f 73" + "c0" * 20 + " 5a f1 00",
    "INVALID": "fe",
    "SLOT": "5f54 5f52 600154 602052 60405ff3",
}


@pytest.fixture
def chain(tools, open_chain):
    chain = open_chain(
        tools.op_genesis(
            {
                address: GenesisAccount(code=bytes.fromhex(CODE[name].replace(" ", "")), nonce=1, storage={0: 5, 1: 6})
                for name, address in CONTRACTS.items()
            }
        )
    )
    tools.extend(chain, (tools.l1_info_transaction(operator_fee_constant=77),))
    return chain


def call(chain, name, *, overrides=None, time_limit_s=5.0, gas_cap=50_000_000, **fields):
    return chain.call(
        CallRequest(to=CONTRACTS[name], **fields),
        chain.head().hash,
        overrides,
        time_limit_s=time_limit_s,
        gas_cap=gas_cap,
    )


def words(output):
    return [int.from_bytes(output[start : start + 32], "big") for start in range(0, len(output), 32)]


def test_a_call_returns_and_changes_nothing(chain):
    for _ in range(2):
        result = call(chain, "COUNTER")
        assert result.success
        assert words(result.output) == [6]
    assert chain.state(chain.head().hash).storage(CONTRACTS["COUNTER"], 0) == 5


def test_revert_data_is_kept(chain):
    result = call(chain, "REVERTER")
    assert not result.success
    assert result.reverted
    assert result.error == "execution reverted"
    assert words(result.output) == [42]


def test_other_failures_say_what_they_are(chain):
    assert call(chain, "INVALID").error.startswith("invalid opcode")
    assert call(chain, "LOOP", gas=30_000).error.startswith("out of gas")
    assert call(chain, "LOOP", gas=30_000).gas_used == 30_000


def test_a_call_is_stopped_at_its_time_limit(chain):
    with pytest.raises(errors.CallTimeout):
        call(chain, "LOOP", time_limit_s=0.05, gas_cap=10**12)


def test_finding_the_words_for_a_failure_keeps_to_the_time_limit(chain, monkeypatch):
    """Else how a failed call is told would depend on how fast the machine is."""
    clock = [0.0]

    class Clock:
        @staticmethod
        def monotonic():
            return clock[0]

    def fail(state, request, gas):
        clock[0] = 1.0
        return run_request(state, request, gas)

    monkeypatch.setattr("openledger.evm_ext.tracing.failure.time", Clock)
    monkeypatch.setattr("openledger.evm_ext.calls.run_request", fail)
    monkeypatch.setattr("openledger.evm_ext.calls.time", Clock)
    assert call(chain, "INVALID", time_limit_s=1.0).error == "invalid opcode: INVALID"
    clock[0] = 0.0
    with pytest.raises(errors.CallTimeout):
        call(chain, "INVALID", time_limit_s=0.5)


def test_a_call_gets_no_more_gas_than_the_cap(chain):
    assert call(chain, "LOOP", gas=10**12, gas_cap=100_000).gas_used == 100_000


def test_a_call_sees_the_block_it_runs_on(tools, chain):
    head = chain.head()
    result = call(chain, "ENVIRONMENT", sender=tools.ADDRESSES[0], value=9)
    sender = int.from_bytes(tools.ADDRESSES[0], "big")
    assert words(result.output) == [head.number, head.timestamp, 0, sender, 9]
    priced = call(chain, "ENVIRONMENT", sender=tools.ADDRESSES[0], max_fee_per_gas=10**10)
    assert words(priced.output)[2] == head.base_fee_per_gas


def test_calls_that_cannot_start_say_why(tools, chain):
    nobody = b"\x55" * 20
    with pytest.raises(errors.InsufficientFunds, match="insufficient funds"):
        call(chain, "COUNTER", sender=nobody, value=1)
    with pytest.raises(errors.FeeCapTooLow, match="max fee per gas less than block base fee"):
        call(chain, "COUNTER", sender=tools.ADDRESSES[0], max_fee_per_gas=1)
    with pytest.raises(errors.IntrinsicGasTooLow):
        call(chain, "COUNTER", gas=20_000)


def test_overrides_are_believed(tools, chain):
    nobody = b"\x55" * 20
    assert call(chain, "COUNTER", sender=nobody, value=1, overrides={nobody: StateOverride(balance=1)}).success
    slot = CONTRACTS["SLOT"]
    assert words(call(chain, "SLOT").output) == [5, 6]
    assert words(call(chain, "SLOT", overrides={slot: StateOverride(state_diff={1: 9})}).output) == [5, 9]
    assert words(call(chain, "SLOT", overrides={slot: StateOverride(state={1: 9})}).output) == [0, 9]
    code = StateOverride(code=bytes.fromhex(CODE["REVERTER"].replace(" ", "")))
    assert call(chain, "SLOT", overrides={slot: code}).reverted


def test_a_creation_can_be_tried(tools, chain):
    result = chain.call(CallRequest(to=None, data=bytes.fromhex("60015f5360015ff3")), chain.head().hash)
    assert result.success
    assert result.output == b"\x01"


def test_old_states_can_be_called(tools, chain):
    old = chain.head()
    tools.extend(chain, (tools.signed(0, CHAIN_ID, 0, CONTRACTS["COUNTER"]),))
    request = CallRequest(to=CONTRACTS["SLOT"])
    assert words(chain.call(CallRequest(to=CONTRACTS["COUNTER"]), old.hash).output) == [6]
    assert words(chain.call(CallRequest(to=CONTRACTS["COUNTER"]), chain.head().hash).output) == [7]
    assert chain.call(request, old.hash).success


def test_a_plain_transfer_is_estimated_at_21000(tools, chain):
    request = CallRequest(sender=tools.ADDRESSES[0], to=b"\x77" * 20, value=5)
    assert chain.estimate_gas(request, chain.head().hash) == 21_000


@pytest.mark.parametrize("name", ["COUNTER", "SPENDER", "CLEARER", "RELAY"])
def test_an_estimate_is_enough_and_not_much_too_much(tools, chain, name):
    request = CallRequest(sender=tools.ADDRESSES[0], to=CONTRACTS[name])
    estimate = chain.estimate_gas(request, chain.head().hash)

    def succeeds(gas):
        head = chain.head()
        block = chain.build(
            head.hash,
            tools.attributes(
                head,
                (tools.l1_info_transaction().raw, tools.signed(0, CHAIN_ID, 0, CONTRACTS[name], gas=gas).raw),
            ),
        )
        receipt = chain.receipts(block.hash)[1]
        inner = chain.state(block.hash).storage(CONTRACTS["COUNTER"], 0)
        return receipt.status == 1 and (name != "RELAY" or inner == 6)

    assert succeeds(estimate)
    if name == "SPENDER":
        assert not succeeds(estimate * 97 // 100)


def test_a_creation_and_a_delegation_are_estimated(tools, chain):
    init = bytes.fromhex("60015f5360015ff3")
    estimate = chain.estimate_gas(CallRequest(sender=tools.ADDRESSES[0], to=None, data=init), chain.head().hash)
    assert 53_000 < estimate < 54_500
    authorization = sign_authorization(tools.KEYS[1], chain_id=0, address=CONTRACTS["COUNTER"], nonce=0)
    estimate = chain.estimate_gas(
        CallRequest(sender=tools.ADDRESSES[0], to=b"\x77" * 20, authorization_list=(authorization,)),
        chain.head().hash,
    )
    assert 46_000 <= estimate < 47_000


def test_an_estimate_of_what_reverts_carries_the_revert_data(tools, chain):
    with pytest.raises(errors.EstimationFailed) as caught:
        chain.estimate_gas(CallRequest(to=CONTRACTS["REVERTER"]), chain.head().hash)
    assert words(caught.value.output) == [42]
    assert str(caught.value) == "execution reverted"
    with pytest.raises(errors.EstimationFailed, match="gas required exceeds allowance"):
        chain.estimate_gas(CallRequest(to=CONTRACTS["LOOP"], gas=100_000), chain.head().hash)
    with pytest.raises(errors.InsufficientFunds, match="insufficient funds"):
        chain.estimate_gas(CallRequest(sender=b"\x55" * 20, to=b"\x77" * 20, value=1), chain.head().hash)


def test_the_gas_price_oracle_reads_what_the_machine_charges_by(chain):
    def ask(selector):
        result = chain.call(
            CallRequest(to=predeploys.GAS_PRICE_ORACLE, data=bytes.fromhex(selector)), chain.head().hash
        )
        return words(result.output)

    assert ask("519b4bd3") == [2_000_000]  # l1BaseFee()
    assert ask("f8206140") == [3_000_000]  # blobBaseFee()
    assert ask("c5985918") == [20]  # baseFeeScalar()
    assert ask("68d5dca6") == [15]  # blobBaseFeeScalar()
