"""The execution rules of an OP chain's block, from op-node's rollup.json.

Only what execution needs is read: chain id, fork times, base fee parameters, and under `openledger` (as in our
genesis.json) when the precompiles of ours are active, never on a chain that does not say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from openledger.evm_ext.errors import UnsupportedRules
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.op_forks import OpForkSchedule
from openledger.genesis.parameters import ForkSchedule

LATER_FORKS: Final = ("jovian", "karst", "interop")


def rules_of_rollup(document: Any, timestamp: int) -> Rules:
    """The rules of the block with this timestamp and of those before it.

    Raises `UnsupportedRules` for a config that cannot be read, and for a block before Ecotone or after Isthmus, naming
    the fork."""
    if not isinstance(document, Mapping):
        raise UnsupportedRules("a rollup config must be an object")
    for fork in LATER_FORKS:
        start = _time(document, fork)
        if start is not None and timestamp >= start:
            raise UnsupportedRules(
                f"the block at {timestamp} is under {fork} (since {start}): isthmus is the last known"
            )
    ecotone = _time(document, "ecotone")
    if ecotone is None or timestamp < ecotone:
        raise UnsupportedRules(f"the block at {timestamp} is before ecotone ({ecotone}): that is the first known")
    denominator, elasticity = _base_fee_parameters(document)
    forks = OpForkSchedule(**{field.name: _time(document, field.name) for field in fields(OpForkSchedule)})
    hardforks = HardforkSchedule.always(Hardfork.CANCUN)
    if forks.isthmus is not None:
        hardforks = hardforks.since(Hardfork.PRAGUE, forks.isthmus)
    return Rules(
        is_op=True,
        chain_id=_number(document.get("l2_chain_id"), "l2_chain_id"),
        denominator=denominator,
        elasticity=elasticity,
        forks=_own_forks(document.get("openledger")),
        hardforks=hardforks,
        op_forks=forks,
    )


def _time(document: Mapping[str, Any], fork: str) -> int | None:
    value = document.get(f"{fork}_time")
    return None if value is None else _number(value, f"{fork}_time")


def _base_fee_parameters(document: Mapping[str, Any]) -> tuple[int, int]:
    """Denominator and elasticity since Canyon, which hold where attributes name none."""
    config = document.get("chain_op_config")
    if isinstance(config, Mapping):
        names = ("eip1559DenominatorCanyon", "eip1559Elasticity")
        where = "chain_op_config"
    else:  # as some programs write it
        config = document.get("canyon_base_fee_params")
        names = ("max_change_denominator", "elasticity_multiplier")
        where = "canyon_base_fee_params"
        if not isinstance(config, Mapping):
            raise UnsupportedRules("the rollup config lacks chain_op_config: add the chain's base fee parameters")
    denominator, elasticity = (_number(config.get(name), f"{where}.{name}") for name in names)
    if not denominator or not elasticity:
        raise UnsupportedRules(f"{where} has a zero denominator or elasticity")
    return denominator, elasticity


def _own_forks(value: Any) -> ForkSchedule:
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise UnsupportedRules("openledger must be an object of fork times")
    times = {}
    for fork in fields(ForkSchedule):
        name = f"{fork.name}Time"
        times[fork.name] = None if value.get(name) is None else _number(value[name], f"openledger.{name}")
    return ForkSchedule(**times)


def _number(value: Any, name: str) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        number = int(value, 16 if value[:2] == "0x" else 10) if isinstance(value, str) else value
    except ValueError:
        raise UnsupportedRules(f"rollup config field {name} must be a number, got {value!r}") from None
    if number < 0:
        raise UnsupportedRules(f"rollup config field {name} must not be negative, got {value!r}")
    return number
