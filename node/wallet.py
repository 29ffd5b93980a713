"""A key that signs transactions and sends them over JSON-RPC, waiting for their receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coincurve import PrivateKey

from openledger.genesis.hashing import keccak256
from openledger.node.contracts import Contract
from openledger.node.errors import UserError
from openledger.node.rpc_client import RpcClient, RpcError

GAS_MARGIN_PERCENT = 25
"""Added to an estimate: state may change before the transaction is executed."""
NONCE_ATTEMPTS = 5
_NONCE_TAKEN = ("nonce too low", "replacement transaction underpriced")


class TransactionReverted(UserError):
    """A transaction was, or would be, reverted; the message is the contract's reason."""


@dataclass(frozen=True)
class Wallet:
    """A private key (32 bytes) and what it signs."""

    private_key: bytes

    def __repr__(self) -> str:
        return f"Wallet(0x{self.address.hex()})"

    @property
    def address(self) -> bytes:
        """The account's address (20 bytes)."""
        public: bytes = PrivateKey(self.private_key).public_key.format(compressed=False)
        return keccak256(public[1:])[12:]

    def sign_hash(self, digest: bytes) -> bytes:
        """The 65-byte signature r ‖ s ‖ v of a 32-byte digest, v 27 or 28, as Solidity's ECDSA expects it."""
        signature: bytes = PrivateKey(self.private_key).sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])

    async def send(
        self,
        rpc: RpcClient,
        contract: Contract,
        function: str,
        *arguments: Any,
        value_wei: int = 0,
        nonce: int | None = None,
    ) -> dict[str, Any]:
        """Call `function` in a transaction and return its receipt. `nonce` None takes the next one.

        Raises TransactionReverted with the contract's reason, RpcError for what the pool refuses, RpcUnavailable.
        """
        data = contract.encode(function, *arguments)
        return await self.transact(rpc, contract.address, data, value_wei, contract, nonce)

    async def next_nonce(self, rpc: RpcClient) -> int:
        """The nonce after all transactions in blocks and in the pool."""
        return int(await rpc.call("eth_getTransactionCount", "0x" + self.address.hex(), "pending"), 16)

    async def transact(
        self,
        rpc: RpcClient,
        to: bytes,
        data: bytes = b"",
        value_wei: int = 0,
        contract: Contract | None = None,
        nonce: int | None = None,
    ) -> dict[str, Any]:
        """Send a type-2 transaction and return its receipt; errors as in `send`."""
        call = {
            "from": "0x" + self.address.hex(),
            "to": "0x" + to.hex(),
            "data": "0x" + data.hex(),
            "value": hex(value_wei),
        }
        try:
            estimate = int(await rpc.call("eth_estimateGas", call), 16)
        except RpcError as error:
            if error.code != 3:
                raise
            reason = contract.explain(error.revert_data) if contract else str(error)
            raise TransactionReverted(reason) from error
        gas = estimate * (100 + GAS_MARGIN_PERCENT) // 100
        for attempt in range(NONCE_ATTEMPTS):
            raw = await self._signed(rpc, to, data, value_wei, gas, nonce)
            try:
                sent = await rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
                break
            except RpcError as error:
                # Somebody else who holds this key was faster: the next nonce is another one now.
                taken = any(words in str(error).lower() for words in _NONCE_TAKEN)
                if nonce is not None or not taken or attempt == NONCE_ATTEMPTS - 1:
                    raise
        receipt = await rpc.wait_for_receipt(bytes.fromhex(sent[2:]))
        if receipt["status"] != "0x1":
            number = int(receipt["blockNumber"], 16)
            raise TransactionReverted(
                f"transaction {sent} was reverted in block {number}, though its estimate succeeded: "
                "the state changed in between, try again"
            )
        return receipt

    async def _signed(
        self, rpc: RpcClient, to: bytes, data: bytes, value_wei: int, gas: int, nonce: int | None
    ) -> bytes:
        """A signed type-2 transaction at the network's present fees; `nonce` None takes the next one."""
        from eth_account import Account  # takes half a second, which commands that send nothing need not wait for

        head = await rpc.call("eth_getBlockByNumber", "latest", False)
        tip = int(await rpc.call("eth_maxPriorityFeePerGas"), 16)
        fields = {
            "type": 2,
            "chainId": int(await rpc.call("eth_chainId"), 16),
            "nonce": await self.next_nonce(rpc) if nonce is None else nonce,
            "to": to,
            "data": data,
            "value": value_wei,
            "gas": gas,
            "maxFeePerGas": 2 * int(head["baseFeePerGas"], 16) + tip,
            "maxPriorityFeePerGas": tip,
        }
        return bytes(Account.sign_transaction(fields, self.private_key).raw_transaction)
