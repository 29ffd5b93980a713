"""What the Ethereum namespaces stand on: one chain, its pool, and what the daemon knows besides."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.pool import TransactionPool
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.parameters import BlockReference


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What one call may cost. Times are seconds."""

    log_blocks: int = 10_000
    """Blocks that one eth_getLogs may span."""
    log_results: int = 10_000
    """Logs that one answer may hold."""
    call_gas: int = 50_000_000
    call_time_s: float = 5.0
    """For a call, and for a trace unless it asks for more."""
    trace_time_s: float = 60.0
    """The most that a trace may ask for, and that all transactions of a block may take."""
    trace_bytes: int = 20 * 1024 * 1024
    """What a trace may grow to."""
    range_results: int = 10_000
    """Slots of one debug_storageRangeAt."""
    account_range_results: int = 256
    """Accounts of one debug_accountRange or debug_dumpBlock, as in geth."""
    modified_accounts_blocks: int = 64
    """Blocks that one debug_getModifiedAccounts… may span: they are executed again."""
    ots_page: int = 25
    """Transactions of one page of a search, as in Erigon."""
    ots_block_page: int = 1_000
    """Transactions of one page of a block."""
    fee_history_blocks: int = 1_024
    fee_history_percentiles: int = 100
    proof_keys: int = 1_024
    receipt_wait_s: float = 60.0
    """The longest that eth_sendRawTransactionSync waits for a block."""
    filters: int = 1_000
    """Polled filters, of all callers together."""
    filter_idle_s: float = 300.0
    """A filter that is not polled for so long is forgotten."""
    filter_changes: int = 10_000
    """Changes that a polled filter keeps; an older one is forgotten with its filter."""
    subscriptions: int = 100
    """Subscriptions of one WebSocket."""


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """Block numbers, as eth_syncing shows them."""

    starting_block: int
    current_block: int
    highest_block: int


def _not_syncing() -> SyncProgress | None:
    return None


def _no_peers() -> int:
    return 0


@dataclass(frozen=True)
class RpcBackend:
    """One chain behind JSON-RPC: the L2 on one port, the embedded L1 on another.

    minimum_tip_wei: the least priority fee that is ever suggested.
    syncing: how far a synchronisation is, None when there is none.
    allow_unprotected: whether callers may send transactions without a chain id, where the chain knows EIP-155.
    submit: takes a signed transaction elsewhere (a node that is not the sequencer); None adds it to `pool`.
    """

    chain: Chain
    pool: TransactionPool
    client_version: str = "openledger"
    limits: RpcLimits = field(default_factory=RpcLimits)
    minimum_tip_wei: int = 1_000_000
    syncing: Callable[[], SyncProgress | None] = _not_syncing
    peer_count: Callable[[], int] = _no_peers
    allow_unprotected: bool = True
    submit: Callable[[bytes], Awaitable[bytes]] | None = None

    def header(self, reference: BlockReference) -> Header | None:
        """The block that a reference names, None if there is none. "pending" is the latest block.

        Raises ServerError for a hash that is not canonical where that is required."""
        chain = self.chain
        if reference.hash is not None:
            header = chain.header_by_hash(reference.hash)
            if header is not None and reference.require_canonical:
                canonical = chain.header_by_number(header.number)
                if canonical is None or canonical.hash != header.hash:
                    raise ServerError("hash is not currently canonical")
            return header
        if reference.number is not None:
            # The store has a block's number a moment before the head moves; callers see the head move first.
            return None if reference.number > chain.head().number else chain.header_by_number(reference.number)
        if reference.label == "earliest":
            return chain.header_by_number(0)
        if reference.label in ("safe", "finalized"):
            return chain.head(reference.label)
        return chain.head("unsafe")

    def existing_header(self, reference: BlockReference) -> Header:
        """Like `header`. Raises ServerError "header not found", as geth."""
        header = self.header(reference)
        if header is None:
            raise ServerError("header not found")
        return header

    def mined_transaction(self, transaction_hash: bytes) -> tuple[Block, int] | None:
        """A transaction of the canonical chain: its block, and its place there. Never one of a block above
        the head, so that who sees a receipt sees its effects at "latest"."""
        location = self.chain.transaction_location(transaction_hash)
        if location is None:
            return None
        block = self.chain.block_by_hash(location[0])
        if block is None or block.number > self.chain.head().number:
            return None
        return block, location[1]
