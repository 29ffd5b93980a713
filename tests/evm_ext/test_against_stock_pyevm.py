"""Blocks that we build are imported by unchanged py-evm, which checks every header field."""

from __future__ import annotations

import random

import pytest

from openledger.evm_ext import Withdrawal
from openledger.evm_ext.errors import SystemContractFailed
from openledger.evm_ext.requests import DEPOSIT_EVENT_TOPIC
from openledger.evm_ext.transactions import sign_authorization
from openledger.genesis import predeploys
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import MAINNET_DEPOSIT_CONTRACT
from openledger.genesis.hashing import keccak256

# Bytecode whose working is in its name; assembled by hand.
COUNTER = bytes.fromhex("5f5460010180 5f55 5f52 60205ff3".replace(" ", ""))
LOGGER = bytes.fromhex("3660 00 60 00 37 6001 6002 36 6000 a2 00".replace(" ", ""))
REVERTER = bytes.fromhex("6001 5f55 602a 5f52 6020 5f fd".replace(" ", ""))
# SSTORE of calldata word 1 at slot calldata word 0
SETTER = bytes.fromhex("6020 35 5f 35 55 00".replace(" ", ""))
SELF_DESTRUCT = bytes.fromhex("33 ff".replace(" ", ""))
# stores BLOCKHASH(number - 1), PREVRANDAO, CHAINID, BASEFEE, COINBASE's balance
ENVIRONMENT = bytes.fromhex("6001 43 03 40 5f 55 44 6001 55 46 6002 55 48 6003 55 41 31 6004 55 00".replace(" ", ""))
TRANSIENT = bytes.fromhex("5f 35 6007 5d 6007 5c 5f 55 00".replace(" ", ""))
# creates a contract from calldata with CREATE2 and salt 1, stores the address
FACTORY = bytes.fromhex("36 5f 5f 37 6001 36 5f 5f f5 5f 55 00".replace(" ", ""))
# calls the address in calldata word 0 with the rest as data, stores success and output size
CALLER = bytes.fromhex("6020 36 03 6020 5f 37 5f 5f 6020 36 03 5f 34 5f 35 5a f1 5f 55 3d 6001 55 00".replace(" ", ""))

CONTRACTS = {
    name: keccak256(name.encode())[12:]
    for name in (
        "COUNTER",
        "LOGGER",
        "REVERTER",
        "SETTER",
        "SELF_DESTRUCT",
        "ENVIRONMENT",
        "TRANSIENT",
        "FACTORY",
        "CALLER",
    )
}


@pytest.fixture
def pair(tools, open_chain):
    """Our chain and py-evm's from one genesis, and a function that runs a block through both."""
    genesis = tools.ethereum_genesis(
        {
            address: GenesisAccount(code=globals()[name], balance=5, storage={9: 9})
            for name, address in CONTRACTS.items()
        }
    )
    ours = open_chain(genesis)
    stock = tools.StockChain(genesis)
    assert stock.head_hash == ours.genesis_hash

    def both(*transactions, **changes):
        block = tools.extend(ours, tuple(transactions), **changes)
        stock.import_block(block)
        assert stock.head_hash == block.hash
        return block, ours.receipts(block.hash)

    return ours, both


def test_transfers_and_fees(pair, tools):
    _, both = pair
    _, receipts = both(
        tools.signed(0, 1337, 0, tools.ADDRESSES[1], value=tools.ETHER, gas=21_000),
        tools.signed(1, 1337, 0, b"\x99" * 20, value=1, gas=21_000),
        tools.signed(0, 1337, 1, tools.ADDRESSES[0], value=3, gas=50_000, type=0, max_priority_fee_per_gas=None),
        tools.signed(2, 1337, 0, b"\x98" * 20, gas=21_000),
    )
    assert [receipt.status for receipt in receipts] == [1, 1, 1, 1]
    for _ in range(3):
        both()


