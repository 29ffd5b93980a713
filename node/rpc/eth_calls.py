"""eth: messages that are tried and change nothing."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from openledger.evm_ext import calls
from openledger.evm_ext.access_lists import create_access_list
from openledger.evm_ext.calls import CallContext, CallRequest
from openledger.evm_ext.errors import CallError, CallTimeout, EstimationFailed, InvalidTransaction
from openledger.evm_ext.overrides import BlockOverrides, StateOverride, overridden_environment
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.genesis.hashing import checksummed
from openledger.node.rpc.abi_errors import failure_error, revert_error
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.call_request import decode_block_overrides, decode_call_request, decode_state_overrides
from openledger.node.rpc.errors import InvalidParams, ServerError
from openledger.node.rpc.formats import Json, access_list_json, hex_bytes
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import BLOCK, LATEST, OBJECT, BlockReference

OVERRIDES = Parameter(decode_state_overrides).optional()
BLOCK_OVERRIDES = Parameter(decode_block_overrides).optional()
REVERTED = "execution reverted"

_ADDRESS = re.compile(r"\b0x[0-9a-f]{40}\b")


class EthCalls:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("eth_call", OBJECT, BLOCK.optional(LATEST), OVERRIDES, BLOCK_OVERRIDES, slow=True)
    def call(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
    ) -> str:
        limits = self._backend.limits
        context = self._context(block)
        message = self._message(request, context, block_overrides)
        with self._errors(message, "err: {} (supplied gas {})"):
            result = calls.call(
                context,
                message,
                overrides,
                block_overrides=block_overrides,
                gas_cap=limits.call_gas,
                time_limit_s=limits.call_time_s,
            )
        if result.reverted:
            raise revert_error(result.output)
        if result.error is not None:
            raise failure_error(result.error, result.output)
        return hex_bytes(result.output)

    @rpc_method("eth_estimateGas", OBJECT, BLOCK.optional(LATEST), OVERRIDES, BLOCK_OVERRIDES, slow=True)
    def estimate_gas(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
    ) -> str:
        limits = self._backend.limits
        context = self._context(block)
        message = self._message(request, context, block_overrides)
        with self._errors(message, "failed with {1} gas: {0}"):
            return hex(
                calls.estimate_gas(
                    context,
                    message,
                    overrides,
                    block_overrides=block_overrides,
                    gas_cap=limits.call_gas,
                    time_limit_s=limits.call_time_s,
                )
            )

    @rpc_method("eth_createAccessList", OBJECT, BLOCK.optional(LATEST), OVERRIDES, slow=True)
    def create_access_list(
        self, request: dict[str, Any], block: BlockReference, overrides: Mapping[bytes, StateOverride] | None
    ) -> Json:
        limits = self._backend.limits
        context = self._context(block)
        message = self._message({"accessList": []} | request, context, None)
        with self._errors(message, "failed to apply transaction: err: {}"):
            result = create_access_list(
                context, message, overrides, gas_cap=limits.call_gas, time_limit_s=limits.call_time_s
            )
        body: Json = {"accessList": access_list_json(result.access_list)}
        if result.error is not None:
            body["error"] = result.error
        body["gasUsed"] = hex(result.gas_used)
        return body

    def _context(self, block: BlockReference) -> CallContext:
        return self._chain.call_context(self._backend.existing_header(block).hash)

    def _message(self, request: dict[str, Any], context: CallContext, overrides: BlockOverrides | None) -> CallRequest:
        """The request, if the fork of its block knows all of its fields. Raises InvalidParams, ServerError."""
        header = context.header
        environment = BlockEnvironment.of(header, context.rules.of(header), context.ancestor_hash)
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

    @contextmanager
    def _errors(self, message: CallRequest, refusal: str) -> Iterator[None]:
        """`refusal` is how geth says, with reason and gas, that a message could not start."""
        try:
            yield
        except EstimationFailed as error:
            if str(error).startswith(REVERTED):
                raise revert_error(error.output) from error
            raise failure_error(str(error), error.output) from error
        except CallTimeout as error:
            raise ServerError(f"execution aborted (timeout = {self._backend.limits.call_time_s:g}s)") from error
        except InvalidTransaction as error:
            gas = min(message.gas or self._backend.limits.call_gas, self._backend.limits.call_gas)
            raise ServerError(refusal.format(with_checksums(str(error)), gas)) from error
        except CallError as error:
            raise ServerError(with_checksums(str(error))) from error


def with_checksums(text: str) -> str:
    """Words with the addresses in them in capitals and small letters, as geth writes them."""
    return _ADDRESS.sub(lambda found: checksummed(bytes.fromhex(found[0][2:])), text)
