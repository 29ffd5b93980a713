"""The transaction pool: what users have sent and no block has yet."""

from openledger.evm_ext.pool.limits import PoolLimits
from openledger.evm_ext.pool.pool import PoolContent, PoolStatus, TransactionPool

__all__ = ["PoolContent", "PoolLimits", "PoolStatus", "TransactionPool"]
