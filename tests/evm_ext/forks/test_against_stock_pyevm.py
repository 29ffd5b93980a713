"""Blocks of every fork that we build are imported by unchanged py-evm, which checks every header field."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from eth.vm import forks

from openledger.evm_ext import Withdrawal
from openledger.evm_ext.receipts import Receipt
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.hashing import keccak256

CHAIN_ID = 1337
# What py-evm knows under the names of our forks; the DAO fork is no machine of its own.
FORKS = [fork for fork in Hardfork if fork not in (Hardfork.DAO_FORK, Hardfork.OSAKA)]
# 33 ff: self-destruct to the caller
DIES = bytes.fromhex("33ff")
# Contract that creates one that dies, and calls it: mstore(0, 33ff << ..); create; call
MOTHER = bytes.fromhex("6133ff6000526002601e6000f060006000600060006000945af100")


def genesis_at(tools, fork: Hardfork, schedule: HardforkSchedule | None = None, **extra: GenesisAccount) -> Genesis:
    alloc = {keccak256(name.encode())[12:]: account for name, account in extra.items()}
    genesis = tools.ethereum_genesis(alloc)
    return replace(
        genesis,
        hardforks=schedule or HardforkSchedule.always(fork),
        difficulty=0 if fork >= Hardfork.PARIS else 1_000_000,
        nonce=bytes(8) if fork >= Hardfork.PARIS else b"\x00" * 7 + b"\x42",
        base_fee_per_gas=10**9,
    )


def at(name: str) -> bytes:
    return keccak256(name.encode())[12:]


def signed(tools, fork: Hardfork, key: int, nonce: int, to: bytes | None, kind: int = 0, **fields):
    kind = kind if kind <= (2 if fork >= Hardfork.LONDON else 1 if fork >= Hardfork.BERLIN else 0) else 0
    chain_id = CHAIN_ID if kind or fork >= Hardfork.SPURIOUS_DRAGON else None
    fields = {"gas": 300_000, "max_fee_per_gas": 30 * tools.GWEI, **fields}
    fields["max_priority_fee_per_gas"] = tools.GWEI if kind == 2 else None
    return tools.signed(key, chain_id, nonce, to, type=kind, **fields)


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_blocks_of_random_transactions_are_py_evms_blocks(fork, forks_tools, open_chain):
    tools = forks_tools
    chance = random.Random(fork.value)
    contracts = [at(f"contract {index}") for index in range(6)]
    genesis = genesis_at(
        tools,
        fork,
        **{
            f"contract {index}": GenesisAccount(
                nonce=index % 2, balance=index, code=tools.random_program(chance, contracts), storage={1: 1, 2: 2}
            )
            for index in range(6)
        },
        mother=GenesisAccount(balance=9, code=MOTHER),
        dies=GenesisAccount(balance=7, code=DIES, storage={5: 5}),
    )
    ours = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[fork]))
    assert stock.head_hash == ours.genesis_hash
    nonces = [0] * 4
    statuses = set()
    for number in range(4):
        transactions = []
        for _ in range(8):
            key = chance.randrange(4)
            fields = {}
            kind = chance.randrange(3)
            if kind and fork >= Hardfork.BERLIN:
                fields["access_list"] = ((chance.choice(contracts), (1, 7)),)
            what = chance.randrange(10)
            to: bytes | None = chance.choice(contracts)
            data = chance.randbytes(chance.randrange(70))
            if what == 0:
                to, data = None, tools.random_program(chance, contracts)
            elif what == 1:
                to, data = None, bytes.fromhex("6001600055601e6000f3")  # returns 30 bytes of zeros as its code
            elif what == 2:
                to = chance.choice((at("mother"), at("dies")))
            elif what == 3:
                to, data = chance.choice((tools.ADDRESSES[5], chance.randbytes(20))), b""
            transactions.append(
                signed(
                    tools, fork, key, nonces[key], to, kind, data=data, value=chance.choice((0, 0, 1, 10**15)), **fields
                )
            )
            nonces[key] += 1
        changes = {"withdrawals": (Withdrawal(number, 1, b"\x77" * 20, 5),)} if fork >= Hardfork.SHANGHAI else {}
        block = tools.extend(ours, tuple(transactions), **changes)
        stock.import_block(block)
        assert stock.head_hash == block.hash
        receipts = ours.receipts(block.hash)
        assert [Receipt.decode(receipt.encode()).encode() for receipt in receipts] == [
            item.encode() for item in receipts
        ]
        assert all(bool(receipt.state_root) == (fork < Hardfork.BYZANTIUM) for receipt in receipts)
        statuses |= {receipt.status for receipt in receipts}
    assert statuses == ({1} if fork < Hardfork.BYZANTIUM else {0, 1})


@pytest.mark.parametrize(
    "path",
    [
        (Hardfork.FRONTIER, Hardfork.HOMESTEAD),
        (Hardfork.HOMESTEAD, Hardfork.TANGERINE_WHISTLE),
        (Hardfork.TANGERINE_WHISTLE, Hardfork.SPURIOUS_DRAGON),
        (Hardfork.SPURIOUS_DRAGON, Hardfork.BYZANTIUM),
        (Hardfork.BYZANTIUM, Hardfork.PETERSBURG),
        (Hardfork.ISTANBUL, Hardfork.BERLIN),
        (Hardfork.BERLIN, Hardfork.LONDON),
    ],
    ids=lambda path: f"{path[0].name}-{path[1].name}",
)
def test_a_fork_by_block_number_begins_with_its_block(path, forks_tools, open_chain):
    tools = forks_tools
    before, after = path
    genesis = genesis_at(tools, before, HardforkSchedule.always(before).since(after, 3), dies=GenesisAccount(code=DIES))
    ours = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[before]), (3, tools.STOCK_VMS[after]))
    for number in range(1, 6):
        block = tools.extend(ours, (signed(tools, before, 0, number - 1, at("dies"), data=b"\x01"),))
        stock.import_block(block)
        assert stock.head_hash == block.hash
        assert ours.rules.of(block.header).fork is (before if number < 3 else after)


def test_the_dao_fork_moves_balances_and_marks_ten_headers(forks_tools, open_chain):
    tools = forks_tools
    from openledger.evm_ext.dao_fork import DRAINED, REFUND_CONTRACT

    schedule = HardforkSchedule.always(Hardfork.HOMESTEAD).since(Hardfork.DAO_FORK, 2)
    genesis = genesis_at(tools, Hardfork.HOMESTEAD, schedule)
    genesis = replace(
        genesis, alloc={**genesis.alloc, DRAINED[0]: GenesisAccount(balance=7), DRAINED[99]: GenesisAccount(balance=4)}
    )
    ours = open_chain(genesis)
    vm = forks.HomesteadVM.configure(__name__="HomesteadVM", _dao_fork_block_number=2, support_dao_fork=True)
    stock = tools.StockFork(genesis, (0, vm))
    for number in range(1, 13):
        block = tools.extend(ours, ())
        assert (block.header.extra_data == b"dao-hard-fork") == (2 <= number < 12)
        stock.import_block(block)
        assert stock.head_hash == block.hash
    assert ours.state(block.hash).balance(REFUND_CONTRACT) == 11
    assert ours.state(block.hash).balance(DRAINED[0]) == 0


@pytest.mark.parametrize(
    "fork",
    [Hardfork.HOMESTEAD, Hardfork.SPURIOUS_DRAGON, Hardfork.BYZANTIUM, Hardfork.LONDON],
    ids=lambda fork: fork.name,
)
def test_empty_accounts_go_when_they_are_touched_and_that_of_ripemd_even_by_a_call_that_failed(
    fork, forks_tools, open_chain
):
    tools = forks_tools
    ripemd, other, kept = (3).to_bytes(20, "big"), b"\x99" * 20, b"\x98" * 20
    # call(gas 0, to, value 0): of 3 and of another, then fail
    calls = b"".join(
        bytes.fromhex("60006000600060006000") + b"\x73" + to + bytes.fromhex("6000f150") for to in (ripemd, other)
    )
    genesis = genesis_at(
        tools, fork, fails=GenesisAccount(code=calls + b"\xfe"), succeeds=GenesisAccount(code=calls + b"\x00")
    )
    empty = {address: GenesisAccount() for address in (ripemd, other, kept)}
    genesis = replace(genesis, alloc={**genesis.alloc, **empty})
    ours = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[fork]))
    assert stock.head_hash == ours.genesis_hash
    there = []
    for nonce, name in enumerate(("fails", "succeeds")):
        block = tools.extend(ours, (signed(tools, fork, 0, nonce, at(name)),))
        stock.import_block(block)
        assert stock.head_hash == block.hash
        state = ours.state(block.hash)
        there.append([state.exists(address) for address in (ripemd, other, kept)])
    if fork < Hardfork.SPURIOUS_DRAGON:
        assert there == [[True, True, True], [True, True, True]]
    else:
        assert there == [[False, True, True], [False, False, True]]


# sstore(1, sload(1) + 1), then a runtime that destroys itself, or stores calldata word 1 at slot calldata word 0
PHOENIX = bytes.fromhex("600154600101600155 6e 3660065733ff5b60203560003555 00 600052 600f6011f3")
# CREATE2 of the calldata with salt 1; its address into slot 0
HATCHERY = bytes.fromhex("36600060003760013660006000f560005500")


@pytest.mark.parametrize("together", [True, False], ids=["in one block", "in a block each"])
@pytest.mark.parametrize(
    "fork",
    [
        Hardfork.CONSTANTINOPLE,
        Hardfork.PETERSBURG,
        Hardfork.BERLIN,
        Hardfork.LONDON,
        Hardfork.SHANGHAI,
        Hardfork.CANCUN,
    ],
    ids=lambda fork: fork.name,
)
def test_a_contract_that_rises_again_has_nothing_of_its_former_storage(fork, together, forks_tools, open_chain):
    tools = forks_tools
    genesis = genesis_at(tools, fork, hatchery=GenesisAccount(nonce=1, code=HATCHERY))
    ours = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[fork]))
    bird = keccak256(b"\xff" + at("hatchery") + (1).to_bytes(32, "big") + keccak256(PHOENIX))[12:]

    def word(*values: int) -> bytes:
        return b"".join(value.to_bytes(32, "big") for value in values)

    steps = [
        (at("hatchery"), PHOENIX, 0),
        (bird, word(7, 5), 0),
        (bird, word(1, 9), 0),
        (bird, b"", 3),
        (at("hatchery"), PHOENIX, 0),
        (bird, word(8, 6), 0),
        (bird, b"", 0),
        (bird, word(9, 9), 4),
        (at("hatchery"), PHOENIX, 0),
    ]
    transactions = [
        signed(tools, fork, 0, nonce, to, data=data, value=value) for nonce, (to, data, value) in enumerate(steps)
    ]
    for group in (transactions,) if together else [[item] for item in transactions]:
        block = tools.extend(ours, tuple(group))
        stock.import_block(block)
        assert stock.head_hash == block.hash
    state = ours.state(block.hash)
    if fork < Hardfork.CANCUN:
        assert [state.storage(bird, slot) for slot in (1, 7, 8, 9)] == [1, 0, 0, 0]
    else:  # EIP-6780: it never went
        assert [state.storage(bird, slot) for slot in (1, 7, 8, 9)] == [9, 5, 6, 9]
