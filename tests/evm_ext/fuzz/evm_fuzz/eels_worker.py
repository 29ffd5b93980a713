"""Runs cases in the execution specs: one JSON case a line in, one JSON outcome a line out.

Started by another interpreter, the one that has the package `ethereum-execution`; imports nothing of ours.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import Any

from ethereum.exceptions import EthereumException, InvalidBlock
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes, Bytes32
from ethereum_types.numeric import U64, U256, Uint

# The specs have Constantinople only as it was with Petersburg's correction.
_SAME = {"PETERSBURG": "constantinople"}


def run(case: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a case; see eels.py for the fields of both."""
    name = _SAME.get(case["fork"], case["fork"].lower())
    base = f"ethereum.forks.{name}"
    fork, vm, states, types = (import_module(f"{base}.{part}") for part in ("fork", "vm", "state", "fork_types"))
    state = states.State()
    for address, account in case["accounts"].items():
        place = types.Address(bytes.fromhex(address))
        code = Bytes(bytes.fromhex(account["code"]))
        states.set_account(state, place, types.Account(Uint(account["nonce"]), U256(account["balance"]), code))
        for slot, value in account["storage"].items():
            states.set_storage(state, place, Bytes32(int(slot).to_bytes(32, "big")), U256(value))
    block = case["block"]
    values = {
        "chain_id": U64(case["chain_id"]),
        "state": state,
        "block_gas_limit": Uint(block["gas_limit"]),
        "block_hashes": [Bytes32(bytes.fromhex(each)) for each in block["ancestors"]],
        "coinbase": types.Address(bytes.fromhex(block["coinbase"])),
        "number": Uint(block["number"]),
        "base_fee_per_gas": Uint(block["base_fee"]),
        "time": U256(block["timestamp"]),
        "difficulty": Uint(block["difficulty"]),
        "prev_randao": Bytes32(bytes.fromhex(block["prev_randao"])),
        "excess_blob_gas": U64(block["excess_blob_gas"]),
        "parent_beacon_block_root": Bytes32(bytes(32)),
    }
    environment = vm.BlockEnvironment(**{item.name: values[item.name] for item in fields(vm.BlockEnvironment)})
    said: list[Any] = []
    original = fork.process_message_call

    def process_message_call(message: Any) -> Any:
        said.append(original(message))
        return said[-1]

    fork.process_message_call = process_message_call
    output = vm.BlockOutput()
    *before, last = case["raw"]
    try:
        for index, raw in enumerate(before):
            with suppress(EthereumException, InvalidBlock):
                fork.process_transaction(environment, output, _transaction(base, bytes.fromhex(raw)), Uint(index))
        used = output.block_gas_used
        said.clear()
        fork.process_transaction(environment, output, _transaction(base, bytes.fromhex(last)), Uint(len(before)))
    except (EthereumException, InvalidBlock) as error:
        return {"refused": True, "error": f"{type(error).__name__}: {error}"}
    finally:
        fork.process_message_call = original
    return {
        "refused": False,
        "success": said[0].error is None,
        "error": repr(said[0].error),
        "gas_used": int(output.block_gas_used - used),
        "output": bytes(said[0].return_data).hex() if hasattr(said[0], "return_data") else None,
        "logs": [
            [bytes(log.address).hex(), [bytes(topic).hex() for topic in log.topics], bytes(log.data).hex()]
            for log in said[0].logs
        ],
        "accounts": _accounts(state),
    }


def _transaction(base: str, raw: bytes) -> Any:
    transactions = import_module(f"{base}.transactions")
    if raw[0] >= 0xC0:
        legacy = getattr(transactions, "LegacyTransaction", None) or transactions.Transaction
        return rlp.decode_to(legacy, raw)
    return transactions.decode_transaction(Bytes(raw))


def _accounts(state: Any) -> dict[str, Any]:
    found = {}
    for address, account in state._main_trie._data.items():
        if account is None:
            continue
        trie = state._storage_tries.get(address)
        storage = (
            {} if trie is None else {str(int.from_bytes(key, "big")): int(value) for key, value in trie._data.items()}
        )
        found[bytes(address).hex()] = {
            "balance": int(account.balance),
            "nonce": int(account.nonce),
            "code": bytes(account.code).hex(),
            "storage": storage,
        }
    return found


if __name__ == "__main__":
    sys.setrecursionlimit(100_000)
    for line in sys.stdin:
        try:
            answer = run(json.loads(line))
        except Exception as error:
            import traceback

            answer = {"crashed": traceback.format_exc(limit=-5), "error": repr(error)}
        print(json.dumps(answer), flush=True)
