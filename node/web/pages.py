"""Serves the page in `static/`: no build step, nothing from other hosts.

The files are read once at start and answered from a table, so no path of a request ever reaches the file system.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

from openledger.evm_ext.proofs.receipt import Voucher, ledger_domain
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.predeploys import INFERENCE_LEDGER
from openledger.node.config import VALIDATOR_PORT_STEP, Config, Endpoints
from openledger.node.http import HttpError, Request, Response, Router
from openledger.node.predeploy_contracts import inference_ledger

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
# Revalidated by ETag on every load: a new version of the node is seen at once, an old one costs one small answer.
_CACHE = "no-cache"
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class PageFile:
    """A file of the page, ready to be sent."""

    body: bytes
    content_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """The page's files by their path below `static/`. Raises FileNotFoundError where the package lacks them."""
    return dict(_walk(files("openledger.node.web") / "static", ""))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, PageFile]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
            continue
        kind = CONTENT_TYPES.get("." + entry.name.rpartition(".")[2])
        if kind is not None:
            body = entry.read_bytes()
            yield prefix + entry.name, PageFile(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


class WebPages:
    """The page at `/`, its files below `/web/`, and `/web/config.json`, which tells it where the node's RPC is."""

    def __init__(self, config: Config, chain_id: int, development: bool) -> None:
        self._config = config
        self._chain_id = chain_id
        self._development = development
        self._files = page_files()

    def mount(self, router: Router) -> None:
        router.add("GET", "/", self.index)
        router.add("GET", "/favicon.ico", self.icon)
        router.add("GET", "/web/config.json", self.configuration)
        router.add("GET", "/web/{path...}", self.file)

    async def index(self, request: Request) -> Response:
        return self._send(request, "index.html")

    async def icon(self, request: Request) -> Response:
        return self._send(request, "icon.svg")

    async def file(self, request: Request) -> Response:
        """One file of the page. Raises HttpError."""
        return self._send(request, request.path_parameters["path"])

    async def configuration(self, request: Request) -> Response:
        """What the page must know: endpoints under the name it was reached by, and how payments are made."""
        host = self._host(request)
        rpc, *second_rpc = (f"http://{host}:{port}" for port in self._ports("rpc"))
        _, *second_api = (f"http://{host}:{port}" for port in self._ports("api"))
        domain = ledger_domain(self._chain_id)
        ledger = inference_ledger()
        voucher = Voucher(bytes(32), 0).typed_data(domain)
        return Response.json(
            {
                "network": self._config.network,
                "chain_id": self._chain_id,
                "development": self._development,
                "rpc": rpc,
                "second_rpc": second_rpc[0] if second_rpc else None,
                "second_api": second_api[0] if second_api else None,
                "ledger": {
                    "address": "0x" + INFERENCE_LEDGER.hex(),
                    "open": "0x" + ledger.selector("open").hex(),
                    "top_up": "0x" + ledger.selector("topUp").hex(),
                    "micro_open_wei": str(MICRO_OPEN_WEI),
                },
                "voucher": {key: voucher[key] for key in ("domain", "types", "primaryType")},
            },
            headers=(("cache-control", "no-store"),),
        )

    def _ports(self, name: Literal["rpc", "api"]) -> list[int]:
        """This node's port, and the second node's where this one runs it."""
        port: int = getattr(self._config.listening, name)
        second = self._config.role == "dev" and self._config.validator
        return [port, port + VALIDATOR_PORT_STEP] if second else [port]

    def _host(self, request: Request) -> str:
        """The name the page was reached by, where it can stand in a policy; else the configured one.

        A content security policy cannot name an IPv6 address.
        """
        name, _, port = request.headers.get("host", "").lower().rpartition(":")
        name = name if port.isdecimal() else request.headers.get("host", "").lower()
        if _HOST.fullmatch(name):
            return name
        return Endpoints.of(self._config).rpc.partition("//")[2].rpartition(":")[0]

    def _policy(self, request: Request) -> str:
        host = self._host(request)
        others = [f"ws://{host}:{port}" for port in self._ports("rpc")]
        others += [f"http://{host}:{port}" for port in self._ports("api")[1:]]
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            f"connect-src 'self' {' '.join(others)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def _send(self, request: Request, path: str) -> Response:
        found = self._files.get(path)
        if found is None:
            raise HttpError(404, f"there is nothing at {request.path}")
        headers = [("etag", found.etag), ("cache-control", _CACHE), ("x-content-type-options", "nosniff")]
        if found.content_type == CONTENT_TYPES[".html"]:
            headers += [
                ("content-security-policy", self._policy(request)),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-opener-policy", "same-origin"),
            ]
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if found.etag in known:
            return Response(304, b"", tuple(headers))
        return Response(200, found.body, (("content-type", found.content_type), *headers))
