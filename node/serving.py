"""The services above the chain: content of others, answers, their payment and settlement; by the node's role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openledger.node.http import Router
from openledger.node.rollup_node import RollupNode
from openledger.node.supervisor import Service


@asynccontextmanager
async def open_serving(node: RollupNode, router: Router) -> AsyncIterator[list[Service]]:
    """Mount the REST API on `router` and give the services behind it."""
    yield []
