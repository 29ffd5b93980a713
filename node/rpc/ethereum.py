"""All Ethereum namespaces of one chain together."""

import trio

from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.debug import DebugRaw
from openledger.node.rpc.debug_state import DebugState
from openledger.node.rpc.debug_trace import DebugTrace
from openledger.node.rpc.dispatcher import Dispatcher
from openledger.node.rpc.eth_blocks import EthBlocks
from openledger.node.rpc.eth_calls import EthCalls
from openledger.node.rpc.eth_config import EthConfig
from openledger.node.rpc.eth_logs import EthLogs
from openledger.node.rpc.eth_simulate import EthSimulate
from openledger.node.rpc.eth_state import EthState
from openledger.node.rpc.eth_subscriptions import EthSubscriptions
from openledger.node.rpc.eth_transactions import EthTransactions
from openledger.node.rpc.fees import EthFees
from openledger.node.rpc.node_info import NodeInfo
from openledger.node.rpc.ots import Ots
from openledger.node.rpc.txpool import TxPool


class EthereumRpc:
    """eth, net, web3, txpool, debug, ots and admin over one backend.

    Register them with a dispatcher, add what other namespaces the port has, and keep `run` running: it
    feeds filters and subscriptions."""

    def __init__(self, backend: RpcBackend) -> None:
        self.backend = backend
        self._logs = EthLogs(backend)
        self._subscriptions = EthSubscriptions(backend)
        self._namespaces = (
            EthBlocks(backend),
            EthState(backend),
            EthTransactions(backend),
            EthCalls(backend),
            EthSimulate(backend),
            EthFees(backend),
            EthConfig(backend),
            self._logs,
            self._subscriptions,
            NodeInfo(backend),
            TxPool(backend),
            DebugRaw(backend),
            DebugTrace(backend),
            DebugState(backend),
            Ots(backend),
        )

    def register(self, dispatcher: Dispatcher) -> None:
        """Raises ValueError for a name that is taken."""
        for namespace in self._namespaces:
            dispatcher.register(namespace)
        dispatcher.add("rpc_modules", lambda: _modules(dispatcher))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen to the chain and the pool until cancelled."""
        heads = (self._logs.on_head, self._subscriptions.on_head)
        transactions = (self._logs.on_transaction, self._subscriptions.on_transaction)
        self.backend.chain.listeners.extend(heads)
        self.backend.pool.listeners.extend(transactions)
        try:
            await self._subscriptions.run(task_status=task_status)
        finally:
            for listener in heads:
                self.backend.chain.listeners.remove(listener)
            for hook in transactions:
                self.backend.pool.listeners.remove(hook)


def _modules(dispatcher: Dispatcher) -> dict[str, str]:
    """The namespaces of a port, each at version 1.0 as geth says."""
    return dict.fromkeys(sorted({name.partition("_")[0] for name in dispatcher.method_names}), "1.0")
