"""The same calls through our machine and through revm: status, gas, output and logs.

pyrevm counts the accounts and slots it was given as warm, inconsistently, so each case gives it one contract
with empty storage; contracts that call each other are compared with py-evm elsewhere.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pyrevm import EVM, AccountInfo, BlockEnv

from openledger.evm_ext import CallRequest, Chain
from openledger.evm_ext.vm.executor import floor_gas
from openledger.genesis.genesis import GenesisAccount

CONTRACT = b"\xaa" * 20
COINBASE = b"\xcb" * 20


def _hex(address: bytes) -> str:
    return "0x" + address.hex()


def _in_revm(code, header, sender, balance, **fields):
    """(success, gas used, output, logs) in revm."""
    evm = EVM(spec_id="PRAGUE")
    evm.set_block_env(
        BlockEnv(
            number=header.number,
            coinbase=_hex(header.fee_recipient),
            timestamp=header.timestamp,
            prevrandao=header.prev_randao,
            basefee=0,
            gas_limit=header.gas_limit,
            excess_blob_gas=0,
        )
    )
    evm.insert_account_info(_hex(sender), AccountInfo(balance=balance))
    evm.insert_account_info(_hex(CONTRACT), AccountInfo(nonce=1, code=code))
    try:
        output = evm.message_call(_hex(sender), _hex(CONTRACT), gas_price=0, **fields)
    except RuntimeError:
        output = b""
    result = evm.result
    logs = [(bytes.fromhex(log.address[2:]), bytes(log.data[1])) for log in result.logs]
    return result.is_success, result.gas_used, bytes(output), logs


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_do_in_revm_what_they_do_here(tools, tmp_path: Path, seed):
    chance = random.Random(seed)
    code = tools.random_program(chance, [CONTRACT])
    genesis = tools.ethereum_genesis({CONTRACT: GenesisAccount(nonce=1, code=code)}, coinbase=COINBASE)
    chain = Chain.open(tmp_path, genesis)
    try:
        header = chain.head()
        sender = tools.ADDRESSES[0]
        for _ in range(10):
            fields = {
                "value": chance.choice((0, 0, 3)),
                "gas": chance.choice((30_000, 90_000, 500_000)),
            }
            data = chance.randbytes(chance.randrange(70))
            ours = chain.call(CallRequest(sender=sender, to=CONTRACT, data=data, **fields), header.hash)
            success, gas_used, output, logs = _in_revm(
                code, header, sender, genesis.alloc[sender].balance, calldata=data, **fields
            )
            assert ours.success == success, ours.error
            # pyrevm's calls leave out the calldata floor of EIP-7623
            assert ours.gas_used == max(gas_used, floor_gas(data, chain.rules.of(header)))
            if success:
                assert ours.output == output
                assert [(log.address, log.data) for log in ours.logs] == logs
    finally:
        chain.close()
