"""eth: messages that are tried and change nothing."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from openledger.evm_ext.errors import (
    CallError,
    CallTimeout,
    EstimationFailed,
    InvalidTransaction,
)
from openledger.evm_ext.overrides import StateOverride
from openledger.node.rpc.abi_errors import failure_error, revert_error
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.call_request import decode_call_request, decode_state_overrides
from openledger.node.rpc.errors import InvalidParams, ServerError
from openledger.node.rpc.formats import hex_bytes
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import BLOCK, LATEST, OBJECT, BlockReference

OVERRIDES = Parameter(decode_state_overrides).optional()
REVERTED = "execution reverted"


class EthCalls:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("eth_call", OBJECT, BLOCK.optional(LATEST), OVERRIDES, OBJECT.optional(), slow=True)
    def call(
        self,
        request: dict[str, Any],
        block: BlockReference,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: dict[str, Any] | None,
    ) -> str:
        if block_overrides:
            raise InvalidParams("block overrides are not supported")
        limits = self._backend.limits
        with self._errors():
            result = self._chain.call(
                decode_call_request(request, self._chain.chain_id),
                self._backend.existing_header(block).hash,
                overrides,
                gas_cap=limits.call_gas,
                time_limit_s=limits.call_time_s,
            )
        if result.reverted:
            raise revert_error(result.output)
        if result.error is not None:
            raise failure_error(result.error, result.output)
        return hex_bytes(result.output)

    @rpc_method("eth_estimateGas", OBJECT, BLOCK.optional(LATEST), OVERRIDES, slow=True)
    def estimate_gas(
        self, request: dict[str, Any], block: BlockReference, overrides: Mapping[bytes, StateOverride] | None
    ) -> str:
        limits = self._backend.limits
        with self._errors():
            return hex(
                self._chain.estimate_gas(
                    decode_call_request(request, self._chain.chain_id),
                    self._backend.existing_header(block).hash,
                    overrides,
                    gas_cap=limits.call_gas,
                    time_limit_s=limits.call_time_s,
                )
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise InvalidParams(f"invalid argument 0: {error}") from error
        except EstimationFailed as error:
            if str(error).startswith(REVERTED):
                raise revert_error(error.output) from error
            raise failure_error(str(error), error.output) from error
        except CallTimeout as error:
            raise ServerError(f"execution aborted (timeout = {self._backend.limits.call_time_s:g}s)") from error
        except (CallError, InvalidTransaction) as error:
            raise ServerError(str(error)) from error
