"""A thin HTTP/1.1 and WebSocket server on trio, for the JSON-RPC and the inference API."""

from openledger.node.http.access import AccessPolicy
from openledger.node.http.json_limits import require_modest_json
from openledger.node.http.limits import HttpLimits
from openledger.node.http.messages import (
    ClientDisconnected,
    Handler,
    HttpError,
    QuickHandler,
    Request,
    RequestHead,
    Response,
    StreamingResponse,
)
from openledger.node.http.router import Router
from openledger.node.http.server import BoundServer, ListenError, PortInUse, open_listeners, serve_http
from openledger.node.http.websocket import WebSocket, WebSocketClosed, WebSocketHandler

__all__ = [
    "AccessPolicy",
    "BoundServer",
    "ClientDisconnected",
    "Handler",
    "HttpError",
    "HttpLimits",
    "ListenError",
    "PortInUse",
    "QuickHandler",
    "Request",
    "RequestHead",
    "Response",
    "Router",
    "StreamingResponse",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketHandler",
    "open_listeners",
    "require_modest_json",
    "serve_http",
]
