"""When a chain's rules change: Ethereum's hard forks by block number, by the merge, and by timestamp.

The codec reads and writes the `config` object of geth's genesis.json. Sources: the execution-specs' list of forks;
EIP-3675 (merge), 7840 and 7892 (blob schedule), 7949 (the file's shape).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, Final

from openledger.genesis.json_fields import InvalidGenesis, address_field, number_field

MAINNET_DEPOSIT_CONTRACT: Final = bytes.fromhex("00000000219ab540356cbb839cbe05303d7705fa")


class Hardfork(IntEnum):
    """Ethereum's hard forks in the order of their rules. Forks that only change blob counts are not among them."""

    FRONTIER = 0
    HOMESTEAD = 1
    DAO_FORK = 2
    TANGERINE_WHISTLE = 3
    SPURIOUS_DRAGON = 4
    BYZANTIUM = 5
    CONSTANTINOPLE = 6
    PETERSBURG = 7
    ISTANBUL = 8
    MUIR_GLACIER = 9
    BERLIN = 10
    LONDON = 11
    ARROW_GLACIER = 12
    GRAY_GLACIER = 13
    PARIS = 14
    SHANGHAI = 15
    CANCUN = 16
    PRAGUE = 17
    OSAKA = 18


@dataclass(frozen=True)
class BlobParameters:
    """How many blobs a block may have and how fast their price moves (EIP-7840). Counts are blobs."""

    target: int
    max: int
    base_fee_update_fraction: int


CANCUN_BLOBS: Final = BlobParameters(3, 6, 3_338_477)
PRAGUE_BLOBS: Final = BlobParameters(6, 9, 5_007_716)
DEFAULT_BLOB_SCHEDULE: Final[Mapping[str, BlobParameters]] = {
    "cancun": CANCUN_BLOBS,
    "prague": PRAGUE_BLOBS,
    "osaka": PRAGUE_BLOBS,
    "bpo1": BlobParameters(10, 15, 8_346_193),
    "bpo2": BlobParameters(14, 21, 11_684_671),
}
"""The main network's, for files that name a fork but not its blobs."""

# Fork, field of the schedule, name in geth's config; in order.
_BLOCK_FORKS: Final = (
    (Hardfork.HOMESTEAD, "homestead_block", "homesteadBlock"),
    (Hardfork.DAO_FORK, "dao_fork_block", "daoForkBlock"),
    (Hardfork.TANGERINE_WHISTLE, "eip150_block", "eip150Block"),
    (None, "eip155_block", "eip155Block"),
    (Hardfork.SPURIOUS_DRAGON, "eip158_block", "eip158Block"),
    (Hardfork.BYZANTIUM, "byzantium_block", "byzantiumBlock"),
    (Hardfork.CONSTANTINOPLE, "constantinople_block", "constantinopleBlock"),
    (Hardfork.PETERSBURG, "petersburg_block", "petersburgBlock"),
    (Hardfork.ISTANBUL, "istanbul_block", "istanbulBlock"),
    (Hardfork.MUIR_GLACIER, "muir_glacier_block", "muirGlacierBlock"),
    (Hardfork.BERLIN, "berlin_block", "berlinBlock"),
    (Hardfork.LONDON, "london_block", "londonBlock"),
    (Hardfork.ARROW_GLACIER, "arrow_glacier_block", "arrowGlacierBlock"),
    (Hardfork.GRAY_GLACIER, "gray_glacier_block", "grayGlacierBlock"),
    (None, "merge_netsplit_block", "mergeNetsplitBlock"),
)
_TIME_FORKS: Final = (
    (Hardfork.SHANGHAI, "shanghai_time", "shanghaiTime"),
    (Hardfork.CANCUN, "cancun_time", "cancunTime"),
    (Hardfork.PRAGUE, "prague_time", "pragueTime"),
    (Hardfork.OSAKA, "osaka_time", "osakaTime"),
)
_BLOB_FORKS: Final = tuple((f"bpo{index}_time", f"bpo{index}Time") for index in range(1, 6))
_BLOB_NAMES: Final = ("cancun", "prague", "osaka", *(attribute.removesuffix("_time") for attribute, _ in _BLOB_FORKS))
_OPTIONAL: Final = frozenset({"dao_fork_block", "muir_glacier_block", "arrow_glacier_block", "gray_glacier_block"})
_NEVER: Final = 2**64 - 1
"""Petersburg's block on a chain that stays at Constantinople: where it is missing, Constantinople brings it."""

