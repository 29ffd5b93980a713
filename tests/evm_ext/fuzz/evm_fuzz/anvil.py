"""Runs cases in anvil: revm at any hard fork, over JSON-RPC. Slower, but knows every fork and every transaction type."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openledger.evm_ext.vm.entry import DELEGATION_PREFIX
from openledger.genesis.hardforks import Hardfork

from .case import CHAIN_ID, SENDER, AccountAfter, BlockValues, Case, Outcome, difference
from .compare import Disagreement, plain

OP_FORK = "isthmus"
BINARY = Path(__file__).parents[3] / "clients/node_modules/.bin/anvil"

_NAMES = {
    Hardfork.FRONTIER: "frontier",
    Hardfork.HOMESTEAD: "homestead",
    Hardfork.DAO_FORK: "dao",
    Hardfork.TANGERINE_WHISTLE: "tangerine",
    Hardfork.SPURIOUS_DRAGON: "spuriousdragon",
    Hardfork.MUIR_GLACIER: "muirglacier",
    Hardfork.ARROW_GLACIER: "arrowglacier",
    Hardfork.GRAY_GLACIER: "grayglacier",
}


def is_installed() -> bool:
    return BINARY.exists() and shutil.which("node") is not None


class AnvilError(Exception):
    """anvil answered a request with an error."""


class Anvil:
    """One process at one fork. Use as a context manager."""

    def __init__(self, fork: Hardfork, network: str = "ethereum") -> None:
        self.fork = fork
        name = _NAMES.get(fork, fork.name.lower())
        command = [str(BINARY), "--port", "0", "--chain-id", str(CHAIN_ID), "--accounts", "0"]
        command += ["--gas-limit", "30000000", "--base-fee", "0", "--gas-price", "0", "--disable-min-priority-fee"]
        command += ["--disable-default-create2-deployer", "--no-request-size-limit", "--enable-tx-gas-limit"]
        if network == "ethereum":
            command += ["--hardfork", name]
        else:
            command += ["--network", network, "--hardfork", OP_FORK]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Listening on "):
                host, port = line.split()[-1].split(":")
                break
        else:
            raise AnvilError(f"anvil did not start: {' '.join(command)}")
        # A full pipe would stop it: it writes a line for every request.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self._connection = http.client.HTTPConnection(host, int(port), timeout=180)

    def __enter__(self) -> Anvil:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait(10)

    def ask(self, requests: Iterable[tuple[str, list[Any]]]) -> list[Any]:
        """Answers in order; an error is an `AnvilError` in the list."""
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
            for number, (method, parameters) in enumerate(requests)
        ]
        if not batch:
            return []
        self._connection.request("POST", "/", json.dumps(batch), {"Content-Type": "application/json"})
        answers = json.loads(self._connection.getresponse().read())
        by_id = {answer["id"]: answer for answer in answers}
        return [
            by_id[number]["result"] if "result" in by_id[number] else AnvilError(json.dumps(by_id[number].get("error")))
            for number in range(len(batch))
        ]

    def ask_one(self, method: str, *parameters: Any) -> Any:
        """One answer. Raises `AnvilError`."""
        answer = self.ask([(method, list(parameters))])[0]
        if isinstance(answer, AnvilError):
            raise answer
        return answer

    # --- cases --------------------------------------------------------------------------------------------

    def place(self, case: Case) -> Case:
        """Put the case's state in, and give the case in the block that its transaction will be in."""
        block = self.ask_one("eth_getBlockByNumber", "latest", False)
        timestamp = int(block["timestamp"], 16) + 1
        requests: list[tuple[str, list[Any]]] = [
            ("evm_setNextBlockTimestamp", [timestamp]),
            ("anvil_setCoinbase", ["0x" + case.block.coinbase.hex()]),
        ]
        if self.fork >= Hardfork.LONDON:
            requests.append(("anvil_setNextBlockBaseFeePerGas", [hex(case.block.base_fee)]))
        for address, account in case.accounts.items():
            place = "0x" + address.hex()
            requests.append(("anvil_setBalance", [place, hex(account.balance)]))
            requests.append(("anvil_setNonce", [place, hex(account.nonce)]))
            if account.code:
                requests.append(("anvil_setCode", [place, "0x" + account.code.hex()]))
            for slot, value in account.storage.items():
                requests.append(("anvil_setStorageAt", [place, f"0x{slot:064x}", f"0x{value:064x}"]))
        for answer in self.ask(requests):
            if isinstance(answer, AnvilError):
                raise answer
        return case

    def run(self, case: Case) -> tuple[Case, Outcome]:
        """The case in the block anvil put it into, and what anvil made of it, without the accounts: see `accounts`."""
        self.place(case)
        try:
            transaction_hash = self.ask_one("eth_sendRawTransaction", "0x" + case.transaction.raw.hex())
        except AnvilError as error:
            return case, Outcome(True, error=str(error))
        for _ in range(50):  # mining is another task of anvil's
            receipt = self.ask_one("eth_getTransactionReceipt", transaction_hash)
            if receipt is not None:
                break
            time.sleep(0.02)
        else:
            return case, Outcome(True, error="anvil left the transaction out of the block")
        block = self.ask_one("eth_getBlockByNumber", receipt["blockNumber"], False)
        number = int(block["number"], 16)
        known = self.ask(
            ("eth_getBlockByNumber", [hex(earlier), False]) for earlier in range(max(0, number - 256), number)
        )
        values = BlockValues(
            number=number,
            timestamp=int(block["timestamp"], 16),
            coinbase=_bytes(block["miner"]),
            gas_limit=int(block["gasLimit"], 16),
            base_fee=int(block.get("baseFeePerGas") or "0x0", 16),
            prev_randao=_bytes(block["mixHash"]) if self.fork >= Hardfork.PARIS else bytes(32),
            difficulty=int(block["difficulty"], 16),
            excess_blob_gas=int(block.get("excessBlobGas") or "0x0", 16),
            ancestors={int(each["number"], 16): _bytes(each["hash"]) for each in known},
        )
        logs = tuple(
            (_bytes(log["address"]), tuple(map(_bytes, log["topics"])), _bytes(log["data"])) for log in receipt["logs"]
        )
        return replace(case, block=values), Outcome(
            False, receipt["status"] == "0x1", int(receipt["gasUsed"], 16), None, logs
        )

    def accounts(self, case: Case, like: Outcome) -> Mapping[bytes, AccountAfter]:
        """The accounts after `run`, of those that the case has or `like` knows."""
        wanted: list[tuple[bytes, list[int]]] = []
        for address in sorted({*like.accounts, *case.accounts, SENDER}):
            slots = set(like.slots.get(address, ()))
            slots |= set(case.accounts[address].storage) if address in case.accounts else set()
            wanted.append((address, sorted(slots)))
        requests: list[tuple[str, list[Any]]] = []
        for address, slots in wanted:
            place = "0x" + address.hex()
            requests += [(f"eth_get{name}", [place, "latest"]) for name in ("Balance", "TransactionCount", "Code")]
            requests += [("eth_getStorageAt", [place, hex(slot), "latest"]) for slot in slots]
        answers = iter(self.ask(requests))
        found: dict[bytes, AccountAfter] = {}
        for address, slots in wanted:
            balance, nonce, code = next(answers), next(answers), next(answers)
            storage = {slot: value for slot in slots if (value := int(next(answers), 16))}
            account = AccountAfter(int(balance, 16), int(nonce, 16), _bytes(code), storage)
            if not account.is_nothing:
                found[address] = account
        return found

    def restore(self) -> None:
        """Forget the last case. Reverting to a snapshot would leave touched accounts there, empty."""
        self.ask([("anvil_dropAllTransactions", []), ("anvil_reset", [])])


