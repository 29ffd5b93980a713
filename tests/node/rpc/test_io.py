"""Files of requests and what their answers hold, over real HTTP: transcribed cases of execution-apis, and our own."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.execution_client import ExecutionClientConfig

FOLDER = Path(__file__).with_name("io")
CHAIN_ID = 3_503_995_874_084_926
"""Of the chain that the public cases were recorded on; unsigned transactions hash to theirs with it."""
EMITTER = bytes.fromhex("7dcd17433742f4c0ca53122ab541d0ba67fc27df")
EMITTER_CODE = bytes.fromhex("3680600080376000206000548082558060010160005560005263656d697460206000a2")
RICH = bytes.fromhex("0c2c51a0990aee1d73c1228de158688341557508")
SIGNER = bytes.fromhex("1f4924b14f34e24159387c0a4cdbaa32f3ddb0cf")
"""Whose authorization some cases carry."""


def round_trips(path: Path):
    """(comment, request, expected) of each round trip in a file."""
    comment, request = "", None
    for line in path.read_text().splitlines():
        if line.startswith("//"):
            comment = line[2:].strip()
        elif line.startswith(">> "):
            request = line[3:]
        elif line.startswith("<< "):
            yield comment, request, json.loads(line[3:])


@pytest.fixture(scope="module")
def prague(tmp_path_factory, load_module):
    """Prague from block 0, with the timestamp and gas limit of the recorded chain's head, and its contract."""
    tools = load_module("client_thread")
    base = l1_genesis(DEVNET, 540)
    genesis = replace(
        base,
        chain_id=CHAIN_ID,
        gas_limit=200_000_000,
        alloc=dict(base.alloc)
        | {
            EMITTER: GenesisAccount(code=EMITTER_CODE, storage={0: 0x38}),
            RICH: GenesisAccount(balance=10**24),
            SIGNER: GenesisAccount(balance=10**18),
            bytes(20): GenesisAccount(balance=1),
        },
    )
    folder = tmp_path_factory.mktemp("prague")
    config = ExecutionClientConfig(genesis=tools.write_genesis(folder, genesis), port=0)
    with tools.ClientThread(config) as client, httpx.Client(trust_env=False, base_url=client.rpc.url) as http:
        yield http


def assert_holds(actual, expected, where: str = "answer") -> None:
    if isinstance(expected, dict):
        assert isinstance(actual, dict), (where, actual)
        for name, value in expected.items():
            assert name in actual, (where, name, actual)
            assert_holds(actual[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert isinstance(actual, list), (where, actual)
        assert len(actual) == len(expected), (where, actual)
        for index, value in enumerate(expected):
            assert_holds(actual[index], value, f"{where}[{index}]")
    else:
        assert actual == expected, where


CASES = [(path.stem, *case) for path in sorted(FOLDER.glob("*.io")) for case in round_trips(path)]


@pytest.mark.parametrize(
    ("comment", "request_text", "expected"), [case[1:] for case in CASES], ids=[f"{c[0]}: {c[1][:60]}" for c in CASES]
)
def test_a_round_trip_is_answered_as_recorded(prague, comment, request_text, expected):
    response = prague.post("/", content=request_text, headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert ("error" in answer) == ("error" in expected), (comment, answer)
    assert_holds(answer, expected, comment)
