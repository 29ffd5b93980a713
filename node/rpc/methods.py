"""How a Python function becomes a JSON-RPC method."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from openledger.node.rpc.errors import InvalidParams

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "_rpc_method"


class TakesLonger(Exception):
    """What was tried at once is for a thread."""


class _Required:
    pass


REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One positional parameter. `decode` takes the JSON value and raises ValueError with what is wrong."""

    decode: Callable[[Any], Any]
    default: Any = REQUIRED

    def optional(self, default: Any = None) -> "Parameter":
        """May be left out or null, and is `default` then."""
        return replace(self, default=default)


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method.

    blocking: runs in a worker thread, because it may take longer than a millisecond.
    slow: with `blocking`, in threads of its own kind, so that lookups need not wait for calls and searches.
    with_caller: gets the `Caller` before its parameters.
    trusted: only for callers on this machine that are not browsers.
    at_once: does, with the same arguments, what `function` does if that takes a few milliseconds at most; raises
        TakesLonger else, without a trace. It is tried before a thread is asked: going there and back costs more than
        most calls, and far more while other threads compute.
    """

    name: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    blocking: bool = False
    with_caller: bool = False
    trusted: bool = False
    slow: bool = False
    at_once: Callable[..., Any] | None = None

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def arguments(self, values: object) -> list[Any]:
        """Decoded arguments from the call's `params`. Raises InvalidParams with geth's words."""
        if values is None:
            values = ()
        if not isinstance(values, list | tuple):
            raise InvalidParams("non-array args")
        parameters = self.parameters
        if len(values) > len(parameters):
            raise InvalidParams(f"too many arguments, want at most {len(parameters)}")
        decoded: list[Any] = []
        for parameter, value in zip(parameters, values):
            if value is not None:
                try:
                    decoded.append(parameter.decode(value))
                except ValueError as error:
                    raise InvalidParams(f"invalid argument {len(decoded)}: {error}") from error
            elif parameter.default is not REQUIRED:
                decoded.append(parameter.default)
            else:
                raise InvalidParams(f"missing value for required argument {len(decoded)}")
        for parameter in parameters[len(values) :]:
            if parameter.default is REQUIRED:
                raise InvalidParams(f"missing value for required argument {len(decoded)}")
            decoded.append(parameter.default)
        return decoded


def rpc_method(
    name: str,
    *parameters: Parameter,
    blocking: bool = False,
    with_caller: bool = False,
    trusted: bool = False,
    slow: bool = False,
    at_once: str | None = None,
) -> Callable[[F], F]:
    """Mark a method of a namespace object; `Dispatcher.register(object)` finds it.

    The function returns what orjson encodes, and raises RpcError for what it answers with an error. It
    may be async. `at_once` names the object's method for `Method.at_once`.
    """
    method = Method(name, _unbound, parameters, blocking or slow, with_caller, trusted, slow)

    def mark(function: F) -> F:
        setattr(function, _ATTRIBUTE, (method, at_once))
        return function

    return mark


def methods_of(namespace: object) -> Iterator[Method]:
    """The marked methods of an object, bound to it."""
    for attribute in dir(type(namespace)):
        marked = getattr(getattr(type(namespace), attribute), _ATTRIBUTE, None)
        if marked is not None:
            method, name = marked
            at_once = None if name is None else getattr(namespace, name)
            yield replace(method, function=getattr(namespace, attribute), at_once=at_once)


def _unbound(*arguments: Any) -> Any:
    raise TypeError("a method is called through the object it was registered with")
