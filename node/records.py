"""What is kept of an answer so that anyone can check it: the request, the answer and the evidence, one byte form each.

The request's bytes are canonical JSON (sorted keys, no spaces, UTF-8), their hash is the receipt's `requestHash`, and
that hash is the seed of the sampling: a payer fixes it by the voucher they sign, a provider cannot choose it. The body
is msgpack; what it holds is checked against the receipt's hashes, so its own form binds nothing.

    requestHash   keccak of {"version": 1, "release", "messages", "max_tokens", "sampling", "stop", "retrieval_k", "seed",
                  "channel_id", "max_claimable"} and, each only where it is used, "prompt" (text, or a list of tokens;
                  "messages" is empty then), "schema" with "schema_dialect", "adapters" ([{"digest", "weight_milli"}]) and "choice"
    samplingHash  keccak of {"sampling", "stop"} and, only where there is one, "schema" with "schema_dialect"

So what was asked before any of these existed has the hashes that it had.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec
import orjson

from openledger.evm_ext.proofs.eip712 import InvalidMessage
from openledger.evm_ext.proofs.receipt import Receipt
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.messages import Retrieval
from openledger.kernels.engine.messages import Sampling, StopReason

MAX_BODY_BYTES = 1 << 20
RECEIPTS_PER_BATCH = 1000


class InvalidRecord(ValueError):
    """Bytes that are not the record they are said to be."""


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class UsedAdapter(msgspec.Struct, frozen=True):
    """An adapter by the hash of its folder, and its weight in thousandths: α is multiplied by it."""

    digest: bytes
    weight_milli: int = 1000


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an answer besides the release itself.

    `channel_id` and `max_claimable` are the voucher's: the payer's nonce. `user_seed` is the caller's own, if any.
    `prompt`: what is to be continued as it stands, without a template; `messages` is empty then. `schema`: the JSON Schema
    that the answer keeps to, as text, and `schema_dialect` by which rule it does. `adapters`: those that are used, in this order, instead of the release's own.
    `choice` numbers the answers that one call asks for, each with a receipt of its own.
    """

    release: int
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    retrieval_k: int = 4
    user_seed: int | None = None
    schema: str = ""
    schema_dialect: str = ""
    adapters: tuple[UsedAdapter, ...] = ()
    choice: int = 0
    channel_id: bytes
    max_claimable: int

    def encode(self) -> bytes:
        """The canonical JSON that is hashed."""
        document: dict[str, object] = {
            "version": 1,
            "release": self.release,
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
            "max_tokens": self.max_tokens,
            "sampling": msgspec.to_builtins(self.sampling),
            "stop": list(self.stop),
            "retrieval_k": self.retrieval_k,
            "seed": self.user_seed,
            "channel_id": "0x" + self.channel_id.hex(),
            "max_claimable": self.max_claimable,
        }
        if self.prompt is not None:
            document["prompt"] = self.prompt
        if self.schema:
            document |= self._schema
        if self.adapters:
            document["adapters"] = [
                {"digest": "0x" + used.digest.hex(), "weight_milli": used.weight_milli} for used in self.adapters
            ]
        if self.choice:
            document["choice"] = self.choice
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)

    @property
    def _schema(self) -> dict[str, str]:
        return {"schema": self.schema, "schema_dialect": self.schema_dialect}

    @property
    def hash(self) -> bytes:
        """The receipt's `requestHash`."""
        return keccak256(self.encode())

    @property
    def seed(self) -> bytes:
        """What keys the sampling: the hash of the request hash (economy of the network: nobody can grind it)."""
        return keccak256(self.hash)

    @property
    def sampling_hash(self) -> bytes:
        """The receipt's `samplingHash`: sampling parameters, stop strings, and the schema if there is one."""
        document = {"sampling": msgspec.to_builtins(self.sampling), "stop": list(self.stop)}
        if self.schema:
            document |= self._schema
        return keccak256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))


def retrieval_root(retrieval: Retrieval | None) -> bytes:
    """The receipt's `retrievalRoot`: what was searched for and found; 32 zero bytes where nothing was searched.

    keccak(query vector | k u16 | minimum score i32 | n x (index u16 | chunk u32 | score i64 | contribution u32)),
    big-endian.
    """
    if retrieval is None:
        return bytes(32)
    found = b"".join(struct.pack(">HIqI", c.index, c.chunk, c.score, c.contribution) for c in retrieval.chunks)
    return keccak256(retrieval.query_vector + struct.pack(">Hi", retrieval.k, retrieval.minimum_score) + found)


class AnswerBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body behind a receipt. `receipt` is the typed message by EIP-712's names, bytes as 0x hex.

    `activations` is there for an attested answer: the fingerprint of its activations, 258 bytes for every 32 tokens, whose
    keccak the receipt's `fingerprint` is.
    """

    request: ChatRequest
    prompt_tokens: list[int]
    output_tokens: list[int]
    stop_reason: StopReason
    text: str
    retrieval: Retrieval | None
    evidence: bytes
    vector: list[tuple[int, int]]
    receipt: dict[str, int | str]
    signature: bytes
    voucher_signature: bytes
    activations: bytes = b""

    def encode(self) -> bytes:
        """Raises InvalidRecord above 1 MiB, which the API's limits keep an answer below."""
        encoded = msgspec.msgpack.encode(self)
        if len(encoded) > MAX_BODY_BYTES:
            raise InvalidRecord(f"the body of this answer has {len(encoded)} bytes; at most {MAX_BODY_BYTES} are kept")
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> AnswerBody:
        """Raises InvalidRecord for anything that is not a body."""
        if len(data) > MAX_BODY_BYTES:
            raise InvalidRecord(f"a body has at most {MAX_BODY_BYTES} bytes, not {len(data)}")
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise InvalidRecord(f"not the body of an answer: {error}") from error

    def signed_receipt(self) -> Receipt:
        """The receipt as a typed message. Raises InvalidRecord where its fields are not a receipt's."""
        try:
            return Receipt.from_json(self.receipt)
        except InvalidMessage as error:
            raise InvalidRecord(f"the receipt in this body is malformed: {error}") from error


def encode_receipt_list(hashes: list[bytes]) -> bytes:
    """The receipts of a settlement in record order: their 32-byte hashes one after another."""
    return b"".join(hashes)


def decode_receipt_list(data: bytes) -> list[bytes]:
    """The inverse of `encode_receipt_list`. Raises InvalidRecord."""
    if len(data) % 32 or not data:
        raise InvalidRecord(f"{len(data)} bytes are not a list of receipt hashes")
    return [data[i : i + 32] for i in range(0, len(data), 32)]
