"""Calls that are given up after a few milliseconds, wherever they are: for who must not be kept waiting.

The machine looks at the clock every so many steps, which bounds a call that computes. Two things can take long between two
looks: reading state from disk, and precompiles. So here the clock is looked at before each of them, and a precompile
that is dear is not run at all: gas is what its time was priced at.
"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic, thread_time
from typing import Any

from openledger.evm_ext.calls import CallContext
from openledger.evm_ext.errors import CallTimeout
from openledger.evm_ext.precompiles.precompile import Precompile
from openledger.evm_ext.state.account import Account
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.trie import Trie
from openledger.evm_ext.vm.computation import Computation
from openledger.evm_ext.vm.generated.run import look_at_clock

MOST_PRECOMPILE_GAS = 10_000
"""What one run of a precompile may cost: some tenths of a millisecond."""

PATIENCE = 4
"""Times the limit that a call may take altogether."""


def bounded(context: CallContext, time_limit_s: float) -> CallContext:
    """The context for calls that raise `CallTimeout` soon after the limit, counted from now, or before, if they
    need more than one can give up in time. Give them no longer a limit themselves."""
    return CallContext(context.block, _WatchedReader(context.reader, time_limit_s), _bounded)


class _WatchedReader:
    """A `StateReader` that looks at the clock before it reads: first at that of the world, which costs less, then at
    what its thread has worked. That other threads and programs were let go first is no reason to give up, but a disk
    that keeps it waiting is: at several times the limit it is over in any case."""

    __slots__ = ("_deadline", "_last_deadline", "_most_work", "_reader")

    def __init__(self, reader: StateReader, time_limit_s: float) -> None:
        self._reader = reader
        now = monotonic()
        self._deadline = now + time_limit_s
        self._last_deadline = now + PATIENCE * time_limit_s
        self._most_work = thread_time() + time_limit_s

    @property
    def root(self) -> bytes:
        return self._reader.root

    def account(self, address: bytes) -> Account | None:
        if monotonic() > self._deadline:
            self._look_at_work()
        return self._reader.account(address)

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        if monotonic() > self._deadline:
            self._look_at_work()
        return self._reader.storage(address, storage_root, slot)

    def code(self, code_hash: bytes) -> bytes:
        if monotonic() > self._deadline:
            self._look_at_work()
        return self._reader.code(code_hash)

    def _look_at_work(self) -> None:
        if thread_time() > self._most_work or monotonic() > self._last_deadline:
            raise CallTimeout("the call takes longer than it may here")

    def account_trie(self) -> Trie:
        return self._reader.account_trie()

    def storage_trie(self, address: bytes, storage_root: bytes) -> Trie:
        return self._reader.storage_trie(address, storage_root)


def _bounded(machine: Any) -> type[Computation]:
    return _bounded_machine(machine)


@lru_cache(maxsize=64)
def _bounded_machine(machine: Any) -> type[Computation]:
    """A machine's subclass with bounded precompiles. It runs, and counts, the code that is hot on the machine itself."""
    precompiles = {address: _bounded_precompile(run) for address, run in machine.get_precompiles().items()}
    made: type[Computation] = type(f"Bounded{machine.__name__}", (machine,), {"_precompiles": precompiles})
    made._hot_codes = machine._hot_codes
    return made


def _bounded_precompile(precompile: Any) -> Any:
    if not isinstance(precompile, Precompile):  # one that works on the whole computation: its price is not known before
        return _give_up

    def run(computation: Any) -> Any:
        data = bytes(computation.msg.data)
        limit = precompile.input_limit
        if (limit is None or len(data) <= limit) and precompile.gas(data) > MOST_PRECOMPILE_GAS:
            _give_up(computation)
        look_at_clock(computation.state.deadline)
        return precompile(computation)

    return run


def _give_up(computation: Any) -> Any:
    raise CallTimeout("a precompile may take longer than there is time")
