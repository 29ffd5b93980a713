"""eth: accounts as they are after a block, and the proofs of it."""

from openledger.evm_ext.state.view import StateView
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import CLIENT_LIMIT_EXCEEDED, INVALID_PARAMS, InvalidParams, RpcError
from openledger.node.rpc.fields import field, named
from openledger.node.rpc.formats import Json, hex_bytes, hex_word
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import (
    ADDRESS,
    BLOCK,
    LATEST,
    SLOT,
    BlockReference,
    decode_address,
    decode_object,
    decode_slot,
    decode_text,
    list_of,
)

MOST_PROOF_KEYS = 65_536


def _decode_proof_key(value: object) -> tuple[str, int]:
    return decode_text(value), decode_slot(value)


def _decode_storage_request(value: object) -> dict[bytes, tuple[str, list[int]]]:
    fields = decode_object(value)
    slots = list_of(decode_slot, MOST_PROOF_KEYS)
    return {
        (decoded := named(address, decode_address)(address)): (hex_bytes(decoded), field(fields, address, slots))
        for address in fields
    }


class EthState:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend

    @rpc_method("eth_getBalance", ADDRESS, BLOCK.optional(LATEST))
    def balance(self, address: bytes, block: BlockReference) -> str:
        return hex(self._state(block).balance(address))

    @rpc_method("eth_getCode", ADDRESS, BLOCK.optional(LATEST))
    def code(self, address: bytes, block: BlockReference) -> str:
        return hex_bytes(self._state(block).code(address))

    @rpc_method("eth_getStorageAt", ADDRESS, SLOT, BLOCK.optional(LATEST))
    def storage_at(self, address: bytes, slot: int, block: BlockReference) -> str:
        return hex_word(self._state(block).storage(address, slot))

    @rpc_method("eth_getStorageValues", Parameter(_decode_storage_request), BLOCK.optional(LATEST), slow=True)
    def storage_values(self, request: dict[bytes, tuple[str, list[int]]], block: BlockReference) -> Json:
        """Slots of several accounts at one block, under the addresses as they were written."""
        count = sum(len(slots) for _, slots in request.values())
        if count == 0:
            raise RpcError(INVALID_PARAMS, "empty request")
        if count > self._backend.limits.proof_keys:
            raise RpcError(CLIENT_LIMIT_EXCEEDED, f"too many slots (max {self._backend.limits.proof_keys})")
        state = self._state(block)
        return {
            text: [hex_word(state.storage(address, slot)) for slot in slots]
            for address, (text, slots) in request.items()
        }

    @rpc_method("eth_getTransactionCount", ADDRESS, BLOCK.optional(LATEST))
    def transaction_count(self, address: bytes, block: BlockReference) -> str:
        """The next nonce; with "pending", after what the pool holds."""
        if block.label == "pending":
            return hex(self._backend.pool.pending_nonce(address))
        return hex(self._state(block).nonce(address))

    @rpc_method(
        "eth_getProof",
        ADDRESS,
        Parameter(list_of(_decode_proof_key, MOST_PROOF_KEYS)),
        BLOCK.optional(LATEST),
        slow=True,
    )
    def proof(self, address: bytes, keys: list[tuple[str, int]], block: BlockReference) -> Json:
        """EIP-1186: Merkle-Patricia proofs of an account and of its slots."""
        limit = self._backend.limits.proof_keys
        if len(keys) > limit:
            raise InvalidParams(f"too many storage keys: {len(keys)}, at most {limit}")
        proof = self._state(block).account_proof(address, [slot for _, slot in keys])
        return {
            "address": hex_bytes(address),
            "accountProof": [hex_bytes(node) for node in proof.proof],
            "balance": hex(proof.balance),
            "codeHash": hex_bytes(proof.code_hash),
            "nonce": hex(proof.nonce),
            "storageHash": hex_bytes(proof.storage_root),
            "storageProof": [
                {
                    # geth answers a full-length key as it came, any other as a quantity.
                    "key": text if len(text) == 66 else hex(slot),
                    "value": hex(item.value),
                    "proof": [hex_bytes(node) for node in item.proof],
                }
                for (text, slot), item in zip(keys, proof.storage_proofs, strict=True)
            ],
        }

    def _state(self, block: BlockReference) -> StateView:
        return self._backend.chain.state(self._backend.existing_header(block).hash)
