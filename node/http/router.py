"""Several handlers behind one port, chosen by method and path."""

from collections.abc import Callable
from dataclasses import dataclass

from openledger.node.http.messages import Handler, HttpError, Request, Response, StreamingResponse
from openledger.node.http.websocket import WebSocket, WebSocketHandler


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    segments: tuple[str, ...]
    handler: Handler


class Router:
    """`await router(request)` is a handler. HEAD is served by GET's handler.

    A pattern's segment `{name}` matches one segment of the path, a last segment `{name...}` the rest of
    it; what they match is in `request.path_parameters`. Literal segments win over matched ones, and
    routes added earlier over later ones.
    """

    def __init__(self) -> None:
        self._routes: list[_Route] = []
        self._websockets: dict[str, WebSocketHandler] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        if not pattern.startswith("/"):
            raise ValueError(f"a route begins with '/': {pattern!r}")
        self._routes.append(_Route(method.upper(), tuple(pattern[1:].split("/")), handler))

    def get(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._decorator("GET", pattern)

    def post(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._decorator("POST", pattern)

    def delete(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._decorator("DELETE", pattern)

    def add_websocket(self, path: str, handler: WebSocketHandler) -> None:
        self._websockets[path] = handler

    async def __call__(self, request: Request) -> Response | StreamingResponse:
        handler, matched = self._find(request)
        return await handler(matched)

    async def websocket(self, socket: WebSocket) -> None:
        """Give this to `serve_http(websocket=...)`. An unknown path is closed with 1008."""
        handler = self._websockets.get(socket.request.path)
        if handler is None:
            await socket.close(1008, f"no WebSocket at {socket.request.path}")
            return
        await handler(socket)

    def _find(self, request: Request) -> tuple[Handler, Request]:
        path = tuple(request.path[1:].split("/"))
        best: tuple[int, _Route, dict[str, str]] | None = None
        allowed: set[str] = set()
        for route in self._routes:
            parameters = _match(route.segments, path)
            if parameters is None:
                continue
            allowed.add(route.method)
            wanted = "GET" if request.method == "HEAD" else request.method
            if route.method == wanted and (best is None or len(parameters) < best[0]):
                best = (len(parameters), route, parameters)
        if best is not None:
            _, route, parameters = best
            return route.handler, request.with_path_parameters(parameters) if parameters else request
        if allowed:
            methods = ", ".join(sorted(allowed))
            raise HttpError(405, f"{request.path} knows only {methods}", (("allow", methods),))
        raise HttpError(404, f"there is nothing at {request.path}")

    def _decorator(self, method: str, pattern: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.add(method, pattern, handler)
            return handler

        return add


def _match(pattern: tuple[str, ...], path: tuple[str, ...]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for index, segment in enumerate(pattern):
        if segment.endswith("...}"):
            parameters[segment[1:-4]] = "/".join(path[index:])
            return parameters if index < len(path) else None
        if index >= len(path):
            return None
        if segment.startswith("{"):
            if not path[index]:
                return None
            parameters[segment[1:-1]] = path[index]
        elif segment != path[index]:
            return None
    return parameters if len(pattern) == len(path) else None
