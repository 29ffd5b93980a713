"""eth: messages that are tried and change nothing."""

import re
from collections.abc import Mapping
from typing import Any

from openledger.evm_ext import calls
from openledger.evm_ext.access_lists import create_access_list
from openledger.evm_ext.bounded_calls import bounded
from openledger.evm_ext.calls import CallContext, CallRequest
from openledger.evm_ext.errors import CallError, CallTimeout, EstimationFailed, InvalidTransaction
from openledger.evm_ext.overrides import BlockOverrides, StateOverride, overridden_environment
from openledger.genesis.hashing import checksummed
from openledger.node.rpc.abi_errors import failure_error, revert_error
from openledger.node.rpc.attempts import Attempts
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.call_request import decode_block_overrides, decode_call_request, decode_state_overrides
from openledger.node.rpc.errors import InvalidParams, RpcError, ServerError
from openledger.node.rpc.formats import Json, access_list_json, hex_bytes
from openledger.node.rpc.methods import Parameter, TakesLonger, rpc_method
from openledger.node.rpc.parameters import BLOCK, LATEST, OBJECT, BlockReference

OVERRIDES = Parameter(decode_state_overrides).optional()
BLOCK_OVERRIDES = Parameter(decode_block_overrides).optional()
REVERTED = "execution reverted"

_ADDRESS = re.compile(r"\b0x[0-9a-f]{40}\b")


