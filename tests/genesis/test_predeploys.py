"""Our own L2 predeploys, and those of the OP-Stack, as a user calls them."""

import json
import struct
from pathlib import Path

import pytest
from eth_abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.genesis import predeploys
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET, l2_genesis

GENESIS = l2_genesis(DEVNET, 1_700_000_000)
ATTRIBUTES = {
    "baseFeeScalar": 1_368,
    "blobBaseFeeScalar": 810_949,
    "sequenceNumber": 4,
    "timestamp": 1_700_000_004,
    "number": 77,
    "basefee": 9 * 10**9,
    "blobBaseFee": 3,
    "hash": b"\xab" * 32,
    "batcherHash": DEVNET.batcher.rjust(32, b"\0"),
    "operatorFeeScalar": 2**32 - 1,
    "operatorFeeConstant": 2**64 - 1,
}
TYPES = {"hash": "bytes32", "batcherHash": "bytes32", "basefee": "uint256", "blobBaseFee": "uint256"}
SIGNATURES = {name: TYPES.get(name, "uint64") for name in ATTRIBUTES}


def packed(a):
    return (
        bytes.fromhex("098999be")
        + struct.pack(
            ">IIQQQ", *(a[n] for n in ("baseFeeScalar", "blobBaseFeeScalar", "sequenceNumber", "timestamp", "number"))
        )
        + a["basefee"].to_bytes(32, "big")
        + a["blobBaseFee"].to_bytes(32, "big")
        + a["hash"]
        + a["batcherHash"]
        + struct.pack(">IQ", a["operatorFeeScalar"], a["operatorFeeConstant"])
    )


@pytest.fixture
def evm(machine):
    evm = machine(GENESIS.chain_id, GENESIS.alloc)
    evm.send(predeploys.L1_BLOCK, packed(ATTRIBUTES), caller=predeploys.DEPOSITOR_ACCOUNT)
    return evm


def test_the_attributes_selector_and_size_are_those_of_isthmus():
    assert keccak256(b"setL1BlockValuesIsthmus()")[:4].hex() == "098999be"
    assert len(packed(ATTRIBUTES)) == 176


def test_every_attribute_can_be_read_back(evm):
    for name, value in ATTRIBUTES.items():
        assert evm.call(predeploys.L1_BLOCK, f"{name}()", returns=f"({SIGNATURES[name]})") == value, name


def test_attributes_lie_where_execution_clients_read_them(evm):
    """OP-Stack: base fee in slot 1, scalars in bytes 16–23 of slot 3, blob base fee in 7, operator fee in 8."""
    slots = {n: evm.storage(predeploys.L1_BLOCK, n).to_bytes(32, "big") for n in range(10)}
    assert slots[0][16:] == struct.pack(">QQ", ATTRIBUTES["timestamp"], ATTRIBUTES["number"])
    assert int.from_bytes(slots[1], "big") == ATTRIBUTES["basefee"]
    assert slots[2] == ATTRIBUTES["hash"]
    assert slots[3][16:20] == struct.pack(">I", ATTRIBUTES["baseFeeScalar"])
    assert slots[3][20:24] == struct.pack(">I", ATTRIBUTES["blobBaseFeeScalar"])
    assert slots[3][24:] == struct.pack(">Q", ATTRIBUTES["sequenceNumber"])
    assert slots[4] == ATTRIBUTES["batcherHash"]
    assert slots[5] == slots[6] == slots[9] == bytes(32)
    assert int.from_bytes(slots[7], "big") == ATTRIBUTES["blobBaseFee"]
    assert slots[8][20:24] == struct.pack(">I", ATTRIBUTES["operatorFeeScalar"])
    assert slots[8][24:] == struct.pack(">Q", ATTRIBUTES["operatorFeeConstant"])


def test_only_the_depositor_sets_attributes(evm, reverted):
    with pytest.raises(reverted) as failure:
        evm.send(predeploys.L1_BLOCK, packed(ATTRIBUTES), caller=DEVNET.owner)
    assert failure.value.output == bytes.fromhex("3cc50b45")  # NotDepositor()


