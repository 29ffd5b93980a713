"""What block processing itself calls: where a contract is missing or fails, and who may be the deposit contract."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext.errors import SystemContractFailed
from openledger.evm_ext.requests import DEPOSIT_EVENT_TOPIC
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hardforks import Hardfork, HardforkSchedule

REVERTS = bytes.fromhex("5f5ffd")
RUNS_OUT_OF_GAS = bytes.fromhex("5b5f56")
ANSWERS_NOTHING = bytes.fromhex("00")


def with_code(genesis: Genesis, address: bytes, code: bytes | None) -> Genesis:
    alloc = {key: account for key, account in genesis.alloc.items() if key != address}
    return replace(
        genesis, alloc={**alloc, **({address: GenesisAccount(nonce=1, code=code)} if code is not None else {})}
    )


@pytest.mark.parametrize("contract", [predeploys.WITHDRAWAL_REQUESTS, predeploys.CONSOLIDATION_REQUESTS])
@pytest.mark.parametrize("code", [None, b"", REVERTS, RUNS_OUT_OF_GAS], ids=["missing", "empty", "reverts", "loops"])
def test_without_a_working_queue_no_block_is_valid(contract, code, tools, open_chain):
    """EIP-7002, EIP-7251."""
    chain = open_chain(with_code(tools.ethereum_genesis(), contract, code))
    with pytest.raises(SystemContractFailed, match=contract.hex()):
        tools.extend(chain)


def test_a_queue_that_answers_nothing_asks_for_nothing(tools, open_chain):
    chain = open_chain(with_code(tools.ethereum_genesis(), predeploys.WITHDRAWAL_REQUESTS, ANSWERS_NOTHING))
    empty = tools.ethereum_genesis()
    assert tools.extend(chain).header.requests_hash == tools.extend(open_chain(empty, "stock")).header.requests_hash


@pytest.mark.parametrize("contract", [predeploys.BEACON_ROOTS, predeploys.HISTORY_STORAGE])
@pytest.mark.parametrize("code", [None, REVERTS, RUNS_OUT_OF_GAS], ids=["missing", "reverts", "loops"])
def test_roots_and_hashes_that_cannot_be_stored_are_passed_over(contract, code, tools, open_chain):
    """EIP-4788, EIP-2935: a call that fails is no reason to refuse the block."""
    chain = open_chain(with_code(tools.ethereum_genesis(), contract, code))
    before = chain.state(chain.head().hash).root
    block = tools.extend(chain)
    assert block.number == 1
    assert chain.state(block.hash).root != before  # the other one is stored


def test_no_system_contract_is_called_before_its_fork(tools, open_chain):
    genesis = tools.ethereum_genesis()
    for contract in (predeploys.BEACON_ROOTS, predeploys.HISTORY_STORAGE, predeploys.WITHDRAWAL_REQUESTS):
        genesis = with_code(genesis, contract, bytes.fromhex("60015f5500"))  # each call sets slot 0
    touched = {}
    for fork in (Hardfork.SHANGHAI, Hardfork.CANCUN, Hardfork.PRAGUE):
        chain = open_chain(replace(genesis, hardforks=HardforkSchedule.always(fork)), fork.name)
        state = chain.state(tools.extend(chain).hash)
        touched[fork] = [
            state.storage(contract, 0)
            for contract in (predeploys.BEACON_ROOTS, predeploys.HISTORY_STORAGE, predeploys.WITHDRAWAL_REQUESTS)
        ]
    assert touched == {Hardfork.SHANGHAI: [0, 0, 0], Hardfork.CANCUN: [1, 0, 0], Hardfork.PRAGUE: [1, 1, 1]}


def test_deposits_are_those_of_the_contract_that_the_schedule_names(tools, open_chain):
    """A file that names none has none, as geth reads it."""
    elsewhere = b"\x0d" * 20
    layout = ((160, 48), (256, 32), (320, 8), (384, 96), (512, 8))
    event = b"".join(offset.to_bytes(32, "big") for offset, _ in layout)
    event += b"".join(size.to_bytes(32, "big") + b"\xab" * (-(-size // 32) * 32) for _, size in layout)
    assert len(event) == 576
    # copies the calldata to memory and logs it with the deposit topic
    code = bytes.fromhex("365f5f37") + b"\x7f" + DEPOSIT_EVENT_TOPIC + bytes.fromhex("365fa100")
    hashes = []
    for contract in (elsewhere, bytes(20)):
        schedule = replace(HardforkSchedule.always(Hardfork.PRAGUE), deposit_contract=contract)
        genesis = replace(tools.ethereum_genesis({elsewhere: GenesisAccount(code=code)}), hardforks=schedule)
        chain = open_chain(genesis, contract.hex())
        block = tools.extend(chain, (tools.signed(0, 1337, 0, elsewhere, data=event),))
        assert chain.receipts(block.hash)[0].logs[0].topics == (DEPOSIT_EVENT_TOPIC,)
        hashes.append(block.header.requests_hash)
    assert hashes[0] != hashes[1]
