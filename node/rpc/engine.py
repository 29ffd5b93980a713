"""engine: how a consensus client (a beacon node, an op-node) drives this chain.

Sources: execution-apis, engine/paris, shanghai, cancun, prague, osaka, identification; OP-Stack specification,
exec-engine. On an OP chain attributes carry transactions, noTxPool, gasLimit and eip1559Params, payloads the
withdrawals root of Isthmus, and a fork choice may move the head back to an ancestor.
"""

from __future__ import annotations

from importlib.metadata import version as installed_version
from threading import Lock
from typing import Any

from openledger.evm_ext.blobs import BlobSidecar
from openledger.evm_ext.block import EMPTY_REQUESTS_HASH, Block, Header, HeaderForm, block_from_payload, header_form
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import HeaderFieldMismatch, InvalidBlock, StatePruned, UndecodableBlock, UnknownParent
from openledger.evm_ext.payload import ExecutionPayload
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.requests import requests_hash
from openledger.evm_ext.transactions import BLOB
from openledger.genesis.counted import counted
from openledger.genesis.hardforks import Hardfork
from openledger.node.build import commit
from openledger.node.rpc.engine_builder import DataLimits, Draft, PayloadBuilder
from openledger.node.rpc.engine_formats import (
    AttributesCall,
    ForkchoiceState,
    PayloadStatus,
    Status,
    decode_attributes,
    decode_forkchoice_state,
    decode_payload,
    decode_requests,
    payload_json,
    refuse_fields,
    require_fields,
)
from openledger.node.rpc.engine_tree import BlockTree
from openledger.node.rpc.errors import (
    INVALID_FORKCHOICE_STATE,
    INVALID_PAYLOAD_ATTRIBUTES,
    TOO_LARGE_REQUEST,
    UNKNOWN_PAYLOAD,
    UNSUPPORTED_FORK,
    InvalidParams,
    RpcError,
    ServerError,
)
from openledger.node.rpc.fields import FieldError, named
from openledger.node.rpc.formats import Json, hex_bytes, withdrawals_json
from openledger.node.rpc.methods import Parameter, methods_of, rpc_method
from openledger.node.rpc.parameters import INDEX, OBJECT, decode_bytes, decode_hash, decode_text, list_of

MOST_BODIES = 1_024
MOST_BLOB_HASHES = 4_096
MOST_BLOBS = 128
"""What one call of getBlobs may ask for."""
MOST_CAPABILITIES = 1_000
CLIENT_CODE = "OL"
PROTOCOL_VERSION = (9, 0, 0, 0)
"""OP-Stack protocol version whose rules are supported (Isthmus): major, minor, patch, pre-release."""

_FORKS_OF_VERSION = {
    1: frozenset({Hardfork.PARIS}),
    2: frozenset({Hardfork.PARIS, Hardfork.SHANGHAI}),
    3: frozenset({Hardfork.CANCUN}),
    4: frozenset({Hardfork.PRAGUE, Hardfork.OSAKA}),
}
"""Which forks' payloads newPayload of a version takes."""
_FORKS_GIVEN = {
    1: frozenset({Hardfork.PARIS}),
    2: frozenset({Hardfork.PARIS, Hardfork.SHANGHAI}),
    3: frozenset({Hardfork.CANCUN}),
    4: frozenset({Hardfork.PRAGUE}),
    5: frozenset({Hardfork.OSAKA}),
}
"""Which forks' payloads getPayload of a version gives."""
_FORKS_OF_FORKCHOICE = {
    1: frozenset({Hardfork.PARIS}),
    2: frozenset({Hardfork.PARIS, Hardfork.SHANGHAI}),
    3: frozenset(fork for fork in Hardfork if fork >= Hardfork.CANCUN),
}

