"""The messages between the node and the attribution process (msgspec structs in frames).

Every request has an id; it is answered by one final message of the same id, `BuildIndex` by `BuildProgress`
messages before it. Tokens, ids and scores are integers; vectors are 384 bytes of int8.
"""

import msgspec

from openledger.evm_ext.proofs.policy import DEFAULT_POLICY, AttributionPolicy


class IndexDocument(msgspec.Struct, frozen=True):
    """One document of an approved contribution, as a file on this machine.

    `contribution` and `contributor` are the chain's ids (u32). `name` is the document's file name, by which its type
    is told when `path` is a content-addressed file without a suffix.
    """

    contribution: int
    contributor: int
    path: str
    name: str = ""


class BuildIndex(msgspec.Struct, tag=True, frozen=True):
    """Index the documents of a Datanet version into the new folder `folder`, which appears only when complete."""

    request_id: int
    datanet: int
    version: int
    documents: list[IndexDocument]
    folder: str


class BuildProgress(msgspec.Struct, tag=True, frozen=True):
    """`stage` is one of tokens, suffix array, commitment, embeddings, writing."""

    request_id: int
    stage: str
    done: int
    total: int


class IndexSummary(msgspec.Struct, tag=True, frozen=True):
    """A finished index. Roots are 32 bytes. `tokens_by_contribution` counts text tokens without sentinels."""

    request_id: int
    datanet: int
    version: int
    folder: str
    corpus_root: bytes
    information_root: bytes
    retrieval_root: bytes
    tokenizer_hash: bytes
    embedder_hash: bytes
    tokens: int
    chunks: int
    tokens_by_contribution: dict[int, int]


class Retrieve(msgspec.Struct, tag=True, frozen=True):
    """The `k` chunks nearest to `query` in the indexes together; none below `minimum_score`."""

    request_id: int
    folders: list[str]
    query: str
    k: int = 4
    minimum_score: int = DEFAULT_POLICY.retrieval_minimum_score


class RetrievedChunk(msgspec.Struct, frozen=True):
    """`index` is the place of its folder in the request, `chunk` its number in that index, `score` the dot product."""

    index: int
    chunk: int
    score: int
    contribution: int
    contributor: int
    title: str
    text: str


class Retrieval(msgspec.Struct, frozen=True):
    """What was asked for (as the int8 query vector) and what came of it, best first."""

    query_vector: bytes
    k: int
    minimum_score: int
    chunks: list[RetrievedChunk]


class Retrieved(msgspec.Struct, tag=True, frozen=True):
    request_id: int
    retrieval: Retrieval


class Attribute(msgspec.Struct, tag=True, frozen=True):
    """Attribute an answer. `retrieval` names only what reached the prompt; None if nothing was retrieved."""

    request_id: int
    folders: list[str]
    output_tokens: list[int]
    retrieval: Retrieval | None = None
    policy: AttributionPolicy = DEFAULT_POLICY


class SpanFound(msgspec.Struct, frozen=True):
    """output_tokens[start:end] occurs in the data. `worth` in 1/65536 bit; it is shared among `contributors`.

    `contributions` has, in the order of `contributors`, the one of each that is paid. Both are empty for common
    language, which has more holders than the policy pays.
    """

    start: int
    end: int
    worth: int
    occurrences: int
    contributors: list[int]
    contributions: list[int]


class Attributed(msgspec.Struct, tag=True, frozen=True):
    """`vector`: (contribution, weight) by ascending contribution, weights sum to 10,000; empty: nothing found.

    The hashes are those of the receipt; `retrieval_hash` is zero if nothing was retrieved.
    """

    request_id: int
    vector: list[tuple[int, int]]
    spans: list[SpanFound]
    evidence: bytes
    evidence_hash: bytes
    vector_hash: bytes
    retrieval_hash: bytes


class Embed(msgspec.Struct, tag=True, frozen=True):
    request_id: int
    texts: list[str]


class Embedded(msgspec.Struct, tag=True, frozen=True):
    """A vector for every text, and how many tokens it has, those that are not read included."""

    request_id: int
    vectors: list[bytes]
    tokens: list[int]


class ProveSpans(msgspec.Struct, tag=True, frozen=True):
    """A `SPANS` input that opens what shows span [start, end) of the output in one index."""

    request_id: int
    folder: str
    output_tokens: list[int]
    start: int
    end: int


class ProveScores(msgspec.Struct, tag=True, frozen=True):
    """A `SCORES` input that opens the vectors of these chunks of one index."""

    request_id: int
    folder: str
    query_vector: bytes
    chunks: list[int]


class Proved(msgspec.Struct, tag=True, frozen=True):
    request_id: int
    proof: bytes


class Failed(msgspec.Struct, tag=True, frozen=True):
    request_id: int
    code: str
    message: str


Request = BuildIndex | Retrieve | Attribute | Embed | ProveSpans | ProveScores
Reply = BuildProgress | IndexSummary | Retrieved | Attributed | Embedded | Proved | Failed
