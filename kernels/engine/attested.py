"""What the engine does differently in the mode `bf16`: answers carry the fingerprint of their activations, and whoever
checks one runs its tokens and compares activations within a tolerance. Nothing that was drawn is compared: at a tie, or near
one, honest machines may draw different tokens."""

from typing import Any

import numpy as np

from openledger.kernels.engine.messages import Verify
from openledger.kernels.model.bf16 import AttestedTransformer
from openledger.kernels.model.transformer import Transformer
from openledger.kernels.ops.activations import ActivationLog, compare_all


class Attestation:
    """The activations of the answers that are under way, by request. Does nothing for a transformer that is exact."""

    def __init__(self, transformer: Transformer, rows: int) -> None:
        self._transformer = transformer if isinstance(transformer, AttestedTransformer) else None
        if self._transformer is not None:
            self._transformer.reserve(rows)
        self._logs: dict[str, ActivationLog] = {}
        self._rows: dict[str, list[Any]] = {}

    @property
    def on(self) -> bool:
        return self._transformer is not None

    def hidden(self, rows: int) -> Any:
        """The last hidden states of a step's rows of logits, numpy [rows, D]; None for an exact transformer."""
        return None if self._transformer is None else self._transformer.last_hidden(rows).cpu().numpy()

    def add(self, request_id: str, row: Any, checked: bool) -> None:
        """What a token was drawn from: one more row of an answer, or of one that is checked."""
        if checked:
            self._rows.setdefault(request_id, []).append(np.array(row))
        else:
            self._logs.setdefault(request_id, ActivationLog()).add(row)

    def fingerprint(self, request_id: str) -> bytes:
        """Of the answer so far: 258 bytes for every 32 tokens."""
        log = self._logs.get(request_id)
        return b"" if log is None else log.commitments

    def verdict(self, request: Verify) -> str:
        """What is wrong with the activations that an answer claims; empty if nothing is."""
        try:
            differences = compare_all(request.fingerprint, np.stack(self._rows[request.request_id]))
        except ValueError as error:
            return str(error)
        for period, found in enumerate(differences):
            if not found.honest:
                return (
                    f"the activations of tokens {32 * period} to {32 * period + 31} were others: {found.exponents} of "
                    f"{found.points} exponents differ"
                )
        return ""

    def forget(self, request_id: str) -> None:
        self._logs.pop(request_id, None)
        self._rows.pop(request_id, None)
