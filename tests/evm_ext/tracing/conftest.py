"""What tests of tracers share: a chain with a few contracts, and traces of its transactions."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openledger.evm_ext import Chain
from openledger.evm_ext.tracing import BlockReplay, Budget, new_tracer

BUDGET_BYTES = 10_000_000


def replay(chain: Chain, block: Any, **arguments: Any) -> BlockReplay:
    return chain.replay(block, **arguments)


def trace(
    chain: Chain, block: Any, index: int = 0, name: str = "", limit_bytes: int = BUDGET_BYTES, **options: Any
) -> Any:
    """The trace of one transaction of a stored block, through JSON and back."""
    run = replay(chain, block)
    run.skip_to(index)
    tracer = new_tracer(name, options, Budget(limit_bytes))
    run.trace_next(tracer)
    return json.loads(json.dumps(tracer.result()))


@pytest.fixture
def tracing() -> SimpleNamespace:
    return SimpleNamespace(replay=replay, trace=trace, vectors=Path(__file__).with_name("vectors"))