_CANCUN_FIELDS = ("blobGasUsed", "excessBlobGas")
_REFERENCES = Parameter(named("expectedBlobVersionedHashes", list_of(decode_hash, MOST_BLOB_HASHES)))
_BEACON_ROOT = Parameter(named("parentBeaconBlockRoot", decode_hash))
_BODY_HASHES = Parameter(list_of(decode_hash, 1 << 20))
_STATE = Parameter(named("forkchoiceState", decode_forkchoice_state))
_ATTRIBUTES = Parameter(named("payloadAttributes", decode_attributes)).optional()
_REQUESTS = Parameter(named("executionRequests", decode_requests))


def _decode_payload_id(value: Any) -> bytes:
    identifier = decode_bytes(value)
    if len(identifier) != 8:
        raise ValueError(f"a payload id has 8 bytes, got {len(identifier)}")
    return identifier


_PAYLOAD_ID = Parameter(_decode_payload_id)


class EngineApi:
    """The `engine` namespace over a chain and its pool. `close` stops what is being built."""

    def __init__(self, chain: Chain, pool: TransactionPool, *, client_version: str | None = None) -> None:
        self._chain = chain
        self._pool = pool
        self._is_op = chain.rules.is_op
        self._builder = PayloadBuilder(chain, pool)
        self._tree = BlockTree(chain, self._builder)
        self._forkchoice_lock = Lock()
        self._client_version = client_version or installed_version("openledger-node")

    def close(self) -> None:
        self._builder.close()

    def set_data_limits(self, transaction: int, block: int) -> bool:
        """miner_setMaxDASize: how an op-batcher that lags behind slows a sequencer. Estimated bytes that a pooled
        transaction, and all of a block, may add to the rollup's data; 0 is no limit."""
        self._builder.data_limits = DataLimits(transaction or None, block or None)
        return True

    # --- new payloads ---------------------------------------------------------------------------------

    @rpc_method("engine_newPayloadV1", OBJECT, slow=True)
    def new_payload_v1(self, value: dict[str, Any]) -> Json:
        payload, fields = self._payload(value)
        refuse_fields(fields, ("withdrawals", *_CANCUN_FIELDS), "the payload")
        return self._new_payload(payload, 1)

    @rpc_method("engine_newPayloadV2", OBJECT, slow=True)
    def new_payload_v2(self, value: dict[str, Any]) -> Json:
        payload, fields = self._payload(value)
        fork = self._require_fork(payload.block_number, payload.timestamp, _FORKS_OF_VERSION[2])
        refuse_fields(fields, _CANCUN_FIELDS, "the payload")
        (require_fields if fork is Hardfork.SHANGHAI else refuse_fields)(fields, ("withdrawals",), "the payload")
        return self._new_payload(payload, 2)

    @rpc_method("engine_newPayloadV3", OBJECT, _REFERENCES, _BEACON_ROOT, slow=True)
    def new_payload_v3(self, value: dict[str, Any], blob_hashes: list[bytes], beacon_root: bytes) -> Json:
        payload, fields = self._payload(value, beacon_root)
        require_fields(fields, ("withdrawals", *_CANCUN_FIELDS), "the payload")
        return self._new_payload(payload, 3, blob_hashes)

    @rpc_method("engine_newPayloadV4", OBJECT, _REFERENCES, _BEACON_ROOT, _REQUESTS, slow=True)
    def new_payload_v4(
        self, value: dict[str, Any], blob_hashes: list[bytes], beacon_root: bytes, requests: tuple[bytes, ...]
    ) -> Json:
        payload, fields = self._payload(value, beacon_root)
        require_fields(fields, ("withdrawals", *_CANCUN_FIELDS), "the payload")
        if self._is_op:
            require_fields(fields, ("withdrawalsRoot",), "the payload")
            if requests:
                raise InvalidParams("an OP chain's blocks have no execution requests")
        return self._new_payload(payload, 4, blob_hashes, requests_hash(requests))

    def _payload(
        self, value: dict[str, Any], beacon_root: bytes = bytes(32)
    ) -> tuple[ExecutionPayload, frozenset[str]]:
        try:
            return decode_payload(value, is_op=self._is_op, parent_beacon_block_root=beacon_root)
        except ValueError as error:
            raise InvalidParams(f"invalid argument 0: {FieldError.within('executionPayload', error)}") from error

    def _new_payload(
        self,
        payload: ExecutionPayload,
        version: int,
        blob_hashes: list[bytes] | None = None,
        commitment: bytes = EMPTY_REQUESTS_HASH,
    ) -> Json:
        fork = self._require_fork(payload.block_number, payload.timestamp, _FORKS_OF_VERSION[version])
        if self._is_op and payload.withdrawals:
            raise InvalidParams("an OP chain's blocks have no withdrawals")
        try:
            block = block_from_payload(payload, commitment, header_form(fork))
        except (UndecodableBlock, HeaderFieldMismatch) as error:
            return PayloadStatus(Status.INVALID, None, str(error)).to_json()
        if blob_hashes is not None:
            actual = [blob_hash for item in block.transactions for blob_hash in item.blob_versioned_hashes]
            if actual != blob_hashes:
                reason = (
                    f"the payload's transactions have {counted(len(actual), 'blob hash', 'blob hashes')}, "
                    f"not the {len(blob_hashes)} expected"
                )
                return PayloadStatus(Status.INVALID, None, reason).to_json()
        return self._tree.add(block).to_json()

    # --- fork choice ----------------------------------------------------------------------------------

    @rpc_method("engine_forkchoiceUpdatedV1", _STATE, _ATTRIBUTES, slow=True)
    def forkchoice_updated_v1(self, state: ForkchoiceState, attributes: AttributesCall | None) -> Json:
        return self._forkchoice_updated(state, attributes, 1)

    @rpc_method("engine_forkchoiceUpdatedV2", _STATE, _ATTRIBUTES, slow=True)
    def forkchoice_updated_v2(self, state: ForkchoiceState, attributes: AttributesCall | None) -> Json:
        return self._forkchoice_updated(state, attributes, 2)

    @rpc_method("engine_forkchoiceUpdatedV3", _STATE, _ATTRIBUTES, slow=True)
    def forkchoice_updated_v3(self, state: ForkchoiceState, attributes: AttributesCall | None) -> Json:
        return self._forkchoice_updated(state, attributes, 3)

    def _forkchoice_updated(self, state: ForkchoiceState, call: AttributesCall | None, version: int) -> Json:
        with self._forkchoice_lock:
            status = self._tree.status(state.head)
            if status.status is not Status.VALID:
                return _forkchoice_answer(status)
            head = self._header(state.head)
            skipped = not self._is_op and head.hash != self._chain.head().hash and self._is_canonical(head)
            if not skipped:
                self._move_heads(head, state)
            if call is None or skipped:
                return _forkchoice_answer(status)
            self._check_attributes(call, head, version)
            try:
                identifier = self._builder.start(head.hash, call.attributes, version)
            except StatePruned as error:
                raise ServerError(str(error)) from error
            except (InvalidBlock, UnknownParent) as error:
                raise RpcError(INVALID_PAYLOAD_ATTRIBUTES, f"Invalid payload attributes: {error}") from error
            return _forkchoice_answer(status, identifier)

    def _move_heads(self, head: Header, state: ForkchoiceState) -> None:
        branch = self._branch(head)
        fork_point = branch[min(branch)]
        if fork_point.number < self._chain.oldest_states()[0]:
            raise ServerError(str(StatePruned(fork_point.number, fork_point.hash, fork_point.state_root)))
        safe = self._label_on("safe", state.safe, head, branch)
        finalized = self._label_on("finalized", state.finalized, head, branch)
        if finalized.number > safe.number:
            if state.safe is not None and state.finalized is not None:
                raise RpcError(INVALID_FORKCHOICE_STATE, "Invalid forkchoice state: finalized is above safe")
            safe = finalized if state.safe is None else safe
            finalized = safe if state.finalized is None else finalized
        self._chain.set_heads(unsafe=head.hash, safe=safe.hash, finalized=finalized.hash)

    def _branch(self, head: Header) -> dict[int, Header]:
        """The blocks from a head down to the canonical chain, that one included, by number."""
        branch = {head.number: head}
        while not self._is_canonical(head):
            head = self._header(head.parent_hash)
            branch[head.number] = head
        return branch

    def _label_on(self, label: str, wanted: bytes | None, head: Header, branch: dict[int, Header]) -> Header:
        """The new safe or finalized head: the wanted one, which has to be below `head`; if none is wanted the old
        one, or where the new chain leaves the old one's."""
        fork_point = min(branch)
        if wanted is None:
            old = self._chain.head("safe" if label == "safe" else "finalized")
            return old if old.number <= fork_point else branch[fork_point]
        header = self._chain.header_by_hash(wanted)
        if header is not None and header.number <= head.number:
            below = branch.get(header.number)
            if below.hash == header.hash if below is not None else self._is_canonical(header):
                return header
        raise RpcError(
            INVALID_FORKCHOICE_STATE,
            f"Invalid forkchoice state: the {label} block 0x{wanted.hex()} is not an ancestor of the head",
        )

    def _check_attributes(self, call: AttributesCall, head: Header, version: int) -> None:
        attributes, fields = call.attributes, call.fields
        fork = self._chain.genesis.hardforks.at(head.number + 1, attributes.timestamp, merged=True)
        if attributes.timestamp <= head.timestamp:
            raise _bad_attributes(f"timestamp {attributes.timestamp} is not after the head's {head.timestamp}")
        if version == 1 and fields & {"withdrawals", "parentBeaconBlockRoot"}:
            raise InvalidParams("withdrawals and beacon root are not supported in V1")
        if version == 2 and "parentBeaconBlockRoot" in fields:
            raise _bad_attributes("unexpected beacon root in V2")
        if fork not in _FORKS_OF_FORKCHOICE[version]:
            raise RpcError(
                UNSUPPORTED_FORK, f"Unsupported fork: forkchoiceUpdatedV{version} does not build {fork.name} payloads"
            )
        for name, since in (("withdrawals", Hardfork.SHANGHAI), ("parentBeaconBlockRoot", Hardfork.CANCUN)):
            if (name in fields) != (fork >= since):
                raise _bad_attributes(f"{'missing' if fork >= since else 'unexpected'} {name}")
        if self._is_op:
            for name in ("gasLimit", "eip1559Params"):
                if name not in fields:
                    raise _bad_attributes(f"missing {name}: an OP chain's attributes carry it")
        else:
            for name in ("transactions", "noTxPool", "gasLimit", "eip1559Params"):
                if name in fields:
                    raise _bad_attributes(f"unexpected {name}: only an OP chain's attributes carry it")

    # --- built payloads -------------------------------------------------------------------------------

    @rpc_method("engine_getPayloadV1", _PAYLOAD_ID, slow=True)
    def get_payload_v1(self, identifier: bytes) -> Json:
        return payload_json(self._take(identifier, 1).block, 1, is_op=self._is_op)

    @rpc_method("engine_getPayloadV2", _PAYLOAD_ID, slow=True)
    def get_payload_v2(self, identifier: bytes) -> Json:
        return self._envelope(identifier, 2)

    @rpc_method("engine_getPayloadV3", _PAYLOAD_ID, slow=True)
    def get_payload_v3(self, identifier: bytes) -> Json:
        return self._envelope(identifier, 3)

    @rpc_method("engine_getPayloadV4", _PAYLOAD_ID, slow=True)
    def get_payload_v4(self, identifier: bytes) -> Json:
        return self._envelope(identifier, 4)

    @rpc_method("engine_getPayloadV5", _PAYLOAD_ID, slow=True)
    def get_payload_v5(self, identifier: bytes) -> Json:
        return self._envelope(identifier, 5)

    def _envelope(self, identifier: bytes, version: int) -> Json:
        draft = self._take(identifier, version)
        return payload_envelope(draft, version, self._pool, is_op=self._is_op)

    def _take(self, identifier: bytes, version: int) -> Draft:
        draft = self._builder.take(identifier)
        if draft is None:
            raise RpcError(UNKNOWN_PAYLOAD, f"Unknown payload: no payload 0x{identifier.hex()} is being built")
        self._require_fork(draft.block.number, draft.block.header.timestamp, _FORKS_GIVEN[version])
        return draft

    # --- blobs ----------------------------------------------------------------------------------------

    @rpc_method("engine_getBlobsV1", _BODY_HASHES, slow=True)
    def get_blobs_v1(self, hashes: list[bytes]) -> list[Json | None]:
        if self._head_fork() >= Hardfork.OSAKA:
            raise RpcError(UNSUPPORTED_FORK, "Unsupported fork: since Osaka blobs are asked for with getBlobsV2")
        return [
            None
            if found is None or found[0].has_cells
            else {"blob": hex_bytes(found[0].blobs[found[1]]), "proof": hex_bytes(found[0].proofs[found[1]])}
            for found in self._blobs(hashes)
        ]

    @rpc_method("engine_getBlobsV2", _BODY_HASHES, slow=True)
    def get_blobs_v2(self, hashes: list[bytes]) -> list[Json] | None:
        """All of them or none."""
        found = self.get_blobs_v3(hashes)
        complete = [item for item in found if item is not None]
        return complete if len(complete) == len(found) else None

    @rpc_method("engine_getBlobsV3", _BODY_HASHES, slow=True)
    def get_blobs_v3(self, hashes: list[bytes]) -> list[Json | None]:
        if self._head_fork() < Hardfork.OSAKA:
            raise RpcError(UNSUPPORTED_FORK, "Unsupported fork: before Osaka blobs are asked for with getBlobsV1")
        return [
            None
            if found is None or not found[0].has_cells
            else {
                "blob": hex_bytes(found[0].blobs[found[1]]),
                "proofs": [hex_bytes(proof) for proof in found[0].proofs_of(found[1])],
            }
            for found in self._blobs(hashes)
        ]

    def _blobs(self, hashes: list[bytes]) -> list[tuple[BlobSidecar, int] | None]:
        if len(hashes) > MOST_BLOBS:
            raise RpcError(TOO_LARGE_REQUEST, f"Too large request: {len(hashes)} blobs, at most {MOST_BLOBS}")
        return [self._pool.blob(versioned_hash) for versioned_hash in hashes]

    def _head_fork(self) -> Hardfork:
        head = self._chain.head()
        return self._chain.genesis.hardforks.at(head.number, head.timestamp, merged=True)

    # --- bodies ---------------------------------------------------------------------------------------

    @rpc_method("engine_getPayloadBodiesByHashV1", _BODY_HASHES, slow=True)
    def bodies_by_hash(self, hashes: list[bytes]) -> list[Json | None]:
        _check_count(len(hashes))
        return [_body(self._chain.block_by_hash(block_hash)) for block_hash in hashes]

    @rpc_method("engine_getPayloadBodiesByRangeV1", INDEX, INDEX, slow=True)
    def bodies_by_range(self, start: int, count: int) -> list[Json | None]:
        if start == 0 or count == 0:
            raise InvalidParams(f"start and count begin at 1, got start {start} and count {count}")
        _check_count(count)
        last = min(start + count - 1, self._chain.head().number)
        return [_body(self._chain.block_by_number(number)) for number in range(start, last + 1)]

    # --- about this client ----------------------------------------------------------------------------

    @rpc_method("engine_exchangeCapabilities", Parameter(list_of(decode_text, MOST_CAPABILITIES)))
    def exchange_capabilities(self, _: list[str]) -> list[str]:
        return [method.name for method in methods_of(self) if method.name != "engine_exchangeCapabilities"]

    @rpc_method("engine_getClientVersionV1", OBJECT)
    def client_versions(self, _: dict[str, Any]) -> list[Json]:
        version = self._client_version
        return [{"code": CLIENT_CODE, "name": "openledger", "version": version, "commit": hex_bytes(commit())}]

    @rpc_method("engine_signalSuperchainV1", OBJECT)
    def signal_superchain(self, _: dict[str, Any]) -> str:
        """The OP-Stack protocol version that this node supports, as 32 bytes; what the caller recommends or requires
        is for the operator to act upon."""
        return "0x" + bytes(16).hex() + "".join(f"{part:08x}" for part in PROTOCOL_VERSION)

    # --- what several share ---------------------------------------------------------------------------

    def _require_fork(self, number: int, timestamp: int, forks: frozenset[Hardfork]) -> Hardfork:
        fork = self._chain.genesis.hardforks.at(number, timestamp, merged=True)
        if fork not in forks:
            raise RpcError(
                UNSUPPORTED_FORK, f"Unsupported fork: this version of the method does not take {fork.name} payloads"
            )
        return fork

    def _is_canonical(self, header: Header) -> bool:
        if header.number > self._chain.head().number:
            return False
        canonical = self._chain.header_by_number(header.number)
        return canonical is not None and canonical.hash == header.hash

    def _header(self, block_hash: bytes) -> Header:
        header = self._chain.header_by_hash(block_hash)
        assert header is not None, block_hash.hex()
        return header


