"""What a chain starts from, as a value, and its codec in the shape of geth's genesis.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from openledger.genesis.parameters import ForkSchedule

_ETHEREUM_BLOCK_FORKS = (
    "homesteadBlock",
    "eip150Block",
    "eip155Block",
    "eip158Block",
    "byzantiumBlock",
    "constantinopleBlock",
    "petersburgBlock",
    "istanbulBlock",
    "muirGlacierBlock",
    "berlinBlock",
    "londonBlock",
    "arrowGlacierBlock",
    "grayGlacierBlock",
    "mergeNetsplitBlock",
)
_ETHEREUM_TIME_FORKS = ("shanghaiTime", "cancunTime", "pragueTime")
_OP_TIME_FORKS = (
    "regolithTime",
    "canyonTime",
    "ecotoneTime",
    "fjordTime",
    "graniteTime",
    "holoceneTime",
    "isthmusTime",
)
_BLOB_SCHEDULE = {
    "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477},
    "prague": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5007716},
}
_FORK_PREFIX = "openledger"


class InvalidGenesis(ValueError):
    """A genesis file that cannot be read; the message names the field."""


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

    `rules`: "op" is Isthmus over Prague, "ethereum" is plain Prague; either is active from block 0.
    Addresses are 20 bytes, hashes 32, amounts wei, the timestamp seconds.
    """

    rules: Literal["op", "ethereum"]
    chain_id: int
    timestamp: int
    gas_limit: int
    base_fee_per_gas: int
    extra_data: bytes = b""
    coinbase: bytes = bytes(20)
    prev_randao: bytes = bytes(32)
    parent_beacon_block_root: bytes = bytes(32)
    alloc: Mapping[bytes, GenesisAccount] = field(default_factory=dict)
    forks: ForkSchedule = field(default_factory=ForkSchedule)

    def to_json(self) -> dict[str, Any]:
        """The value as geth's genesis.json; what geth does not know stands under config.openledger."""
        config: dict[str, Any] = {"chainId": self.chain_id}
        config.update(dict.fromkeys(_ETHEREUM_BLOCK_FORKS, 0))
        config["terminalTotalDifficulty"] = 0
        config.update(dict.fromkeys(_ETHEREUM_TIME_FORKS, 0))
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
            config["blobSchedule"] = _BLOB_SCHEDULE
        document: dict[str, Any] = {
            "config": config,
            "nonce": "0x0",
            "timestamp": hex(self.timestamp),
            "extraData": "0x" + self.extra_data.hex(),
            "gasLimit": hex(self.gas_limit),
            "difficulty": "0x0",
            "mixHash": "0x" + self.prev_randao.hex(),
            "coinbase": "0x" + self.coinbase.hex(),
            "alloc": {address.hex(): _account_to_json(self.alloc[address]) for address in sorted(self.alloc)},
            "number": "0x0",
            "gasUsed": "0x0",
            "parentHash": "0x" + bytes(32).hex(),
            "baseFeePerGas": hex(self.base_fee_per_gas),
            "excessBlobGas": "0x0",
            "blobGasUsed": "0x0",
        }
        if any(self.parent_beacon_block_root):
            document["parentBeaconBlockRoot"] = "0x" + self.parent_beacon_block_root.hex()
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Genesis":
        """The inverse of `to_json`, for genesis files whose last fork is Prague (or Isthmus) at 0.

        Raises InvalidGenesis for a missing or malformed field, or a fork that is not active from the start.
        """
        config = _member(document, "config")
        if not isinstance(config, Mapping):
            raise InvalidGenesis("genesis field config must be an object")
        rules: Literal["op", "ethereum"] = "op" if "optimism" in config else "ethereum"
        for name in _ETHEREUM_TIME_FORKS + (_OP_TIME_FORKS if rules == "op" else ()):
            if config.get(name) != 0:
                raise InvalidGenesis(f"genesis config.{name} must be 0 ({rules} rules from the first block)")
        ours = config.get(_FORK_PREFIX, {})
        alloc = _member(document, "alloc")
        return cls(
            rules=rules,
            chain_id=_quantity(_member(config, "chainId"), "config.chainId"),
            timestamp=_quantity(_member(document, "timestamp"), "timestamp"),
            gas_limit=_quantity(_member(document, "gasLimit"), "gasLimit"),
            base_fee_per_gas=_quantity(_member(document, "baseFeePerGas"), "baseFeePerGas"),
            extra_data=_data(document.get("extraData", "0x"), "extraData"),
            coinbase=_data(document.get("coinbase", "0x" + "00" * 20), "coinbase", 20),
            prev_randao=_data(document.get("mixHash", "0x" + "00" * 32), "mixHash", 32),
            parent_beacon_block_root=_data(
                document.get("parentBeaconBlockRoot", "0x" + "00" * 32), "parentBeaconBlockRoot", 32
            ),
            alloc={
                _data(address, f"alloc.{address}", 20): _account_from_json(account, address)
                for address, account in alloc.items()
            },
            forks=ForkSchedule(
                **{fork.name: ours[f"{fork.name}Time"] for fork in fields(ForkSchedule) if f"{fork.name}Time" in ours}
            ),
        )


def encode_holocene_extra_data(denominator: int, elasticity: int) -> bytes:
    """Header extraData of a Holocene block: version 0, denominator u32, elasticity u32 (9 bytes)."""
    return b"\x00" + denominator.to_bytes(4, "big") + elasticity.to_bytes(4, "big")


def decode_holocene_extra_data(extra_data: bytes) -> tuple[int, int]:
    """(denominator, elasticity) of a Holocene header; raises InvalidGenesis for any other shape."""
    if len(extra_data) != 9 or extra_data[0] != 0:
        raise InvalidGenesis(f"Holocene extraData is 9 bytes that begin with 00, got 0x{extra_data.hex()}")
    return int.from_bytes(extra_data[1:5], "big"), int.from_bytes(extra_data[5:9], "big")


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
    storage = {
        _quantity(slot, f"{where}.storage"): _quantity(value, f"{where}.storage.{slot}")
        for slot, value in document.get("storage", {}).items()
    }
    return GenesisAccount(
        balance=_quantity(document.get("balance", "0x0"), f"{where}.balance"),
        nonce=_quantity(document.get("nonce", "0x0"), f"{where}.nonce"),
        code=_data(document.get("code", "0x"), f"{where}.code"),
        storage={slot: value for slot, value in storage.items() if value},
    )


def _member(document: Mapping[str, Any], name: str) -> Any:
    try:
        return document[name]
    except KeyError:
        raise InvalidGenesis(f"genesis lacks the field {name}") from None


def _quantity(value: Any, where: str) -> int:
    """A number as geth accepts it: an integer, or text in hex (0x) or decimal."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidGenesis(f"genesis field {where} must be a number, got {value!r}")
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        raise InvalidGenesis(f"genesis field {where} must be a number, got {value!r}") from None
    if not 0 <= number < 2**256:
        raise InvalidGenesis(f"genesis field {where} is out of range: {value!r}")
    return number


def _data(value: Any, where: str, length: int | None = None) -> bytes:
    if not isinstance(value, str):
        raise InvalidGenesis(f"genesis field {where} must be hex, got {value!r}")
    try:
        data = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        raise InvalidGenesis(f"genesis field {where} must be hex, got {value!r}") from None
    if length is not None and len(data) != length:
        raise InvalidGenesis(f"genesis field {where} must be {length} bytes, got {len(data)}")
    return data
