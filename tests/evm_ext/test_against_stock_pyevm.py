"""Blocks that we build are imported by unchanged py-evm, which checks every header field."""

from __future__ import annotations

import random

import pytest

from openledger.evm_ext.transactions import sign_authorization
from openledger.genesis.genesis import GenesisAccount
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
                code=_random_program(chance, addresses),
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
            data = _random_program(chance, addresses) if target is None else chance.randbytes(chance.randrange(70))
            transactions.append(
                tools.signed(key, 1337, nonces[key], target, gas=400_000, data=data, value=chance.choice((0, 0, 3)))
            )
            nonces[key] += 1
        block = tools.extend(ours, tuple(transactions))
        stock.import_block(block)
        assert stock.head_hash == block.hash


def _random_program(chance: random.Random, addresses: list[bytes]) -> bytes:
    """Mostly sensible stack use, storage, memory, calls and creations, and sometimes nonsense."""
    code = bytearray()

    def push(value: int) -> None:
        size = max(1, (value.bit_length() + 7) // 8)
        code.append(0x5F + size)
        code.extend(value.to_bytes(size, "big"))

    for _ in range(chance.randrange(3, 30)):
        kind = chance.randrange(12)
        if kind == 0:
            push(chance.randrange(3))
            push(chance.randrange(5))
            code.append(0x55)
        elif kind == 1:
            push(chance.randrange(5))
            code.append(0x54)
        elif kind == 2:
            push(chance.randrange(2**64))
            push(chance.randrange(200))
            code.append(chance.choice((0x52, 0x53)))
        elif kind in (3, 4):
            opcode = chance.choice((0xF1, 0xF2, 0xF4, 0xFA))
            for value in (
                chance.randrange(64),
                chance.randrange(64),
                chance.randrange(64),
                chance.randrange(64),
            ):
                push(value)
            if opcode in (0xF1, 0xF2):
                push(chance.choice((0, 0, 1)))
            push(
                int.from_bytes(
                    chance.choice([*addresses, *(bytes(19) + bytes([n]) for n in (1, 2, 3, 4, 5, 9))]), "big"
                )
            )
            push(chance.randrange(60_000))
            code.append(opcode)
        elif kind == 5:
            push(chance.randrange(64))
            push(chance.randrange(64))
            code.append(chance.choice((0x20, 0xA0)))
        elif kind == 6:
            if chance.random() < 0.5:
                push(chance.randrange(4))
                tail = 0xF5
            else:
                tail = 0xF0
            push(chance.randrange(40))
            push(chance.randrange(40))
            push(chance.choice((0, 0, 1)))
            code.append(tail)
        elif kind == 7:
            push(chance.randrange(2**16))
            push(chance.randrange(2**16))
            code.append(chance.choice((0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x10, 0x16, 0x1B, 0x1C, 0x0B)))
        elif kind == 8:
            code.append(
                chance.choice(
                    (
                        0x30,
                        0x32,
                        0x33,
                        0x34,
                        0x36,
                        0x3A,
                        0x3D,
                        0x41,
                        0x42,
                        0x43,
                        0x44,
                        0x45,
                        0x47,
                        0x48,
                        0x4A,
                        0x58,
                        0x59,
                        0x5A,
                    )
                )
            )
        elif kind == 9:
            push(int.from_bytes(chance.choice(addresses), "big"))
            code.append(chance.choice((0x31, 0x3B, 0x3F)))
        elif kind == 10:
            push(chance.randrange(3))
            push(chance.randrange(3))
            code.append(0x5D)
            push(chance.randrange(3))
            code.append(0x5C)
        elif chance.random() < 0.2:
            code.append(chance.randrange(256))
    push(chance.randrange(40))
    push(chance.randrange(40))
    code.append(chance.choice((0xF3, 0xF3, 0xFD, 0x00, 0xFF)))
    return bytes(code)
