"""The contracts of the embedded L1, as a user and the derivation meet them."""

import pytest
from eth_abi import decode, encode
from eth_account import Account

from openledger.genesis import dev_accounts, predeploys
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET, l1_genesis

GENESIS = l1_genesis(DEVNET, 1_700_000_000)
ALICE = dev_accounts.USERS[0]
TRANSACTION_DEPOSITED = bytes.fromhex("b3813568d9991fc951961fcb4c784893574240a28925604d09fc577c55bb7c32")
CONFIG_UPDATE = keccak256(b"ConfigUpdate(uint256,uint8,bytes)")
DEPOSIT = "depositERC20Transaction(address,uint256,uint256,uint64,bool,bytes)"
BOB = b"\xb0" * 20
# Calls a target with given calldata: 20 bytes of address, then the calldata.
FORWARDER = bytes.fromhex("601436038060145f375f5f825f5f5f3560601c5af1601b575f5ffd5b00")


@pytest.fixture
def evm(machine):
    return machine(GENESIS.chain_id, GENESIS.alloc)


def balance(evm, holder):
    return evm.call(predeploys.L1_OPEN_TOKEN, "balanceOf(address)", holder, returns="(uint256)")


def approve(evm, owner, amount):
    evm.call(predeploys.L1_OPEN_TOKEN, "approve(address,uint256)", predeploys.L1_PORTAL, amount, caller=owner)


def deposited(evm):
    (event,) = [e for e in evm.events if e.address == predeploys.L1_PORTAL]
    assert event.topics[0] == TRANSACTION_DEPOSITED
    (opaque,) = decode(["bytes"], event.data)
    return {
        "from": event.topics[1][12:],
        "to": event.topics[2][12:],
        "version": int.from_bytes(event.topics[3], "big"),
        "mint": int.from_bytes(opaque[:32], "big"),
        "value": int.from_bytes(opaque[32:64], "big"),
        "gas": int.from_bytes(opaque[64:72], "big"),
        "creation": opaque[72],
        "data": opaque[73:],
    }


def test_a_deposit_locks_exactly_what_it_mints(evm):
    before = balance(evm, predeploys.L1_PORTAL)
    approve(evm, ALICE.address, 1_000)
    evm.call(predeploys.L1_PORTAL, DEPOSIT, BOB, 1_000, 900, 100_000, False, b"\x01\x02", caller=ALICE.address)
    assert deposited(evm) == {
        "from": ALICE.address,
        "to": BOB,
        "version": 0,
        "mint": 1_000,
        "value": 900,
        "gas": 100_000,
        "creation": 0,
        "data": b"\x01\x02",
    }
    assert balance(evm, predeploys.L1_PORTAL) - before == 1_000
    assert evm.call(predeploys.L1_PORTAL, "balance()", returns="(uint256)") == before + 1_000


def test_nothing_is_minted_without_tokens(evm, reverted):
    approve(evm, ALICE.address, 999)
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, DEPOSIT, BOB, 1_000, 0, 100_000, False, b"", caller=ALICE.address)


def test_a_deposit_without_mint_needs_no_tokens_and_takes_no_ether(evm, reverted):
    plain = "depositTransaction(address,uint256,uint64,bool,bytes)"
    evm.call(predeploys.L1_PORTAL, plain, BOB, 5, 100_000, False, b"", caller=ALICE.address)
    assert (deposited(evm)["mint"], deposited(evm)["value"]) == (0, 5)
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, plain, BOB, 5, 100_000, False, b"", caller=ALICE.address, value=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((BOB, 0, 0, 20_999, False, b""), "SmallGasLimit()"),
        ((BOB, 0, 0, 21_000, False, b"\x01"), "SmallGasLimit()"),
        ((BOB, 0, 0, 100_000, True, b""), "BadTarget()"),
        ((BOB, 0, 0, 5_000_000, False, bytes(120_001)), "LargeCalldata()"),
        ((BOB, 0, 0, 20_000_001, False, b""), "OutOfGas()"),
    ],
)
def test_a_bad_deposit_is_refused_by_name(evm, reverted, arguments, why):
    with pytest.raises(reverted) as failure:
        evm.call(predeploys.L1_PORTAL, DEPOSIT, *arguments, caller=ALICE.address)
    assert failure.value.output == keccak256(why.encode())[:4]


def test_deposits_of_one_l1_block_are_limited_together(evm, reverted):
    for _ in range(2):
        evm.call(predeploys.L1_PORTAL, DEPOSIT, BOB, 0, 0, 8_000_000, False, b"", caller=ALICE.address)
    with pytest.raises(reverted):
        evm.call(predeploys.L1_PORTAL, DEPOSIT, BOB, 0, 0, 8_000_000, False, b"", caller=ALICE.address)