def payload_envelope(draft: Draft, version: int, pool: TransactionPool, *, is_op: bool) -> Json:
    """A built payload as getPayload of a version gives it, from V2 on. `pool` has the blobs."""
    block = draft.block
    shown = min(version, 3) if block.header.form >= HeaderForm.SHANGHAI else 1
    envelope: Json = {"executionPayload": payload_json(block, shown, is_op=is_op), "blockValue": hex(draft.value)}
    if version >= 3:
        envelope["blobsBundle"] = _blobs_bundle(block, pool, has_cells=version >= 5)
        envelope["shouldOverrideBuilder"] = False
        if is_op:
            envelope["parentBeaconBlockRoot"] = hex_bytes(block.header.parent_beacon_block_root)
    if version >= 4:
        envelope["executionRequests"] = [hex_bytes(item) for item in draft.executed.requests]
    return envelope


def _blobs_bundle(block: Block, pool: TransactionPool, *, has_cells: bool) -> Json:
    """The blobs of a block whose transactions come from the pool."""
    found = [pool.sidecar(item.hash) for item in block.transactions if item.type == BLOB]
    sidecars = [item.with_cells() if has_cells else item for item in found if item is not None]
    return {
        "commitments": [hex_bytes(item) for sidecar in sidecars for item in sidecar.commitments],
        "proofs": [hex_bytes(item) for sidecar in sidecars for item in sidecar.proofs],
        "blobs": [hex_bytes(item) for sidecar in sidecars for item in sidecar.blobs],
    }


def _forkchoice_answer(status: PayloadStatus, identifier: bytes | None = None) -> Json:
    return {
        "payloadStatus": status.to_json(),
        "payloadId": None if identifier is None else hex_bytes(identifier),
    }


def _bad_attributes(reason: str) -> RpcError:
    return RpcError(INVALID_PAYLOAD_ATTRIBUTES, f"Invalid payload attributes: {reason}")


def _check_count(count: int) -> None:
    if count > MOST_BODIES:
        raise RpcError(TOO_LARGE_REQUEST, f"Too large request: {count} bodies, at most {MOST_BODIES}")


def _body(block: Block | None) -> Json | None:
    if block is None:
        return None
    has_withdrawals = block.header.form >= HeaderForm.SHANGHAI
    return {
        "transactions": [hex_bytes(item.raw) for item in block.transactions],
        "withdrawals": withdrawals_json(block.withdrawals) if has_withdrawals else None,
    }
