"""From logits to tokens and hashes, where the logits are: only those two cross to the host.

What is drawn from a row, and what keys its hash, is a row of 13 int64: temperature in thousandths, top-k, top-p and min-p
in millionths, position of the drawn token; the seed's first four 32-bit words; the request hash's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from openledger.genesis.tables import EXP, load_table
from openledger.kernels.model.steps import Steps
from openledger.kernels.ops.random import words

POSITION: Final = 4
_SETTINGS, _SEED, _REQUEST = 5, 4, 4
COLUMNS: Final = _SETTINGS + _SEED + _REQUEST


def asked_row(limits: Sequence[int], seed: bytes, request_hash: bytes) -> Any:
    """The row of a request, its position still 0. `limits`: temperature in thousandths, top-k, top-p, min-p in millionths."""
    return np.array([*limits, 0, *words(seed)[:_SEED], *words(request_hash)[:_REQUEST]], np.int64)


class Judged(NamedTuple):
    """Of each row of logits the token and the hash (an unsigned number); of each row of the batch whether it is faulty."""

    tokens: list[int]
    hashes: list[int]
    faults: Any


class Judge:
    """Draws and hashes by one backend. Of a row with a numeric fault, token and hash say nothing."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._exp = steps.array(torch.from_numpy(np.frombuffer(load_table(EXP), "<u4").astype(np.int64)))

    def split(self, asked: Tensor, rows: int) -> tuple[Any, Any, Any]:
        """Settings, seeds and request hashes of as many rows, as the operations take them; see `flat`."""
        cuts = (rows * _SETTINGS, rows * _SEED, rows * _REQUEST)
        parts = (part.view(rows, -1) for part in asked.split(cuts))
        settings, seeds, requests = (self._steps.array(part) for part in parts)
        return settings, seeds, requests

    @staticmethod
    def flat(asked: Any) -> Any:
        """Rows [R, 13] as one array, the columns of each operation together."""
        ends = (_SETTINGS, _SETTINGS + _SEED)
        return np.concatenate([part.ravel() for part in np.split(asked, ends, axis=1)])

    def draw(self, logits: Tensor, settings: Any, seeds: Any, requests: Any) -> tuple[Tensor, Tensor]:
        """Tokens and hashes of all rows, int64 tensors; nothing leaves the device."""
        values = self._steps.array(logits)
        return _tensor(self._steps.sample(values, settings, seeds, self._exp)), _tensor(
            self._steps.hash_rows(values, requests)
        )

    @torch.inference_mode()
    def outcome(
        self, logits: Tensor, faults: Tensor, logit_rows: Any, asked: Any, masks: Mapping[int, Any] | None = None
    ) -> Judged:
        """What follows from the logits of a batch: `asked` [R, 13] as `logit_rows`. `masks`: as `masked` takes them."""
        rows = len(asked)
        if not rows:
            return Judged([], [], faults.cpu().numpy())
        if not faults.is_cuda and bool(faults.any()):
            # What is not finite cannot be drawn from; on a GPU looking would cost more than drawing nonsense.
            logits[faults[torch.from_numpy(np.ascontiguousarray(logit_rows))]] = 0.0
        tensor = torch.from_numpy(self.flat(asked)).to(logits.device)
        tokens, hashes = self.draw(logits, *self.split(tensor, rows))
        return self.fetch(logits, tokens, hashes, faults, asked, masks)

    @torch.inference_mode()
    def fetch(
        self,
        logits: Tensor,
        tokens: Tensor,
        hashes: Tensor,
        faults: Tensor,
        asked: Any,
        masks: Mapping[int, Any] | None,
    ) -> Judged:
        """All that was drawn, in one copy; rows with a mask are drawn again under it."""
        rows = len(asked)
        if masks:
            chosen = torch.tensor(list(masks), device=logits.device)
            tokens = tokens.clone()
            tokens[chosen] = self._masked(logits, chosen, masks, asked)
        together = torch.cat((tokens, hashes, faults.to(torch.int64))).cpu()
        found = together[: 2 * rows].tolist()
        return Judged(found[:rows], [value % 2**64 for value in found[rows:]], together[2 * rows :].numpy() != 0)

    def _masked(self, logits: Tensor, chosen: Tensor, masks: Mapping[int, Any], asked: Any) -> Tensor:
        """Tokens of the rows that have a mask: 32-bit words, the bit of a token set where it may be drawn. Only what is
        drawn from is masked, never what is hashed."""
        bits = torch.from_numpy(np.stack(list(masks.values())).view(np.int32)).to(logits.device)
        tokens = torch.arange(logits.shape[1], device=logits.device)
        allowed = (bits[:, tokens >> 5] >> (tokens & 31)) & 1
        values = logits[chosen].masked_fill(allowed == 0, float("-inf"))
        part = torch.from_numpy(self.flat(asked[list(masks)])).to(logits.device)
        settings, seeds, _ = self.split(part, len(masks))
        return _tensor(self._steps.sample(self._steps.array(values), settings, seeds, self._exp))


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array
