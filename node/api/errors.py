"""Errors of the REST API in OpenAI's shape: {"error": {"message", "type", "code", "param"}}, and each call's name.

Every answer carries `x-request-id`: the caller's own, where it sent a modest one, else one made here. The log names it
where something failed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog

from openledger.node.http import ClientDisconnected, Handler, HttpError, Request, Response, StreamingResponse

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER = "x-request-id"
_MODEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class ApiError(Exception):
    """An answer with a status other than 200: `code` for programs, the message for people, `param` names what of the
    request is wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind
        self.param = param
        self.extra: dict[str, Any] = {}
        """More members of the answer, beside `error`."""

    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "code": self.code, "param": self.param}}

    def response(self) -> Response:
        return Response.json({**self.body(), **self.extra}, self.status)


def answering(handler: Callable[[Request], Awaitable[Response | StreamingResponse]]) -> Handler:
    """A handler whose ApiErrors become answers, and whose faults become one that says so."""

    async def answered(request: Request) -> Response | StreamingResponse:
        identifier = request_id(request)
        response: Response | StreamingResponse
        try:
            response = await handler(request)
        except ApiError as error:
            response = error.response()
        except (HttpError, ClientDisconnected):
            raise
        except Exception:  # the edge of the API: one call's fault must not end the others
            log.exception("an API call failed", method=request.method, path=request.path, request_id=identifier)
            response = ApiError(
                500, "internal_error", f"the node failed on this call; its log says why ({identifier})", "server_error"
            ).response()
        return replace(response, headers=(*response.headers, (REQUEST_ID_HEADER, identifier)))

    return answered


def request_id(request: Request) -> str:
    """What this call is named by."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if _MODEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


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
        raise ApiError(400, "bad_parameter", f"{name} must be {length} bytes as hex, not {text[:80]!r}", param=name)
    return value


def number_parameter(request: Request, name: str) -> int:
    """A whole number from 0 to 2³²−1 in the path. Raises ApiError."""
    text = request.path_parameters[name]
    if not text.isdecimal() or len(text) > 10 or int(text) >= 1 << 32:
        raise ApiError(400, "bad_parameter", f"{name} must be a number, not {text[:80]!r}", param=name)
    return int(text)