def test_a_contract_deposits_under_its_alias(evm):
    contract = b"\xff" * 20  # so that the addition wraps around
    evm.put(contract, GenesisAccount(nonce=1, code=FORWARDER))
    call = keccak256(DEPOSIT.encode())[:4] + encode(
        ["address", "uint256", "uint256", "uint64", "bool", "bytes"], [BOB, 0, 0, 100_000, False, b""]
    )
    evm.send(contract, predeploys.L1_PORTAL + call, caller=ALICE.address)
    alias = (int.from_bytes(contract, "big") + int("1111000000000000000000000000000000001111", 16)) % 2**160
    assert deposited(evm)["from"] == alias.to_bytes(20, "big")


def test_a_message_reaches_the_l2_messenger_from_the_aliased_l1_messenger(evm):
    evm.call(
        predeploys.L1_CROSS_DOMAIN_MESSENGER,
        "sendMessage(address,bytes,uint32)",
        *(BOB, b"hello", 100_000),
        caller=ALICE.address,
    )
    deposit = deposited(evm)
    alias = int.from_bytes(predeploys.L1_CROSS_DOMAIN_MESSENGER, "big") + int("1111" + "0" * 32 + "1111", 16)
    assert deposit["to"] == predeploys.L2_CROSS_DOMAIN_MESSENGER
    assert deposit["from"] == (alias % 2**160).to_bytes(20, "big")


UPDATES = [
    ("setBatcherHash(bytes32)", [b"\x07" * 32], 0, b"\x07" * 32),
    (
        "setGasConfigEcotone(uint32,uint32)",
        [5, 6],
        1,
        bytes(32) + b"\x01" + bytes(23) + (6).to_bytes(4, "big") + (5).to_bytes(4, "big"),
    ),
    ("setGasLimit(uint64)", [30_000_000], 2, (30_000_000).to_bytes(32, "big")),
    ("setUnsafeBlockSigner(address)", [BOB], 3, BOB.rjust(32, b"\0")),
    ("setEIP1559Params(uint32,uint32)", [50, 10], 4, (50 << 32 | 10).to_bytes(32, "big")),
    ("setOperatorFeeScalars(uint32,uint64)", [3, 4], 5, (3 << 64 | 4).to_bytes(32, "big")),
]


@pytest.mark.parametrize(("setter", "arguments", "kind", "data"), UPDATES, ids=[u[0] for u in UPDATES])
def test_a_config_update_is_the_event_that_nodes_derive_from(evm, reverted, setter, arguments, kind, data):
    evm.call(predeploys.L1_SYSTEM_CONFIG, setter, *arguments, caller=DEVNET.owner)
    (event,) = evm.events
    assert event.topics == (CONFIG_UPDATE, bytes(32), kind.to_bytes(32, "big"))
    assert decode(["bytes"], event.data) == (data,)
    with pytest.raises(reverted):
        evm.call(predeploys.L1_SYSTEM_CONFIG, setter, *arguments, caller=ALICE.address)


@pytest.mark.parametrize(
    ("setter", "arguments"),
    [
        ("setGasLimit(uint64)", [20_999_999]),
        ("setGasLimit(uint64)", [500_000_001]),
        ("setEIP1559Params(uint32,uint32)", [0, 6]),
        ("setEIP1559Params(uint32,uint32)", [250, 0]),
    ],
)
def test_a_config_that_would_stop_the_chain_is_refused(evm, reverted, setter, arguments):
    with pytest.raises(reverted):
        evm.call(predeploys.L1_SYSTEM_CONFIG, setter, *arguments, caller=DEVNET.owner)


def test_the_system_config_starts_as_the_preset_says(evm):
    def ask(name, kind):
        return evm.call(predeploys.L1_SYSTEM_CONFIG, f"{name}()", returns=f"({kind})")

    assert ask("batcherHash", "bytes32") == DEVNET.batcher.rjust(32, b"\0")
    assert ask("unsafeBlockSigner", "address") == "0x" + DEVNET.unsafe_block_signer.hex()
    assert ask("gasLimit", "uint64") == DEVNET.gas_limit
    assert ask("basefeeScalar", "uint32") == DEVNET.base_fee_scalar
    assert ask("blobbasefeeScalar", "uint32") == DEVNET.blob_base_fee_scalar
    assert ask("scalar", "uint256") == 1 << 248 | DEVNET.blob_base_fee_scalar << 32 | DEVNET.base_fee_scalar
    assert ask("eip1559Denominator", "uint32") == DEVNET.eip1559_denominator
    assert ask("eip1559Elasticity", "uint32") == DEVNET.eip1559_elasticity
    assert ask("operatorFeeScalar", "uint32") == DEVNET.operator_fee_scalar
    assert ask("operatorFeeConstant", "uint64") == DEVNET.operator_fee_constant
    assert ask("batchInbox", "address") == "0x" + DEVNET.batch_inbox.hex()
    assert ask("owner", "address") == "0x" + DEVNET.owner.hex()
    assert ask("startBlock", "uint256") == 0


