"""Which transaction is worth most to a block, and which is worth least to the pool."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from openledger.evm_ext.pool.contents import Contents
from openledger.evm_ext.transactions import Transaction

Price = tuple[int, int, int]


def price(transaction: Transaction, base_fee: int) -> Price:
    """What transactions compete by: effective tip at a base fee, then fee cap, then tip."""
    return (
        transaction.effective_tip(base_fee),
        transaction.max_fee_per_gas,
        transaction.max_priority_fee_per_gas,
    )


def best_first(
    sequences: Sequence[Sequence[Transaction]], base_fee: int, arrival: Mapping[bytes, int]
) -> Iterator[Transaction]:
    """Merge senders' sequences by effective tip, the earlier arrival first among equals.

    A sequence ends where a fee cap is below `base_fee`, in wei."""
    heap: list[tuple[int, int, int]] = []
    places = [0] * len(sequences)

    def push(index: int) -> None:
        sequence, place = sequences[index], places[index]
        if place < len(sequence) and sequence[place].max_fee_per_gas >= base_fee:
            transaction = sequence[place]
            heapq.heappush(heap, (-transaction.effective_tip(base_fee), arrival[transaction.hash], index))

    for index in range(len(sequences)):
        push(index)
    while heap:
        _, _, index = heapq.heappop(heap)
        yield sequences[index][places[index]]
        places[index] += 1
        push(index)


class CheapestFirst:
    """All transactions of a pool by price, the cheapest first; among equals the highest nonce, then the latest.

    The heap is made when the pool is full for the first time after a head, and kept up lazily: what has left
    the pool is passed over.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._base_fee = 0
        self._heap: list[tuple[Price, int, int, bytes]] | None = None

    def reprice(self, base_fee: int) -> None:
        """The base fee, in wei, of the next block changed."""
        self._base_fee = base_fee
        self._heap = None

    def add(self, transaction: Transaction) -> None:
        """Tell of a transaction that came into the pool."""
        if self._heap is not None:
            heapq.heappush(self._heap, self._entry(transaction))

    def pop(self) -> Transaction | None:
        """Take the cheapest off the heap; whoever leaves it in the pool gives it back by `add`."""
        if self._heap is None or len(self._heap) > 4 * len(self._contents) + 64:
            self._heap = [self._entry(transaction) for transaction in self._contents.by_hash.values()]
            heapq.heapify(self._heap)
        while self._heap:
            _, _, arrival, tx_hash = heapq.heappop(self._heap)
            if self._contents.arrival.get(tx_hash) == -arrival:
                return self._contents.by_hash[tx_hash]
        return None

    def _entry(self, transaction: Transaction) -> tuple[Price, int, int, bytes]:
        return (
            price(transaction, self._base_fee),
            -transaction.nonce,
            -self._contents.arrival[transaction.hash],
            transaction.hash,
        )
