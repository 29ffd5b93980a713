"""OPEN between L1 and L2, as its owner sees it: deposit; withdraw, prove, finalize (OP-Stack deposits.md, withdrawals.md).

A withdrawal is known by its L2 transaction. Everything else is read from the chains each time, so any step can be taken
from any machine, by anybody, and again after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from openledger.evm_ext.receipts import Log
from openledger.evm_ext.transactions import transaction_from_deposit
from openledger.genesis.artifact import artifact
from openledger.genesis.predeploys import L2_TO_L1_MESSAGE_PASSER
from openledger.genesis.preset import Preset
from openledger.node.contracts import Contract
from openledger.node.errors import UserError
from openledger.node.rpc_client import RpcClient, RpcError
from openledger.node.wallet import Wallet
from openledger.rollup.codec.deposits import deposit_from_log
from openledger.rollup.codec.outputs import OUTPUT_VERSION_0, output_root, withdrawal_storage_slot
from openledger.rollup.codec.withdrawals import InvalidWithdrawal, Withdrawal, withdrawals_in
from openledger.rollup.l1.output_oracle import WITH_BONDS

WITHDRAWAL_GAS = 100_000
DEPOSIT_GAS = 100_000


class Stage(Enum):
    """How far a withdrawal is."""

    WAITING_FOR_OUTPUT = "waiting for an output root on L1"
    READY_TO_PROVE = "ready to prove"
    PROVEN = "proven, its dispute time is running"
    DISPUTED = "proven, but the output it relies on is challenged and not decided"
    READY_TO_FINALIZE = "ready to finalize"
    FINALIZED = "finalized"


@dataclass(frozen=True)
class WithdrawalStatus:
    """A withdrawal and how far it is. `wait_s` is the least time until the next step, as far as L1's clock tells."""

    withdrawal: Withdrawal
    l2_block_number: int
    stage: Stage
    wait_s: int = 0


class NotReady(UserError):
    """The step cannot be taken yet; the message says what is waited for."""


