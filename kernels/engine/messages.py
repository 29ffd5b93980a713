"""What crosses the edge between the node and its engine process: one msgspec struct per message.

Every sampling parameter is an integer, so that two machines cannot read one number in two ways. The frames
are those of `openledger.kernels.framing`.
"""

from typing import Final, Literal

import msgspec

from openledger.kernels.engine.config import EngineConfig

StopReason = Literal["stop", "length", "cancelled"]
"""`stop`: an end-of-turn token or a stop string. `length`: `max_tokens` or the context was full. `cancelled`: the
caller wanted no more; what was sampled until then is an answer that can be verified."""

FailureCode = Literal[
    "prompt_too_long",
    "bad_request",
    "adapter_refused",
    "numeric_fault",
    "overloaded",
    "cancelled",
    "engine_died",
    "engine_unavailable",
]


MAX_PRIORITY: Final = 100
MAX_LOGPROBS: Final = 20
MAX_SCHEMA_BYTES: Final = 65_536
"""Limits of a request; `Generate` says what of."""

SCHEMA_DIALECT: Final = "llguidance-1"
"""Names the rule by which a schema allows tokens (kernels/README.md). A receipt of such an answer commits to it."""


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter on this machine's disk: a folder in PEFT's layout and the digest it must have.

    `digest` is `adapters.adapter_digest` of the folder (32 bytes); empty accepts whatever is there. `weight_milli`: its α
    becomes binary32(α · weight_milli ÷ 1000), computed in binary64 and rounded once.
    """

    path: str
    digest: bytes = b""
    weight_milli: int = 1000


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is drawn. `temperature_milli` 0 is greedy; `top_k` 0, `top_p_ppm` 1,000,000 and
    `min_p_ppm` 0 leave the distribution as it is."""

    temperature_milli: int = 0
    top_k: int = 0
    top_p_ppm: int = 1_000_000
    min_p_ppm: int = 0

    def check(self) -> None:
        """Raises `ValueError` naming the parameter that is out of range."""
        for name, low, high in (
            ("temperature_milli", 0, 100_000),
            ("top_k", 0, 2**31 - 1),
            ("top_p_ppm", 1, 1_000_000),
            ("min_p_ppm", 0, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {value}")


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer a prompt. `stop_tokens` None means the model's own end-of-turn tokens.

    `seed` and `request_hash` are 32 bytes: the first keys the sampling, the second the fingerprint. Only requests with
    the same `cache_salt` may find what another left in the cache: how soon an answer begins tells of that. `payer` is
    anything that names who pays: those who have the least running are served first. `priority` goes before that: of
    -100 to 100, the higher are served first and lose their place last.

    `logprobs` 1 to 20: with each token come its log-probability and the likeliest tokens', so many; 0 for none. `schema`:
    a JSON Schema as text; only tokens that can continue a document of it are drawn, and the answer ends with the document.
    """

    request_id: str
    prompt_tokens: list[int]
    max_tokens: int
    cache_salt: bytes = b""
    payer: bytes = b""
    priority: int = 0
    adapters: list[Adapter] = []
    sampling: Sampling = Sampling()
    seed: bytes = bytes(32)
    request_hash: bytes = bytes(32)
    stop: list[str] = []
    stop_tokens: list[int] | None = None
    logprobs: int = 0
    schema: str = ""


class Verify(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Re-check an answer: the same request, and what it is claimed to have given."""

    request_id: str
    prompt_tokens: list[int]
    max_tokens: int
    output_tokens: list[int]
    stop_reason: StopReason
    fingerprint: bytes
    adapters: list[Adapter] = []
    sampling: Sampling = Sampling()
    seed: bytes = bytes(32)
    request_hash: bytes = bytes(32)
    stop: list[str] = []
    stop_tokens: list[int] | None = None
    schema: str = ""


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Stop working on a request. An answer that has begun ends with `Finished(stop_reason="cancelled")`, anything
    else with `Failed(code="cancelled")`, unless it was already over."""

    request_id: str


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message to the worker."""

    config: EngineConfig


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Start-up, for people: what is being done and how far it is (0 to 1)."""

    stage: str
    fraction: float


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The engine takes requests. The roots are what a release commits to."""

    model: str
    weights_root: bytes
    tokenizer_hash: bytes
    template_hash: bytes
    tables_root: bytes
    vocabulary: int
    max_context: int
    numerics: str
    linear: str
    threads: int


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """The engine cannot start, and trying again changes nothing: `message` says what to do."""

    code: str
    message: str


class Likelihood(msgspec.Struct, frozen=True):
    """How likely a token was and which were likeliest, as natural logarithms of the model's own probabilities: before
    temperature, cuts and schema. For people; no receipt holds it.

    `likeliest`: (token, log-probability), most likely first, among equals the smallest token first.
    """

    logprob: float
    likeliest: list[tuple[int, float]]


class Token(msgspec.Struct, frozen=True, tag=True):
    """One generated token. `text` is what can be shown now: whole characters, never part of a stop string.
    `likelihood` is there where the request asked for `logprobs`."""

    request_id: str
    token: int
    text: str
    likelihood: Likelihood | None = None


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A request is complete. `text` is the whole answer (without a stop string); `output_tokens` all tokens
    that were sampled, the stopping one included; `likelihoods` one for each of them, if `logprobs` were asked for."""

    request_id: str
    stop_reason: StopReason
    output_tokens: list[int]
    text: str
    fingerprint: bytes
    prompt_tokens: int
    likelihoods: list[Likelihood] = []


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A request ended without a result; nothing is owed for it."""

    request_id: str
    code: FailureCode
    message: str


class Verified(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The verdict on a `Verify`. `detail` names the first difference; `fingerprint` is what was recomputed."""

    request_id: str
    ok: bool
    detail: str
    fingerprint: bytes


class Load(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the engine is doing; sent when it changes, at most about once a second.

    `adapters_resident` are in the CPU's memory, `adapter_hits_total` were found there, `adapter_loads_total` were not:
    of them `adapter_disk_hits_total` came from disk in their integer form, the rest from their source.
    """

    running: int
    waiting: int
    kv_tokens_used: int
    kv_tokens: int
    adapters_resident: int
    adapter_hits_total: int
    adapter_loads_total: int
    adapters_on_device: int = 0
    adapter_device_bytes: int = 0
    adapter_host_bytes: int = 0
    adapter_device_hits_total: int = 0
    adapter_device_loads_total: int = 0
    adapter_disk_hits_total: int = 0
    adapter_evictions_total: int = 0
    reused_tokens_total: int
    prompt_tokens_total: int
    generated_tokens_total: int
    preemptions_total: int = 0


ToWorker = Start | Generate | Verify | Cancel
FromWorker = Progress | Ready | Unusable | Token | Finished | Failed | Verified | Load
