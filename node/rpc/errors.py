"""JSON-RPC errors, with the codes and words that wallets and libraries match on."""

from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
"""What geth answers to everything that is wrong with a well-formed call."""
RESPONSE_TOO_LARGE = -32003
LIMIT_EXCEEDED = -32005
"""EIP-1474: the request is beyond a defined limit."""
CLIENT_LIMIT_EXCEEDED = -38026
"""execution-apis: beyond what this client allows, in eth_simulateV1 and eth_getStorageValues."""
EXECUTION_REVERTED = 3
"""geth's code for a revert; `data` holds the revert's bytes."""
NOT_MINED_IN_TIME = 4
"""EIP-7966: the transaction waits, `data` holds its hash."""

# The Engine API's (execution-apis, engine/common).
UNKNOWN_PAYLOAD = -38001
INVALID_FORKCHOICE_STATE = -38002
INVALID_PAYLOAD_ATTRIBUTES = -38003
TOO_LARGE_REQUEST = -38004
UNSUPPORTED_FORK = -38005


class RpcError(Exception):
    """Answers a call with an error object. `data` is JSON-encodable, None leaves it out."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class InvalidParams(RpcError):
    def __init__(self, message: str) -> None:
        super().__init__(INVALID_PARAMS, message)


class ServerError(RpcError):
    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(SERVER_ERROR, message, data)


class LimitExceeded(RpcError):
    def __init__(self, message: str) -> None:
        super().__init__(LIMIT_EXCEEDED, message)
