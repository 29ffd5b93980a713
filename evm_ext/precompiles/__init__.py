"""Precompiles of our own, by address, in py-evm's form: a function of a computation.

The VM merges them into its own table; importing this loads py-evm.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from openledger.evm_ext.precompiles.credit import credit
from openledger.evm_ext.precompiles.scores import scores
from openledger.evm_ext.precompiles.spans import spans
from openledger.genesis.predeploys import CREDIT, SCORES, SPANS

PRECOMPILES: Final[Mapping[bytes, Callable[[Any], Any]]] = MappingProxyType(
    {CREDIT: credit, SPANS: spans, SCORES: scores}
)