class EthCalls:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._attempts = Attempts()

    @rpc_method(
        "eth_call", OBJECT, BLOCK.optional(LATEST), OVERRIDES, BLOCK_OVERRIDES, slow=True, at_once="call_at_once"
    )
    def call(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
    ) -> str:
        context = self._context(block)
        message = self._message(request, context, block_overrides)
        try:
            return self._call(context, message, overrides, block_overrides, self._backend.limits.call_time_s)
        except CallTimeout as error:
            raise self._timed_out() from error

    def call_at_once(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
    ) -> str:
        """Raises TakesLonger."""
        with self._attempts.of(_kind(request, block, overrides, block_overrides)) as time_s:
            context = self._context(block)
            message = self._message(request, context, None)
            return self._call(bounded(context, time_s), message, None, None, time_s)

    def _call(
        self,
        context: CallContext,
        message: CallRequest,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
        time_limit_s: float,
    ) -> str:
        """Raises CallTimeout, and RpcError for all else that went wrong."""
        try:
            result = calls.call(
                context,
                message,
                overrides,
                block_overrides=block_overrides,
                gas_cap=self._backend.limits.call_gas,
                time_limit_s=time_limit_s,
            )
        except CallTimeout:
            raise
        except (CallError, InvalidTransaction) as error:
            raise self._refused(error, message, "err: {} (supplied gas {})") from error
        if result.reverted:
            raise revert_error(result.output)
        if result.error is not None:
            raise failure_error(result.error, result.output)
        return hex_bytes(result.output)

    @rpc_method(
        "eth_estimateGas",
        OBJECT,
        BLOCK.optional(LATEST),
        OVERRIDES,
        BLOCK_OVERRIDES,
        slow=True,
        at_once="estimate_gas_at_once",
    )
    def estimate_gas(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
    ) -> str:
        context = self._context(block)
        message = self._message(request, context, block_overrides)
        try:
            return self._estimate_gas(context, message, overrides, block_overrides, self._backend.limits.call_time_s)
        except CallTimeout as error:
            raise self._timed_out() from error

    def estimate_gas_at_once(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
    ) -> str:
        """Raises TakesLonger."""
        with self._attempts.of(_kind(request, block, overrides, block_overrides)) as time_s:
            context = self._context(block)
            message = self._message(request, context, None)
            return self._estimate_gas(bounded(context, time_s), message, None, None, time_s)

    def _estimate_gas(
        self,
        context: CallContext,
        message: CallRequest,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
        time_limit_s: float,
    ) -> str:
        """Raises CallTimeout, and RpcError for all else that went wrong."""
        try:
            return hex(
                calls.estimate_gas(
                    context,
                    message,
                    overrides,
                    block_overrides=block_overrides,
                    gas_cap=self._backend.limits.call_gas,
                    time_limit_s=time_limit_s,
                )
            )
        except CallTimeout:
            raise
        except (CallError, InvalidTransaction) as error:
            raise self._refused(error, message, "failed with {1} gas: {0}") from error

    @rpc_method("eth_createAccessList", OBJECT, BLOCK.optional(LATEST), OVERRIDES, slow=True)
    def create_access_list(
        self, request: dict[str, Any], block: BlockReference, overrides: Mapping[bytes, StateOverride] | None
    ) -> Json:
        limits = self._backend.limits
        context = self._context(block)
        message = self._message({"accessList": []} | request, context, None)
        try:
            result = create_access_list(
                context, message, overrides, gas_cap=limits.call_gas, time_limit_s=limits.call_time_s
            )
        except CallTimeout as error:
            raise self._timed_out() from error
        except (CallError, InvalidTransaction) as error:
            raise self._refused(error, message, "failed to apply transaction: err: {}") from error
        body: Json = {"accessList": access_list_json(result.access_list)}
        if result.error is not None:
            body["error"] = result.error
        body["gasUsed"] = hex(result.gas_used)
        return body

    def _context(self, block: BlockReference) -> CallContext:
        return self._chain.call_context(self._backend.existing_header(block).hash)

    def _message(self, request: dict[str, Any], context: CallContext, overrides: BlockOverrides | None) -> CallRequest:
        """The request, if the fork of its block knows all of its fields. Raises InvalidParams, ServerError."""
        environment = context.block.environment
        if overrides is not None:
            for name, value in (
                ("beaconRoot", overrides.parent_beacon_block_root),
                ("withdrawals", overrides.withdrawals),
            ):
                if value is not None:
                    raise ServerError(f'block override "{name}" is not supported for this RPC method')
            environment = overridden_environment(environment, overrides, context.rules)
        try:
            return decode_call_request(request, self._chain.chain_id, environment.rules)
        except ValueError as error:
            raise InvalidParams(f"invalid argument 0: {error}") from error

    def _timed_out(self) -> RpcError:
        return ServerError(f"execution aborted (timeout = {self._backend.limits.call_time_s:g}s)")

    def _refused(self, error: CallError | InvalidTransaction, message: CallRequest, refusal: str) -> RpcError:
        """What a call that came to nothing is answered with. `refusal` is how geth says, with reason and gas, that a
        message could not start."""
        limits = self._backend.limits
        if isinstance(error, EstimationFailed):
            if str(error).startswith(REVERTED):
                return revert_error(error.output)
            return failure_error(str(error), error.output)
        if isinstance(error, InvalidTransaction):
            gas = min(message.gas or limits.call_gas, limits.call_gas)
            return ServerError(refusal.format(with_checksums(str(error)), gas))
        return ServerError(with_checksums(str(error)))


_AT_ONCE = frozenset(
    {"from", "to", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "data", "input", "nonce"}
    | {"chainId", "type"}
)
_LONG_DATA = 8_192
_SELECTOR = 10


def _kind(
    request: dict[str, Any],
    block: BlockReference,
    overrides: Mapping[bytes, StateOverride] | None,
    block_overrides: BlockOverrides | None,
) -> str:
    """What is called: contract and selector. Raises TakesLonger for whatever needs more than a look at its contract,
    or is not of the canonical chain."""
    if overrides is not None or block_overrides is not None or block.hash is not None or not request.keys() <= _AT_ONCE:
        raise TakesLonger
    to, data = request.get("to"), request.get("input") or request.get("data") or ""
    if not isinstance(to, str) or not isinstance(data, str) or len(data) > _LONG_DATA:
        raise TakesLonger
    return to + data[:_SELECTOR]


def with_checksums(text: str) -> str:
    """Words with the addresses in them in capitals and small letters, as geth writes them."""
    return _ADDRESS.sub(lambda found: checksummed(bytes.fromhex(found[0][2:])), text)
