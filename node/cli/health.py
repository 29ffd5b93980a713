"""`openledger health`: whether a running node is ready, and what it waits for."""

from __future__ import annotations

import httpx
import typer
from rich.console import Console

from openledger.node.cli.options import ApiUrl, ClientPortOffset
from openledger.node.cli.session import endpoints
from openledger.node.errors import UserError


def health(api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """Show each service of a running node; exit status 0 when all are ready, 1 otherwise.

    Example: `openledger health`
    """
    url = endpoints(api=api, port_offset=port_offset).api
    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        raise UserError(f"no node answers at {url}: start one with `openledger dev`") from error
    console = Console()
    for service, status in answer.json()["services"].items():
        colour = "green" if status == "ready" else "yellow"
        console.print(f"[{colour}]{service:<16}[/{colour}] {status}", highlight=False)
    if answer.status_code != 200:
        raise typer.Exit(1)