def test_contracts_storage_logs_reverts_and_refunds(pair, tools):
    ours, both = pair
    word = lambda value: value.to_bytes(32, "big")  # noqa: E731
    block, receipts = both(
        tools.signed(0, 1337, 0, CONTRACTS["COUNTER"]),
        tools.signed(0, 1337, 1, CONTRACTS["COUNTER"]),
        tools.signed(0, 1337, 2, CONTRACTS["LOGGER"], data=b"hello"),
        tools.signed(0, 1337, 3, CONTRACTS["REVERTER"]),
        tools.signed(0, 1337, 4, CONTRACTS["SETTER"], data=word(9) + word(0)),
        tools.signed(0, 1337, 5, CONTRACTS["SETTER"], data=word(9) + word(7)),
        tools.signed(0, 1337, 6, CONTRACTS["ENVIRONMENT"]),
        tools.signed(0, 1337, 7, CONTRACTS["TRANSIENT"], data=word(77)),
        tools.signed(0, 1337, 8, CONTRACTS["SELF_DESTRUCT"]),
        tools.signed(0, 1337, 9, CONTRACTS["COUNTER"], gas=21_500),
        tools.signed(0, 1337, 10, CONTRACTS["COUNTER"], type=1, access_list=((CONTRACTS["COUNTER"], (0, 1)),)),
    )
    assert [receipt.status for receipt in receipts] == [1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1]
    state = ours.state(block.hash)
    assert state.storage(CONTRACTS["COUNTER"], 0) == 3
    assert state.storage(CONTRACTS["SETTER"], 9) == 7
    assert state.storage(CONTRACTS["TRANSIENT"], 0) == 77
    assert receipts[2].logs[0].data == b"hello"
    both(tools.signed(0, 1337, 11, CONTRACTS["ENVIRONMENT"]))


def test_creations_collisions_and_self_destruction_in_one_transaction(pair, tools):
    _, both = pair
    runtime = bytes.fromhex("5f5460010180 5f55 5f52 60205ff3".replace(" ", ""))
    init = bytes.fromhex("60") + bytes([len(runtime)]) + bytes.fromhex("600b5f39 60".replace(" ", ""))
    init = init + bytes([len(runtime)]) + bytes.fromhex("5ff3")
    init = init.ljust(11, b"\x00")[:11] + runtime
    dies = bytes.fromhex("33ff")
    _, receipts = both(
        tools.signed(0, 1337, 0, None, data=init),
        tools.signed(0, 1337, 1, None, data=dies, value=5),
        tools.signed(0, 1337, 2, None, data=b"\xfe"),
        tools.signed(0, 1337, 3, CONTRACTS["FACTORY"], data=init),
        tools.signed(0, 1337, 4, CONTRACTS["FACTORY"], data=init),
        tools.signed(0, 1337, 5, CONTRACTS["FACTORY"], data=dies),
        tools.signed(0, 1337, 6, CONTRACTS["FACTORY"], data=dies),
        tools.signed(0, 1337, 7, None, data=bytes.fromhex("60ef5f5360015ff3")),
        tools.signed(0, 1337, 8, None, data=b"", value=9),
    )
    assert receipts[0].status == 1
    assert receipts[2].status == 0
    assert receipts[7].status == 0
    both(tools.signed(0, 1337, 9, CONTRACTS["FACTORY"], data=dies))


