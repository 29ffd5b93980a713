"""`openledger node`: one part of a network."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.node.cli.options import ConfigFile, DataDir, Host, LogFormat, LogLevel, NetworkFile, PortOffset


def node(
    role: Annotated[str | None, typer.Option(help="sequencer, validator, full or serving.")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    network_file: NetworkFile = None,
    l1_rpc_url: Annotated[str | None, typer.Option(help="JSON-RPC of the L1.")] = None,
    l1_beacon_url: Annotated[
        list[str] | None, typer.Option(help="Beacon node of the L1, for batcher data in blobs; several may be given.")
    ] = None,
    da_url: Annotated[str | None, typer.Option(help="EigenDA proxy.")] = None,
    sequencer_rpc_url: Annotated[str | None, typer.Option(help="Where to send transactions on to.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Multiaddress of a peer; may be given several times.")] = None,
    serving: Annotated[
        bool | None, typer.Option(help="Run the inference engine: to answer as a provider, to check as any other.")
    ] = None,
    port_offset: PortOffset = None,
    host: Host = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
    parent_pid: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run one part of a network against an L1 and a DA layer.

    Example: `openledger node --role validator --data-dir ~/.openledger/second --network-file network.json
    --l1-rpc-url http://127.0.0.1:8546 --da-url http://127.0.0.1:3100 --port-offset 10`
    """
    import trio

    from openledger.node.config import load_config
    from openledger.node.daemon import run_node
    from openledger.node.errors import StartupError
    from openledger.node.logging import configure_logging

    loaded = load_config(
        config,
        role=role,
        data_dir=data_dir,
        network_file=network_file,
        l1_rpc_url=l1_rpc_url,
        l1_beacon_urls=tuple(l1_beacon_url) if l1_beacon_url else None,
        da_url=da_url,
        sequencer_rpc_url=sequencer_rpc_url,
        peers=tuple(peer) if peer else None,
        serving=serving,
        port_offset=port_offset,
        host=host,
        log_level=log_level,
        log_format=log_format,
        parent_pid=parent_pid,
    )
    if loaded.role == "dev":
        raise StartupError("say which part to run: --role sequencer, validator, full or serving (or `openledger dev`)")
    configure_logging(loaded.log_level, loaded.log_format)
    trio.run(run_node, loaded)
