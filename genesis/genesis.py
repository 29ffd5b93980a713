"""What a chain starts from, as a value, and its codec in the shape of geth's genesis.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.json_fields import InvalidGenesis, address_field, data_field, member, number_field, word_field
from openledger.genesis.parameters import ForkSchedule

_OP_TIME_FORKS = (
    "regolithTime",
    "canyonTime",
    "ecotoneTime",
    "fjordTime",
    "graniteTime",
    "holoceneTime",
    "isthmusTime",
)
_UNKNOWN_OP_FORKS = ("jovianTime", "karstTime", "interopTime")
_ISTHMUS_HARDFORK = Hardfork.PRAGUE
_FORK_PREFIX = "openledger"

INITIAL_BASE_FEE_WEI = 10**9
"""The base fee of the first block under EIP-1559, where the genesis names none."""

_DEFAULT_ETHASH_DIFFICULTY = 131_072
_DEFAULT_GAS_LIMIT = 4_712_388


@dataclass(frozen=True)
class GenesisAccount:
    """One account of the alloc. Storage maps slot to value, both as integers; values are not zero."""

    balance: int = 0
    nonce: int = 0
    code: bytes = b""
    storage: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Genesis:
    """Block 0 and the rules that follow it.

    `rules`: "op" is Isthmus over Prague from block 0, "ethereum" follows `hardforks`. `forks` is when what is ours
    on an OP chain activates. Addresses are 20 bytes, hashes 32, `nonce` 8, amounts wei, the timestamp seconds.
    Fields that the header of block 0 does not have under its fork are ignored.
    """

    rules: Literal["op", "ethereum"]
    chain_id: int
    timestamp: int
    gas_limit: int
    base_fee_per_gas: int = INITIAL_BASE_FEE_WEI
    extra_data: bytes = b""
    coinbase: bytes = bytes(20)
    prev_randao: bytes = bytes(32)
    parent_beacon_block_root: bytes = bytes(32)
    alloc: Mapping[bytes, GenesisAccount] = field(default_factory=dict)
    forks: ForkSchedule = field(default_factory=ForkSchedule)
    hardforks: HardforkSchedule = field(default_factory=lambda: HardforkSchedule.always(_ISTHMUS_HARDFORK))
    nonce: bytes = bytes(8)
    difficulty: int = 0
    gas_used: int = 0
    excess_blob_gas: int = 0
    blob_gas_used: int = 0

    @property
    def hardfork(self) -> Hardfork:
        """The fork of block 0, which fixes what its header holds."""
        return self.hardforks.at(0, self.timestamp)

    def to_json(self) -> dict[str, Any]:
        """The value as geth's genesis.json; what geth does not know stands under config.openledger."""
        config: dict[str, Any] = {"chainId": self.chain_id, **self.hardforks.to_config()}
        if self.rules == "op":
            config["bedrockBlock"] = 0
            config.update(dict.fromkeys(_OP_TIME_FORKS, 0))
            denominator, elasticity = decode_holocene_extra_data(self.extra_data)
            config["optimism"] = {
                "eip1559Elasticity": elasticity,
                "eip1559Denominator": denominator,
                "eip1559DenominatorCanyon": denominator,
            }
            config[_FORK_PREFIX] = {f"{fork.name}Time": getattr(self.forks, fork.name) for fork in fields(ForkSchedule)}
        else:
            blobs = self.hardforks.blob_config()
            if blobs:
                config["blobSchedule"] = blobs
            if any(self.hardforks.deposit_contract):
                config["depositContractAddress"] = "0x" + self.hardforks.deposit_contract.hex()
        document: dict[str, Any] = {
            "config": config,
            "nonce": hex(int.from_bytes(self.nonce, "big")),
            "timestamp": hex(self.timestamp),
            "extraData": "0x" + self.extra_data.hex(),
            "gasLimit": hex(self.gas_limit),
            "difficulty": hex(self.difficulty),
            "mixHash": "0x" + self.prev_randao.hex(),
            "coinbase": "0x" + self.coinbase.hex(),
            "alloc": {address.hex(): _account_to_json(self.alloc[address]) for address in sorted(self.alloc)},
            "number": "0x0",
            "gasUsed": hex(self.gas_used),
            "parentHash": "0x" + bytes(32).hex(),
        }
        if self.hardfork >= Hardfork.LONDON:
            document["baseFeePerGas"] = hex(self.base_fee_per_gas)
        if self.hardfork >= Hardfork.CANCUN:
            document["excessBlobGas"] = hex(self.excess_blob_gas)
            document["blobGasUsed"] = hex(self.blob_gas_used)
            if any(self.parent_beacon_block_root):
                document["parentBeaconBlockRoot"] = "0x" + self.parent_beacon_block_root.hex()
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Genesis:
        """Any genesis file that geth reads for a chain of proof of stake, or of work whose seals are not checked; an
        OP chain's only with Isthmus from the start.

        Raises InvalidGenesis for a missing or malformed field, for forks out of order and for unknown ones.
        """
        if not isinstance(document, Mapping):
            raise InvalidGenesis("a genesis file holds one JSON object")
        config = member(document, "config")
        if not isinstance(config, Mapping):
            raise InvalidGenesis("genesis field config must be an object")
        rules: Literal["op", "ethereum"] = "op" if "optimism" in config else "ethereum"
        hardforks = _isthmus(config) if rules == "op" else HardforkSchedule.from_config(config)
        for name in ("number", "parentHash"):
            if document.get(name) is not None and number_field(document[name], name):
                raise InvalidGenesis(
                    f"genesis field {name} must be 0: a chain starts at block 0, got {document[name]!r}"
                )
        ours = _given(config, _FORK_PREFIX, {})
        if not isinstance(ours, Mapping):
            raise InvalidGenesis(f"genesis field config.{_FORK_PREFIX} must be an object")
        alloc = member(document, "alloc")
        if not isinstance(alloc, Mapping):
            raise InvalidGenesis("genesis field alloc must be an object")
        timestamp = number_field(_given(document, "timestamp", 0), "timestamp")
        prev_randao = data_field(_given(document, "mixHash", "0x" + "00" * 32), "mixHash", 32)
        return cls(
            rules=rules,
            chain_id=number_field(member(config, "chainId"), "config.chainId"),
            timestamp=timestamp,
            gas_limit=number_field(member(document, "gasLimit"), "gasLimit") or _DEFAULT_GAS_LIMIT,
            base_fee_per_gas=number_field(_given(document, "baseFeePerGas", INITIAL_BASE_FEE_WEI), "baseFeePerGas"),
            extra_data=data_field(_given(document, "extraData", "0x"), "extraData"),
            coinbase=address_field(_given(document, "coinbase", "0x" + "00" * 20), "coinbase"),
            prev_randao=prev_randao,
            parent_beacon_block_root=data_field(
                _given(document, "parentBeaconBlockRoot", "0x" + "00" * 32), "parentBeaconBlockRoot", 32
            ),
            alloc={
                address_field(address, f"alloc.{address}"): _account_from_json(account, address)
                for address, account in alloc.items()
            },
            forks=_own_forks(ours),
            hardforks=hardforks,
            nonce=_nonce(_given(document, "nonce", 0)),
            difficulty=_difficulty(document, config, prev_randao),
            gas_used=number_field(_given(document, "gasUsed", 0), "gasUsed"),
            excess_blob_gas=number_field(_given(document, "excessBlobGas", 0), "excessBlobGas"),
            blob_gas_used=number_field(_given(document, "blobGasUsed", 0), "blobGasUsed"),
        )


