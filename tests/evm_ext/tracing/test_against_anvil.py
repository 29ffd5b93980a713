"""The same transactions traced here and by anvil: revm with tracers that answer as geth's do.

Only what anvil itself does otherwise is left out, each with its reason.
"""

from __future__ import annotations

import json
import random
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from openledger.genesis.genesis import GenesisAccount

pytestmark = pytest.mark.interop

ANVIL = Path(__file__).parents[2] / "clients/node_modules/.bin/anvil"
CONTRACTS = [bytes([fill]) * 20 for fill in (0xA1, 0xA2, 0xA3)]
COINBASE = b"\xcb" * 20
# What depends on the block is taken out of programs: the blocks are not the same.
BLOCK_OPCODES = bytes((0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x47, 0x48, 0x4A, 0x3A, 0x31))


class Anvil:
    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"

    def __call__(self, method: str, *params: object) -> object:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self._url, body, {"content-type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=180) as response:
            answer = json.load(response)
        assert "error" not in answer, (method, answer)
        return answer["result"]


@pytest.fixture(scope="module")
def anvil():
    if not ANVIL.exists():
        pytest.skip("anvil is not installed: run `npm ci` in tests/clients")
    command = [
        str(ANVIL),
        "--port",
        "0",
        "--hardfork",
        "prague",
        "--chain-id",
        "1337",
        "--no-mining",
        "--steps-tracing",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if "Listening on" in line:
                    break
            client = Anvil(line.split("Listening on ")[1].split()[0])
            yield client
        finally:
            process.terminate()


def _program(tools, chance: random.Random) -> bytes:
    code = bytearray(tools.random_program(chance, CONTRACTS))
    for index, value in enumerate(code):
        if value in BLOCK_OPCODES:
            code[index] = 0x30
    return bytes(code)


@pytest.fixture
def both(tools, open_chain, tracing, anvil):
    """`both(codes, data)`: (ours, anvil's), each a function from tracer name and options to a trace."""

    def run(codes: list[bytes], data: bytes = b"", value: int = 0, name: str = "chain", gas: int = 400_000):
        sender = tools.ADDRESSES[0]
        snapshot = anvil("evm_snapshot")
        extra = {}
        for address, code in zip(CONTRACTS, codes):
            extra[address] = GenesisAccount(nonce=1, code=code)
            anvil("anvil_setCode", "0x" + address.hex(), "0x" + code.hex())
            anvil("anvil_setNonce", "0x" + address.hex(), "0x1")
        genesis = tools.ethereum_genesis(extra, coinbase=COINBASE)
        chain = open_chain(genesis, name)
        anvil("anvil_setBalance", "0x" + sender.hex(), hex(genesis.alloc[sender].balance))
        anvil("anvil_setCoinbase", "0x" + b"\xfe".hex() * 20)
        transaction = tools.signed(0, chain.chain_id, 0, CONTRACTS[0], gas=gas, data=data, value=value)
        block = tools.extend(chain, (transaction,))
        assert anvil("eth_sendRawTransaction", "0x" + transaction.raw.hex()) == "0x" + transaction.hash.hex()
        anvil("anvil_mine", "0x1")

        def ours(tracer="", **options):
            return tracing.trace(chain, block, name=tracer, **options)

        def theirs(tracer="", **options):
            config = {"tracer": tracer, "tracerConfig": options} if tracer else options
            return anvil("debug_traceTransaction", "0x" + transaction.hash.hex(), config)

        try:
            yield ours, theirs
        finally:
            assert anvil("evm_revert", snapshot)

    return contextmanager(run)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_give_the_rows_and_the_call_tree_of_revm(both, tools, seed):
    chance = random.Random(seed)
    for round_number in range(4):
        codes = [_program(tools, chance) for _ in CONTRACTS]
        with both(codes, chance.randbytes(40), chance.choice((0, 0, 7)), f"chain{round_number}") as (ours, theirs):
            _compare_rows(ours(), theirs())
            mine, other = ours("callTracer", withLog=True), theirs("callTracer", withLog=True)
            assert list(_differences(mine, other)) == []
            assert _accounts(ours("prestateTracer")) == _accounts(theirs("prestateTracer"))
            mine, other = ours("prestateTracer", diffMode=True), theirs("prestateTracer", diffMode=True)
            assert _accounts(mine["pre"]) == _accounts(other["pre"])
            assert _accounts(mine["post"]) == _accounts(other["post"])


def _accounts(accounts):
    """What both show: not code hashes, accounts that are empty and slots that became 0, which new geth's answers
    treat otherwise, and not what the sender has left, for the base fee is another."""
    shown = {}
    for address, account in accounts.items():
        fields = {name: value for name, value in account.items() if name not in ("codeHash", "storage")}
        if "nonce" in fields:
            fields.pop("balance", None)
        if any(int(value, 16) for value in account.get("storage", {}).values()):
            fields["storage"] = {slot: value for slot, value in account["storage"].items() if int(value, 16)}
        if fields not in ({}, {"balance": "0x0"}):
            shown[address] = fields
    return shown


def _differences(mine, other, place=()):
    """Where two call trees differ."""
    for key in sorted(set(mine) | set(other)):
        a, b = mine.get(key), other.get(key)
        if key == "calls":
            if len(a or ()) != len(b or ()):
                yield (*place, "calls"), len(a or ()), len(b or ())
            for index, (x, y) in enumerate(zip(a or (), b or ())):
                yield from _differences(x, y, (*place, index))
        elif a != b and not _is_known(key, a, b, mine, place):
            yield (*place, key), a, b, mine["type"]


def _is_known(key, ours, theirs, frame, place) -> bool:
    """anvil leaves the intrinsic gas out of the top frame, keeps the logs of what failed, and has other words for
    unknown opcodes, for failed precompiles, and for memory that no gas can pay for."""
    if key == "gas":
        return not place
    if key == "logs":
        return ours is None and "error" in frame
    return key == "error" and (
        theirs in ("precompiled failed", "out of gas: reach memory limit")
        or (ours.endswith("write protection") and theirs == "StateChangeDuringStaticCall")
        or ours.startswith("stack ")
        or (theirs == "invalid opcode" and ours.startswith("invalid opcode: "))
    )


def _compare_rows(ours, theirs):
    assert ours["gas"] == theirs["gas"]
    assert ours["failed"] == theirs["failed"]
    rows = iter(ours["structLogs"])
    for other in theirs["structLogs"]:
        if (other["pc"], other["op"], other["stack"]) == (0, "STOP", []):
            continue  # revm has a row for the end of code that is empty, geth only for code that begins with STOP
        mine = next(rows)
        while (mine["pc"], mine["op"]) == (0, "STOP"):
            mine = next(rows)
        shared = {key: mine.get(key) for key in ("pc", "op", "gas", "depth", "stack")}
        if other["op"] == "Unknown":
            shared["op"] = "Unknown"
        # revm counts a creation's gas as its cost, and shows all gas that is left as the cost of what failed
        if not mine["op"].startswith("CREATE") and "error" not in other:
            shared["gasCost"] = mine["gasCost"]
        assert shared == {key: other.get(key) for key in shared}, (mine, other)
    assert all((row["pc"], row["op"]) == (0, "STOP") for row in rows)
