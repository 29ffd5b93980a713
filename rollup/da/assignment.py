"""Which chunks of a blob each operator keeps, by its stake in the blob's quorums (EigenDA, core/v2/assignment.go).

In a quorum every operator gets its stake's share of `chunks - max_operators`, rounded up, as consecutive runs in the
order of the operators' ids. A further quorum takes what the operator has from the first one, then what is still free. The union
is cut at what gives the blob back: more than that nobody keeps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from openledger.rollup.da.chunks import ChunkParameters


@dataclass(frozen=True)
class Operator:
    """An operator in one quorum. `operator_id` is 32 bytes, `socket` what it has registered on L1."""

    operator_id: bytes
    stake: int
    socket: str = ""

    @property
    def retrieval_target(self) -> str | None:
        """HOST:PORT of its retrieval API v2, None if it has registered none: host:v1;v1;v2 dispersal;v2 retrieval."""
        host, *ports = self.socket.split(";")
        name, colon, _ = host.rpartition(":")
        if not colon or not name or len(ports) != 3 or not ports[2].isdecimal():
            return None
        return f"{name}:{ports[2]}"


Operators = Mapping[int, Sequence[Operator]]
"""Who is in each quorum."""


class OperatorDirectory(Protocol):
    """Who knows the operators: the registries on L1."""

    async def operators(self, reference_block: int, quorums: bytes) -> Operators:
        """Who was in these quorums at a block. Raises what L1 raises."""
        ...


def assigned_chunks(
    operators: Operators, quorums: Iterable[int], parameters: ChunkParameters
) -> dict[bytes, list[int]]:
    """Indices of the chunks of a blob in these quorums, by operator id, in the order in which the operator keeps them.

    Raises ValueError for a quorum without operators or stake, or with too many."""
    first: dict[bytes, list[int]] = {}
    merged: dict[bytes, list[int]] = {}
    most = parameters.chunks // parameters.coding_rate
    for number, quorum in enumerate(sorted(quorums)):
        alone = _in_one_quorum(operators.get(quorum, ()), quorum, parameters)
        if number == 0:
            first = chosen = alone
        else:
            chosen = _overlapping(first, alone, parameters.chunks)
        for operator_id, indices in chosen.items():
            kept = merged.setdefault(operator_id, [])
            known = set(kept)
            kept += [index for index in indices if index not in known][: most - len(kept)]
    return merged


def _in_one_quorum(operators: Sequence[Operator], quorum: int, parameters: ChunkParameters) -> dict[bytes, list[int]]:
    total = sum(operator.stake for operator in operators)
    if not total or len(operators) > parameters.max_operators:
        raise ValueError(f"quorum {quorum} has {len(operators)} operators with a stake of {total}")
    shared, offset = parameters.chunks - parameters.max_operators, 0
    chosen: dict[bytes, list[int]] = {}
    for operator in sorted(operators, key=lambda item: item.operator_id):
        count = -(-shared * operator.stake // total)
        chosen[operator.operator_id] = list(range(offset, offset + count))
        offset += count
    return chosen


def _overlapping(
    first: Mapping[bytes, list[int]], alone: Mapping[bytes, list[int]], chunks: int
) -> dict[bytes, list[int]]:
    """As many indices each as in `alone`, which is in the order of the ids: those of `first`, then unused ones."""
    chosen = {operator_id: first.get(operator_id, [])[: len(indices)] for operator_id, indices in alone.items()}
    used = {index for indices in chosen.values() for index in indices}
    free = (index for index in range(chunks) if index not in used)
    return {
        operator_id: indices + list(islice(free, len(alone[operator_id]) - len(indices)))
        for operator_id, indices in chosen.items()
    }
