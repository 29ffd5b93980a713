"""EIP-7702, case by case: what the EIP says, and that unchanged py-evm makes the same block of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext.errors import InvalidBlockTransaction, SenderNotEOA, UnsupportedTransactionType
from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import Authorization, sign_authorization
from openledger.evm_ext.vm.entry import contract_address
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.hashing import keccak256

CHAIN_ID = 1337
COUNTER, PROBE, CALLER, SIZER, GAS_LEFT, MOTHER = (bytes([0xD0 + index]) * 20 for index in range(6))
CODES = {
    # slot 0 += 1
    COUNTER: "5f54600101 5f55 00",
    # of the address in the calldata: size, hash, and the first word of the code into slots 0, 1, 2
    PROBE: "5f35 3b 5f55 5f35 3f 6001 55 6020 5f 5f 5f35 3c 5f51 6002 55 00",
    # calls the address in the calldata twice: the gas each call took, without its own, into slots 0 and 1, success in 2
    CALLER: "5a 5f5f5f5f5f 5f35 61fff0 f1 50 5a 90 03 5f55 5a 5f5f5f5f5f 5f35 61fff0 f1 6002 55 5a 90 03 6001 55 00",
    # CODESIZE into slot 0, the caller's own balance's sign into slot 1
    SIZER: "38 5f55 47 15 6001 55 00",
    GAS_LEFT: "5a 5f52 6020 5ff3",
    # creates an empty contract and stores its address
    MOTHER: "5f5f5f f0 5f55 00",
}
DESIGNATOR = b"\xef\x01\x00"
GAS_FOR_AUTHORIZATION, REFUND_FOR_EXISTING = 25_000, 12_500


@pytest.fixture
def world(forks_tools, open_chain):
    """Blocks of the given transactions through ours and py-evm; gives the block's receipts."""
    tools = forks_tools
    genesis = tools.ethereum_genesis(
        {address: GenesisAccount(code=bytes.fromhex(code)) for address, code in CODES.items()}
    )
    chain = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[Hardfork.PRAGUE]))

    class World:
        def run(self, to: bytes, *authorizations: Authorization, key: int = 0, **fields):
            nonce = chain.state(chain.head().hash).nonce(tools.ADDRESSES[key])
            kind = {"type": 4, "authorization_list": authorizations} if authorizations else {}
            block = tools.extend(chain, (tools.signed(key, CHAIN_ID, nonce, to, **kind, **fields),))
            stock.import_block(block)
            assert stock.head_hash == block.hash
            return chain.receipts(block.hash)[0]

        def state(self):
            return chain.state(chain.head().hash)

        def authorize(self, key: int, address: bytes, nonce: int | None = None, chain_id: int = CHAIN_ID):
            if nonce is None:
                nonce = self.state().nonce(tools.ADDRESSES[key])
            return sign_authorization(tools.KEYS[key], chain_id=chain_id, address=address, nonce=nonce)

    return World()


def word(address: bytes) -> bytes:
    return bytes(12) + address


def test_a_delegated_account_runs_the_targets_code_on_its_own_storage(world, tools):
    eoa = tools.ADDRESSES[5]
    receipt = world.run(eoa, world.authorize(5, COUNTER))
    assert receipt.status == 1
    assert world.state().code(eoa) == DESIGNATOR + COUNTER
    assert world.state().nonce(eoa) == 1
    assert (world.state().storage(eoa, 0), world.state().storage(COUNTER, 0)) == (1, 0)


def test_reading_code_reads_the_designator_and_running_sees_the_targets(world, tools):
    eoa = tools.ADDRESSES[5]
    world.run(eoa, world.authorize(5, SIZER))
    assert world.state().storage(eoa, 0) == len(bytes.fromhex(CODES[SIZER]))
    world.run(PROBE, data=word(eoa))
    state = world.state()
    assert state.storage(PROBE, 0) == 23
    assert state.storage(PROBE, 1) == int.from_bytes(keccak256(DESIGNATOR + SIZER), "big")
    assert state.storage(PROBE, 2).to_bytes(32, "big") == (DESIGNATOR + SIZER).ljust(32, b"\0")


@pytest.mark.parametrize("number", [1, 2, 4, 9, 0x0A, 0x11])
def test_a_delegation_to_a_precompile_runs_nothing(number, world, tools):
    eoa = tools.ADDRESSES[5]
    receipt = world.run(eoa, world.authorize(5, number.to_bytes(20, "big")), data=b"\x01" * 40)
    assert receipt.status == 1
    assert receipt.logs == ()


def test_a_delegation_to_itself_and_a_chain_of_delegations_run_the_designator_which_fails(world, tools):
    a, b = tools.ADDRESSES[5], tools.ADDRESSES[6]
    receipt = world.run(a, world.authorize(5, a), gas=200_000)
    assert (receipt.status, receipt.gas_used) == (0, 200_000 - REFUND_FOR_EXISTING)
    world.run(b, world.authorize(6, COUNTER))
    receipt = world.run(a, world.authorize(5, b), gas=200_000)
    assert receipt.status == 0
    assert world.state().storage(a, 0) == 0
    assert world.state().code(a) == DESIGNATOR + b  # delegations stay, whatever the call does


def test_the_zero_address_takes_a_delegation_away(world, tools):
    eoa = tools.ADDRESSES[5]
    world.run(eoa, world.authorize(5, COUNTER))
    world.run(COUNTER, world.authorize(5, bytes(20)))
    assert world.state().code(eoa) == b""
    world.run(PROBE, data=word(eoa))
    assert world.state().storage(PROBE, 1) == int.from_bytes(keccak256(b""), "big")


