"""What a step does with adapters, as tables: built once, for all layers, and the same for every layer.

Rows that use the same adapters in the same order are taken together, wherever they stand in the batch, and cut in tiles.
Where a layer's matrices lie, a kernel reads from the adapter's own table (`ops/lora_layout.py`), so nothing here is said
per layer. All int64:

| table | a row of it |
|---|---|
| `order` | a row of the batch |
| `tiles` | first in `order`, rows, first and last of `entries` |
| `entries` | addresses of an adapter's data, alphas and table; for each group its first column of `u` |
| `chunks`, one table per group | tile, entry, first of up to `CHUNK` ranks |
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

CHUNK: Final = 32
"""Rows of A that a program of `_shrink` takes."""

ENTRY_FIELDS: Final = 8


class Adapter(Protocol):
    """What a plan asks of an adapter: its three addresses and, for each group, the ranks it has at most and the columns of
    the widest module."""

    @property
    def addresses(self) -> tuple[int, int, int]: ...

    @property
    def widest(self) -> tuple[int, ...]: ...

    @property
    def widths(self) -> tuple[int, ...]: ...


class Use(NamedTuple):
    """Rows `first` .. `last` of a batch use these adapters, in this order."""

    first: int
    last: int
    adapters: tuple[Any, ...]


class Plan(NamedTuple):
    """See above. For each group, `columns` of `u` and `widths`, the columns of its widest module. `uses` keeps the adapters
    alive."""

    order: Any
    tiles: Any
    entries: Any
    chunks: tuple[Any, ...]
    columns: tuple[int, ...]
    widths: tuple[int, ...]
    uses: tuple[Use, ...]


def plan_rows(uses: Sequence[Use], tile: int) -> Plan | None:
    """The plan of a step whose rows use adapters so, in tiles of at most `tile` rows; None if none do. Uses are disjoint."""
    together: dict[tuple[int, ...], list[Use]] = {}
    for use in uses:
        if use.adapters and use.last > use.first:
            together.setdefault(tuple(map(id, use.adapters)), []).append(use)
    if not together:
        return None
    order = np.concatenate([np.arange(use.first, use.last) for same in together.values() for use in same])
    rows = np.array([sum(use.last - use.first for use in same) for same in together.values()])
    adapters = [same[0].adapters for same in together.values()]
    counts = np.array([len(each) for each in adapters])
    flat = [adapter for each in adapters for adapter in each]
    widest = np.array([adapter.widest for adapter in flat], np.int64)
    groups = widest.shape[1]
    first_entry = np.cumsum(counts) - counts
    entries = np.zeros((len(flat), ENTRY_FIELDS), np.int64)
    entries[:, :3] = [adapter.addresses for adapter in flat]
    before = np.cumsum(widest, 0) - widest
    entries[:, 3 : 3 + groups] = before - np.repeat(before[first_entry], counts, 0)
    columns = (entries[:, 3 : 3 + groups] + widest).max(0)
    pieces = -(-rows // tile)
    users = np.repeat(np.arange(len(rows)), pieces)
    piece = np.arange(len(users)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    tiles = np.empty((len(users), 4), np.int64)
    tiles[:, 0] = (np.cumsum(rows) - rows)[users] + piece * tile
    tiles[:, 1] = np.minimum(tile, rows[users] - piece * tile)
    tiles[:, 2] = first_entry[users]
    tiles[:, 3] = first_entry[users] + counts[users]
    of_tile = np.repeat(np.arange(len(tiles)), counts[users])
    entry = np.arange(len(of_tile)) - np.repeat(np.cumsum(counts[users]) - counts[users], counts[users])
    entry += np.repeat(first_entry[users], counts[users])
    chunks = []
    for group in range(groups):
        needed = -(-widest[entry, group] // CHUNK)
        table = np.empty((int(needed.sum()), 3), np.int64)
        table[:, 0] = np.repeat(of_tile, needed)
        table[:, 1] = np.repeat(entry, needed)
        table[:, 2] = CHUNK * (np.arange(len(table)) - np.repeat(np.cumsum(needed) - needed, needed))
        chunks.append(table)
    return Plan(order, tiles, entries, tuple(chunks), tuple(columns.tolist()), flat[0].widths, tuple(uses))
