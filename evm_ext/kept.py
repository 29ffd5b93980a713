"""Frozen values that are made by the thousand: properties that are worked out once, and a lean `__init__`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class kept(Generic[Value]):
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


Class = TypeVar("Class")


def quickly_made(cls: type[Class]) -> type[Class]:
    """Over `@dataclass(frozen=True)`: fields go straight into the instance's dictionary.

    A frozen dataclass makes a call for each field, and blocks are made of classes with twenty."""
    parameters, defaults, body = ["self"], {}, ["values = self.__dict__"]
    for field in fields(cls):  # type: ignore[arg-type]
        if field.default is MISSING:
            parameters.append(field.name)
        else:
            defaults[f"_{field.name}"] = field.default
            parameters.append(f"{field.name}=_{field.name}")
        body.append(f"values[{field.name!r}] = {field.name}")
    source = f"def __init__({', '.join(parameters)}):\n    " + "\n    ".join(body)
    exec(compile(source, f"<{cls.__name__}>", "exec"), defaults)
    # Not by assignment, which mypy takes for a change of what the class promises.
    setattr(cls, "__init__", defaults["__init__"])  # noqa: B010
    return cls
