"""testing: what only a client under test offers. `openledger rpc` does, the nodes of a network do not.

Source: execution-apis, testing_buildBlockV1 and testing_commitBlockV1.
"""

from dataclasses import replace
from typing import Any, Final

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import InvalidBlock, InvalidBlockTransaction, UnknownParent
from openledger.evm_ext.pool import TransactionPool
from openledger.node.rpc.engine import payload_envelope
from openledger.node.rpc.engine_builder import Draft
from openledger.node.rpc.engine_formats import MOST_TRANSACTIONS, AttributesCall, decode_attributes
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.eth_calls import with_checksums
from openledger.node.rpc.formats import Json, hex_bytes
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import BYTES, HASH, decode_bytes, list_of

GAS_LIMIT_WANTED: Final = 60_000_000
"""Where blocks built here move the gas limit to, as geth's do."""
_GAS_LIMIT_QUOTIENT: Final = 1_024

_TRANSACTIONS = Parameter(list_of(decode_bytes, MOST_TRANSACTIONS)).optional()


class Testing:
    def __init__(self, chain: Chain, pool: TransactionPool) -> None:
        self._chain = chain
        self._pool = pool

    @rpc_method(
        "testing_buildBlockV1", HASH, Parameter(decode_attributes), _TRANSACTIONS, BYTES.optional(b""), slow=True
    )
    def build_block(
        self, parent_hash: bytes, call: AttributesCall, transactions: list[bytes] | None, extra_data: bytes
    ) -> Json:
        """A block that is not kept: with these transactions, or with what the pool has. Any that is invalid refuses
        the block."""
        draft = self._draft(parent_hash, call, transactions, extra_data)
        return payload_envelope(draft, 5, self._pool, is_op=self._chain.rules.is_op)

    @rpc_method("testing_commitBlockV1", Parameter(decode_attributes), _TRANSACTIONS, BYTES.optional(b""), slow=True)
    def commit_block(self, call: AttributesCall, transactions: list[bytes] | None, extra_data: bytes) -> str:
        """The same on the head, and it becomes the head; its hash. What is refused leaves the head where it is."""
        block = self._draft(self._chain.head().hash, call, transactions, extra_data).block
        try:
            self._chain.import_block(block)
        except InvalidBlock as error:  # extra data may be what no block has
            raise ServerError(str(error)) from error
        self._chain.set_heads(unsafe=block.hash)
        return hex_bytes(block.hash)

    def _draft(
        self, parent_hash: bytes, call: AttributesCall, transactions: list[bytes] | None, extra_data: bytes
    ) -> Draft:
        parent = self._chain.header_by_hash(parent_hash)
        if parent is None:
            raise ServerError("unknown parent block")
        attributes: Any = replace(
            call.attributes,
            gas_limit=call.attributes.gas_limit or _next_gas_limit(parent.gas_limit),
            transactions=(*call.attributes.transactions, *(transactions or ())),
            no_tx_pool=transactions is not None,
        )
        try:
            block, executed = self._chain.draft(parent_hash, attributes, self._pool.pending())
        except InvalidBlockTransaction as error:
            raise ServerError(with_checksums(str(error.reason))) from error
        except (InvalidBlock, UnknownParent) as error:
            raise ServerError(str(error)) from error
        if extra_data:
            block = replace(block, header=replace(block.header, extra_data=extra_data))
        return Draft(block, executed)


def _next_gas_limit(parent: int) -> int:
    step = parent // _GAS_LIMIT_QUOTIENT - 1
    return max(parent - step, GAS_LIMIT_WANTED) if parent > GAS_LIMIT_WANTED else min(parent + step, GAS_LIMIT_WANTED)
