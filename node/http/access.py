"""Who may talk to a port from a browser: CORS, and the defence against DNS rebinding."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from openledger.node.http.messages import HttpError, Request, Response

ALLOWED_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_MAX_AGE_S = 7200


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Which `Host` and `Origin` headers are served.

    origins: exact origins ("https://app.example"), or "*" for any; empty means that no other site's
        script may read answers. A WebSocket is refused to an origin that is not listed, since browsers
        apply no CORS to WebSockets.
    hosts: names this port is reached by, besides "localhost" and IP addresses; "*" for any. A rebinding
        attack needs a name of the attacker's, so an IP address is always safe.
    authorize: raises HttpError for a request that does not show who it is from; asked of every request but
        preflights, and of every WebSocket before it is opened. None asks nobody.
    """

    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    authorize: Callable[[Request], None] | None = None

    def check_host(self, request: Request) -> None:
        """Raises HttpError 400 without a Host (HTTP/1.1), 403 for a name that is not ours."""
        host = request.headers.get("host")
        if host is None:
            if request.http_version == "1.0":
                return
            raise HttpError(400, "the Host header is missing")
        if "*" in self.hosts:
            return
        name = host_name(host)
        if name == "localhost" or name.endswith(".localhost") or name in self.hosts or is_ip(name):
            return
        raise HttpError(
            403, f"Host {name!r} is not served here; add it to the allowed hosts of this port's configuration"
        )

    def check_credentials(self, request: Request) -> None:
        """Raises the HttpError of `authorize`."""
        if self.authorize is not None:
            self.authorize(request)

    def allows_origin(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins

    def check_websocket_origin(self, request: Request) -> None:
        """Raises HttpError 403 for a browser page of an origin that is not listed."""
        origin = request.headers.get("origin")
        if origin is None or self.allows_origin(origin) or self._same_origin(origin, request):
            return
        raise HttpError(403, f"origin {origin!r} may not open a WebSocket; add it to the allowed origins of this port")

    def preflight(self, request: Request) -> Response | None:
        """The answer to a CORS preflight (without `response_headers`), None for any other request."""
        if request.method != "OPTIONS":
            return None
        headers = request.headers
        if "origin" not in headers or "access-control-request-method" not in headers:
            return None
        if not self.allows_origin(headers["origin"]):
            raise HttpError(403, f"origin {headers['origin']!r} is not among the allowed origins of this port")
        answer = [
            ("access-control-allow-methods", ALLOWED_METHODS),
            ("access-control-allow-headers", headers.get("access-control-request-headers", "content-type")),
            ("access-control-max-age", str(PREFLIGHT_MAX_AGE_S)),
        ]
        # https pages that call a node on this machine: Private Network Access, WICG draft.
        if headers.get("access-control-request-private-network") == "true":
            answer.append(("access-control-allow-private-network", "true"))
        return Response(204, b"", tuple(answer))

    def response_headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What lets the calling page read the answer; nothing where it may not, or no page calls."""
        if not self.origins:
            return ()
        origin = request.headers.get("origin")
        if origin is None or not self.allows_origin(origin):
            return (("vary", "origin"),)
        if "*" in self.origins:
            return (("access-control-allow-origin", "*"), ("access-control-expose-headers", "*"))
        return (
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", "*"),
            ("vary", "origin"),
        )

    @staticmethod
    def _same_origin(origin: str, request: Request) -> bool:
        return origin.partition("://")[2] == request.headers.get("host", "")


def host_name(host: str) -> str:
    """The name in a Host header: lower case, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