class Bridge:
    """The bridge of one network, over JSON-RPC of both chains."""

    def __init__(self, preset: Preset, l1: RpcClient, l2: RpcClient) -> None:
        self._l1 = l1
        self._l2 = l2
        self._token = Contract(preset.l1.open_token, artifact("OpenToken").abi)
        self._portal = Contract(preset.l1.portal, artifact("OptimismPortal").abi)
        self._oracle = Contract(preset.l1.output_oracle, artifact("L2OutputOracle").abi)
        self._passer = Contract(L2_TO_L1_MESSAGE_PASSER, artifact("L2ToL1MessagePasser").abi)

    # --- L1 to L2 ---

    async def deposit(self, wallet: Wallet, to: bytes, amount_wei: int) -> bytes:
        """Lock OPEN in the portal for `to`; the hash of the deposit's L2 transaction.

        Raises TransactionReverted, RpcError, RpcUnavailable, and UserError when the wallet has too little.
        """
        held = await self._read(self._l1, self._token, "balanceOf", wallet.address)
        if held < amount_wei:
            raise UserError(f"0x{wallet.address.hex()} has {held} wei of OPEN on L1, not {amount_wei}")
        allowed = await self._read(self._l1, self._token, "allowance", wallet.address, self._portal.address)
        if allowed < amount_wei:
            await wallet.send(self._l1, self._token, "approve", self._portal.address, amount_wei)
        receipt = await wallet.send(
            self._l1,
            self._portal,
            "depositERC20Transaction",
            to,
            amount_wei,
            amount_wei,
            DEPOSIT_GAS,
            False,
            b"",
        )
        for log in receipt["logs"]:
            if bytes.fromhex(log["address"][2:]) == self._portal.address:
                deposit = deposit_from_log(_log(log), _bytes(log["blockHash"]), int(log["logIndex"], 16))
                return transaction_from_deposit(deposit).hash
        raise UserError(f"transaction {receipt['transactionHash']} made no deposit")

    # --- L2 to L1 ---

    async def withdraw(self, wallet: Wallet, to: bytes, amount_wei: int) -> bytes:
        """Begin a withdrawal; the hash of its L2 transaction, by which it is known from now on."""
        receipt = await wallet.send(
            self._l2, self._passer, "initiateWithdrawal", to, WITHDRAWAL_GAS, b"", value_wei=amount_wei
        )
        return _bytes(receipt["transactionHash"])

    async def status(self, transaction_hash: bytes) -> WithdrawalStatus:
        """How far the withdrawal is that this L2 transaction began.

        Raises UserError for a transaction that is unknown, failed, or began none.
        """
        withdrawal, number = await self._begun(transaction_hash)
        if await self._read(self._l1, self._portal, "finalizedWithdrawals", withdrawal.hash):
            return WithdrawalStatus(withdrawal, number, Stage.FINALIZED)
        root, proven_at, index = await self._read_all(self._l1, self._portal, "provenWithdrawals", withdrawal.hash)
        if proven_at:
            # An output that was deleted and proposed anew is another one: the proof must be given again.
            output = await self._output(index)
            if output is not None and output[0] == root:
                if await self._frozen(index):
                    return WithdrawalStatus(withdrawal, number, Stage.DISPUTED)
                period = await self._read(self._l1, self._oracle, "finalizationPeriodSeconds")
                now = int((await self._l1.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16)
                wait = max(proven_at, output[1]) + period - now
                if wait >= 0:
                    return WithdrawalStatus(withdrawal, number, Stage.PROVEN, wait + 1)
                return WithdrawalStatus(withdrawal, number, Stage.READY_TO_FINALIZE)
        latest = await self._latest_output_block()
        stage = Stage.READY_TO_PROVE if latest is not None and latest >= number else Stage.WAITING_FOR_OUTPUT
        return WithdrawalStatus(withdrawal, number, stage)

    async def prove(self, wallet: Wallet, transaction_hash: bytes) -> bytes:
        """Prove the withdrawal against an output on L1; the L1 transaction's hash. Raises NotReady."""
        status = await self.status(transaction_hash)
        if status.stage is not Stage.READY_TO_PROVE:
            raise NotReady(f"the withdrawal cannot be proved now: {status.stage.value}")
        index = await self._read(self._l1, self._oracle, "getL2OutputIndexAfter", status.l2_block_number)
        output = await self._output(index)
        assert output is not None, "the oracle has just named it"
        root, _, number = output
        block = await self._l2.call("eth_getBlockByNumber", hex(number), False)
        slot = withdrawal_storage_slot(status.withdrawal.hash)
        proof = await self._l2.call(
            "eth_getProof", "0x" + L2_TO_L1_MESSAGE_PASSER.hex(), ["0x" + slot.hex()], hex(number)
        )
        state_root, storage_root, block_hash = (
            _bytes(block["stateRoot"]),
            _bytes(proof["storageHash"]),
            _bytes(block["hash"]),
        )
        if output_root(state_root, storage_root, block_hash) != root:
            raise UserError(
                f"output {index} on L1 is not of the chain that this node follows: its L2 block {number} differs"
            )
        receipt = await wallet.send(
            self._l1,
            self._portal,
            "proveWithdrawalTransaction",
            status.withdrawal.fields,
            index,
            (OUTPUT_VERSION_0, state_root, storage_root, block_hash),
            [_bytes(node) for node in proof["storageProof"][0]["proof"]],
        )
        return _bytes(receipt["transactionHash"])

    async def finalize(self, wallet: Wallet, transaction_hash: bytes) -> bytes:
        """Have the withdrawal paid on L1; the L1 transaction's hash. Raises NotReady."""
        status = await self.status(transaction_hash)
        if status.stage is not Stage.READY_TO_FINALIZE:
            left = f", {status.wait_s} s are left" if status.wait_s else ""
            raise NotReady(f"the withdrawal cannot be finalized now: {status.stage.value}{left}")
        receipt = await wallet.send(self._l1, self._portal, "finalizeWithdrawalTransaction", status.withdrawal.fields)
        return _bytes(receipt["transactionHash"])

    async def wait_for(
        self,
        transaction_hash: bytes,
        stages: tuple[Stage, ...],
        sleep: Callable[[float], Any],
        on_status: Callable[[WithdrawalStatus], None] = lambda status: None,
    ) -> WithdrawalStatus:
        """Ask until the withdrawal is at one of the stages, telling each status on the way."""
        while True:
            status = await self.status(transaction_hash)
            on_status(status)
            if status.stage in stages:
                return status
            await sleep(min(max(status.wait_s, 2), 30))

    # --- reading ---

    async def _begun(self, transaction_hash: bytes) -> tuple[Withdrawal, int]:
        shown = "0x" + transaction_hash.hex()
        receipt = await self._l2.call("eth_getTransactionReceipt", shown)
        if receipt is None:
            raise UserError(f"L2 has no transaction {shown}: a withdrawal is known by the L2 transaction that began it")
        try:
            begun = withdrawals_in(_log(log) for log in receipt["logs"])
        except InvalidWithdrawal as error:
            raise UserError(f"transaction {shown}: {error}") from error
        if len(begun) != 1:
            raise UserError(f"transaction {shown} began {len(begun)} withdrawals; this command takes those with one")
        return begun[0], int(receipt["blockNumber"], 16)

    async def _latest_output_block(self) -> int | None:
        if not await self._read(self._l1, self._oracle, "nextOutputIndex"):
            return None
        return int(await self._read(self._l1, self._oracle, "latestBlockNumber"))

    async def _output(self, index: int) -> tuple[bytes, int, int] | None:
        """(root, timestamp, L2 block) of an output; None if it was deleted."""
        if index >= await self._read(self._l1, self._oracle, "nextOutputIndex"):
            return None
        root, timestamp, number = await self._read(self._l1, self._oracle, "getL2Output", index)
        return root, timestamp, number

    async def _frozen(self, index: int) -> bool:
        """Whether a challenge keeps an output from becoming final."""
        with_bonds = str(await self._read(self._l1, self._oracle, "version")).endswith(WITH_BONDS)
        return with_bonds and index >= await self._read(self._l1, self._oracle, "frozenFrom")

    async def _read(self, rpc: RpcClient, contract: Contract, function: str, *arguments: Any) -> Any:
        return (await self._read_all(rpc, contract, function, *arguments))[0]

    async def _read_all(self, rpc: RpcClient, contract: Contract, function: str, *arguments: Any) -> tuple[Any, ...]:
        call = {"to": "0x" + contract.address.hex(), "data": "0x" + contract.encode(function, *arguments).hex()}
        try:
            answer = _bytes(await rpc.call("eth_call", call, "latest"))
        except RpcError as error:
            if error.code != 3:
                raise
            raise UserError(f"{function} was refused: {contract.explain(error.revert_data)}") from error
        return tuple(contract.decode(function, answer))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _log(log: dict[str, Any]) -> Log:
    return Log(_bytes(log["address"]), tuple(_bytes(topic) for topic in log["topics"]), _bytes(log["data"]))
