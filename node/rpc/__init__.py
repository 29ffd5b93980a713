"""Ethereum JSON-RPC over a chain and a transaction pool, and the place where other namespaces are added."""

from openledger.node.rpc.dispatcher import Caller, Dispatcher, DispatchLimits
from openledger.node.rpc.errors import InvalidParams, LimitExceeded, RpcError, ServerError
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.server import RpcServer, serve_rpc

__all__ = [
    "Caller",
    "DispatchLimits",
    "Dispatcher",
    "InvalidParams",
    "LimitExceeded",
    "Parameter",
    "RpcError",
    "RpcServer",
    "ServerError",
    "rpc_method",
    "serve_rpc",
]