_UNKNOWN_FORKS: Final = ("amsterdamTime", "bogotaTime", "verkleTime", "ubtTime")


@dataclass(frozen=True)
class HardforkSchedule:
    """From which block (number) or which timestamp (seconds) on each fork's rules hold; None is never.

    `terminal_total_difficulty` is the total difficulty whose first block is the last one of proof of work;
    `blob_schedule` maps "cancun", "prague", "osaka", "bpo1" … "bpo5" to their blobs.
    Raises `InvalidGenesis` when forks are out of order."""

    homestead_block: int | None = None
    dao_fork_block: int | None = None
    dao_fork_support: bool = False
    eip150_block: int | None = None
    eip155_block: int | None = None
    eip158_block: int | None = None
    byzantium_block: int | None = None
    constantinople_block: int | None = None
    petersburg_block: int | None = None
    istanbul_block: int | None = None
    muir_glacier_block: int | None = None
    berlin_block: int | None = None
    london_block: int | None = None
    arrow_glacier_block: int | None = None
    gray_glacier_block: int | None = None
    merge_netsplit_block: int | None = None
    terminal_total_difficulty: int | None = None
    terminal_total_difficulty_passed: bool = False
    shanghai_time: int | None = None
    cancun_time: int | None = None
    prague_time: int | None = None
    osaka_time: int | None = None
    bpo1_time: int | None = None
    bpo2_time: int | None = None
    bpo3_time: int | None = None
    bpo4_time: int | None = None
    bpo5_time: int | None = None
    blob_schedule: Mapping[str, BlobParameters] = field(default_factory=dict)
    deposit_contract: bytes = MAINNET_DEPOSIT_CONTRACT

    def __post_init__(self) -> None:
        required_blocks = [item for item in _BLOCK_FORKS if item[0] is not None and item[1] not in _OPTIONAL]
        self._check_order(required_blocks, "block")
        self._check_order(_TIME_FORKS, "time")
        for _, attribute, name in _BLOCK_FORKS:
            if attribute in _OPTIONAL and (start := getattr(self, attribute)) is not None:
                before = [item for item in required_blocks if _position(item[1]) < _position(attribute)]
                latest = max((getattr(self, item[1]) or 0 for item in before), default=0)
                if start < latest:
                    raise InvalidGenesis(f"config.{name} {start} is before an earlier fork's block {latest}")
        if self._first_time_fork is not None and self.london_block is None:
            raise InvalidGenesis("config.londonBlock is missing, but a fork by timestamp is set")
        for name in self.blob_schedule:
            if name not in _BLOB_NAMES:
                raise InvalidGenesis(f"config.blobSchedule.{name} is no fork this program knows")
        for attribute, name in _BLOB_FORKS:
            if getattr(self, attribute) is not None and attribute.removesuffix("_time") not in self._blobs:
                raise InvalidGenesis(f"config.blobSchedule lacks an entry for {name}")

    def _check_order(self, forks: Iterable[tuple[Hardfork | None, str, str]], unit: str) -> None:
        previous_name, previous = "", 0
        for _, attribute, name in forks:
            start = getattr(self, attribute)
            if start is None:
                if attribute == "petersburg_block":
                    continue  # missing, it is Constantinople's
                previous_name, previous = name, -1
            elif previous < 0:
                raise InvalidGenesis(f"config.{name} is {start}, but the fork before it, {previous_name}, is missing")
            elif start < previous:
                raise InvalidGenesis(f"config.{name} {start} is before {previous_name} at {unit} {previous}")
            else:
                previous_name, previous = name, start

    # --- making one -----------------------------------------------------------------------------------

    @classmethod
    def always(cls, fork: Hardfork) -> HardforkSchedule:
        """One fork's rules from block 0 on, and none after."""
        return cls().since(fork, 0)

    def since(self, fork: Hardfork, start: int) -> HardforkSchedule:
        """The schedule with all forks up to `fork` that were not yet set starting at `start`: a block number, for forks
        since Shanghai a timestamp. PARIS at 0 is a terminal total difficulty of 0, else `mergeNetsplitBlock`."""
        changes: dict[str, Any] = {}
        for item, attribute, _ in _BLOCK_FORKS:
            wanted = _SPURIOUS_OR_PARIS.get(attribute, item)
            if wanted is Hardfork.DAO_FORK and fork is not Hardfork.DAO_FORK:
                continue
            if wanted is not None and wanted <= fork and getattr(self, attribute) in (None, _NEVER):
                if fork >= Hardfork.SHANGHAI and start:
                    raise InvalidGenesis(f"{fork.name} by timestamp needs all forks by block number before it")
                changes[attribute] = start
        if fork is Hardfork.CONSTANTINOPLE and self.petersburg_block is None:
            changes["petersburg_block"] = _NEVER
        if fork is Hardfork.DAO_FORK:
            changes["dao_fork_support"] = True
        merge_block = changes.get("merge_netsplit_block", self.merge_netsplit_block)
        if fork >= Hardfork.PARIS and self.terminal_total_difficulty is None and not merge_block:
            changes["terminal_total_difficulty"] = 0
        for item, attribute, _ in _TIME_FORKS:
            if item <= fork and getattr(self, attribute) is None:
                changes[attribute] = start
        return replace(self, **changes)

    # --- asking it ------------------------------------------------------------------------------------

    def at(self, number: int, timestamp: int, *, merged: bool = False) -> Hardfork:
        """The fork whose rules a block follows. `merged` says that the block is known to be one of proof of stake (its
        difficulty is 0), where the schedule alone cannot tell."""
        if merged or self.surely_merged(number, timestamp):
            found = Hardfork.PARIS
            for fork, attribute, _ in _TIME_FORKS:
                start = getattr(self, attribute)
                if start is not None and timestamp >= start:
                    found = fork
            return found
        found = Hardfork.FRONTIER
        for candidate, attribute, _ in _BLOCK_FORKS:
            if candidate is None or (candidate is Hardfork.DAO_FORK and not self.dao_fork_support):
                continue
            start = getattr(self, attribute)
            if attribute == "petersburg_block" and start is None:
                start = self.constantinople_block
            if start is not None and number >= start:
                found = candidate
        return found

    def surely_merged(self, number: int, timestamp: int) -> bool:
        """Whether a block is one of proof of stake, as far as its number and time tell."""
        if self.terminal_total_difficulty == 0:
            return True
        if self.merge_netsplit_block is not None and number >= self.merge_netsplit_block:
            return True
        first = self._first_time_fork
        return first is not None and timestamp >= first

    def blobs_at(self, timestamp: int) -> BlobParameters | None:
        """The blob limits of a block with this timestamp; None before Cancun."""
        if self.cancun_time is None or timestamp < self.cancun_time:
            return None
        found = CANCUN_BLOBS
        for attribute in ("cancun_time", "prague_time", "osaka_time", *(item for item, _ in _BLOB_FORKS)):
            start = getattr(self, attribute)
            if start is not None and timestamp >= start:
                found = self._blobs.get(attribute.removesuffix("_time"), found)
        return found

    def is_eip155(self, number: int) -> bool:
        """Whether transactions with a chain id in their signature are taken in this block."""
        return self.eip155_block is not None and number >= self.eip155_block

    def fork_times(self) -> tuple[int, ...]:
        """Every timestamp above 0 at which rules or blob limits change, ascending (for EIP-7910 and fork ids)."""
        attributes = [item[1] for item in _TIME_FORKS] + [item for item, _ in _BLOB_FORKS]
        return tuple(sorted({start for item in attributes if (start := getattr(self, item))}))

    def fork_blocks(self) -> tuple[int, ...]:
        """Every block number above 0 at which rules change, ascending (for fork ids, EIP-2124)."""
        return tuple(sorted({start for _, item, _ in _BLOCK_FORKS if (start := getattr(self, item))}))

    @property
    def _first_time_fork(self) -> int | None:
        return min((start for _, item, _ in _TIME_FORKS if (start := getattr(self, item)) is not None), default=None)

    @property
    def _blobs(self) -> Mapping[str, BlobParameters]:
        return self.blob_schedule or DEFAULT_BLOB_SCHEDULE

    # --- geth's config --------------------------------------------------------------------------------

    def to_config(self) -> dict[str, Any]:
        """The members of geth's `config` that say when rules change; forks that never come are left out."""
        config: dict[str, Any] = {}
        for _, attribute, name in _BLOCK_FORKS:
            start = getattr(self, attribute)
            if start is not None:
                config[name] = start
            if attribute == "dao_fork_block" and self.dao_fork_support:
                config["daoForkSupport"] = True
        if self.terminal_total_difficulty is not None:
            config["terminalTotalDifficulty"] = self.terminal_total_difficulty
        if self.terminal_total_difficulty_passed:
            config["terminalTotalDifficultyPassed"] = True
        for attribute, name in (*(item[1:] for item in _TIME_FORKS), *_BLOB_FORKS):
            start = getattr(self, attribute)
            if start is not None:
                config[name] = start
        return config

    def blob_config(self) -> dict[str, dict[str, int]]:
        """geth's `blobSchedule` for the forks that this schedule has."""
        shown = {}
        for attribute in ("cancun_time", "prague_time", "osaka_time", *(item for item, _ in _BLOB_FORKS)):
            blobs = self._blobs.get(attribute.removesuffix("_time"))
            if getattr(self, attribute) is not None and blobs is not None:
                shown[attribute.removesuffix("_time")] = {
                    "target": blobs.target,
                    "max": blobs.max,
                    "baseFeeUpdateFraction": blobs.base_fee_update_fraction,
                }
        return shown

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HardforkSchedule:
        """From geth's `config`; a missing or null fork never comes. Raises `InvalidGenesis`, also for a fork that this
        program does not know, since it could not follow that chain."""
        for name in _UNKNOWN_FORKS:
            if config.get(name) is not None:
                raise InvalidGenesis(f"config.{name} is set, but this program knows no fork after Osaka")
        values: dict[str, Any] = {}
        names = {attribute: name for _, attribute, name in (*_BLOCK_FORKS, *_TIME_FORKS)} | dict(_BLOB_FORKS)
        names["terminal_total_difficulty"] = "terminalTotalDifficulty"
        for attribute, name in names.items():
            value = config.get(name)
            if value is not None:
                values[attribute] = number_field(value, f"config.{name}")
        for attribute, name in (
            ("dao_fork_support", "daoForkSupport"),
            ("terminal_total_difficulty_passed", "terminalTotalDifficultyPassed"),
        ):
            flag = config.get(name)
            if flag is not None and not isinstance(flag, bool):
                raise InvalidGenesis(f"genesis field config.{name} must be true or false, got {flag!r}")
            values[attribute] = bool(flag)
        deposit_contract = config.get("depositContractAddress")
        values["deposit_contract"] = (
            bytes(20) if deposit_contract is None else address_field(deposit_contract, "config.depositContractAddress")
        )
        values["blob_schedule"] = _blob_schedule(config.get("blobSchedule"))
        schedule = cls(**values)
        if "clique" in config and not schedule.surely_merged(1, 2**64 - 1):
            raise InvalidGenesis("config.clique: chains of authority signers cannot be followed")
        return replace(schedule, blob_schedule=schedule._known_blobs())

    def _known_blobs(self) -> Mapping[str, BlobParameters]:
        """Only what differs from the main network's, so that equal schedules compare equal."""
        shown = {name: BlobParameters(*entry.values()) for name, entry in self.blob_config().items()}
        same = all(DEFAULT_BLOB_SCHEDULE.get(name) == blobs for name, blobs in shown.items())
        return {} if same else dict(self.blob_schedule)


_SPURIOUS_OR_PARIS: Final = {"eip155_block": Hardfork.SPURIOUS_DRAGON, "merge_netsplit_block": Hardfork.PARIS}


def _position(attribute: str) -> int:
    return [item.name for item in fields(HardforkSchedule)].index(attribute)


def _blob_schedule(document: Any) -> dict[str, BlobParameters]:
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise InvalidGenesis(f"genesis field config.blobSchedule must be an object, got {document!r}")
    schedule = {}
    for name, entry in document.items():
        if f"{name}Time" in _UNKNOWN_FORKS:
            continue  # not scheduled, or from_config had refused it
        where = f"config.blobSchedule.{name}"
        if not isinstance(entry, Mapping):
            raise InvalidGenesis(f"genesis field {where} must be an object, got {entry!r}")
        target, most, fraction = (
            number_field(entry.get(key), f"{where}.{key}") for key in ("target", "max", "baseFeeUpdateFraction")
        )
        if not target <= most or not fraction:
            raise InvalidGenesis(
                f"genesis field {where}: target {target} must not exceed max {most}, and the fraction not be 0"
            )
        schedule[str(name)] = BlobParameters(target, most, fraction)
    return schedule
