"""Puts a node together by its role and runs it until it is told to stop.

| role | embedded L1 and DA | sequencer, batcher | engine, API for answers | validator process |
|---|---|---|---|---|
| dev | yes | yes | yes | yes |
| sequencer | | yes | if `serving` | |
| validator, full | | | | |
| serving | | | yes | |
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog
import trio
from prometheus_client import CollectorRegistry

from openledger.node.api.health import HealthApi
from openledger.node.config import Config
from openledger.node.disk_watch import disk_is_back, start_again
from openledger.node.embedded import embedded_da, embedded_l1
from openledger.node.errors import StartupError
from openledger.node.folder_lock import locked_folder
from openledger.node.http import AccessPolicy, HttpLimits, Router
from openledger.node.latency import collect_garbage, prefer_latency
from openledger.node.listening import http_service
from openledger.node.network import Network, join_network, open_or_create_network, read_network
from openledger.node.open_files import raise_open_files_limit
from openledger.node.rollup_node import RollupNode, open_rollup_node
from openledger.node.serving import open_serving
from openledger.node.supervisor import Service, Supervisor
from openledger.node.telemetry import NodeCollector, metrics_handler
from openledger.node.validator_process import validator_service

log = structlog.get_logger(__name__)

API_LIMITS = HttpLimits(body=8 << 20)


def network_of(config: Config) -> Network:
    """The chain this data folder belongs to. Only `dev` begins one. Raises StartupError."""
    own = config.folder / "network.json"
    if config.role == "dev" and config.network != "devnet":
        raise StartupError(f"`dev` runs a devnet, not {config.network}: use `openledger node --role sequencer`")
    if config.network_file is not None:
        network = join_network(own, config.network_file)
    elif config.role == "dev":
        network = open_or_create_network(own, config.network, int(time.time()))
    else:
        network = read_network(own)
    _check_l1(config, network)
    return network


def _check_l1(config: Config, network: Network) -> None:
    """`dev` embeds the L1 of a chain that began with it, and no other. Raises StartupError."""
    if config.role != "dev":
        return
    if network.l1_genesis is None and config.l1_rpc_url:
        raise StartupError(
            "this devnet has its own embedded L1: leave l1_rpc_url out, or deploy to that L1 with `openledger l1 deploy` "
            "and give its --network-file and an empty --data-dir"
        )
    if network.l1_genesis is not None and not config.l1_rpc_url:
        raise StartupError(
            f"this chain lives on L1 chain {network.preset.l1_chain_id}: name its JSON-RPC with --l1-rpc-url"
        )


def _check_endpoints(config: Config) -> None:
    if config.role != "dev":
        needed = {"l1_rpc_url": "the L1's JSON-RPC"}
        if config.da_route == "proxy":
            needed["da_url"] = "the EigenDA proxy"
        for name, meaning in needed.items():
            if not getattr(config, name):
                raise StartupError(
                    f"{name} is not set: role {config.role} needs {meaning} (--{name.replace('_', '-')})"
                )


async def run_node(config: Config, on_ready: Callable[[RollupNode], None] | None = None) -> None:
    """Run a node until SIGINT or SIGTERM, then stop its services in order and close its files. After a full disk the
    process begins anew.

    `on_ready` is called once every service has started. Raises StartupError.
    """
    _check_endpoints(config)
    raise_open_files_limit()
    prefer_latency()
    again = False
    async with AsyncExitStack() as stack:
        stack.enter_context(locked_folder(config.folder))
        network = network_of(config)
        services: list[Service] = []
        if config.role == "dev":
            services += await stack.enter_async_context(embedded_da(config, network))
            if network.l1_genesis is None:
                services += await stack.enter_async_context(embedded_l1(config, network))
        node = await stack.enter_async_context(open_rollup_node(config, network))
        router = Router()
        services.insert(
            0,
            http_service(
                "api",
                router,
                host=config.host,
                port=config.listening.api,
                policy=AccessPolicy(origins=config.cors_origins),
                limits=API_LIMITS,
            ),
        )
        services += node.services
        metrics = CollectorRegistry()
        services += await stack.enter_async_context(open_serving(node, router, metrics))
        if config.role == "dev" and config.validator:
            services.append(validator_service(node))
        supervisor = Supervisor(services)
        HealthApi(supervisor).mount(router)
        metrics.register(NodeCollector(node, supervisor))
        supervisor.add(
            http_service("metrics", metrics_handler(metrics), host=config.host, port=config.listening.metrics)
        )
        log.info("starting", role=config.role, network=network.preset.name, folder=str(config.folder))
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, nursery.cancel_scope)
            nursery.start_soon(collect_garbage)

            async def restart_after_full_disk() -> None:
                nonlocal again
                await disk_is_back()
                again = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(restart_after_full_disk)
            if config.parent_pid:
                nursery.start_soon(_stop_with_parent, config.parent_pid, nursery.cancel_scope)
            await nursery.start(supervisor.run)
            if on_ready is not None:
                on_ready(node)
    if again:
        start_again()
    log.info("stopped")


async def _stop_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return


async def _stop_with_parent(parent_pid: int, scope: trio.CancelScope) -> None:
    """A child of `openledger dev` must not outlive it, or it would hold ports and folders of the next one."""
    while os.getppid() == parent_pid:  # noqa: ASYNC110  # the kernel tells nobody when a parent dies
        await trio.sleep(0.5)
    log.warning("the parent process is gone, stopping")
    scope.cancel()