def test_delegations(pair, tools):
    ours, both = pair
    delegate = sign_authorization(tools.KEYS[5], chain_id=1337, address=CONTRACTS["COUNTER"], nonce=0)
    wrong_nonce = sign_authorization(tools.KEYS[6], chain_id=0, address=CONTRACTS["COUNTER"], nonce=3)
    foreign = sign_authorization(tools.KEYS[7], chain_id=5, address=CONTRACTS["COUNTER"], nonce=0)
    block, receipts = both(
        tools.signed(0, 1337, 0, tools.ADDRESSES[5], type=4, authorization_list=(delegate, wrong_nonce, foreign)),
        tools.signed(1, 1337, 0, tools.ADDRESSES[5]),
    )
    assert [receipt.status for receipt in receipts] == [1, 1]
    state = ours.state(block.hash)
    assert state.storage(tools.ADDRESSES[5], 0) == 2
    assert state.code(tools.ADDRESSES[5]) == b"\xef\x01\x00" + CONTRACTS["COUNTER"]
    assert state.code(tools.ADDRESSES[6]) == b""
    clear = sign_authorization(tools.KEYS[5], chain_id=0, address=bytes(20), nonce=1)
    block, _ = both(
        tools.signed(0, 1337, 1, tools.ADDRESSES[5], type=4, authorization_list=(clear,)),
    )
    assert ours.state(block.hash).code(tools.ADDRESSES[5]) == b""


def test_blob_transactions(pair, tools):
    _, both = pair
    block, _ = both(
        tools.signed(
            0,
            1337,
            0,
            tools.ADDRESSES[1],
            type=3,
            blob_versioned_hashes=(b"\x01" + bytes(31),) * 6,
            max_fee_per_blob_gas=10,
        )
    )
    assert block.header.blob_gas_used == 6 * 2**17
    block, _ = both(
        *(
            tools.signed(
                0,
                1337,
                nonce,
                tools.ADDRESSES[1],
                type=3,
                blob_versioned_hashes=(b"\x01" + bytes(31),) * 4,
                max_fee_per_blob_gas=10,
            )
            for nonce in (1, 2)
        )
    )
    block, _ = both()
    assert block.header.excess_blob_gas == 2 * 2**17


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_calling_each_other(tools, open_chain, seed):
    chance = random.Random(seed)
    addresses = [keccak256(b"program %d" % number)[12:] for number in range(12)]
    genesis = tools.ethereum_genesis(
        {
            address: GenesisAccount(
                code=tools.random_program(chance, addresses),
                balance=chance.choice((0, 10**6)),
                nonce=1,
                storage={slot: chance.randrange(1, 9) for slot in range(4)},
            )
            for address in addresses
        }
    )
    ours = open_chain(genesis)
    stock = tools.StockChain(genesis)
    nonces = [0] * 8
    for _ in range(4):
        transactions = []
        for _ in range(12):
            key = chance.randrange(8)
            target = chance.choice([*addresses, None])
            data = tools.random_program(chance, addresses) if target is None else chance.randbytes(chance.randrange(70))
            transactions.append(
                tools.signed(key, 1337, nonces[key], target, gas=400_000, data=data, value=chance.choice((0, 0, 3)))
            )
            nonces[key] += 1
        block = tools.extend(ours, tuple(transactions))
        stock.import_block(block)
        assert stock.head_hash == block.hash


def test_withdrawal_and_consolidation_requests(pair, tools):
    """Requests made to the EIP-7002 and EIP-7251 contracts end in the header's requests hash."""
    _, both = pair
    quiet, _ = both()
    withdrawal = tools.signed(
        0, 1337, 0, predeploys.WITHDRAWAL_REQUESTS, data=b"\x01" * 48 + (7).to_bytes(8, "big"), value=1
    )
    consolidation = tools.signed(
        1, 1337, 0, predeploys.CONSOLIDATION_REQUESTS, data=b"\x01" * 48 + b"\x02" * 48, value=1
    )
    busy, receipts = both(withdrawal, consolidation)
    assert [receipt.status for receipt in receipts] == [1, 1]
    assert busy.header.requests_hash != quiet.header.requests_hash
    again, _ = both()
    assert again.header.requests_hash == quiet.header.requests_hash