def encode_holocene_extra_data(denominator: int, elasticity: int) -> bytes:
    """Header extraData of a Holocene block: version 0, denominator u32, elasticity u32 (9 bytes)."""
    return b"\x00" + denominator.to_bytes(4, "big") + elasticity.to_bytes(4, "big")


def decode_holocene_extra_data(extra_data: bytes) -> tuple[int, int]:
    """(denominator, elasticity) of a Holocene header; raises InvalidGenesis for any other shape."""
    if len(extra_data) != 9 or extra_data[0] != 0:
        raise InvalidGenesis(f"Holocene extraData is 9 bytes that begin with 00, got 0x{extra_data.hex()}")
    return int.from_bytes(extra_data[1:5], "big"), int.from_bytes(extra_data[5:9], "big")


def _own_forks(times: Mapping[str, Any]) -> ForkSchedule:
    """What is ours; null is never, and a name that is missing is as in any new chain."""
    given = {fork.name: f"{fork.name}Time" for fork in fields(ForkSchedule) if f"{fork.name}Time" in times}
    return ForkSchedule(
        **{
            name: None if times[key] is None else number_field(times[key], f"config.{_FORK_PREFIX}.{key}")
            for name, key in given.items()
        }
    )


def _isthmus(config: Mapping[str, Any]) -> HardforkSchedule:
    for name in ("shanghaiTime", "cancunTime", "pragueTime", *_OP_TIME_FORKS):
        if config.get(name) != 0:
            raise InvalidGenesis(f"genesis config.{name} must be 0 (op rules from the first block)")
    for name in ("osakaTime", *_UNKNOWN_OP_FORKS):
        if config.get(name) is not None:
            raise InvalidGenesis(f"genesis config.{name} is set, but this program follows OP chains up to Isthmus")
    return HardforkSchedule.always(_ISTHMUS_HARDFORK)


