"""A served chain per test, and callers of it."""

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from openledger.genesis.presets import DEVNET, l2_genesis

TIMESTAMP = 1_800_000_000


def load(name: str) -> Any:
    """A module of this folder; test folders are not packages."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


class Rpc:
    """Calls one endpoint; `error` expects a failure."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=180)
        self._ids = itertools.count(1)

    def __call__(self, method: str, *params: Any) -> Any:
        answer = self.answer(method, *params)
        assert "error" not in answer, (method, params, answer)
        return answer["result"]

    def error(self, method: str, *params: Any) -> dict[str, Any]:
        answer = self.answer(method, *params)
        assert "result" not in answer, (method, params, answer)
        return answer["error"]

    def answer(self, method: str, *params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        response = self._http.post("/", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="session")
def load_module():
    """`load_module("name")` is another module of this folder."""
    return load


@pytest.fixture(scope="session")
def genesis():
    return l2_genesis(DEVNET, TIMESTAMP)


@pytest.fixture
def chain_thread():
    return load("chain_thread").ChainThread


@pytest.fixture
def rpc_to():
    """`rpc_to(node)` is a caller of a node that a test started itself."""
    clients: list[Rpc] = []

    def connect(node) -> Rpc:
        clients.append(Rpc(node.url))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def node(tmp_path, genesis):
    """Mines a block for every transaction."""
    with load("chain_thread").ChainThread(tmp_path, genesis) as running:
        yield running


@pytest.fixture
def still_node(tmp_path, genesis):
    """Mines only when told."""
    with load("chain_thread").ChainThread(tmp_path, genesis, automine=False) as running:
        yield running


@pytest.fixture
def rpc(node):
    client = Rpc(node.url)
    yield client
    client.close()


@pytest.fixture
def still_rpc(still_node):
    client = Rpc(still_node.url)
    yield client
    client.close()
