"""Fields of JSON objects into values, with errors that say where: `payloadAttributes.withdrawals[0].amount: …`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
D = TypeVar("D")

_MOST_OF_A_NAME = 80


class FieldError(ValueError):
    """A value inside another is wrong. `path` leads from the outer one to it, `problem` says what is wrong with it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem

    @classmethod
    def within(cls, place: str, error: ValueError) -> "FieldError":
        """The error of decoding the value at `place`: a name, or `[7]`."""
        if len(place) > _MOST_OF_A_NAME:
            place = f"{place[:_MOST_OF_A_NAME]}…"
        if not isinstance(error, FieldError):
            return cls(place, str(error))
        return cls(f"{place}{'' if error.path.startswith('[') else '.'}{error.path}", error.problem)


class _Required:
    pass


_REQUIRED: Any = _Required()


def field(fields: Mapping[str, Any], name: str, decode: Callable[[Any], T], default: D = _REQUIRED) -> T | D:
    """The decoded field, or the default where it is missing or null. Raises `FieldError`."""
    value = fields.get(name)
    if value is None:
        if default is _REQUIRED:
            raise FieldError(name, "missing")
        return default
    try:
        return decode(value)
    except ValueError as error:
        raise FieldError.within(name, error) from error


def named(name: str, decode: Callable[[Any], T]) -> Callable[[Any], T]:
    """A decoder whose errors lead from `name`."""

    def decode_named(value: Any) -> T:
        try:
            return decode(value)
        except ValueError as error:
            raise FieldError.within(name, error) from error

    return decode_named