def test_the_native_currency_is_open(evm):
    token = evm.call(predeploys.L1_BLOCK, "gasPayingToken()", returns="(address,uint8)")
    assert token == ("0x" + predeploys.L1_OPEN_TOKEN.hex(), 18)
    assert evm.call(predeploys.L1_BLOCK, "gasPayingTokenName()", returns="(string)") == "Openledger"
    assert evm.call(predeploys.L1_BLOCK, "gasPayingTokenSymbol()", returns="(string)") == "OPEN"
    assert evm.call(predeploys.L1_BLOCK, "isCustomGasToken()", returns="(bool)") is True
    assert evm.call(predeploys.WETH, "symbol()", returns="(string)") == "WOPEN"
    evm.call(predeploys.WETH, "deposit()", value=5)
    assert evm.call(predeploys.WETH, "balanceOf(address)", b"\x99" * 20, returns="(uint256)") == 5


def fjord_fee(fastlz, a):
    size = max(100 * 10**6, 836_500 * fastlz - 42_585_600)
    return size * (16 * a["baseFeeScalar"] * a["basefee"] + a["blobBaseFeeScalar"] * a["blobBaseFee"]) // 10**12


def test_the_l1_fee_of_the_published_vector(machine):
    """Fjord's vector: base fee 2e6, blob base fee 3e6, scalars 20 and 15, FastLZ size 235 → 105,484 wei."""
    evm = machine(GENESIS.chain_id, GENESIS.alloc)
    a = ATTRIBUTES | {"basefee": 2 * 10**6, "blobBaseFee": 3 * 10**6, "baseFeeScalar": 20, "blobBaseFeeScalar": 15}
    evm.send(predeploys.L1_BLOCK, packed(a), caller=predeploys.DEPOSITOR_ACCOUNT)
    # The upper bound takes a size and adds 68, one in 255, and 16: 151 gives 235.
    bound = evm.call(predeploys.GAS_PRICE_ORACLE, "getL1FeeUpperBound(uint256)", 151, returns="(uint256)")
    assert bound == fjord_fee(235, a) == 105_484


UPSTREAM = b"\x7e" * 20
UPSTREAM_VECTOR = Path(__file__).parent / "vectors" / "fjord_gas_price_oracle.json"


@pytest.fixture(scope="module")
def both(machine):
    """Our oracle beside the OP-Stack's own of Fjord, which reads the same L1Block."""
    evm = machine(GENESIS.chain_id, GENESIS.alloc)
    upstream = bytes.fromhex(json.loads(UPSTREAM_VECTOR.read_text())["deployedBytecode"])
    evm.put(UPSTREAM, GenesisAccount(nonce=1, code=upstream, storage={0: 0x0101}))
    evm.send(predeploys.L1_BLOCK, packed(ATTRIBUTES), caller=predeploys.DEPOSITOR_ACCOUNT)
    return evm


def same_answer(both, signature, argument):
    ours, theirs = (
        both.call(oracle, signature, argument, returns="(uint256)")
        for oracle in (predeploys.GAS_PRICE_ORACLE, UPSTREAM)
    )
    assert ours == theirs
    return ours


# Transactions repeat themselves: words of zeros, addresses, selectors.
repetitive = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=6),
        st.sampled_from([bytes(31), bytes(12) + b"\x42" * 20, b"\xff" * 300, b"abcdefgh" * 9]),
    ),
    max_size=30,
).map(b"".join)


