"""Tracers by the names and options that geth gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openledger.evm_ext.errors import UnknownTracer
from openledger.evm_ext.tracing.call_tracer import CallTracer, CallTracerOptions
from openledger.evm_ext.tracing.combined import MuxTracer
from openledger.evm_ext.tracing.flat_call_tracer import FlatCallTracer, FlatCallTracerOptions
from openledger.evm_ext.tracing.four_byte_tracer import FourByteTracer
from openledger.evm_ext.tracing.hooks import Budget, Tracer
from openledger.evm_ext.tracing.prestate_tracer import PrestateOptions, PrestateTracer
from openledger.evm_ext.tracing.struct_logger import StructLogger, StructLogOptions

_MOST_MUXED = 8

Options = Mapping[str, Any]


def new_tracer(name: str, options: Options, budget: Budget) -> Tracer:
    """A tracer for one transaction. `name` "" is the one that gives a row per opcode, whose options are those of
    the trace itself. Raises `UnknownTracer`, also for an option of the wrong type; unknown options are passed over,
    as geth does."""
    make = _TRACERS.get(name)
    if make is None:
        raise UnknownTracer(
            f"tracer not found: {name[:80]!r}; there are {', '.join(sorted(filter(None, _TRACERS)))} "
            "(tracers in JavaScript are not run)"
        )
    return make(options, budget)


def _struct_logger(options: Options, budget: Budget) -> Tracer:
    limit = options.get("limit") or 0
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise UnknownTracer(f"limit is a number of rows, got {str(limit)[:40]}")
    return StructLogger(
        budget,
        StructLogOptions(
            disable_stack=_flag(options, "disableStack"),
            disable_storage=_flag(options, "disableStorage"),
            enable_memory=_flag(options, "enableMemory"),
            enable_return_data=_flag(options, "enableReturnData"),
            limit=limit,
        ),
    )


def _call_tracer(options: Options, budget: Budget) -> Tracer:
    return CallTracer(budget, CallTracerOptions(_flag(options, "onlyTopCall"), _flag(options, "withLog")))


def _flat_call_tracer(options: Options, budget: Budget) -> Tracer:
    return FlatCallTracer(
        budget, FlatCallTracerOptions(_flag(options, "convertParityErrors"), _flag(options, "includePrecompiles"))
    )


def _prestate_tracer(options: Options, budget: Budget) -> Tracer:
    return PrestateTracer(
        budget,
        PrestateOptions(
            diff_mode=_flag(options, "diffMode"),
            disable_code=_flag(options, "disableCode"),
            disable_storage=_flag(options, "disableStorage"),
            include_empty=_flag(options, "includeEmpty") or _flag(options, "enableEmpty"),
        ),
    )


def _mux_tracer(options: Options, budget: Budget) -> Tracer:
    if len(options) > _MOST_MUXED:
        raise UnknownTracer(f"muxTracer runs at most {_MOST_MUXED} tracers, got {len(options)}")
    inner: dict[str, Tracer] = {}
    for name, inner_options in options.items():
        if name == "muxTracer":
            raise UnknownTracer("muxTracer does not run itself")
        if inner_options is not None and not isinstance(inner_options, dict):
            raise UnknownTracer(f"the options of {name[:80]} are an object or null")
        inner[name] = new_tracer(name, inner_options or {}, budget)
    return MuxTracer(budget, inner)


def _flag(options: Options, name: str) -> bool:
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise UnknownTracer(f"{name} is true or false, got {str(value)[:40]}")
    return bool(value)


_TRACERS: dict[str, Callable[[Options, Budget], Tracer]] = {
    "": _struct_logger,
    "callTracer": _call_tracer,
    "flatCallTracer": _flat_call_tracer,
    "prestateTracer": _prestate_tracer,
    "4byteTracer": lambda options, budget: FourByteTracer(budget),
    "noopTracer": lambda options, budget: Tracer(budget),
    "muxTracer": _mux_tracer,
}