def disagreements(chain: Anvil, case: Case) -> Iterator[Disagreement]:
    """Between anvil and our plain tier, in the block that anvil put the transaction into."""
    case, theirs = chain.run(case)
    mine = plain(case)
    if not theirs.refused and not mine.refused:
        theirs = replace(theirs, accounts=chain.accounts(case, mine))
    chain.restore()
    what = difference(mine, theirs)
    if what:
        yield Disagreement(case, "anvil", what)


def can_run(case: Case) -> bool:
    """One transaction a block; blob transactions need their blobs here. Authorities that do not exist are taken for ones that do, and refunded.
    Delegations hold before Prague, too. Storage alone is no obstacle to a creation, against EIP-7610; senders with code may send, against EIP-3607."""
    if case.before:
        return False
    if any(account.storage and not account.nonce for account in case.accounts.values()):
        return False
    delegated = any(account.code.startswith(DELEGATION_PREFIX) for account in case.accounts.values())
    if delegated and case.fork < Hardfork.PRAGUE:
        return False
    code = case.accounts[SENDER].code if SENDER in case.accounts else b""
    if code and not code.startswith(DELEGATION_PREFIX):
        return False
    authorities = {authorization.authority for authorization in case.authorizations} - {None}
    return case.type != 3 and authorities <= set(case.accounts)


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value[2:])
