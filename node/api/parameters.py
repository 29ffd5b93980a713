"""What chat and completions share of OpenAI's parameters: which are taken, which are refused by name, which mean nothing here.

A parameter that would change the answer and cannot be kept to is refused with its name as `param`; null is as good as left
out. What only concerns OpenAI's own bookkeeping (`user`, `store`, `metadata`, `service_tier`, …), and what is unknown, is
ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import orjson

from openledger.kernels.engine.messages import MAX_LOGPROBS, MAX_SCHEMA_BYTES, Sampling
from openledger.node.api.errors import ApiError
from openledger.node.http import require_modest_json

MAX_STOPS = 4
MAX_CHOICES = 8
"""Answers of one call."""

_NOT_HERE = {
    "tools": "these models call no tools: describe in the prompt what may be answered, and read it with response_format",
    "functions": "these models call no functions: use response_format for answers of a given form",
    "logit_bias": "a bias is no part of what a receipt commits to, so no token can be favoured: use response_format or stop",
    "audio": "these models only write text",
    "prediction": "predicted outputs are not supported: leave it out",
    "web_search_options": "nothing is searched but the Datanets of the release, by openledger.passages",
    "suffix": "text can only be continued, not filled in: put what is to stand before the answer into the prompt",
}
_PATH = re.compile(r"`\$\.(\w+)")

Body = TypeVar("Body")


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class UsedModel(msgspec.Struct, frozen=True):
    """A member of an ensemble, by the name that it has as `model`."""

    model: str
    weight: float = 1.0


class Extension(msgspec.Struct, frozen=True):
    """What `openledger` of a request may hold: how many passages are put before the model, and whose adapters are used,
    added in this order, instead of the model's own."""

    passages: int | None = None
    adapters: list[UsedModel] = []


class SharedBody(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that chat and completions share."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: dict[str, Any] | None = None
    openledger: Extension | None = None
    tools: Any = None
    functions: Any = None
    logit_bias: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    suffix: Any = None


@dataclass(frozen=True)
class Shared:
    """The same, checked. `max_tokens` is None where the call does not say."""

    sampling: Sampling
    stop: tuple[str, ...]
    max_tokens: int | None
    seed: int | None
    n: int
    schema: str


def refuse(name: str, message: str) -> ApiError:
    """The refusal of one parameter."""
    return ApiError(400, "bad_parameter", message, param=name)


def decode_body(raw: bytes, kind: type[Body], what: str) -> Body:
    """A request's JSON. Raises ApiError, naming the field that is not what it should be."""
    try:
        require_modest_json(raw)
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, msgspec.MsgspecError) as error:
        found = _PATH.search(str(error))
        raise ApiError(
            400, "bad_request", f"the request is not {what}: {error}", param=found[1] if found else None
        ) from error


def in_range(name: str, value: float, low: float, high: float) -> float:
    """Raises ApiError."""
    if not low <= value <= high:
        raise refuse(name, f"{name} must be from {low} to {high}, not {value}")
    return value


def shared_parameters(body: SharedBody, max_output_tokens: int) -> Shared:
    """Raises ApiError naming the parameter that is wrong, or that cannot be kept to."""
    for name, said in _NOT_HERE.items():
        if getattr(body, name):
            raise ApiError(400, "unsupported_parameter", f"{name}: {said}", param=name)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(body, name):
            raise ApiError(
                400,
                "unsupported_parameter",
                f"{name}: tokens are not penalised here: leave it out or send 0",
                param=name,
            )
    stop = [body.stop] if isinstance(body.stop, str) else list(body.stop or [])
    if len(stop) > MAX_STOPS or any(not 0 < len(s) <= 256 for s in stop):
        raise refuse("stop", f"stop takes up to {MAX_STOPS} strings of 1 to 256 characters")
    asked = body.max_tokens
    if asked is not None:
        in_range("max_tokens", asked, 1, max_output_tokens)
    sampling = Sampling(
        temperature_milli=round(in_range("temperature", _or(body.temperature, 1.0), 0, 2) * 1000),
        top_p_ppm=max(1, round(in_range("top_p", _or(body.top_p, 1.0), 0, 1) * 1_000_000)),
        # -1 is how others write "all"
        top_k=max(0, int(in_range("top_k", _or(body.top_k, 0), -1, 1 << 20))),
        min_p_ppm=round(in_range("min_p", _or(body.min_p, 0.0), 0, 1) * 1_000_000),
    )
    if body.seed is not None:
        in_range("seed", body.seed, -(1 << 63), (1 << 63) - 1)
    n = int(in_range("n", _or(body.n, 1), 1, MAX_CHOICES))
    return Shared(sampling, tuple(stop), asked, body.seed, n, schema_of(body.response_format))


def schema_of(wanted: dict[str, Any] | None) -> str:
    """The JSON Schema that `response_format` asks for, as text; "" for any text. Raises ApiError."""
    kind = "text" if wanted is None else wanted.get("type")
    if wanted is None or kind == "text":
        return ""
    if kind == "json_object":
        return '{"type":"object"}'
    if kind != "json_schema":
        raise refuse(
            "response_format", f"response_format is of type text, json_object or json_schema, not {kind!r:.80}"
        )
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise refuse("response_format", "response_format.json_schema.schema must be a JSON Schema: an object")
    try:
        text = orjson.dumps(schema).decode()
    except TypeError as error:
        raise refuse("response_format", f"response_format.json_schema.schema: {error}") from error
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise refuse(
            "response_format", f"the schema has {len(text):,} characters, the limit is {MAX_SCHEMA_BYTES:,} bytes"
        )
    return text


def logprobs_asked(name: str, count: int) -> int:
    """How many log-probabilities the engine is asked for, for `count` to be shown. Raises ApiError."""
    return max(1, int(in_range(name, count, 0, MAX_LOGPROBS)))


Number = TypeVar("Number", int, float)


def _or(value: Number | None, usual: Number) -> Number:
    return usual if value is None else value