def _given(document: Mapping[str, Any], name: str, default: Any) -> Any:
    """A field, or its default where it is missing or null."""
    value = document.get(name)
    return default if value is None else value


def _nonce(value: Any) -> bytes:
    number = number_field(value, "nonce")
    if number >= 1 << 64:
        raise InvalidGenesis(f"genesis field nonce has 8 bytes, got {value!r}")
    return number.to_bytes(8, "big")


def _difficulty(document: Mapping[str, Any], config: Mapping[str, Any], prev_randao: bytes) -> int:
    """As geth fills in a missing one: that of a new chain of proof of work if the config says `ethash`."""
    value = document.get("difficulty")
    if value is not None:
        return number_field(value, "difficulty")
    return _DEFAULT_ETHASH_DIFFICULTY if config.get("ethash") is not None and not any(prev_randao) else 0


def _account_to_json(account: GenesisAccount) -> dict[str, Any]:
    shown: dict[str, Any] = {"balance": hex(account.balance)}
    if account.nonce:
        shown["nonce"] = hex(account.nonce)
    if account.code:
        shown["code"] = "0x" + account.code.hex()
    if account.storage:
        shown["storage"] = {f"0x{slot:064x}": f"0x{account.storage[slot]:064x}" for slot in sorted(account.storage)}
    return shown


def _account_from_json(document: Mapping[str, Any], address: str) -> GenesisAccount:
    where = f"alloc.{address}"
    if not isinstance(document, Mapping) or not isinstance(_given(document, "storage", {}), Mapping):
        raise InvalidGenesis(f"genesis field {where} and its storage must be objects")
    storage = {
        word_field(slot, f"{where}.storage, key {slot!r}"): word_field(value, f"{where}.storage.{slot}")
        for slot, value in _given(document, "storage", {}).items()
    }
    return GenesisAccount(
        balance=number_field(_given(document, "balance", "0x0"), f"{where}.balance"),
        nonce=number_field(_given(document, "nonce", "0x0"), f"{where}.nonce"),
        code=data_field(_given(document, "code", "0x"), f"{where}.code"),
        storage={slot: value for slot, value in storage.items() if value},
    )


__all__ = [
    "INITIAL_BASE_FEE_WEI",
    "Genesis",
    "GenesisAccount",
    "InvalidGenesis",
    "decode_holocene_extra_data",
    "encode_holocene_extra_data",
]
