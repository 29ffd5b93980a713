"""A JSON-RPC client for commands and services that talk to a node over HTTP (JSON-RPC 2.0)."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import trio


class RpcUnavailable(Exception):
    """Nothing answered at the endpoint, or not in time."""


class RpcError(Exception):
    """The node answered with an error: `code`, a message, and `data` (revert data as 0x hex, where there is some)."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    @property
    def revert_data(self) -> bytes:
        """What a reverted call returned; empty where the error is another."""
        if self.code == 3 and isinstance(self.data, str) and self.data.startswith("0x"):
            return bytes.fromhex(self.data[2:])
        return b""


class RpcClient:
    """Calls methods of one endpoint. Use as an async context manager."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False)
        self._ids = itertools.count(1)

    async def __aenter__(self) -> RpcClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, method: str, *params: Any) -> Any:
        """The result of `method`.

        Raises RpcUnavailable and RpcError.
        """
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            response = await self._http.post(self.url, json=request)
            answer = response.json()
        except httpx.HTTPError as error:
            raise RpcUnavailable(
                f"no answer from {self.url} ({type(error).__name__}): is the node running? `openledger dev` starts one"
            ) from error
        except ValueError as error:
            raise RpcUnavailable(f"{self.url} did not answer with JSON (status {response.status_code})") from error
        if "error" in answer:
            failure = answer["error"]
            raise RpcError(failure.get("code", 0), failure.get("message", "unknown error"), failure.get("data"))
        return answer["result"]

    async def wait_for_receipt(self, transaction_hash: bytes, timeout_s: float = 60.0) -> dict[str, Any]:
        """The receipt of a transaction once it is in a block.

        Raises RpcUnavailable when it is not after `timeout_s`.
        """
        with trio.move_on_after(timeout_s):
            while True:
                receipt: dict[str, Any] | None = await self.call(
                    "eth_getTransactionReceipt", "0x" + transaction_hash.hex()
                )
                if receipt is not None:
                    return receipt
                await trio.sleep(0.25)
        raise RpcUnavailable(
            f"transaction 0x{transaction_hash.hex()} is in no block after {timeout_s:.0f} s: is the sequencer running?"
        )
