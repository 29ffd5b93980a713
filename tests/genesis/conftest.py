"""An EVM that none of our packages had a hand in (revm), loaded with a genesis alloc."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyrevm
import pytest
from eth_abi import decode, encode

from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256


class Reverted(Exception):
    """A call failed; `output` is its return data."""

    def __init__(self, output: bytes, text: str) -> None:
        super().__init__(text)
        self.output = output


@dataclass(frozen=True)
class Event:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


def selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


def argument_types(signature: str) -> list[str]:
    """The top-level types of `name(type,type,…)`."""
    inside = signature[signature.index("(") + 1 : -1]
    types, depth, current = [], 0, ""
    for character in inside:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            types.append(current)
            current = ""
        else:
            current += character
    return [*types, current] if current else types


def _hex(address: bytes) -> str:
    return "0x" + address.hex()


class Machine:
    """Calls, deployments and storage of one revm instance; state persists between calls."""

    def __init__(
        self,
        chain_id: int,
        alloc: Mapping[bytes, GenesisAccount] | None = None,
        timestamp: int = 1_700_000_002,
    ) -> None:
        self.evm = pyrevm.EVM(
            env=pyrevm.Env(
                cfg=pyrevm.CfgEnv(chain_id=chain_id),
                block=pyrevm.BlockEnv(number=1, timestamp=timestamp, gas_limit=100_000_000, basefee=0),
            ),
            gas_limit=100_000_000,
            spec_id="PRAGUE",
        )
        for address, account in (alloc or {}).items():
            self.put(address, account)

    def set_timestamp(self, timestamp: int) -> None:
        self.evm.set_block_env(pyrevm.BlockEnv(number=2, timestamp=timestamp, gas_limit=100_000_000, basefee=0))

    def put(self, address: bytes, account: GenesisAccount) -> None:
        self.evm.insert_account_info(
            _hex(address),
            pyrevm.AccountInfo(balance=account.balance, nonce=account.nonce, code=account.code),
        )
        for slot, value in account.storage.items():
            self.evm.insert_account_storage(_hex(address), slot, value)

    def deploy(self, code: bytes, types: str = "()", *arguments: Any, deployer: bytes = b"\x99" * 20) -> bytes:
        try:
            created = self.evm.deploy(_hex(deployer), code + encode(argument_types(types), arguments))
        except RuntimeError as failure:
            raise _reverted(failure) from None
        return bytes.fromhex(created[2:])

    def call(
        self,
        to: bytes,
        signature: str,
        *arguments: Any,
        caller: bytes = b"\x99" * 20,
        value: int = 0,
        returns: str = "()",
    ) -> Any:
        """Decoded results (one value bare, several as a tuple); raises Reverted."""
        data = selector(signature) + encode(argument_types(signature), arguments)
        output = self.send(to, data, caller=caller, value=value)
        results = decode(argument_types(returns), output)
        return results[0] if len(results) == 1 else results

    def send(self, to: bytes, data: bytes, *, caller: bytes = b"\x99" * 20, value: int = 0) -> bytes:
        """Raw return data; raises Reverted."""
        if value:
            self.evm.set_balance(_hex(caller), self.evm.get_balance(_hex(caller)) + value)
        try:
            return bytes(self.evm.message_call(_hex(caller), _hex(to), calldata=data, value=value))
        except RuntimeError as failure:
            raise _reverted(failure) from None

    @property
    def events(self) -> list[Event]:
        """What the last call emitted."""
        return [
            Event(
                bytes.fromhex(log.address[2:]),
                tuple(bytes.fromhex(topic.removeprefix("0x")) for topic in log.topics),
                bytes(log.data[1]) if isinstance(log.data, tuple) else bytes(log.data),
            )
            for log in self.evm.result.logs
        ]

    def code(self, address: bytes) -> bytes:
        return bytes(self.evm.get_code(_hex(address)) or b"").rstrip(b"\0")

    def storage(self, address: bytes, slot: int) -> int:
        return int(self.evm.storage(_hex(address), slot))

    def balance(self, address: bytes) -> int:
        return int(self.evm.get_balance(_hex(address)))


def _reverted(failure: RuntimeError) -> Reverted:
    text = str(failure)
    found = re.search(r"output: 0x([0-9a-f]*)", text)
    return Reverted(bytes.fromhex(found[1]) if found else b"", text)


@pytest.fixture(scope="session")
def machine() -> Callable[..., Machine]:
    """Makes a Machine: machine(chain_id, alloc, timestamp)."""
    return Machine


@pytest.fixture(scope="session")
def reverted() -> type[Reverted]:
    """The exception of a failed call."""
    return Reverted
