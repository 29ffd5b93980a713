"""Who may do what only this machine's operator may: programs on this machine, and of browser pages only this node's own."""

from __future__ import annotations

from openledger.node.api.errors import ApiError
from openledger.node.http import Request


def require_local_json(request: Request, what: str) -> None:
    """Raises ApiError for any but a program on this machine or this node's own page, sending JSON.

    The server lets only IP addresses and localhost through as Host, so the comparison cannot be led astray by a
    name that is made to resolve here.
    """
    headers = request.headers
    if not request.is_loopback or "forwarded" in headers or "x-forwarded-for" in headers:
        raise ApiError(403, "not_allowed", f"{what} only for callers on this machine")
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{headers.get('host', '').lower()}",):
        raise ApiError(403, "not_allowed", f"{what} only for this node's own page")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "not_allowed", f"{what} only for this node's own page")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "bad_request", "send JSON as application/json")
