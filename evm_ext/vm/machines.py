"""The virtual machine of every fork: py-evm's opcodes, our precompiles, and what no release of py-evm has.

A machine is a class of computations; all blocks of one fork share it. To add an opcode or a fork, see the folder's
README.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from eth.exceptions import OutOfGas
from eth.vm.computation import BaseComputation
from eth.vm.forks.berlin.computation import BerlinComputation
from eth.vm.forks.byzantium.computation import ByzantiumComputation
from eth.vm.forks.cancun.computation import CancunComputation
from eth.vm.forks.constantinople.computation import ConstantinopleComputation
from eth.vm.forks.frontier.computation import FrontierComputation
from eth.vm.forks.homestead.computation import HomesteadComputation
from eth.vm.forks.istanbul.computation import IstanbulComputation
from eth.vm.forks.london.computation import LondonComputation
from eth.vm.forks.paris.computation import ParisComputation
from eth.vm.forks.petersburg.computation import PetersburgComputation
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.shanghai.computation import ShanghaiComputation
from eth.vm.forks.spurious_dragon.computation import SpuriousDragonComputation
from eth.vm.forks.tangerine_whistle.computation import TangerineWhistleComputation

from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.vm.computation import Computation
from openledger.evm_ext.vm.osaka_opcodes import OSAKA_OPCODES
from openledger.evm_ext.vm.rules import MAX_INIT_CODE_BYTES, BlockRules
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.op_forks import OpFork

Opcode = Callable[[Any], Any]
MachineWrapper = Callable[[type[Computation]], type[Computation]]
"""From a fork's machine to one that also tells, records or bounds what it does."""

MAX_CODE_BYTES = 24_576
"""EIP-170, from Spurious Dragon."""

_CREATE, _CREATE2 = 0xF0, 0xF5

# Whose opcodes a fork has; a fork that is not named has those of the one before it.
_OPCODES_OF: Mapping[Hardfork, type[BaseComputation]] = {
    Hardfork.FRONTIER: FrontierComputation,
    Hardfork.HOMESTEAD: HomesteadComputation,
    Hardfork.TANGERINE_WHISTLE: TangerineWhistleComputation,
    Hardfork.SPURIOUS_DRAGON: SpuriousDragonComputation,
    Hardfork.BYZANTIUM: ByzantiumComputation,
    Hardfork.CONSTANTINOPLE: ConstantinopleComputation,
    Hardfork.PETERSBURG: PetersburgComputation,
    Hardfork.ISTANBUL: IstanbulComputation,
    Hardfork.BERLIN: BerlinComputation,
    Hardfork.LONDON: LondonComputation,
    Hardfork.PARIS: ParisComputation,
    Hardfork.SHANGHAI: ShanghaiComputation,
    Hardfork.CANCUN: CancunComputation,
    Hardfork.PRAGUE: PragueComputation,
}


def _with_bounded_init_code(create: Opcode) -> Opcode:
    """CREATE or CREATE2 that fails for too long a code before it looks at balance, depth or nonce (EIP-3860), where
    py-evm would answer that nothing was created."""

    def bounded(computation: Any) -> None:
        values = computation._stack.values
        if len(values) >= 3 and values[-3] > MAX_INIT_CODE_BYTES:
            raise OutOfGas(f"initialisation code has {values[-3]} bytes, at most {MAX_INIT_CODE_BYTES} (EIP-3860)")
        create(computation)

    return bounded


def opcodes_at(fork: Hardfork) -> Mapping[int, Opcode]:
    """Opcode byte to function at a fork; bytes that are not in it are invalid."""
    base = max(known for known in _OPCODES_OF if known <= fork)
    opcodes: dict[int, Opcode] = dict(_OPCODES_OF[base].opcodes)
    if fork >= Hardfork.SHANGHAI:
        opcodes |= {value: _with_bounded_init_code(opcodes[value]) for value in (_CREATE, _CREATE2)}
    if fork >= Hardfork.OSAKA:
        opcodes.update(OSAKA_OPCODES)
    return opcodes


def machine(rules: BlockRules) -> type[Computation]:
    """The computation class of a block with these rules. Equal rules give the same class."""
    return _machine(rules.fork, rules.op_fork if rules.is_op else None, rules.own_precompiles)


@lru_cache(maxsize=128)
def _machine(fork: Hardfork, op_fork: OpFork | None, own: tuple[bytes, ...]) -> type[Computation]:
    from openledger.evm_ext.precompiles import PRECOMPILES

    ours = {address: PRECOMPILES[address] for address in own if address in PRECOMPILES}
    name = "".join(word.capitalize() for word in fork.name.split("_"))
    return type(
        f"{'' if op_fork is None else 'Op'}{name}Computation",
        (Computation,),
        {
            "opcodes": opcodes_at(fork),
            "_precompiles": {**precompiles_at(fork, op_fork is not None, op_fork or OpFork.ECOTONE), **ours},
            "max_code_size": MAX_CODE_BYTES if fork >= Hardfork.SPURIOUS_DRAGON else None,
            "max_init_code": MAX_INIT_CODE_BYTES if fork >= Hardfork.SHANGHAI else None,
            "counts_creation_nonce": fork >= Hardfork.SPURIOUS_DRAGON,
            "refuses_ef_code": fork >= Hardfork.LONDON,
            "fails_without_code_deposit": fork >= Hardfork.HOMESTEAD,
            "warms_coinbase": fork >= Hardfork.SHANGHAI,
        },
    )
