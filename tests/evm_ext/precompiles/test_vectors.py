"""Published vectors. Each names its source; an output of null means that the call fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.precompiles.precompile import PrecompileFailed
from openledger.genesis.hardforks import Hardfork

VECTORS = json.loads((Path(__file__).parent / "vectors" / "ethereum.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_published_vectors_hold(vector: dict[str, Any]) -> None:
    precompile = precompiles_at(Hardfork[vector["fork"]], False)[vector["address"].to_bytes(20, "big")]
    data = bytes.fromhex(vector["input"])
    if vector["output"] is None:
        with pytest.raises(PrecompileFailed):
            precompile.run(data)
        return
    assert precompile.gas(data) == vector["gas"]
    assert precompile.run(data).hex() == vector["output"]
