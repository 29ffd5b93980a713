"""Decoding over buffers that stay where they are: a step is one copy in, one replay of what was recorded, one copy out.

For a few sizes, from one row to as many as the engine runs, and for the longest context, everything a step reads and writes
has its place; a batch takes the smallest size that holds it. Rows that are left over run token 0 at position 0 into a page
that nobody else has. On a GPU the step is recorded as a CUDA graph, once per size with adapters and once without; elsewhere
the same step is called, so that it is the same there and can be tested.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from openledger.kernels.model.judge import COLUMNS, Judge, Judged
from openledger.kernels.model.transformer import Batch, Buffers, Inputs, KvCache, Transformer
from openledger.kernels.ops.lora_plan import Plan, plan_rows

_ADAPTERS_PER_ROW: Final = 2
_RANKS: Final = 192
"""Of an adapter's modules in a group together. Steps with more adapters or ranks are not recorded."""


def sizes(rows: int) -> tuple[int, ...]:
    """1, 2, 4, 8, then eights up to 64, then each larger by a quarter, up to `rows`."""
    found = [1]
    while found[-1] < rows:
        last = found[-1]
        found.append(min(rows, 2 * last if last < 8 else last + 8 if last < 64 else last + (last // 32) * 8))
    return tuple(found)


class DecodeSteps:
    """Decode steps of up to `rows` sequences. `spare`: a page of the cache that is used for nothing else."""

    def __init__(
        self, transformer: Transformer, judge: Judge, cache: KvCache, *, rows: int, context: int, spare: int
    ) -> None:
        self.transformer = transformer
        self.judge = judge
        self.cache = cache
        self.pages = -(-context // cache.page_tokens)
        self.spare = spare
        self._sizes = sizes(rows)
        self._held: dict[tuple[int, bool], _DecodeStep] = {}

    def prepare(self) -> None:
        """Record every size now, so that no request waits for it. Those with adapters are recorded when first used."""
        for size in self._sizes:
            self._step(size, None)

    @torch.inference_mode()
    def run(self, batch: Batch, asked: Any, masks: Mapping[int, Any]) -> tuple[Tensor, Judged] | None:
        """Logits and what follows from them, as `Transformer.forward` and `Judge.outcome` give them. None if the batch is no
        decode step or does not fit, or if it has adapters on a backend that takes no recorded tables of them."""
        rows = len(batch.tokens)
        if len(batch.tables) != rows or len(batch.logit_rows) != rows or rows > self._sizes[-1]:
            return None
        plan = None
        if batch.segments and self.transformer.steps.name not in ("interpret", "triton"):
            return None
        if batch.segments:
            from openledger.kernels.ops.triton.lora import ROWS

            plan = plan_rows(batch.segments, ROWS)
        step = self._step(next(size for size in self._sizes if size >= rows), plan)
        return step.run(batch, asked, masks) if step.fits(plan) else None

    def _step(self, size: int, plan: Plan | None) -> "_DecodeStep":
        key = size, plan is not None
        if key not in self._held:
            self._held[key] = _DecodeStep(self, size, plan)
        return self._held[key]


class _DecodeStep:
    """A step of `size` rows and its buffers; what is recorded is what `_compute` launches."""

    def __init__(self, owner: DecodeSteps, size: int, plan: Plan | None) -> None:
        self._owner, self._size = owner, size
        steps = owner.transformer.steps
        on_gpu = steps.device != "cpu"
        counts = [size] * 6 + [size * owner.pages, size * COLUMNS]
        self._host = torch.zeros(sum(counts), dtype=torch.int64, pin_memory=on_gpu)
        self._device = torch.zeros(sum(counts), dtype=torch.int64, device=steps.device)
        *self._parts, self._asked = (part.numpy() for part in self._host.split(counts))
        self._tables = self._parts[6].reshape(size, owner.pages)
        *inputs, tables, asked = self._device.split(counts)
        tokens, positions, slots, previous, sequences, logit_rows = map(steps.array, inputs)
        placed = steps.array(tables.view(size, owner.pages))
        self._inputs = Inputs(tokens, positions, slots, previous, sequences, placed, logit_rows)
        self._questions = owner.judge.split(asked, size)
        self._buffers = Buffers(steps.device)
        self._adapters: Any = None
        if plan is not None:
            from openledger.kernels.ops.triton.lora import FixedTables

            self._adapters = FixedTables(
                steps.device, rows=size, adapters=size * _ADAPTERS_PER_ROW, per_row=_ADAPTERS_PER_ROW, ranks=_RANKS,
                widths=plan.widths,
            )  # fmt: skip
        self._rest(0)
        self._device.copy_(self._host)
        self.logits = self.faults = self.tokens = self.hashes = torch.empty(0)
        self._go = steps.record(self._compute)

    def fits(self, plan: Plan | None) -> bool:
        """Whether its tables hold these adapters; if so, they are there from now on."""
        return self._adapters is None or bool(self._adapters.fill(plan))

    def run(self, batch: Batch, asked: Any, masks: Mapping[int, Any]) -> tuple[Tensor, Judged]:
        rows = len(batch.tokens)
        arrays = batch.tokens, batch.positions, batch.slots, batch.previous, batch.sequences, batch.logit_rows
        for part, array in zip(self._parts, arrays):
            part[:rows] = array
        self._tables[:rows, : batch.tables.shape[1]] = batch.tables
        self._rest(rows)
        for part, columns in zip(_columns(self._asked, self._size), _columns_of(asked)):
            part[:rows] = columns
        self._device.copy_(self._host, non_blocking=True)
        self._go()
        logits, faults = self.logits[:rows], self.faults[:rows]
        return logits, self._owner.judge.fetch(logits, self.tokens[:rows], self.hashes[:rows], faults, asked, masks)

    def _rest(self, rows: int) -> None:
        """The rows that nobody uses. Those that were used are drawn from greedily, as whatever stood there before says."""
        tokens, positions, slots, previous, sequences, logit_rows, _ = self._parts
        tokens[rows:], positions[rows:], previous[rows:] = 0, 0, -1
        slots[rows:] = self._owner.spare * self._owner.cache.page_tokens
        self._tables[rows:, 0] = self._owner.spare
        sequences[rows:] = range(rows, self._size)
        logit_rows[rows:] = range(rows, self._size)
        _columns(self._asked, self._size)[0][rows:] = 0

    def _compute(self) -> None:
        owner = self._owner
        plan = None if self._adapters is None else self._adapters.tables
        self.logits, self.faults = owner.transformer.run(self._inputs, plan, owner.cache, self._buffers)
        # A row with a numeric fault has a logit that is no number, from which nothing can be drawn.
        self.logits.masked_fill_(self.faults[:, None], 0.0)
        self.tokens, self.hashes = owner.judge.draw(self.logits, *self._questions)


def _columns(flat: Any, rows: int) -> tuple[Any, Any, Any]:
    """Views of `Judge.flat`'s three parts."""
    return (
        flat[: 5 * rows].reshape(rows, 5),
        flat[5 * rows : 9 * rows].reshape(rows, 4),
        flat[9 * rows :].reshape(rows, 4),
    )


def _columns_of(asked: Any) -> tuple[Any, Any, Any]:
    return asked[:, :5], asked[:, 5:9], asked[:, 9:]
