"""What all frames of a transaction share."""

from __future__ import annotations


class TransactionContext:
    """Wei paid per gas, who signed, the hashes of the blobs, and a counter that puts logs in order. Names are those
    py-evm's opcodes ask for."""

    __slots__ = ("_logs", "blob_versioned_hashes", "gas_price", "origin")

    def __init__(self, gas_price: int, origin: bytes, blob_versioned_hashes: tuple[bytes, ...] = ()) -> None:
        self.gas_price = gas_price
        self.origin = origin
        self.blob_versioned_hashes = blob_versioned_hashes
        self._logs = -1

    def get_next_log_counter(self) -> int:
        self._logs += 1
        return self._logs
