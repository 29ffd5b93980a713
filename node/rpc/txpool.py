"""txpool: what is waiting for a block."""

from openledger.evm_ext.pool import PoolContent
from openledger.evm_ext.transactions import Transaction
from openledger.genesis.hashing import checksummed
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.formats import Json, transaction_json
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import ADDRESS


class TxPool:
    def __init__(self, backend: RpcBackend) -> None:
        self._pool = backend.pool

    @rpc_method("txpool_status", blocking=True)
    def status(self) -> Json:
        status = self._pool.status()
        return {"pending": hex(status.pending), "queued": hex(status.queued)}

    @rpc_method("txpool_content", blocking=True)
    def content(self) -> Json:
        pending, queued = self._pool.content()
        return {"pending": _by_sender(pending), "queued": _by_sender(queued)}

    @rpc_method("txpool_contentFrom", ADDRESS, blocking=True)
    def content_from(self, sender: bytes) -> Json:
        pending, queued = self._pool.content_of(sender)
        return {"pending": _by_nonce(pending), "queued": _by_nonce(queued)}

    @rpc_method("txpool_inspect", blocking=True)
    def inspect(self) -> Json:
        pending, queued = self._pool.content()
        return {"pending": _summaries(pending), "queued": _summaries(queued)}


def _by_sender(content: PoolContent) -> Json:
    return {checksummed(sender): _by_nonce(own) for sender, own in content.items()}


def _by_nonce(own: dict[int, Transaction]) -> Json:
    return {str(nonce): transaction_json(transaction, None) for nonce, transaction in own.items()}


def _summaries(content: PoolContent) -> Json:
    return {
        checksummed(sender): {str(nonce): _summary(transaction) for nonce, transaction in own.items()}
        for sender, own in content.items()
    }


def _summary(transaction: Transaction) -> str:
    to = "contract creation" if transaction.to is None else checksummed(transaction.to)
    return f"{to}: {transaction.value} wei + {transaction.gas} gas × {transaction.gas_price} wei"
