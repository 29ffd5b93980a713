"""eth_simulateV1: blocks of messages, with what to pretend of accounts and of the blocks.

Source: execution-apis, eth_simulateV1; error codes and words as geth has them.
"""

from typing import Any, Final

from openledger.evm_ext import errors as execution
from openledger.evm_ext.calls import CallResult
from openledger.evm_ext.chain import LocatedLog
from openledger.evm_ext.errors import CallTimeout
from openledger.evm_ext.overrides import BlockOverrides, PrecompileMovedToItself, PrecompileMoveError
from openledger.evm_ext.simulation import (
    MOST_BLOCKS,
    BlockGasExceeded,
    BlocksOutOfOrder,
    InvalidCall,
    SimulatedBlock,
    SimulatedCalls,
    TimesOutOfOrder,
    TooManyBlocks,
    simulate,
)
from openledger.node.rpc.abi_errors import revert_error
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.call_request import decode_block_overrides, decode_call_request, decode_state_overrides
from openledger.node.rpc.errors import (
    CLIENT_LIMIT_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    InvalidParams,
    RpcError,
    ServerError,
)
from openledger.node.rpc.eth_calls import with_checksums
from openledger.node.rpc.fields import field
from openledger.node.rpc.formats import Json, block_json, hex_bytes, located_log_json
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import BLOCK, LATEST, OBJECT, BlockReference, decode_boolean, decode_object, list_of

VM_ERROR: Final = -32015
TIMEOUT: Final = -32016
NONCE_TOO_LOW: Final = -38010
NONCE_TOO_HIGH: Final = -38011
BASE_FEE_TOO_LOW: Final = -38012
INTRINSIC_GAS: Final = -38013
INSUFFICIENT_FUNDS: Final = -38014
BLOCK_GAS_LIMIT: Final = -38015
BLOCK_NUMBER_INVALID: Final = -38020
BLOCK_TIMESTAMP_INVALID: Final = -38021
MOVED_TO_ITSELF: Final = -38022
SENDER_IS_NOT_EOA: Final = -38024
INIT_CODE_TOO_LARGE: Final = -38025

_CODE_OF_REASON: Final = (
    (execution.NonceTooLow, NONCE_TOO_LOW),
    (execution.NonceTooHigh, NONCE_TOO_HIGH),
    (execution.FeeCapTooLow, BASE_FEE_TOO_LOW),
    (execution.IntrinsicGasTooLow, INTRINSIC_GAS),
    (execution.InsufficientFunds, INSUFFICIENT_FUNDS),
    (execution.SenderNotEOA, SENDER_IS_NOT_EOA),
    (execution.InitCodeTooLarge, INIT_CODE_TOO_LARGE),
    (execution.TipAboveFeeCap, INVALID_PARAMS),
)
_CODE_OF_ERROR: Final = (
    (BlocksOutOfOrder, BLOCK_NUMBER_INVALID),
    (TimesOutOfOrder, BLOCK_TIMESTAMP_INVALID),
    (TooManyBlocks, CLIENT_LIMIT_EXCEEDED),
    (BlockGasExceeded, BLOCK_GAS_LIMIT),
    (PrecompileMovedToItself, MOVED_TO_ITSELF),
)
_MOST_CALLS = 5_000
_NO_OVERRIDES = BlockOverrides()


class EthSimulate:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("eth_simulateV1", OBJECT, BLOCK.optional(LATEST), slow=True)
    def simulate(self, request: dict[str, Any], block: BlockReference) -> list[Json]:
        """Blocks as they would be after `block`, with the result of each call."""
        limits = self._backend.limits
        try:
            blocks: list[SimulatedCalls] = field(request, "blockStateCalls", list_of(self._block, MOST_BLOCKS + 1), [])
            validation, transfers, full = (
                field(request, name, decode_boolean, False)
                for name in ("validation", "traceTransfers", "returnFullTransactions")
            )
        except ValueError as error:
            raise InvalidParams(f"invalid argument 0: {error}") from error
        if not blocks:
            raise InvalidParams("empty input")
        if len(blocks) > MOST_BLOCKS:
            raise RpcError(CLIENT_LIMIT_EXCEEDED, "too many blocks")
        if sum(len(item.calls) for item in blocks) > _MOST_CALLS:
            raise RpcError(CLIENT_LIMIT_EXCEEDED, f"too many calls: at most {_MOST_CALLS}")
        context = self._chain.call_context(self._backend.existing_header(block).hash)
        try:
            simulated = simulate(
                context,
                blocks,
                validation=validation,
                trace_transfers=transfers,
                gas_cap=limits.call_gas,
                time_limit_s=limits.call_time_s,
            )
        except CallTimeout as error:
            raise RpcError(TIMEOUT, f"execution aborted (timeout = {limits.call_time_s:g}s)") from error
        except InvalidCall as error:
            code = next((code for kind, code in _CODE_OF_REASON if isinstance(error.reason, kind)), INTERNAL_ERROR)
            raise RpcError(code, f"err: {with_checksums(str(error.reason))} (supplied gas {error.gas})") from error
        except execution.SystemContractFailed as error:
            raise ServerError(with_checksums(str(error))) from error
        except execution.CallError as error:
            words = with_checksums(str(error))
            for kind, code in _CODE_OF_ERROR:
                if isinstance(error, kind):
                    raise RpcError(code, words) from error
            if isinstance(error, PrecompileMoveError):
                raise ServerError(words) from error
            raise RpcError(INTERNAL_ERROR, words) from error
        return [_block_json(item, full) for item in simulated]

    def _block(self, value: Any) -> SimulatedCalls:
        fields = decode_object(value)
        calls = list_of(lambda call: decode_call_request(call, self._chain.chain_id), _MOST_CALLS)
        return SimulatedCalls(
            calls=tuple(field(fields, "calls", calls, ())),
            block=field(fields, "blockOverrides", decode_block_overrides, _NO_OVERRIDES),
            state=field(fields, "stateOverrides", decode_state_overrides, {}),
        )


def _block_json(simulated: SimulatedBlock, full: bool) -> Json:
    body = block_json(simulated.block, full)
    body["calls"] = [
        _call_json(simulated, index, result, first_log)
        for index, (result, first_log) in enumerate(zip(simulated.results, simulated.first_log_indexes, strict=True))
    ]
    return body


def _call_json(simulated: SimulatedBlock, index: int, result: CallResult, first_log: int) -> Json:
    header = simulated.block.header
    transaction = simulated.block.transactions[index]
    body: Json = {
        "returnData": hex_bytes(result.output if result.success else b""),
        "logs": [
            located_log_json(
                LocatedLog(
                    log, header.hash, header.number, header.timestamp, transaction.hash, index, first_log + offset
                )
            )
            for offset, log in enumerate(result.logs)
        ],
        "gasUsed": hex(result.gas_used),
        "maxUsedGas": hex(result.max_gas_used),
        "status": hex(int(result.success)),
    }
    if result.reverted:
        error = revert_error(result.output)
        body["error"] = {"message": error.message, "code": error.code, "data": error.data}
    elif result.error is not None:
        body["error"] = {"message": result.error, "code": VM_ERROR}
    return body
