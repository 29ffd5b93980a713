"""A rehearsal: an L1 of our own in a temporary folder, with the deployer as the real one has it, answering JSON-RPC."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.pool import TransactionPool
from openledger.genesis.artifact import artifact
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.parameters import OPEN_WEI
from openledger.genesis.system_contracts import system_contracts
from openledger.node.l1_deployment.plan import Terms
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Caller, Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc_client import RpcError
from openledger.rollup.l1.dev_chain import DevL1

BLOCK_TIME_S = 12


class SimulatedL1:
    """JSON-RPC of a chain that makes a block for every transaction it is sent."""

    def __init__(self, chain: Chain, pool: TransactionPool) -> None:
        self.chain = chain
        self._producer = DevL1(chain, pool, BLOCK_TIME_S)
        self._dispatcher = Dispatcher()
        EthereumRpc(RpcBackend(chain, pool, client_version="rehearsal")).register(self._dispatcher)
        self._numbers = itertools.count()

    async def call(self, method: str, *params: Any) -> Any:
        """The result of `method`. Raises RpcError."""
        request = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        handled = await self._dispatcher.handle(msgspec.json.encode(request), Caller())
        assert handled is not None, "a request with an id is answered"
        answer = msgspec.json.decode(handled)
        if "error" in answer:
            failure = answer["error"]
            raise RpcError(failure["code"], failure["message"], failure.get("data"))
        if method == "eth_sendRawTransaction":
            await self._producer.produce_block(self.chain.head().timestamp + BLOCK_TIME_S)
        return answer["result"]


@asynccontextmanager
async def simulated_l1(terms: Terms, *, nonce: int, timestamp: int, base_fee_wei: int) -> AsyncIterator[SimulatedL1]:
    """Under the L1's chain id, with the deployer at `nonce`: addresses and gas come out as they will on the real one."""
    alloc = {
        **system_contracts(with_requests=True),
        terms.deployer: GenesisAccount(balance=10**9 * OPEN_WEI, nonce=nonce),
    }
    if terms.open_token is not None:
        alloc[terms.open_token] = GenesisAccount(nonce=1, code=artifact("OpenToken").deployed_bytecode)
    genesis = Genesis(
        rules="ethereum",
        chain_id=terms.preset.l1_chain_id,
        timestamp=timestamp,
        gas_limit=terms.preset.l1_gas_limit,
        base_fee_per_gas=base_fee_wei,
        alloc=alloc,
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chain = await trio.to_thread.run_sync(Chain.open, folder, genesis)
        stack.callback(chain.close)
        pool = TransactionPool(chain)
        stack.callback(pool.close)
        yield SimulatedL1(chain, pool)