def test_a_permit_signed_off_chain_moves_open(evm):
    """EIP-2612, with the domain that wallets would sign."""
    domain = {
        "name": "Openledger",
        "version": "1",
        "chainId": GENESIS.chain_id,
        "verifyingContract": "0x" + predeploys.L1_OPEN_TOKEN.hex(),
    }
    types = {
        "Permit": [
            {"name": "owner", "type": "address"},
            {"name": "spender", "type": "address"},
            {"name": "value", "type": "uint256"},
            {"name": "nonce", "type": "uint256"},
            {"name": "deadline", "type": "uint256"},
        ]
    }
    message = {
        "owner": "0x" + ALICE.address.hex(),
        "spender": "0x" + BOB.hex(),
        "value": 77,
        "nonce": 0,
        "deadline": 2**64,
    }
    signed = Account.sign_typed_data(ALICE.private_key, domain, types, message)
    evm.call(
        predeploys.L1_OPEN_TOKEN,
        "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
        *(ALICE.address, BOB, 77, 2**64, signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")),
    )
    evm.call(predeploys.L1_OPEN_TOKEN, "transferFrom(address,address,uint256)", ALICE.address, BOB, 77, caller=BOB)
    assert balance(evm, BOB) == 77


def test_the_token_tells_wallets_what_it_is(evm):
    def ask(name, kind):
        return evm.call(predeploys.L1_OPEN_TOKEN, f"{name}()", returns=f"({kind})")

    assert (ask("name", "string"), ask("symbol", "string"), ask("decimals", "uint8")) == ("Openledger", "OPEN", 18)
    assert ask("totalSupply", "uint256") == 10**27


def test_only_the_proposer_proposes_outputs_and_the_first_one_follows_the_genesis(evm, machine, reverted):
    first = evm.call(predeploys.L1_OUTPUT_ORACLE, "nextBlockNumber()", returns="(uint256)")
    assert first == DEVNET.output_interval_blocks
    assert evm.call(predeploys.L1_OUTPUT_ORACLE, "computeL2Timestamp(uint256)", 3, returns="(uint256)") == (
        GENESIS.timestamp + 3 * DEVNET.l2_block_time_s
    )
    propose = "proposeL2Output(bytes32,uint256,bytes32,uint256)"
    later = machine(GENESIS.chain_id, GENESIS.alloc, timestamp=GENESIS.timestamp + 61)
    allow = (predeploys.L1_OUTPUT_ORACLE, DEVNET.proposer_bond_wei)
    for each in (evm, later):
        each.call(predeploys.L1_OPEN_TOKEN, "approve(address,uint256)", *allow, caller=DEVNET.proposer)
    with pytest.raises(reverted):
        later.call(predeploys.L1_OUTPUT_ORACLE, propose, b"\x01" * 32, first, bytes(32), 0, caller=ALICE.address)
    with pytest.raises(reverted):  # too early
        evm.call(predeploys.L1_OUTPUT_ORACLE, propose, b"\x01" * 32, first, bytes(32), 0, caller=DEVNET.proposer)
    later.call(predeploys.L1_OUTPUT_ORACLE, propose, b"\x01" * 32, first, bytes(32), 0, caller=DEVNET.proposer)
    assert later.call(predeploys.L1_OUTPUT_ORACLE, "latestBlockNumber()", returns="(uint256)") == first


def test_only_the_guardian_pauses_and_a_pause_stops_withdrawals(evm, reverted):
    with pytest.raises(reverted):
        evm.call(predeploys.L1_SUPERCHAIN_CONFIG, "pause(string)", "x", caller=ALICE.address)
    evm.call(predeploys.L1_SUPERCHAIN_CONFIG, "pause(string)", "x", caller=DEVNET.owner)
    assert evm.call(predeploys.L1_PORTAL, "paused()", returns="(bool)") is True
