"""Carries a plan out: one transaction after the other, each written down before it is sent, so that any run goes on where
the last one ended.

A transaction that waits too long is signed again with the same nonce and a higher fee; what it creates keeps its address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from openledger.evm_ext.signatures import address_of
from openledger.evm_ext.transactions import sign_transaction
from openledger.evm_ext.vm.entry import contract_address
from openledger.node.errors import UserError
from openledger.node.l1_deployment.plan import Step, Terms, steps_after_genesis, steps_before_genesis
from openledger.node.l1_deployment.state import FirstBlock, Sent, State, read_state
from openledger.node.network import Network
from openledger.node.rpc_client import RpcError
from openledger.rollup.blocks import BlockId
from openledger.rollup.clock import Clock, WallClock

GAS_MARGIN_PERCENT = 20
REPLACEMENT_PERCENT = 115
_KNOWN = ("already known", "already imported", "known transaction")
_NONCE_USED = ("nonce too low", "invalid nonce")
_CHEAPER = ("underpriced",)


class DeploymentFailed(UserError):
    """A step cannot be taken; the message says which, why, and what to do."""


class Rpc(Protocol):
    """Calls a JSON-RPC method of the L1; raises RpcError and RpcUnavailable."""

    async def call(self, method: str, *params: Any) -> Any: ...


@dataclass(frozen=True)
class Taken:
    """A step that is done. `address` is what it created, or empty; `again` says that an earlier run had taken it."""

    step: str
    address: str
    gas_used: int
    fee_wei: int
    again: bool


class Deployment:
    """One network's contracts on one L1, from one key."""

    def __init__(
        self,
        rpc: Rpc,
        private_key: bytes,
        terms: Terms,
        *,
        state_file: Path | None = None,
        confirmations: int = 0,
        name: str = "",
        on_step: Callable[[Taken], None] = lambda taken: None,
        clock: Clock | None = None,
        poll_interval_s: float = 0.5,
        resubmit_after_s: float = 60.0,
    ) -> None:
        """`confirmations` L1 blocks must follow the rollup's first one before anything builds on it.

        Raises UserError for a state file of another deployment, and for a key that is not the deployer's.
        """
        if address_of(private_key) != terms.deployer:
            raise UserError(f"the key is of 0x{address_of(private_key).hex()}, not of 0x{terms.deployer.hex()}")
        self._rpc = rpc
        self._key = private_key
        self._terms = terms
        self._state: State = read_state(state_file, terms)
        self._confirmations = confirmations
        self._name = name
        self._on_step = on_step
        self._clock = clock or WallClock()
        self._poll_interval_s = poll_interval_s
        self._resubmit_after_s = resubmit_after_s

    @property
    def addresses(self) -> dict[str, bytes]:
        """What has been created so far."""
        found = {} if self._terms.open_token is None else {"open_token": self._terms.open_token}
        for step in (*steps_before_genesis(self._terms), *steps_after_genesis(self._terms, 0)):
            if step.creates and step.name in self._state.sent:
                found[step.creates] = bytes.fromhex(self._state.sent[step.name].address[2:])
        return found

    async def run(self) -> Network:
        """Take every step that is not taken yet, and describe the network.

        Raises DeploymentFailed, RpcError, RpcUnavailable; running again goes on from there.
        """
        chain_id = int(await self._rpc.call("eth_chainId"), 16)
        if chain_id != self._terms.preset.l1_chain_id:
            raise DeploymentFailed(
                f"the L1 endpoint serves chain {chain_id}, but preset {self._terms.preset.name} belongs on "
                f"{self._terms.preset.l1_chain_id}"
            )
        if self._terms.open_token is not None and not await self._has_code(self._terms.open_token):
            raise DeploymentFailed(f"there is no contract at --open-token 0x{self._terms.open_token.hex()}")
        before = steps_before_genesis(self._terms)
        for step in before:
            await self._take(step)
        genesis = await self._first_block(before)
        for step in steps_after_genesis(self._terms, genesis.timestamp):
            await self._take(step)
        return Network(
            self._terms.network_preset(self.addresses),
            genesis.timestamp,
            BlockId(bytes.fromhex(genesis.hash[2:]), genesis.number),
            self._name,
        )

    async def _first_block(self, before: tuple[Step, ...]) -> FirstBlock:
        """The block of the last of these transactions (nonces order them), once it is as deep as was asked for."""
        last = self._state.sent[before[-1].name]
        while self._state.genesis is None:
            receipt = await self._receipt(last)
            if receipt is not None:
                number = int(receipt["blockNumber"], 16)
                if int(await self._rpc.call("eth_blockNumber"), 16) >= number + self._confirmations:
                    block = await self._rpc.call("eth_getBlockByNumber", hex(number), False)
                    self._state.genesis = FirstBlock(block["hash"], number, int(block["timestamp"], 16))
                    self._state.save()
                    break
            await self._clock.sleep(self._poll_interval_s)
        genesis = self._state.genesis
        found = await self._rpc.call("eth_getBlockByNumber", hex(genesis.number), False)
        if found is None or found["hash"] != genesis.hash:
            raise DeploymentFailed(
                f"L1 block {genesis.number} {genesis.hash}, which the rollup was to begin at, is not on L1 any more: "
                "begin anew with another --state file and more --confirmations"
            )
        return genesis

    # --- one transaction ---

    async def _take(self, step: Step) -> None:
        """Have a step's transaction included, whatever an earlier run did of it."""
        again = step.name in self._state.sent and self._state.sent[step.name].included
        while True:
            if step.name not in self._state.sent:
                nonce = await self._nonce("pending")
                address = "0x" + contract_address(self._terms.deployer, nonce).hex() if step.creates else ""
                await self._sign(step, Sent(step.name, nonce, (), (), address))
            if await self._include(step):
                break
            if step.name != list(self._state.sent)[-1]:
                raise DeploymentFailed(
                    f"L1 does not have the transaction of step {step.name!r} any more, and its nonce went to another one: "
                    "begin anew with another --state file"
                )
            self._state.forget(step.name)
        sent = self._state.sent[step.name]
        self._on_step(Taken(step.name, sent.address, sent.gas_used, sent.fee_wei, again))

    async def _include(self, step: Step) -> bool:
        """Wait until a step's transaction is in a block; False if its nonce went to another transaction."""
        send, deadline = True, self._clock.now() + self._resubmit_after_s
        wait_s = self._poll_interval_s / 16
        while True:
            sent = self._state.sent[step.name]
            if sent.included and sent.address and await self._has_code(bytes.fromhex(sent.address[2:])):
                return True
            used = await self._nonce("latest") > sent.nonce
            receipt = await self._receipt(sent)
            if receipt is not None:
                await self._note(step, sent, receipt)
                return True
            if used:
                return False
            if self._clock.now() >= deadline:
                await self._sign(step, sent)
                send, deadline = True, self._clock.now() + self._resubmit_after_s
                continue
            if send:
                await self._send(sent.raws[-1])
                send = False
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, self._poll_interval_s)

    async def _note(self, step: Step, sent: Sent, receipt: dict[str, Any]) -> None:
        if receipt["status"] != "0x1":
            self._state.forget(step.name)
            raise DeploymentFailed(
                f"step {step.name!r} was reverted in transaction {receipt['transactionHash']}: look there why; running "
                "again tries it anew"
            )
        gas_used = int(receipt["gasUsed"], 16)
        self._state.put(replace(sent, gas_used=gas_used, fee_wei=gas_used * int(receipt["effectiveGasPrice"], 16)))
        if sent.address and not await self._has_code(bytes.fromhex(sent.address[2:])):
            raise DeploymentFailed(
                f"step {step.name!r} left no code at {sent.address}: the L1 endpoint contradicts itself"
            )

    async def _sign(self, step: Step, sent: Sent) -> None:
        """Sign a step's transaction at the present fees (once more: at higher ones) and write it down."""
        to, data = step.request(self.addresses)
        head = await self._rpc.call("eth_getBlockByNumber", "latest", False)
        tip = max(int(await self._rpc.call("eth_maxPriorityFeePerGas"), 16), 1)
        fee = 2 * int(head["baseFeePerGas"], 16) + tip
        for _ in sent.raws:
            tip, fee = tip * REPLACEMENT_PERCENT // 100 + 1, fee * REPLACEMENT_PERCENT // 100 + 1
        signed = sign_transaction(
            self._key,
            chain_id=self._terms.preset.l1_chain_id,
            nonce=sent.nonce,
            gas=await self._gas(step, to, data),
            to=to,
            data=data,
            max_fee_per_gas=fee,
            max_priority_fee_per_gas=tip,
        )
        self._state.put(
            replace(
                sent,
                raws=(*sent.raws, "0x" + signed.raw.hex()),
                hashes=(*sent.hashes, "0x" + signed.hash.hex()),
            )
        )

    async def _gas(self, step: Step, to: bytes | None, data: bytes) -> int:
        call = {"from": "0x" + self._terms.deployer.hex(), "data": "0x" + data.hex()}
        if to is not None:
            call["to"] = "0x" + to.hex()
        try:
            estimate = int(await self._rpc.call("eth_estimateGas", call), 16)
        except RpcError as error:
            raise DeploymentFailed(f"step {step.name!r} would fail: {error}") from error
        return estimate * (100 + GAS_MARGIN_PERCENT) // 100

    async def _send(self, raw: str) -> None:
        try:
            await self._rpc.call("eth_sendRawTransaction", raw)
        except RpcError as error:
            said = str(error).lower()
            # What is known, used or outbid already shows in the receipts and the nonce.
            if not any(words in said for words in (*_KNOWN, *_NONCE_USED, *_CHEAPER)):
                raise

    async def _receipt(self, sent: Sent) -> dict[str, Any] | None:
        for transaction_hash in reversed(sent.hashes):
            receipt: dict[str, Any] | None = await self._rpc.call("eth_getTransactionReceipt", transaction_hash)
            if receipt is not None and receipt.get("blockNumber"):
                return receipt
        return None

    async def _nonce(self, label: str) -> int:
        return int(await self._rpc.call("eth_getTransactionCount", "0x" + self._terms.deployer.hex(), label), 16)

    async def _has_code(self, address: bytes) -> bool:
        return bool(await self._rpc.call("eth_getCode", "0x" + address.hex(), "latest") != "0x")
