"""What may become a contract, fork by fork: EIP-2, 170, 684, 3541, 3860, 7610."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext import CallRequest
from openledger.evm_ext.errors import InitCodeTooLarge, InvalidBlockTransaction
from openledger.evm_ext.vm.entry import contract_address
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork, HardforkSchedule

CHAIN_ID = 1337
FACTORY = b"\xfa" * 20
LIMIT = 49_152


def returning(size: int, first: int = 0) -> bytes:
    """Initialisation code that deploys `size` bytes, all zero but the first one."""
    return bytes.fromhex(f"60{first:02x}600053 62{size:06x} 6000 f3")


@pytest.fixture
def open_at(tools, open_chain):
    def open_one(fork: Hardfork, **extra: GenesisAccount):
        alloc = {FACTORY: extra["factory"]} if extra else {}
        genesis = replace(
            tools.ethereum_genesis(alloc),
            hardforks=HardforkSchedule.always(fork),
            difficulty=0 if fork >= Hardfork.PARIS else 1_000_000,
        )
        return open_chain(genesis, fork.name)

    return open_one


def create(tools, chain, fork: Hardfork, code: bytes, gas: int = 8_000_000, key: int = 0):
    nonce = chain.state(chain.head().hash).nonce(tools.ADDRESSES[key])
    chain_id = CHAIN_ID if fork >= Hardfork.SPURIOUS_DRAGON else None
    transaction = tools.signed(
        key, chain_id, nonce, None, type=0, data=code, gas=gas, max_fee_per_gas=10**10, max_priority_fee_per_gas=None
    )
    block = tools.extend(chain, (transaction,))
    created = contract_address(tools.ADDRESSES[key], nonce)
    return chain.receipts(block.hash)[0], chain.state(block.hash).code(created), created


def test_too_little_gas_for_the_code_leaves_an_empty_contract_in_frontier_and_fails_later(open_at, tools):
    gas = 21_000 + 100 * 68 + 32_000 + 20_000  # enough to run, not for 200 a byte
    frontier = open_at(Hardfork.FRONTIER)
    receipt, code, created = create(tools, frontier, Hardfork.FRONTIER, returning(1_000), gas)
    assert code == b""
    assert frontier.state(frontier.head().hash).exists(created)
    assert receipt.gas_used < gas
    homestead = open_at(Hardfork.HOMESTEAD)
    receipt, code, created = create(tools, homestead, Hardfork.HOMESTEAD, returning(1_000), gas)
    assert receipt.gas_used == gas
    assert not homestead.state(homestead.head().hash).exists(created)


@pytest.mark.parametrize(
    ("fork", "code", "deployed"),
    [
        (Hardfork.TANGERINE_WHISTLE, returning(24_577), True),
        (Hardfork.SPURIOUS_DRAGON, returning(24_576), True),
        (Hardfork.SPURIOUS_DRAGON, returning(24_577), False),
        (Hardfork.BERLIN, returning(1, 0xEF), True),
        (Hardfork.LONDON, returning(1, 0xEF), False),
        (Hardfork.LONDON, returning(1, 0xEE), True),
    ],
)
def test_what_code_a_fork_lets_in(fork, code, deployed, open_at, tools):
    chain = open_at(fork)
    _, stored, _ = create(tools, chain, fork, code)
    assert bool(stored) == deployed


def test_creation_code_is_bounded_since_shanghai(open_at, tools):
    longer = bytes(LIMIT + 1)
    before = open_at(Hardfork.PARIS)
    create(tools, before, Hardfork.PARIS, longer)
    chain = open_at(Hardfork.SHANGHAI)
    create(tools, chain, Hardfork.SHANGHAI, longer[1:])
    with pytest.raises(InvalidBlockTransaction) as raised:
        create(tools, chain, Hardfork.SHANGHAI, longer)
    assert isinstance(raised.value.reason, InitCodeTooLarge)


@pytest.mark.parametrize("opcode", ["f0", "f5"])
def test_a_frame_that_creates_from_too_long_a_code_fails_before_its_balance_is_looked_at(opcode, open_at):
    salt = "6000" if opcode == "f5" else ""

    def factory(size: int) -> GenesisAccount:
        # create with a value that the contract does not have, then return what came of it
        return GenesisAccount(code=bytes.fromhex(f"{salt} 62{size:06x} 6000 6001 {opcode} 600052 60206000f3"))

    for fork, size, success in (
        (Hardfork.PARIS, LIMIT + 1, True),
        (Hardfork.SHANGHAI, LIMIT + 1, False),
        (Hardfork.CANCUN, LIMIT, True),
        (Hardfork.OSAKA, LIMIT + 1, False),
    ):
        chain = open_at(fork, factory=factory(size))
        result = chain.call(CallRequest(to=FACTORY, gas=1_000_000), chain.head().hash)
        assert result.success == success
        assert result.output == (bytes(32) if success else b"")
        assert success or result.gas_used == 1_000_000


@pytest.mark.parametrize(
    "occupant",
    [GenesisAccount(nonce=1), GenesisAccount(code=b"\x00"), GenesisAccount(storage={1: 1})],
    ids=["nonce", "code", "storage"],
)
@pytest.mark.parametrize("fork", [Hardfork.HOMESTEAD, Hardfork.PRAGUE], ids=lambda fork: fork.name)
def test_nothing_is_created_where_something_is(fork, occupant, tools, open_chain):
    place = contract_address(tools.ADDRESSES[0], 0)
    genesis = replace(
        tools.ethereum_genesis({place: occupant}),
        hardforks=HardforkSchedule.always(fork),
        difficulty=0 if fork >= Hardfork.PARIS else 1_000_000,
    )
    chain = open_chain(genesis)
    receipt, code, created = create(tools, chain, fork, returning(3), 200_000)
    assert created == place
    assert receipt.gas_used == 200_000
    assert code == occupant.code
    assert chain.state(chain.head().hash).storage(place, 1) == occupant.storage.get(1, 0)
