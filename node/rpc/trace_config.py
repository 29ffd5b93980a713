"""What a caller asks of a trace: which tracer, with what, for how long."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.overrides import BlockOverrides, StateOverride
from openledger.node.rpc.call_request import decode_block_overrides, decode_state_overrides
from openledger.node.rpc.fields import field
from openledger.node.rpc.parameters import decode_count, decode_object, decode_text

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """`tracer` "" is the one of rows; `options` are its own. `timeout_s` None is the node's default.

    The last three are for calls only. `reexec` is passed over: the state is there or it is not."""

    tracer: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    timeout_s: float | None = None
    state_overrides: dict[bytes, StateOverride] | None = None
    block_overrides: BlockOverrides | None = None
    transaction_index: int | None = None


def decode_trace_config(value: Any) -> TraceConfig:
    """geth's TraceConfig and TraceCallConfig. Raises ValueError."""
    fields = {name: item for name, item in decode_object(value).items() if item is not None}
    tracer = field(fields, "tracer", decode_text, "")
    options = field(fields, "tracerConfig", decode_object, {}) if tracer else fields
    return TraceConfig(
        tracer=tracer,
        options=options,
        timeout_s=field(fields, "timeout", decode_duration, None),
        state_overrides=field(fields, "stateOverrides", decode_state_overrides, None),
        block_overrides=field(fields, "blockOverrides", decode_block_overrides, None),
        transaction_index=field(fields, "txIndex", decode_count, None),
    )


def decode_duration(value: Any) -> float:
    """Seconds, from Go's notation: "10s", "1m30s", "500ms"."""
    text = decode_text(value)
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        raise ValueError(f'invalid duration {text[:40]!r}: write "5s", "500ms" or "1m30s"')
    total = 0.0
    for part in parts:
        unit = next(unit for unit in ("ns", "us", "µs", "ms", "s", "m", "h") if part.endswith(unit))
        total += float(part.removesuffix(unit)) * _UNITS_S[unit]
    return total
