"""Precompiles of our own, by address, in py-evm's form: a function of a computation.

The VM merges them into its own table; importing this loads py-evm.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from openledger.evm_ext.precompiles import bn254_kzg
from openledger.evm_ext.precompiles.credit import credit
from openledger.evm_ext.precompiles.precompile import Precompile
from openledger.evm_ext.precompiles.scores import scores
from openledger.evm_ext.precompiles.spans import spans
from openledger.genesis.predeploys import BN254_KZG, CREDIT, SCORES, SPANS

PRECOMPILES: Final[Mapping[bytes, Callable[[Any], Any]]] = MappingProxyType(
    {
        CREDIT: credit,
        SPANS: spans,
        SCORES: scores,
        BN254_KZG: Precompile("BN254_KZG", bn254_kzg.gas, bn254_kzg.bn254_kzg),
    }
)
