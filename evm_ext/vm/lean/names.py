"""What an entry of py-evm's opcode tables does, by name: forks share most logic functions and differ in gas."""

from __future__ import annotations

from typing import Any

from eth.vm.logic.storage import NetSStoreGasSchedule


def logic_name(entry: Any) -> str:
    """The name of the logic function under an opcode: without package, partial application and guards against
    static calls. Empty for opcodes that are objects of a class of their own."""
    function = getattr(entry, "logic_fn", None)
    while function is not None:
        inner = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
        if inner is None:
            module: str = function.__module__
            return f"{module.removeprefix('eth.vm.')}.{function.__name__}"
        function = inner
    return ""


def is_guarded(entry: Any) -> bool:
    """Whether the opcode refuses to run in a static call (since Byzantium)."""
    function = getattr(entry, "logic_fn", None)
    while function is not None:
        if getattr(getattr(function, "__code__", None), "co_name", "") == "inner":
            return True
        function = getattr(function, "func", None)
    return False


def keywords(entry: Any) -> dict[str, Any]:
    """The arguments that were fixed when the opcode was made."""
    found: dict[str, Any] = {}
    function = getattr(entry, "logic_fn", None)
    while function is not None:
        found = {**(getattr(function, "keywords", None) or {}), **found}
        function = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
    return found


def gas_schedule(entry: Any) -> NetSStoreGasSchedule | None:
    """The prices with which an SSTORE was made."""
    function = getattr(entry, "logic_fn", None)
    while function is not None:
        for argument in getattr(function, "args", None) or ():
            if isinstance(argument, NetSStoreGasSchedule):
                return argument
        function = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
    return None
