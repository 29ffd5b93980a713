"""Chains of any fork, ours and unchanged py-evm's, from one genesis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import rlp
from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.vm import forks

from openledger.evm_ext import Block
from openledger.genesis.genesis import Genesis
from openledger.genesis.hardforks import Hardfork

# Forks that py-evm has a machine for, and its name there. Paris and Gray Glacier change no more than their headers.
STOCK_VMS: dict[Hardfork, Any] = {
    Hardfork.FRONTIER: forks.FrontierVM,
    Hardfork.HOMESTEAD: forks.HomesteadVM.configure(__name__="HomesteadVM", support_dao_fork=False),
    Hardfork.TANGERINE_WHISTLE: forks.TangerineWhistleVM,
    Hardfork.SPURIOUS_DRAGON: forks.SpuriousDragonVM,
    Hardfork.BYZANTIUM: forks.ByzantiumVM,
    Hardfork.CONSTANTINOPLE: forks.ConstantinopleVM,
    Hardfork.PETERSBURG: forks.PetersburgVM,
    Hardfork.ISTANBUL: forks.IstanbulVM,
    Hardfork.MUIR_GLACIER: forks.MuirGlacierVM,
    Hardfork.BERLIN: forks.BerlinVM,
    Hardfork.LONDON: forks.LondonVM,
    Hardfork.ARROW_GLACIER: forks.ArrowGlacierVM,
    Hardfork.GRAY_GLACIER: forks.GrayGlacierVM,
    Hardfork.PARIS: forks.ParisVM,
    Hardfork.SHANGHAI: forks.ShanghaiVM,
    Hardfork.CANCUN: forks.CancunVM,
    Hardfork.PRAGUE: forks.PragueVM,
}


class StockFork:
    """py-evm at one fork, or several by block number, from the same genesis; seals are not checked."""

    def __init__(self, genesis: Genesis, *vms: tuple[int, Any]) -> None:
        chain_class = MiningChain.configure(
            __name__="Stock",
            vm_configuration=tuple(
                (number, vm.configure(__name__=vm.__name__, consensus_class=NoProofConsensus)) for number, vm in vms
            ),
            chain_id=genesis.chain_id,
        )
        params: dict[str, Any] = {
            "difficulty": genesis.difficulty,
            "gas_limit": genesis.gas_limit,
            "timestamp": genesis.timestamp,
            "coinbase": genesis.coinbase,
            "extra_data": genesis.extra_data,
            "mix_hash": genesis.prev_randao,
            "nonce": genesis.nonce,
        }
        if genesis.hardfork >= Hardfork.LONDON:
            params["base_fee_per_gas"] = genesis.base_fee_per_gas
        if genesis.hardfork >= Hardfork.CANCUN:
            params["parent_beacon_block_root"] = genesis.parent_beacon_block_root
        state = {
            address: {
                "balance": account.balance,
                "nonce": account.nonce,
                "code": account.code,
                "storage": dict(account.storage),
            }
            for address, account in genesis.alloc.items()
        }
        self.chain = chain_class.from_genesis(AtomicDB(), params, state)

    @property
    def head_hash(self) -> bytes:
        return self.chain.get_canonical_head().hash

    def import_block(self, block: Block) -> None:
        """Raises if py-evm finds any header field wrong."""
        block_class = self.chain.get_vm_class_for_block_number(block.number).get_block_class()
        self.chain.import_block(rlp.decode(block.encode(), block_class))


@pytest.fixture(scope="session")
def forks_tools(tools: SimpleNamespace) -> SimpleNamespace:
    """`tools`, and py-evm at every fork."""
    return SimpleNamespace(**vars(tools), STOCK_VMS=STOCK_VMS, StockFork=StockFork)
