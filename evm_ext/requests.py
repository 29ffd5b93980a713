"""What a block asks of the consensus layer (EIP-7685): deposits, withdrawals and consolidations of validators.

Sources: EIP-6110, 7002, 7251, 7685.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from openledger.evm_ext.errors import SystemContractFailed
from openledger.evm_ext.receipts import Log, Receipt
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.vm.entry import system_call
from openledger.genesis import predeploys

DEPOSIT_EVENT_TOPIC = bytes.fromhex("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5")

_DEPOSIT_LAYOUT = ((160, 48), (256, 32), (320, 8), (384, 96), (512, 8))
_DEPOSIT_EVENT_BYTES = 576


def collect_requests(state: WorldState, receipts: Iterable[Receipt], deposit_contract: bytes) -> tuple[bytes, ...]:
    """A block's requests after its transactions: a type byte and data each, without those that are empty.

    Raises `SystemContractFailed` if a queue's contract is missing or fails, or a deposit has an unknown layout: the
    block is invalid then."""
    requests = [b"\x00" + deposit_requests(receipts, deposit_contract)]
    for kind, contract in (
        (b"\x01", predeploys.WITHDRAWAL_REQUESTS),
        (b"\x02", predeploys.CONSOLIDATION_REQUESTS),
    ):
        computation = system_call(state, contract, b"")
        if computation is None:
            raise SystemContractFailed(f"no code at system contract 0x{contract.hex()}: add it to the genesis alloc")
        if computation.is_error:
            raise SystemContractFailed(f"system contract 0x{contract.hex()} failed: {computation.error}")
        requests.append(kind + bytes(computation.output))
    return tuple(request for request in requests if len(request) > 1)


def requests_hash(requests: Iterable[bytes]) -> bytes:
    """The commitment to requests in a header."""
    return hashlib.sha256(b"".join(hashlib.sha256(request).digest() for request in requests)).digest()


def deposit_requests(receipts: Iterable[Receipt], deposit_contract: bytes) -> bytes:
    """The deposits in a block's events, 192 bytes each (EIP-6110). Raises `SystemContractFailed`."""
    return b"".join(
        _deposit_request(log)
        for receipt in receipts
        for log in receipt.logs
        if log.address == deposit_contract and log.topics[:1] == (DEPOSIT_EVENT_TOPIC,)
    )


def _deposit_request(log: Log) -> bytes:
    data = log.data
    words = [int.from_bytes(data[start : start + 32], "big") for start in range(0, 160, 32)]
    sizes = [int.from_bytes(data[offset : offset + 32], "big") for offset, _ in _DEPOSIT_LAYOUT]
    if (
        len(data) != _DEPOSIT_EVENT_BYTES
        or words != [offset for offset, _ in _DEPOSIT_LAYOUT]
        or sizes != [size for _, size in _DEPOSIT_LAYOUT]
    ):
        raise SystemContractFailed(f"a deposit event has an unknown layout: 0x{data.hex()}")
    return b"".join(data[offset + 32 : offset + 32 + size] for offset, size in _DEPOSIT_LAYOUT)
