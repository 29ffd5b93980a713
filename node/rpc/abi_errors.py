"""What a failed call says, with the reason in words where revert data holds one."""

from openledger.evm_ext.revert_reason import ERROR_SELECTOR, PANIC_REASONS, PANIC_SELECTOR, revert_reason
from openledger.node.rpc.errors import EXECUTION_REVERTED, RpcError, ServerError


def revert_error(output: bytes) -> RpcError:
    """The error of a call that reverted: code 3, the reason in words, the bytes as data."""
    reason = revert_reason(output)
    message = "execution reverted" if reason is None else f"execution reverted: {reason}"
    return RpcError(EXECUTION_REVERTED, message, "0x" + output.hex())


def failure_error(error: str, output: bytes) -> RpcError:
    """The error of a call that failed otherwise: out of gas, an invalid opcode, a bad jump."""
    return ServerError(error, "0x" + output.hex() if output else None)


__all__ = ["ERROR_SELECTOR", "PANIC_REASONS", "PANIC_SELECTOR", "failure_error", "revert_error", "revert_reason"]