def test_an_existing_authority_gives_half_of_its_price_back_and_a_new_one_nothing(world, tools):
    stranger = keccak256(b"nobody yet")
    new = sign_authorization(stranger, chain_id=0, address=COUNTER, nonce=0)
    plain = 21_000 + GAS_FOR_AUTHORIZATION
    assert world.run(b"\x77" * 20, new).gas_used == plain
    assert world.state().code(address_of(stranger)) == DESIGNATOR + COUNTER
    # refunds are at most a fifth of the gas used
    assert world.run(b"\x77" * 20, world.authorize(5, COUNTER)).gas_used == plain - plain // 5
    invalid = world.authorize(6, COUNTER, nonce=9)
    assert world.run(b"\x77" * 20, invalid).gas_used == plain


def test_entries_that_are_no_valid_authorizations_are_paid_for_and_skipped(world, tools):
    eoa = tools.ADDRESSES[5]
    good = world.authorize(5, COUNTER)
    for bad in (
        world.authorize(5, COUNTER, nonce=1),
        world.authorize(5, COUNTER, nonce=2**64 - 1),
        world.authorize(5, COUNTER, chain_id=CHAIN_ID + 1),
        replace(
            good,
            s=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 - good.s,
            y_parity=1 - good.y_parity,
        ),
        replace(good, y_parity=2),
        replace(good, r=0),
    ):
        receipt = world.run(b"\x77" * 20, bad)
        assert (receipt.status, receipt.gas_used) == (1, 21_000 + GAS_FOR_AUTHORIZATION)
        assert world.state().nonce(eoa) == 0
    world.run(b"\x77" * 20, good, good)  # the second has the nonce of the past
    assert world.state().nonce(eoa) == 1


def test_a_contract_cannot_be_delegated_even_by_its_key(forks_tools, open_chain):
    tools = forks_tools
    genesis = tools.ethereum_genesis({tools.ADDRESSES[5]: GenesisAccount(code=b"\x00", balance=10**18)})
    chain = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[Hardfork.PRAGUE]))
    entry = sign_authorization(tools.KEYS[5], chain_id=0, address=COUNTER, nonce=0)
    block = tools.extend(chain, (tools.signed(0, CHAIN_ID, 0, b"\x77" * 20, type=4, authorization_list=(entry,)),))
    stock.import_block(block)
    assert chain.state(block.hash).code(tools.ADDRESSES[5]) == b"\x00"
    with pytest.raises(InvalidBlockTransaction) as raised:
        tools.extend(chain, (tools.signed(5, CHAIN_ID, 0, b"\x77" * 20),))
    assert isinstance(raised.value.reason, SenderNotEOA)


def test_a_sender_may_be_delegated_and_authorize_itself(world, tools):
    eoa = tools.ADDRESSES[0]
    receipt = world.run(eoa, world.authorize(0, COUNTER, nonce=1))  # its nonce is raised before the list is read
    assert receipt.status == 1
    assert world.state().nonce(eoa) == 2
    assert world.state().storage(eoa, 0) == 1
    assert world.run(b"\x77" * 20, value=5).status == 1
    assert world.run(eoa).status == 1  # calls itself
    assert world.state().storage(eoa, 0) == 2


def test_a_delegated_sender_that_is_called_creates_with_its_own_nonce(world, tools):
    eoa = tools.ADDRESSES[0]
    world.run(eoa, world.authorize(0, MOTHER, nonce=1))
    assert world.state().nonce(eoa) == 3
    created = contract_address(eoa, 2)
    assert world.state().storage(eoa, 0) == int.from_bytes(created, "big")


def test_a_call_to_a_delegated_account_pays_for_both_once_cold_and_then_warm(world, tools):
    eoa = tools.ADDRESSES[5]
    world.run(b"\x77" * 20, world.authorize(5, GAS_LEFT))
    world.run(CALLER, data=word(eoa), gas=400_000)
    cold, warm = world.state().storage(CALLER, 0), world.state().storage(CALLER, 1)
    assert world.state().storage(CALLER, 2) == 1
    # eoa and its target 2,600 each when cold, 100 each when warm; storing the success comes on top of the second
    assert cold - warm == 2 * (2_600 - 100) - 22_100 - 3 + 2


def test_a_set_code_transaction_belongs_to_no_block_before_prague(tools, open_chain):
    genesis = replace(tools.ethereum_genesis(), hardforks=HardforkSchedule.always(Hardfork.CANCUN))
    chain = open_chain(genesis)
    entry = sign_authorization(tools.KEYS[5], chain_id=0, address=COUNTER, nonce=0)
    with pytest.raises(InvalidBlockTransaction) as raised:
        tools.extend(chain, (tools.signed(0, CHAIN_ID, 0, b"\x77" * 20, type=4, authorization_list=(entry,)),))
    assert isinstance(raised.value.reason, UnsupportedTransactionType)


def test_code_that_looks_like_a_designator_is_code_before_prague(forks_tools, open_chain):
    """Before London anyone could deploy it; 0xef is no opcode."""
    tools = forks_tools
    genesis = replace(
        tools.ethereum_genesis(
            {
                b"\x66" * 20: GenesisAccount(code=DESIGNATOR + COUNTER),
                COUNTER: GenesisAccount(code=bytes.fromhex("5f00")),
            }
        ),
        hardforks=HardforkSchedule.always(Hardfork.BERLIN),
        difficulty=1_000_000,
    )
    chain = open_chain(genesis)
    stock = tools.StockFork(genesis, (0, tools.STOCK_VMS[Hardfork.BERLIN]))
    call = tools.signed(0, CHAIN_ID, 0, b"\x66" * 20, type=0, max_priority_fee_per_gas=None, gas=90_000)
    block = tools.extend(chain, (call,))
    stock.import_block(block)
    assert chain.receipts(block.hash)[0].gas_used == 90_000
