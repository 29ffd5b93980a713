"""Files of public tests, run in several processes, one result for each case.

A file that cannot be read, a case that cannot, and a fault of this client are results too: nothing ends the run.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from openledger.evm_ext.conformance.blockchain_fixture import is_blockchain_test, read_blockchain_case
from openledger.evm_ext.conformance.blockchain_run import run_blockchain_case
from openledger.evm_ext.conformance.files import RawCase, cases, fixture_files
from openledger.evm_ext.conformance.state_fixture import is_state_test, read_state_cases
from openledger.evm_ext.conformance.state_run import run_state_case
from openledger.evm_ext.conformance.values import InvalidFixture

Kind = Literal["blockchain", "state"]
_Case = TypeVar("_Case")

_BYTES_PER_UNIT = 8 << 20
"""Larger files are shared between processes."""
_UNITS_AHEAD = 4


@dataclass(frozen=True)
class CaseResult:
    """What became of one case; `error` is None if it passed. `fork` is the file's name for the rules, empty where the
    case could not be read."""

    name: str
    fork: str
    error: str | None
    file: str

    @property
    def passed(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class Unit:
    """Part of a file that one process runs at a stretch: every `step`th case from `start` on.

    `named`: the file itself was asked for, so that a case of another kind in it is a failure; in a folder it is left
    out."""

    path: Path
    kind: Kind
    fork: str | None
    named: bool
    start: int = 0
    step: int = 1


def plan(kind: Kind, paths: Sequence[Path], fork: str | None, jobs: int) -> tuple[list[Unit], list[CaseResult]]:
    """What there is to run, in order, and a failed result for every path that is no test file or folder."""
    units: list[Unit] = []
    failures: list[CaseResult] = []
    for path in paths:
        try:
            for file in fixture_files(path):
                shares = max(1, min(jobs, file.stat().st_size // _BYTES_PER_UNIT))
                units += [Unit(file, kind, fork, file == path, share, shares) for share in range(shares)]
        except (InvalidFixture, OSError) as error:
            failures.append(CaseResult(str(path), "", str(error), str(path)))
    return units, failures


def run_units(units: Sequence[Unit], jobs: int) -> Iterator[tuple[Unit, list[CaseResult]]]:
    """Run them, and give each with its results, mostly in order. `jobs` above 1 uses that many processes; if one dies
    (of memory, most likely), the units under way are run again alone, and the one that dies again has failed."""
    if jobs <= 1:
        for unit in units:
            yield unit, run_unit(unit)
        return
    pending = deque(units)
    while pending:
        lost = yield from _run_in_pool(pending, jobs)
        for unit in lost:
            yield unit, _run_alone(unit)


def _run_in_pool(pending: deque[Unit], jobs: int) -> Generator[tuple[Unit, list[CaseResult]], None, list[Unit]]:
    """Take units from `pending` until there are none or a process dies; what was under way then is the answer."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way: deque[tuple[Unit, Future[list[CaseResult]]]] = deque()
        try:
            while pending or under_way:
                while pending and len(under_way) < _UNITS_AHEAD * jobs:
                    under_way.append((pending[0], pool.submit(run_unit, pending[0])))
                    pending.popleft()
                yield under_way[0][0], under_way[0][1].result()
                under_way.popleft()
        except BrokenProcessPool:
            return [unit for unit, _ in under_way]
        finally:
            pool.shutdown(cancel_futures=True)
    return []


def _run_alone(unit: Unit) -> list[CaseResult]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(run_unit, unit).result()
        except BrokenProcessPool as error:
            return [CaseResult(str(unit.path), "", f"the process running this file died: {error}", str(unit.path))]


def run_unit(unit: Unit) -> list[CaseResult]:
    """Run a unit's cases in this process."""
    results: list[CaseResult] = []
    file = str(unit.path)
    try:
        for raw in cases(unit.path, unit.start, unit.step):
            results += _run_raw(raw, unit)
    except InvalidFixture as error:
        if unit.start == 0:
            results.append(CaseResult(file, "", str(error), file))
    return results


def _run_raw(raw: RawCase, unit: Unit) -> Iterator[CaseResult]:
    file = str(unit.path)
    try:
        document = raw.decode()
        if unit.kind == "state":
            if not is_state_test(document):
                yield from _other_kind(raw, unit)
                return
            for state_case in read_state_cases(raw.name, document, unit.fork):
                yield CaseResult(state_case.name, state_case.fork, _guarded(run_state_case, state_case), file)
        else:
            if not is_blockchain_test(document):
                yield from _other_kind(raw, unit)
                return
            chain_case = read_blockchain_case(raw.name, document, unit.fork)
            if chain_case is not None:
                yield CaseResult(chain_case.name, chain_case.network, _guarded(run_blockchain_case, chain_case), file)
    except InvalidFixture as error:
        yield CaseResult(raw.name, "", str(error), file)


def _other_kind(raw: RawCase, unit: Unit) -> Iterator[CaseResult]:
    if unit.named and not raw.name.startswith("_"):
        yield CaseResult(raw.name, "", f"this is not a {unit.kind} test", str(unit.path))


def _guarded(run: Callable[[_Case], str | None], case: _Case) -> str | None:
    """`run(case)`; whatever else it raises is a fault of this client, and the case's result."""
    try:
        return run(case)
    except InvalidFixture as error:
        return str(error)
    except Exception as error:  # the outer edge: the next case must run
        return f"internal error: {type(error).__name__}: {error}"