def test_deposit_requests(tools, open_chain):
    """A deposit event of the beacon deposit contract ends in the requests hash (EIP-6110)."""
    # Stands in for the deposit contract: logs its calldata with the event's topic.
    code = bytes.fromhex(f"365f5f377f{DEPOSIT_EVENT_TOPIC.hex()}365fa100")
    genesis = tools.ethereum_genesis({MAINNET_DEPOSIT_CONTRACT: GenesisAccount(nonce=1, code=code)})
    ours, stock = open_chain(genesis), tools.StockChain(genesis)
    fields = (b"\x01" * 48, b"\x02" * 32, b"\x03" * 8, b"\x04" * 96, b"\x05" * 8)
    heads, tails, offset = b"", b"", 160
    for field in fields:
        padded = field + bytes(-len(field) % 32)
        heads += offset.to_bytes(32, "big")
        tails += len(field).to_bytes(32, "big") + padded
        offset += 32 + len(padded)
    block = tools.extend(ours, (tools.signed(0, 1337, 0, MAINNET_DEPOSIT_CONTRACT, data=heads + tails),))
    stock.import_block(block)
    assert stock.head_hash == block.hash
    parent = ours.head()
    broken = tools.signed(0, 1337, 1, MAINNET_DEPOSIT_CONTRACT, data=heads + tails + b"\x00")
    with pytest.raises(SystemContractFailed):
        ours.build(parent.hash, tools.attributes(parent, (broken.raw,)))


def test_a_missing_request_contract_makes_blocks_invalid(tools, open_chain):
    genesis = tools.ethereum_genesis()
    alloc = {key: value for key, value in genesis.alloc.items() if key != predeploys.WITHDRAWAL_REQUESTS}
    chain = open_chain(tools.ethereum_genesis(alloc=alloc))
    with pytest.raises(SystemContractFailed, match="genesis alloc"):
        tools.extend(chain)


def test_withdrawals_of_validators_are_credited(tools, open_chain):
    genesis = tools.ethereum_genesis()
    ours, stock = open_chain(genesis), tools.StockChain(genesis)
    block = tools.extend(ours, (), withdrawals=(Withdrawal(0, 5, b"\x77" * 20, 3), Withdrawal(1, 6, b"\x78" * 20, 0)))
    stock.import_block(block)
    assert stock.head_hash == block.hash
    assert ours.state(block.hash).balance(b"\x77" * 20) == 3 * 10**9
    assert not ours.state(block.hash).exists(b"\x78" * 20)


def test_where_py_evm_is_wrong_the_specification_is_followed(tools, open_chain):
    """EIP-7610, and a delegated account that creates contracts while it is the origin."""
    factory = CONTRACTS["FACTORY"]
    init = bytes.fromhex("60015f5360015ff3")
    salted = keccak256(b"\xff" + factory + (1).to_bytes(32, "big") + keccak256(init))[12:]
    chain = open_chain(
        tools.ethereum_genesis(
            {
                factory: GenesisAccount(nonce=1, code=FACTORY),
                salted: GenesisAccount(balance=1, storage={3: 3}),  # no code, no nonce, but storage
            }
        )
    )
    block = tools.extend(chain, (tools.signed(0, 1337, 0, factory, data=init, gas=500_000),))
    state = chain.state(block.hash)
    assert state.storage(factory, 0) == 0  # CREATE2 gave no address
    assert state.code(salted) == b""
    assert state.storage(salted, 3) == 3

    # A contract made and destroyed in one transaction, by an origin whose code is the factory's.
    delegate = sign_authorization(tools.KEYS[5], chain_id=1337, address=factory, nonce=1)
    dies = bytes.fromhex("33ff")
    block = tools.extend(
        chain,
        (tools.signed(5, 1337, 0, tools.ADDRESSES[5], data=dies, gas=500_000, type=4, authorization_list=(delegate,)),),
    )
    assert chain.receipts(block.hash)[0].status == 1
    made = keccak256(b"\xff" + tools.ADDRESSES[5] + (1).to_bytes(32, "big") + keccak256(dies))[12:]
    state = chain.state(block.hash)
    assert state.storage(tools.ADDRESSES[5], 0) == int.from_bytes(made, "big")
    assert not state.exists(made)
