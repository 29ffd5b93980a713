"""eth: what this node is set up for: forks (EIP-7910), what data it has, and what it does not do."""

from __future__ import annotations

from binascii import crc32
from typing import Any, Final

from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.formats import Json, hex_bytes
from openledger.node.rpc.methods import Parameter, rpc_method

PROTOCOL_VERSION: Final = 68
"""eth/68, the wire protocol that RPC callers of this method expect to read about."""

_PRECOMPILES: Final = (
    (Hardfork.FRONTIER, 0x01, "ECREC"),
    (Hardfork.FRONTIER, 0x02, "SHA256"),
    (Hardfork.FRONTIER, 0x03, "RIPEMD160"),
    (Hardfork.FRONTIER, 0x04, "ID"),
    (Hardfork.BYZANTIUM, 0x05, "MODEXP"),
    (Hardfork.BYZANTIUM, 0x06, "BN254_ADD"),
    (Hardfork.BYZANTIUM, 0x07, "BN254_MUL"),
    (Hardfork.BYZANTIUM, 0x08, "BN254_PAIRING"),
    (Hardfork.ISTANBUL, 0x09, "BLAKE2F"),
    (Hardfork.CANCUN, 0x0A, "KZG_POINT_EVALUATION"),
    (Hardfork.PRAGUE, 0x0B, "BLS12_G1ADD"),
    (Hardfork.PRAGUE, 0x0C, "BLS12_G1MSM"),
    (Hardfork.PRAGUE, 0x0D, "BLS12_G2ADD"),
    (Hardfork.PRAGUE, 0x0E, "BLS12_G2MSM"),
    (Hardfork.PRAGUE, 0x0F, "BLS12_PAIRING_CHECK"),
    (Hardfork.PRAGUE, 0x10, "BLS12_MAP_FP_TO_G1"),
    (Hardfork.PRAGUE, 0x11, "BLS12_MAP_FP2_TO_G2"),
    (Hardfork.OSAKA, 0x100, "P256VERIFY"),
)
_OUR_PRECOMPILES: Final = (
    ("credit", predeploys.CREDIT),
    ("spans", predeploys.SPANS),
    ("scores", predeploys.SCORES),
    ("step", predeploys.STEP),
    ("bn254_kzg", predeploys.BN254_KZG),
)
"""Forks of the genesis and the precompiles that they switch on."""

_ANYTHING = Parameter(lambda value: value).optional()
_NO_KEYS = "unknown account: this node holds no keys; sign in a wallet and send with eth_sendRawTransaction"


class EthConfig:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._schedule = backend.chain.genesis.hardforks

    @rpc_method("eth_config")
    def config(self) -> Json:
        """The rules in force at the head, those that come next, and the last that are planned (EIP-7910)."""
        now = self._chain.head().timestamp
        times = self._schedule.fork_times()
        begun = [time for time in times if time <= now]
        coming = [time for time in times if time > now]
        return {
            "current": self._fork_config(begun[-1] if begun else 0),
            "next": self._fork_config(coming[0]) if coming else None,
            "last": self._fork_config(coming[-1]) if coming else None,
        }

    @rpc_method("eth_capabilities")
    def capabilities(self) -> Json:
        """Which blocks' data can be asked for. Of a pruned chain, states go so many blocks after they are final."""
        head, history = self._chain.head(), self._chain.history
        states, proofs = self._chain.oldest_states()
        everything = _available(0, None)
        is_pruned = history.mode == "pruned"
        return {
            "head": {"number": hex(head.number), "hash": hex_bytes(head.hash)},
            "state": _available(states, history.keep_changes if is_pruned else None),
            "tx": everything,
            "logs": everything,
            "receipts": everything,
            "blocks": everything,
            "stateproofs": _available(proofs, history.keep_blocks if is_pruned else None),
        }

    @rpc_method("eth_protocolVersion")
    def protocol_version(self) -> str:
        return hex(PROTOCOL_VERSION)

    @rpc_method("eth_mining")
    def mining(self) -> bool:
        return False

    @rpc_method("eth_hashrate")
    def hashrate(self) -> str:
        return "0x0"

    @rpc_method("eth_coinbase")
    def coinbase(self) -> str:
        raise ServerError("etherbase must be explicitly specified: this node does not mine")

    @rpc_method("eth_sign", _ANYTHING, _ANYTHING)
    def sign(self, *_: Any) -> str:
        raise ServerError(_NO_KEYS)

    @rpc_method("eth_signTransaction", _ANYTHING)
    def sign_transaction(self, *_: Any) -> str:
        raise ServerError(_NO_KEYS)

    @rpc_method("eth_sendTransaction", _ANYTHING)
    def send_transaction(self, *_: Any) -> str:
        raise ServerError(_NO_KEYS)

    def _fork_config(self, activation: int) -> Json:
        fork = self._schedule.at(self._chain.head().number, activation, merged=True)
        blobs = self._schedule.blobs_at(activation)
        return {
            "activationTime": activation,
            "blobSchedule": None
            if blobs is None
            else {
                "target": blobs.target,
                "max": blobs.max,
                "baseFeeUpdateFraction": blobs.base_fee_update_fraction,
            },
            "chainId": hex(self._chain.chain_id),
            "forkId": hex_bytes(self._fork_id(activation)),
            "precompiles": self._precompiles(fork, activation),
            "systemContracts": self._system_contracts(fork),
        }

    def _fork_id(self, timestamp: int) -> bytes:
        """EIP-2124 and 6122: a checksum of the genesis and of every fork up to a time."""
        genesis = self._chain.header_by_number(0)
        assert genesis is not None
        checksum = crc32(self._chain.genesis_hash)
        times = [time for time in self._schedule.fork_times() if genesis.timestamp < time <= timestamp]
        for start in (*self._schedule.fork_blocks(), *times):
            checksum = crc32(start.to_bytes(8, "big"), checksum)
        return checksum.to_bytes(4, "big")

    def _precompiles(self, fork: Hardfork, timestamp: int) -> dict[str, str]:
        is_op = self._chain.rules.is_op
        shown = {
            name: hex_bytes(address.to_bytes(20, "big"))
            for since, address, name in _PRECOMPILES
            if fork >= since or (is_op and name == "P256VERIFY")
        }
        if is_op:
            forks = self._chain.genesis.forks
            shown |= {
                name.upper(): hex_bytes(address) for name, address in _OUR_PRECOMPILES if forks.active(name, timestamp)
            }
        return dict(sorted(shown.items()))

    def _system_contracts(self, fork: Hardfork) -> dict[str, str]:
        shown: dict[str, bytes] = {}
        if fork >= Hardfork.CANCUN:
            shown["BEACON_ROOTS_ADDRESS"] = predeploys.BEACON_ROOTS
        if fork >= Hardfork.PRAGUE:
            shown["HISTORY_STORAGE_ADDRESS"] = predeploys.HISTORY_STORAGE
            if not self._chain.rules.is_op:
                shown |= {
                    "CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS": predeploys.CONSOLIDATION_REQUESTS,
                    "DEPOSIT_CONTRACT_ADDRESS": self._schedule.deposit_contract,
                    "WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS": predeploys.WITHDRAWAL_REQUESTS,
                }
        return {name: hex_bytes(address) for name, address in sorted(shown.items())}


def _available(oldest: int, window: int | None) -> Json:
    shown: Json = {"disabled": False, "oldestBlock": hex(oldest)}
    if window is not None:
        shown["deleteStrategy"] = {"type": "window", "retentionBlocks": hex(window)}
    return shown
