"""Payloads under construction: begun by a fork choice, improved from the pool until they are asked for.

The first version, with the attributes' own transactions only, is built before the payload gets its id: attributes
that no block can have are refused at once. Unless the pool is left out, a thread then builds better versions.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import structlog

from openledger.evm_ext.block import Block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import ExecutionError
from openledger.evm_ext.fees import estimated_size_scaled
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.processing import ExecutedBlock
from openledger.evm_ext.transactions import Transaction

log = structlog.get_logger(__name__)

PAYLOADS_KEPT = 16
"""Payloads that can still be asked for; an older one is forgotten."""
BUILDING_TIME_S = 12.0
"""After its timestamp has passed by so much, or after so much work, a payload is not improved any more."""
MOST_EARLY_S = 600.0
"""A payload is improved for so long before its timestamp at most."""
PAUSE_S = 0.5
"""Between two versions of one payload, and only if the pool has changed."""
FIRST_VERSION_TIME_S = 0.3
"""What a version that is under way gets to finish, when the payload is asked for before any is done."""


@dataclass(frozen=True)
class Draft:
    """A version of a payload: executed, not stored."""

    block: Block
    executed: ExecutedBlock

    @property
    def value(self) -> int:
        """Wei that the fee recipient gets in priority fees."""
        base_fee = self.block.header.base_fee_per_gas
        return sum(
            receipt.gas_used * (receipt.effective_gas_price - base_fee)
            for receipt, transaction in zip(self.executed.receipts, self.block.transactions, strict=True)
            if transaction.deposit is None
        )


def payload_id(parent_hash: bytes, attributes: PayloadAttributes, version: int) -> bytes:
    """Eight bytes that name a payload: the version of the call that began it, then a hash of all that it is built
    from."""
    digest = hashlib.sha256()
    params = attributes.eip_1559_params
    parts = [
        parent_hash,
        attributes.timestamp.to_bytes(8, "big"),
        attributes.prev_randao,
        attributes.suggested_fee_recipient,
        attributes.parent_beacon_block_root,
        bytes((attributes.no_tx_pool,)),
        b"" if attributes.gas_limit is None else attributes.gas_limit.to_bytes(8, "big"),
        b"-" if params is None else params,
        *attributes.transactions,
        *(
            item.index.to_bytes(8, "big")
            + item.validator_index.to_bytes(8, "big")
            + item.address
            + item.amount.to_bytes(8, "big")
            for item in attributes.withdrawals
        ),
    ]
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return bytes((version,)) + digest.digest()[:7]


@dataclass(frozen=True)
class DataLimits:
    """The most bytes, as the Fjord L1 fee estimates them, that pooled transactions may add to the rollup's data: one
    of them, and all of a block; None is no limit."""

    transaction: int | None = None
    block: int | None = None


class PayloadBuilder:
    """All payloads of one engine. Safe from any thread. `data_limits` hold for payloads that are begun later."""

    def __init__(self, chain: Chain, pool: TransactionPool) -> None:
        self.data_limits = DataLimits()
        self._chain = chain
        self._pool = pool
        self._jobs: OrderedDict[bytes, _Job] = OrderedDict()
        self._lock = threading.Lock()
        pool.listeners.append(self._on_transaction)

    def start(self, parent_hash: bytes, attributes: PayloadAttributes, version: int) -> bytes:
        """Begin a payload and give its id; one that is begun already goes on.

        Raises `InvalidBlock` for attributes that no block on this parent can have, `UnknownParent`."""
        identifier = payload_id(parent_hash, attributes, version)
        with self._lock:
            if identifier in self._jobs:
                return identifier
        draft = Draft(*self._chain.draft(parent_hash, replace(attributes, no_tx_pool=True)))
        job = _Job(self._chain, self._pool, parent_hash, attributes, draft, self.data_limits)
        with self._lock:
            for other in self._jobs.values():
                other.stop()
            self._jobs[identifier] = job
            while len(self._jobs) > PAYLOADS_KEPT:
                self._jobs.popitem(last=False)
        if not attributes.no_tx_pool:
            job.begin()
        return identifier

    def take(self, identifier: bytes) -> Draft | None:
        """The best version of a payload, which is not improved any more; None for an unknown id."""
        with self._lock:
            job = self._jobs.get(identifier)
        return None if job is None else job.finish()

    def find(self, block_hash: bytes) -> Draft | None:
        """The version with this block hash, if it was the last one of its payload: it need not be executed again."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            if job.best.block.hash == block_hash:
                return job.best
        return None

    def close(self) -> None:
        """Stop all work."""
        if self._on_transaction in self._pool.listeners:
            self._pool.listeners.remove(self._on_transaction)
        with self._lock:
            jobs = list(self._jobs.values())
            self._jobs.clear()
        for job in jobs:
            job.stop()
        for job in jobs:
            job.join()

    def _on_transaction(self, _: bytes) -> None:
        with self._lock:
            for job in self._jobs.values():
                job.pool_changed.set()


class _Job:
    """One payload: its best version, and the thread that makes better ones."""

    def __init__(
        self,
        chain: Chain,
        pool: TransactionPool,
        parent_hash: bytes,
        attributes: PayloadAttributes,
        first: Draft,
        data_limits: DataLimits,
    ) -> None:
        self.best = first
        self.pool_changed = threading.Event()
        self._chain = chain
        self._pool = pool
        self._parent_hash = parent_hash
        self._attributes = attributes
        self._data_limits = data_limits
        self._improved = False
        self._stopped = threading.Event()
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._improve, name="payload-builder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End soon; a version that is under way ends after its next transaction."""
        self._deadline = 0.0
        self._stopped.set()
        self.pool_changed.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> Draft:
        self._deadline = min(self._deadline, 0.0 if self._improved else time.monotonic() + FIRST_VERSION_TIME_S)
        self._stopped.set()
        self.pool_changed.set()
        self.join()
        return self.best

    def _improve(self) -> None:
        early_s = min(max(0.0, self._attributes.timestamp - time.time()), MOST_EARLY_S)
        ends = time.monotonic() + early_s + BUILDING_TIME_S
        while True:
            self.pool_changed.clear()
            try:
                draft = Draft(*self._chain.draft(self._parent_hash, self._attributes, self._candidates()))
            except ExecutionError as error:  # the first version was valid: the chain is being closed
                log.warning("payload not improved", reason=str(error))
                return
            if draft.value >= self.best.value:
                self.best = draft
            self._improved = True
            self._stopped.wait(PAUSE_S)
            self.pool_changed.wait(max(0.0, ends - time.monotonic()))
            if self._stopped.is_set() or time.monotonic() >= ends:
                return

    def _candidates(self) -> Iterator[Transaction]:
        limits = self._data_limits
        block_bytes = 0
        for transaction in self._pool.pending():
            if time.monotonic() > self._deadline:
                return
            if limits != DataLimits():
                size = estimated_size_scaled(transaction.flz_size) // 10**6
                if limits.transaction is not None and size > limits.transaction:
                    continue
                if limits.block is not None and block_bytes + size > limits.block:
                    continue
                block_bytes += size
            yield transaction
