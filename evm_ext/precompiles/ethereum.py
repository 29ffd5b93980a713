"""Ethereum's precompiles at every fork, and what the OP-Stack changes about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Final

from openledger.evm_ext.precompiles import basic, blake2, bls12_381, bn254, modexp, p256
from openledger.evm_ext.precompiles.point_evaluation import POINT_EVALUATION_GAS, point_evaluation
from openledger.evm_ext.precompiles.precompile import Precompile, flat
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.op_forks import OpFork

# What each fork adds or prices anew. Sources are named in the modules.
_CHANGES: Final[Mapping[Hardfork, Mapping[bytes, Precompile]]] = {
    Hardfork.FRONTIER: {
        predeploys.ECRECOVER: Precompile("ECRECOVER", flat(basic.ECRECOVER_GAS), basic.ecrecover),
        predeploys.SHA256: Precompile("SHA256", basic.sha256_gas, basic.sha256),
        predeploys.RIPEMD160: Precompile("RIPEMD160", basic.ripemd160_gas, basic.ripemd160),
        predeploys.IDENTITY: Precompile("IDENTITY", basic.identity_gas, basic.identity),
    },
    Hardfork.BYZANTIUM: {
        predeploys.MODEXP: Precompile("MODEXP", modexp.gas_eip198, modexp.modexp),
        predeploys.BN254_ADD: Precompile("ECADD", flat(bn254.ADD_GAS_BYZANTIUM), bn254.add),
        predeploys.BN254_MUL: Precompile("ECMUL", flat(bn254.MUL_GAS_BYZANTIUM), bn254.mul),
        predeploys.BN254_PAIRING: Precompile("ECPAIRING", bn254.pairing_gas_byzantium, bn254.pairing),
    },
    Hardfork.ISTANBUL: {
        predeploys.BN254_ADD: Precompile("ECADD", flat(bn254.ADD_GAS), bn254.add),
        predeploys.BN254_MUL: Precompile("ECMUL", flat(bn254.MUL_GAS), bn254.mul),
        predeploys.BN254_PAIRING: Precompile("ECPAIRING", bn254.pairing_gas, bn254.pairing),
        predeploys.BLAKE2F: Precompile("BLAKE2F", blake2.blake2f_gas, blake2.blake2f),
    },
    Hardfork.BERLIN: {
        predeploys.MODEXP: Precompile("MODEXP", modexp.gas_eip2565, modexp.modexp),
    },
    Hardfork.CANCUN: {
        predeploys.POINT_EVALUATION: Precompile("POINT_EVALUATION", flat(POINT_EVALUATION_GAS), point_evaluation),
    },
    Hardfork.PRAGUE: {
        predeploys.BLS12_G1ADD: Precompile("BLS12_G1ADD", flat(bls12_381.G1_ADD_GAS), bls12_381.g1_add),
        predeploys.BLS12_G1MSM: Precompile("BLS12_G1MSM", bls12_381.g1_msm_gas, bls12_381.g1_msm),
        predeploys.BLS12_G2ADD: Precompile("BLS12_G2ADD", flat(bls12_381.G2_ADD_GAS), bls12_381.g2_add),
        predeploys.BLS12_G2MSM: Precompile("BLS12_G2MSM", bls12_381.g2_msm_gas, bls12_381.g2_msm),
        predeploys.BLS12_PAIRING_CHECK: Precompile("BLS12_PAIRING_CHECK", bls12_381.pairing_gas, bls12_381.pairing),
        predeploys.BLS12_MAP_FP_TO_G1: Precompile(
            "BLS12_MAP_FP_TO_G1", flat(bls12_381.MAP_TO_G1_GAS), bls12_381.map_fp_to_g1
        ),
        predeploys.BLS12_MAP_FP2_TO_G2: Precompile(
            "BLS12_MAP_FP2_TO_G2", flat(bls12_381.MAP_TO_G2_GAS), bls12_381.map_fp2_to_g2
        ),
    },
    Hardfork.OSAKA: {
        predeploys.MODEXP: Precompile("MODEXP", modexp.gas_eip7883, modexp.modexp),
        predeploys.P256VERIFY: Precompile("P256VERIFY", flat(p256.P256VERIFY_GAS_OSAKA), p256.p256_verify),
    },
}

# The OP-Stack: P256VERIFY since Fjord (RIP-7212), limits on input so that a fault proof can run any call: Granite's on
# BN254, Isthmus' on BLS12-381. Our own chains begin at Isthmus.
_OP_INPUT_LIMITS: Final[Mapping[bytes, int]] = {
    predeploys.BN254_PAIRING: 112_687,
    predeploys.BLS12_G1MSM: 513_760,
    predeploys.BLS12_G2MSM: 488_448,
    predeploys.BLS12_PAIRING_CHECK: 235_008,
}
_OP_P256VERIFY: Final = Precompile("P256VERIFY", flat(p256.P256VERIFY_GAS_OP), p256.p256_verify)


@cache
def precompiles_at(fork: Hardfork, is_op: bool, op_fork: OpFork = OpFork.ISTHMUS) -> Mapping[bytes, Precompile]:
    """The precompiles of a fork by address, on an OP chain also by its own fork. Those of our own chain are not among
    them."""
    table: dict[bytes, Precompile] = {}
    for since, changes in _CHANGES.items():
        if fork >= since:
            table.update(changes)
    if is_op and op_fork >= OpFork.GRANITE:
        for address, limit in _OP_INPUT_LIMITS.items():
            if address in table:
                table[address] = replace(table[address], input_limit=limit)
    if is_op and op_fork >= OpFork.FJORD:
        table[predeploys.P256VERIFY] = _OP_P256VERIFY
    return MappingProxyType(table)
