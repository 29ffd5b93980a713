"""Machines in Rust beside: revm through pyrevm (no signatures, no trie), and anvil (JSON-RPC, signatures, state)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evm_parts.workloads import CHAIN_ID, GAS_LIMIT, GWEI
from openledger.evm_ext import decode_transaction
from openledger.genesis.genesis import Genesis

ANVIL = Path(__file__).parents[2] / "tests/clients/node_modules/@foundry-rs"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


# --- revm -------------------------------------------------------------------------------------------------


def revm_seconds(start: Genesis, raw: list[bytes]) -> float:
    """CPU seconds for the messages of these transactions."""
    from pyrevm import EVM, AccountInfo, BlockEnv

    evm = EVM(spec_id="PRAGUE")
    evm.set_block_env(BlockEnv(number=1, timestamp=start.timestamp + 2, basefee=0, gas_limit=GAS_LIMIT))
    for address, account in start.alloc.items():
        evm.insert_account_info(
            _hex(address), AccountInfo(balance=account.balance, nonce=account.nonce, code=account.code or None)
        )
        for slot, value in account.storage.items():
            evm.insert_account_storage(_hex(address), slot, value)
    messages = [
        {
            "caller": _hex(item.sender),
            "to": _hex(item.to or b""),
            "calldata": item.data,
            "value": item.value,
            "gas": item.gas,
        }
        for item in map(decode_transaction, raw)
    ]
    begin = time.process_time()
    for message in messages:
        evm.message_call(**message)
    return time.process_time() - begin


# --- anvil ------------------------------------------------------------------------------------------------


def anvil_binary() -> Path | None:
    """Where npm put it, None if it is not there."""
    return next(ANVIL.glob("anvil-*/bin/anvil"), None)


class Anvil:
    """A running anvil; CPU seconds are what the kernel counts for its process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port

    def _send(self, calls: list[tuple[str, list[object]]]) -> list[object]:
        body = json.dumps(
            [
                {"jsonrpc": "2.0", "id": index, "method": method, "params": parameters}
                for index, (method, parameters) in enumerate(calls)
            ]
        ).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            answers = json.load(response)
        for answer in answers:
            if "error" in answer:
                raise RuntimeError(f"anvil: {answer['error']}")
        return [answer["result"] for answer in sorted(answers, key=lambda answer: answer["id"])]

    def prepare(self, start: Genesis) -> None:
        calls: list[tuple[str, list[object]]] = []
        for address, account in start.alloc.items():
            calls.append(("anvil_setBalance", [_hex(address), hex(account.balance)]))
            if account.code:
                calls.append(("anvil_setCode", [_hex(address), _hex(account.code)]))
            calls += [
                ("anvil_setStorageAt", [_hex(address), f"0x{slot:064x}", f"0x{value:064x}"])
                for slot, value in account.storage.items()
            ]
        for first in range(0, len(calls), 500):
            self._send(calls[first : first + 500])

    def seconds(self, raw: list[bytes]) -> float:
        """Take the transactions and mine one block of all of them."""
        before = self._cpu()
        for first in range(0, len(raw), 200):
            self._send([("eth_sendRawTransaction", [_hex(item)]) for item in raw[first : first + 200]])
        self._send([("evm_mine", [])])
        after = self._cpu()
        block = self._send([("eth_getBlockByNumber", ["latest", False])])[0]
        mined = len(block["transactions"])  # type: ignore[index]
        if mined != len(raw):
            raise RuntimeError(f"anvil put {mined} of {len(raw)} transactions into the block")
        return after - before

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@contextmanager
def anvil(start: Genesis) -> Iterator[Anvil]:
    binary = anvil_binary()
    if binary is None:
        raise FileNotFoundError(f"no anvil under {ANVIL}: npm ci --prefix tests/clients")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(binary), "--silent", "--no-mining", "--order", "fifo", "--port", str(port), "--chain-id", str(CHAIN_ID),
        "--gas-limit", str(GAS_LIMIT), "--base-fee", str(GWEI), "--hardfork", "prague", "--timestamp",
        str(start.timestamp),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        server = Anvil(process, port)
        for _ in range(200):
            try:
                server._send([("eth_chainId", [])])
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise TimeoutError("anvil did not answer within ten seconds")
        server.prepare(start)
        yield server
    finally:
        process.terminate()
        process.wait()
