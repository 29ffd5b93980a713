"""Errors of the REST API in OpenAI's shape: {"error": {"message", "type", "code", "param"}}."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from openledger.node.http import Handler, Request, Response, StreamingResponse


class ApiError(Exception):
    """An answer with a status other than 200: `code` for programs, the message for people."""

    def __init__(self, status: int, code: str, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind
        self.extra: dict[str, Any] = {}
        """More members of the answer, beside `error`."""

    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "code": self.code, "param": None}}

    def response(self) -> Response:
        return Response.json({**self.body(), **self.extra}, self.status)


def answering(handler: Callable[[Request], Awaitable[Response | StreamingResponse]]) -> Handler:
    """A handler whose ApiErrors become answers."""

    async def answered(request: Request) -> Response | StreamingResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return error.response()

    return answered


def hash_parameter(request: Request, name: str) -> bytes:
    """A 32-byte hash in the path, as hex. Raises ApiError."""
    return _hex_parameter(request, name, 32)


def address_parameter(request: Request, name: str) -> bytes:
    """A 20-byte address in the path, as hex. Raises ApiError."""
    return _hex_parameter(request, name, 20)


def _hex_parameter(request: Request, name: str, length: int) -> bytes:
    text = request.path_parameters[name]
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != length:
        raise ApiError(400, "bad_parameter", f"{name} must be {length} bytes as hex, not {text[:80]!r}")
    return value


def number_parameter(request: Request, name: str) -> int:
    """A whole number from 0 to 2³²−1 in the path. Raises ApiError."""
    text = request.path_parameters[name]
    if not text.isdecimal() or len(text) > 10 or int(text) >= 1 << 32:
        raise ApiError(400, "bad_parameter", f"{name} must be a number, not {text[:80]!r}")
    return int(text)
