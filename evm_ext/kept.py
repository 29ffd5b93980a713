"""Properties that are worked out once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class kept(Generic[Value]):  # noqa: N801: it is used as `property` is
    """`functools.cached_property` without its lock, which costs more than most of what is kept here.

    Only for values that follow from immutable fields: two threads may both work one out, and get the same."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function = function
        self._name = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> kept[Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Value | kept[Value]:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._function(instance)
        return value
