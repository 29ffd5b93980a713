"""The names by which test files call a chain's rules, as hard fork schedules.

A name is a fork ("Cancun", "EIP158", "BPO1") or a transition ("FrontierToHomesteadAt5", "CancunToPragueAtTime15k",
"ArrowGlacierToMergeAtDiffC0000"). Source: the test suites' own documentation of `network`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from openledger.evm_ext.conformance.values import InvalidFixture
from openledger.genesis.hardforks import DEFAULT_BLOB_SCHEDULE, BlobParameters, Hardfork, HardforkSchedule

_FORKS: Mapping[str, Hardfork] = {
    "frontier": Hardfork.FRONTIER,
    "homestead": Hardfork.HOMESTEAD,
    "dao": Hardfork.DAO_FORK,
    "daofork": Hardfork.DAO_FORK,
    "eip150": Hardfork.TANGERINE_WHISTLE,
    "tangerinewhistle": Hardfork.TANGERINE_WHISTLE,
    "eip158": Hardfork.SPURIOUS_DRAGON,
    "spuriousdragon": Hardfork.SPURIOUS_DRAGON,
    "byzantium": Hardfork.BYZANTIUM,
    "constantinople": Hardfork.CONSTANTINOPLE,
    "constantinoplefix": Hardfork.PETERSBURG,
    "petersburg": Hardfork.PETERSBURG,
    "istanbul": Hardfork.ISTANBUL,
    "muirglacier": Hardfork.MUIR_GLACIER,
    "berlin": Hardfork.BERLIN,
    "london": Hardfork.LONDON,
    "arrowglacier": Hardfork.ARROW_GLACIER,
    "grayglacier": Hardfork.GRAY_GLACIER,
    "merge": Hardfork.PARIS,
    "paris": Hardfork.PARIS,
    "shanghai": Hardfork.SHANGHAI,
    "cancun": Hardfork.CANCUN,
    "prague": Hardfork.PRAGUE,
    "osaka": Hardfork.OSAKA,
}
_HIGHEST_EXPONENT = 1_000
_BLOB_FORKS = ("bpo1", "bpo2", "bpo3", "bpo4", "bpo5")
_TRANSITION = re.compile(r"(?P<before>[A-Za-z0-9]+?)To(?P<after>[A-Z][A-Za-z0-9]*?)At(?P<unit>Time|Diff)?(?P<at>\w+)")
# Where a file from the time before `network` follows several forks in a row.
_SEVERAL = {"testnetwork": ((Hardfork.HOMESTEAD, 5), (Hardfork.DAO_FORK, 8), (Hardfork.TANGERINE_WHISTLE, 10))}


def schedule_of(network: str, blobs: Mapping[str, BlobParameters] | None = None) -> HardforkSchedule:
    """The schedule that `network` names. `blobs` (by fork in lower case) take the place of the main network's.

    Raises `InvalidFixture` for a name that is not known."""
    several = _SEVERAL.get(network.lower())
    if several is not None:
        schedule = HardforkSchedule.always(Hardfork.FRONTIER)
        for fork, start in several:
            schedule = schedule.since(fork, start)
        return schedule
    genesis = HardforkSchedule(blob_schedule=_complete(blobs or {}))
    found = _TRANSITION.fullmatch(network)
    if found is None:
        return _since(genesis, network, 0)
    before = _since(genesis, found["before"], 0)
    if found["unit"] == "Diff":
        if _FORKS.get(found["after"].lower()) is not Hardfork.PARIS:
            raise InvalidFixture(f"unknown network {network!r}: only the merge starts at a difficulty")
        return replace(before, terminal_total_difficulty=_start(network, found["at"], 16))
    start = _start(network, found["at"], 10)
    after = found["after"].lower()
    by_time = after in _BLOB_FORKS or (after in _FORKS and _FORKS[after] >= Hardfork.SHANGHAI)
    if by_time != (found["unit"] == "Time"):
        raise InvalidFixture(f"unknown network {network!r}: {found['after']} does not start by that unit")
    return _since(before, found["after"], start)


def check_excess_blob_gas(excess: int, schedule: HardforkSchedule) -> None:
    """Raises `InvalidFixture` where blob gas would cost more than there is (e**178 is above 2**256): the price of such
    an excess takes forever to work out."""
    fraction = min((blobs.base_fee_update_fraction for blobs in schedule.blob_schedule.values()), default=1)
    if excess > _HIGHEST_EXPONENT * fraction:
        raise InvalidFixture(f"an excess of {excess} blob gas makes a price that no block can have")


def _since(schedule: HardforkSchedule, name: str, start: int) -> HardforkSchedule:
    lower = name.lower()
    if lower in _BLOB_FORKS:
        names = [f"{fork}_time" for fork in _BLOB_FORKS[: _BLOB_FORKS.index(lower) + 1]]
        starts = {attribute: start for attribute in names if getattr(schedule, attribute) is None}
        return replace(schedule.since(Hardfork.OSAKA, start), **starts)  # type: ignore[arg-type]
    if lower not in _FORKS:
        raise InvalidFixture(f"unknown network {name!r}: known are {', '.join(sorted(_FORKS))} and transitions")
    return schedule.since(_FORKS[lower], start)


def _complete(blobs: Mapping[str, BlobParameters]) -> dict[str, BlobParameters]:
    """A blob fork of which nothing is known changes nothing."""
    known = {**DEFAULT_BLOB_SCHEDULE, **blobs}
    latest = known["osaka"]
    for fork in _BLOB_FORKS:
        latest = known.setdefault(fork, latest)
    return known


def _start(network: str, text: str, base: int) -> int:
    thousands = 1_000 if base == 10 and text.endswith("k") else 1
    try:
        return int(text.removesuffix("k") if thousands > 1 else text, base) * thousands
    except ValueError:
        raise InvalidFixture(f"unknown network {network!r}: {text!r} is no block, time or difficulty") from None