@given(data=repetitive | st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_the_l1_fee_agrees_with_the_op_stacks_contract(both, data):
    same_answer(both, "getL1Fee(bytes)", data)


@pytest.mark.parametrize("length", [0, 1, 12, 13, 14, 15, 16, 31, 262, 263, 264, 265, 266, 8_300])
def test_the_l1_fee_agrees_at_the_edges_of_the_compressor(both, length):
    for data in (bytes(length), (bytes(range(251)) * 40)[:length], b"\x01" * length):
        same_answer(both, "getL1Fee(bytes)", data)
        same_answer(both, "getL1GasUsed(bytes)", data)


def test_a_match_too_far_away_is_not_taken(both):
    noise = b"".join(keccak256(bytes([n, m])) for n in range(2) for m in range(256))  # 16,384 bytes
    for distance in (8_160, 8_191, 8_192, 8_224):
        same_answer(both, "getL1Fee(bytes)", noise[:distance] + noise[:64] + bytes(20))


@given(size=st.integers(0, 200_000))
@settings(max_examples=30, deadline=None)
def test_the_upper_bound_agrees_with_the_op_stacks_contract(both, size):
    same_answer(both, "getL1FeeUpperBound(uint256)", size)


def test_the_operator_fee_is_that_of_isthmus(evm):
    fee = evm.call(predeploys.GAS_PRICE_ORACLE, "getOperatorFee(uint256)", 21_000, returns="(uint256)")
    assert fee == 21_000 * (2**32 - 1) // 10**6 + 2**64 - 1


def test_the_oracle_answers_what_op_tools_ask(evm):
    def ask(name, kind):
        return evm.call(predeploys.GAS_PRICE_ORACLE, f"{name}()", returns=f"({kind})")

    assert [ask(fork, "bool") for fork in ("isEcotone", "isFjord", "isIsthmus")] == [True, True, True]
    assert ask("decimals", "uint256") == ask("DECIMALS", "uint256") == 6
    assert ask("l1BaseFee", "uint256") == ATTRIBUTES["basefee"]
    assert ask("blobBaseFee", "uint256") == ATTRIBUTES["blobBaseFee"]
    assert ask("baseFeeScalar", "uint32") == ATTRIBUTES["baseFeeScalar"]
    assert ask("blobBaseFeeScalar", "uint32") == ATTRIBUTES["blobBaseFeeScalar"]
    assert ask("baseFee", "uint256") == ask("gasPrice", "uint256") == 0


@pytest.mark.parametrize("gone", ["overhead()", "scalar()"])
def test_fees_of_before_ecotone_are_refused_by_name(evm, reverted, gone):
    with pytest.raises(reverted) as failure:
        evm.call(predeploys.GAS_PRICE_ORACLE, gone)
    assert failure.value.output == keccak256(b"DeprecatedSinceEcotone()")[:4]


VAULTS = {
    "sequencer": predeploys.SEQUENCER_FEE_VAULT,
    "base fee": predeploys.BASE_FEE_VAULT,
    "L1 fee": predeploys.L1_FEE_VAULT,
    "operator fee": predeploys.OPERATOR_FEE_VAULT,
}


@pytest.mark.parametrize("vault", VAULTS.values(), ids=VAULTS)
def test_a_fee_vault_pays_its_recipient_when_it_holds_enough(evm, reverted, vault):
    assert evm.call(vault, "RECIPIENT()", returns="(address)") == "0x" + DEVNET.owner.hex()
    assert evm.call(vault, "WITHDRAWAL_NETWORK()", returns="(uint8)") == 1
    assert evm.call(vault, "MIN_WITHDRAWAL_AMOUNT()", returns="(uint256)") == 10**15
    evm.send(vault, b"", value=10**15 - 1)
    with pytest.raises(reverted):
        evm.call(vault, "withdraw()")
    evm.send(vault, b"", value=2)
    before = evm.balance(DEVNET.owner)
    evm.call(vault, "withdraw()")
    announced = [event.topics[0] for event in evm.events]
    assert evm.balance(DEVNET.owner) - before == 10**15 + 1
    assert evm.balance(vault) == 0
    assert evm.call(vault, "totalProcessed()", returns="(uint256)") == 10**15 + 1
    assert announced == [
        keccak256(b"Withdrawal(uint256,address,address)"),
        keccak256(b"Withdrawal(uint256,address,address,uint8)"),
    ]


def test_a_withdrawal_is_recorded_where_the_portal_looks_for_it(evm):
    """OP-Stack, withdrawals: slot keccak256(abi.encode(hash, 0)) of the message passer holds 1."""
    target, gas, data, value = b"\x55" * 20, 100_000, b"hello", 7
    evm.call(
        predeploys.L2_TO_L1_MESSAGE_PASSER,
        "initiateWithdrawal(address,uint256,bytes)",
        *(target, gas, data),
        value=value,
    )
    nonce = 1 << 240
    withdrawal = keccak256(
        encode(
            ["uint256", "address", "address", "uint256", "uint256", "bytes"],
            [nonce, b"\x99" * 20, target, value, gas, data],
        )
    )
    slot = int.from_bytes(keccak256(withdrawal + bytes(32)), "big")
    assert evm.storage(predeploys.L2_TO_L1_MESSAGE_PASSER, slot) == 1
    assert evm.balance(predeploys.L2_TO_L1_MESSAGE_PASSER) == value


def test_multicall3_runs_several_calls_at_once(evm):
    calls = [(predeploys.GAS_PRICE_ORACLE, keccak256(f"{name}()".encode())[:4]) for name in ("isFjord", "decimals")]
    _, results = evm.call(predeploys.MULTICALL3, "aggregate((address,bytes)[])", calls, returns="(uint256,bytes[])")
    assert [int.from_bytes(result, "big") for result in results] == [1, 6]
