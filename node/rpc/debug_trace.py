"""debug: transactions, calls and blocks executed again under a tracer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.calls import new_state
from openledger.evm_ext.errors import (
    CallError,
    CallTimeout,
    DatabaseCorrupt,
    InvalidBlock,
    InvalidTransaction,
    StatePruned,
    TraceTooLarge,
    UndecodableBlock,
    UnknownParent,
    UnknownTracer,
)
from openledger.evm_ext.tracing import BlockReplay, Budget, new_tracer
from openledger.evm_ext.tracing.traced_call import mid_block_state, trace_call
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.call_request import decode_call_request
from openledger.node.rpc.call_trees import encodable
from openledger.node.rpc.errors import RESPONSE_TOO_LARGE, InvalidParams, RpcError, ServerError
from openledger.node.rpc.formats import Json, hex_bytes
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import (
    BLOCK,
    BLOCK_NUMBER,
    BYTES,
    HASH,
    LATEST,
    OBJECT,
    BlockReference,
)
from openledger.node.rpc.trace_config import TraceConfig, decode_trace_config

CONFIG = Parameter(decode_trace_config).optional(TraceConfig())


class DebugTrace:
    """Time is limited per call, and the size of an answer while it is made."""

    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("debug_traceTransaction", HASH, CONFIG, slow=True)
    def trace_transaction(self, transaction_hash: bytes, config: TraceConfig) -> Any:
        found = self._backend.mined_transaction(transaction_hash)
        if found is None:
            raise ServerError("transaction not found")
        block, index = found
        with self._errors(config):
            replay = self._replay(block, config)
            replay.skip_to(index)
            return self._traced(replay, config, self._budget())

    @rpc_method("debug_traceBlockByNumber", BLOCK_NUMBER, CONFIG, slow=True)
    def trace_block_by_number(self, reference: BlockReference, config: TraceConfig) -> list[Json]:
        return self._trace_block(self._block(reference), config)

    @rpc_method("debug_traceBlockByHash", HASH, CONFIG, slow=True)
    def trace_block_by_hash(self, block_hash: bytes, config: TraceConfig) -> list[Json]:
        return self._trace_block(self._block(BlockReference(hash=block_hash)), config)

    @rpc_method("debug_traceBlock", BYTES, CONFIG, slow=True)
    def trace_block(self, raw: bytes, config: TraceConfig) -> list[Json]:
        """A block in RLP, whose parent is stored; the block itself need not be."""
        try:
            block = Block.decode(raw)
        except UndecodableBlock as error:
            raise ServerError(f"could not decode block: {error}") from error
        return self._trace_block(block, config)

    @rpc_method("debug_traceCall", OBJECT, BLOCK.optional(LATEST), CONFIG, slow=True)
    def trace_call(self, request: dict[str, Any], reference: BlockReference, config: TraceConfig) -> Any:
        if reference.label == "pending":
            raise ServerError("tracing on top of pending is not supported")
        try:
            call = decode_call_request(request, self._chain.chain_id)
        except ValueError as error:
            raise InvalidParams(f"invalid argument 0: {error}") from error
        header = self._existing_header(reference)
        free_gas = not call.max_fee_per_gas
        with self._errors(config):
            tracer = new_tracer(config.tracer, config.options, self._budget())
            if config.transaction_index is None:
                state = new_state(
                    self._chain.call_context(header.hash),
                    config.state_overrides,
                    config.block_overrides,
                    free_gas=free_gas,
                    deadline=self._deadline(config),
                )
            else:
                block = self._block(BlockReference(hash=header.hash))
                if config.transaction_index > len(block.transactions):
                    raise ServerError(
                        f"transaction index {config.transaction_index} out of range for block {hex_bytes(block.hash)}"
                    )
                replay = self._replay(block, config)
                replay.skip_to(config.transaction_index)
                state = mid_block_state(replay, config.state_overrides, config.block_overrides, free_gas=free_gas)
            limit = self._backend.limits.call_gas
            trace_call(state, header, self._chain.rules, call, tracer, gas_cap=limit)
            return encodable(tracer.result())

    def _trace_block(self, block: Block, config: TraceConfig) -> list[Json]:
        """Each transaction has its time, all together have `RpcLimits.trace_time_s`, and one limit of bytes."""
        budget = self._budget()
        last = time.monotonic() + self._backend.limits.trace_time_s
        traces: list[Json] = []
        with self._errors(config):
            replay = self._replay(block, config)
            for transaction in block.transactions:
                replay.processor.state.deadline = min(last, self._deadline(config))
                traces.append({"txHash": hex_bytes(transaction.hash), "result": self._traced(replay, config, budget)})
        return traces

    def _traced(self, replay: BlockReplay, config: TraceConfig, budget: Budget) -> Any:
        tracer = new_tracer(config.tracer, config.options, budget)
        replay.trace_next(tracer)
        return encodable(tracer.result())

    def _replay(self, block: Block, config: TraceConfig) -> BlockReplay:
        if block.number == 0:
            raise ServerError("genesis is not traceable")
        return self._chain.replay(block, deadline=self._deadline(config))

    def _existing_header(self, reference: BlockReference) -> Header:
        header = self._backend.header(reference)
        if header is None:
            what = hex_bytes(reference.hash) if reference.hash else f"#{reference.number}"
            raise ServerError(f"block {what} not found")
        return header

    def _block(self, reference: BlockReference) -> Block:
        block = self._chain.block_by_hash(self._existing_header(reference).hash)
        if block is None:
            raise ServerError(f"block {hex_bytes(reference.hash or b'')} not found")
        return block

    def _budget(self) -> Budget:
        return Budget(self._backend.limits.trace_bytes)

    def _deadline(self, config: TraceConfig) -> float:
        limits = self._backend.limits
        timeout = limits.call_time_s if config.timeout_s is None else config.timeout_s
        return time.monotonic() + min(timeout, limits.trace_time_s)

    @contextmanager
    def _errors(self, config: TraceConfig) -> Iterator[None]:
        try:
            yield
        except CallTimeout as error:
            raise ServerError("execution timeout") from error
        except TraceTooLarge as error:
            raise RpcError(RESPONSE_TOO_LARGE, str(error)) from error
        except UnknownParent as error:
            raise ServerError("parent block not found") from error
        except (UnknownTracer, DatabaseCorrupt, StatePruned) as error:
            raise ServerError(str(error)) from error
        except (InvalidTransaction, InvalidBlock, CallError) as error:
            raise ServerError(f"tracing failed: {error}") from error
