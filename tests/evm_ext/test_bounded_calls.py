"""Calls that are given up early: the same results as without a bound, or none."""

from __future__ import annotations

import pytest

from openledger.evm_ext import CallRequest, errors
from openledger.evm_ext.bounded_calls import bounded
from openledger.evm_ext.calls import call, estimate_gas
from openledger.genesis import predeploys
from openledger.genesis.genesis import GenesisAccount

LONG_S = 3_600.0
COUNTER, LOOP, REVERTER, DIGEST = (bytes([0xD0 + index]) * 20 for index in range(4))
CODE = {
    COUNTER: "5f546001018 05f55 5f52 60205ff3",
    LOOP: "5b5f56",
    REVERTER: "602a5f52 60205ffd",
    # what SHA256 makes of a word
    DIGEST: "60205f 60205f 6002 61ffff fa 5f52 60205ff3",
}


@pytest.fixture
def context(tools, open_chain):
    chain = open_chain(
        tools.op_genesis(
            {
                address: GenesisAccount(code=bytes.fromhex(code.replace(" ", "")), nonce=1, storage={0: 5})
                for address, code in CODE.items()
            }
        )
    )
    tools.extend(chain, (tools.l1_info_transaction(),))
    return chain.call_context(chain.head().hash)


@pytest.mark.parametrize("to", [COUNTER, REVERTER, DIGEST, b"\xaa" * 20])
def test_what_is_not_given_up_comes_out_the_same(context, to):
    request = CallRequest(to=to)
    assert call(bounded(context, LONG_S), request, time_limit_s=LONG_S) == call(context, request)


def test_an_estimate_comes_out_the_same(context):
    request = CallRequest(to=COUNTER)
    assert estimate_gas(bounded(context, LONG_S), request, time_limit_s=LONG_S) == estimate_gas(context, request)


def test_a_loop_is_given_up(context):
    with pytest.raises(errors.CallTimeout):
        call(bounded(context, 0.01), CallRequest(to=LOOP), time_limit_s=0.01, gas_cap=10**12)


def test_no_state_is_read_after_the_limit(context):
    with pytest.raises(errors.CallTimeout):
        call(bounded(context, -1.0), CallRequest(to=COUNTER), time_limit_s=LONG_S)


@pytest.mark.parametrize(
    ("precompile", "data", "runs"),
    [
        (predeploys.IDENTITY, bytes(1_000), True),
        (predeploys.ECRECOVER, bytes(128), True),
        (predeploys.BN254_ADD, b"\xff" * 128, True),  # it fails, and that takes no time
        (predeploys.BN254_PAIRING, bytes(192), False),
        (predeploys.BLAKE2F, (100_000).to_bytes(4, "big") + bytes(209), False),
        (predeploys.SCORES, b"", False),  # its price is not known before it has run
    ],
)
def test_a_dear_precompile_is_not_run(context, precompile, data, runs):
    request = CallRequest(to=precompile, data=data)
    if runs:
        assert call(bounded(context, LONG_S), request, time_limit_s=LONG_S) == call(context, request)
    else:
        with pytest.raises(errors.CallTimeout):
            call(bounded(context, LONG_S), request, time_limit_s=LONG_S)


def test_code_that_gets_hot_is_hot_for_all_calls(context):
    narrow = bounded(context, LONG_S)
    assert narrow.machine_wrapper is not None
    machine = type("Machine", (_machine(context),), {})
    assert narrow.machine_wrapper(machine)._hot_codes is machine._hot_codes
    assert narrow.machine_wrapper(machine) is narrow.machine_wrapper(machine)


def _machine(context):
    from openledger.evm_ext.vm.machines import machine

    return machine(context.block.block_rules)
