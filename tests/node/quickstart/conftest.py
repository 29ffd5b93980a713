"""A story on a small net: a real chain, DA server and content services, in this process."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from openledger.node.quickstart.memory import Memory
from openledger.node.quickstart.narrator import Narrator
from openledger.node.quickstart.scene import Scene


def _small_net() -> Any:
    """The net of the Datanets' tests; test folders are not packages."""
    name = "datanets_small_net"
    if name not in sys.modules:
        file = Path(__file__).parents[1] / "datanets" / "conftest.py"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def narrator() -> Narrator:
    """What it wrote is `narrator.console.file.getvalue()`."""
    return Narrator(Console(file=io.StringIO(), width=200))


@pytest.fixture
async def scenes(tmp_path: Path, narrator: Narrator) -> AsyncIterator[Callable[..., Scene]]:
    """`scenes()` is the scene of a quickstart started now: what the one before remembered is read from the disk."""
    small = _small_net()
    async with small.open_net(tmp_path) as net:
        net.nursery.start_soon(net.keep_mining)
        async with net.node("first") as first, net.node("second", publishes=False) as second:
            genesis = "0x" + net.chain.genesis_hash.hex()

            def scene(*, fresh: bool = False) -> Scene:
                memory = Memory(tmp_path / "quickstart.json", genesis, fresh=fresh)
                return Scene(first.api, net.rpc, second.api, net.rpc, memory, narrator, tmp_path / "drafts")

            yield scene
