"""Runs cases in the execution specs, every fork's rules written down by those who make them. Slow: a megagas a second.

Their pins contradict ours, so they live in an interpreter of their own: `python -m venv V && V/bin/pip install
ethereum-execution`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from openledger.genesis.hardforks import Hardfork

from .case import CHAIN_ID, AccountAfter, Case, Outcome

WORKER = Path(__file__).with_name("eels_worker.py")


def can_run(case: Case) -> bool:
    """They leave out Constantinople without Petersburg's correction, and OP chains."""
    return case.fork != Hardfork.CONSTANTINOPLE and not case.is_op


class Eels:
    """A worker process. Use as a context manager."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Eels:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def run(self, case: Case) -> Outcome:
        """What the specs make of a case. Raises RuntimeError if they cannot run it."""
        block = case.block
        question = {
            "fork": case.fork.name,
            "chain_id": CHAIN_ID,
            "raw": [raw.hex() for raw in (*case.before, case.transaction.raw)],
            "accounts": case.to_json()["accounts"],
            "block": {
                "number": block.number,
                "timestamp": block.timestamp,
                "gas_limit": block.gas_limit,
                "base_fee": block.base_fee,
                "difficulty": block.difficulty,
                "excess_blob_gas": block.excess_blob_gas,
                "coinbase": block.coinbase.hex(),
                "prev_randao": block.prev_randao.hex(),
                "ancestors": [
                    block.ancestor_hash(number).hex() for number in range(max(0, block.number - 256), block.number)
                ],
            },
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "crashed" in answer:
            raise RuntimeError(f"the execution specs: {answer['crashed']}")
        if answer["refused"]:
            return Outcome(True, error=answer["error"])
        accounts = {
            bytes.fromhex(address): AccountAfter(
                account["balance"],
                account["nonce"],
                bytes.fromhex(account["code"]),
                {int(slot): value for slot, value in account["storage"].items() if value},
            )
            for address, account in answer["accounts"].items()
        }
        return Outcome(
            refused=False,
            success=answer["success"],
            gas_used=answer["gas_used"],
            output=None if answer["output"] is None else bytes.fromhex(answer["output"]),
            logs=tuple(
                (bytes.fromhex(address), tuple(map(bytes.fromhex, topics)), bytes.fromhex(data))
                for address, topics, data in answer["logs"]
            ),
            accounts={address: account for address, account in accounts.items() if not account.is_nothing},
            error=answer["error"],
        )
