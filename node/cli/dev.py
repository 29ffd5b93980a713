"""`openledger dev`: the whole network on one machine."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.node.cli.options import ConfigFile, DataDir, Host, LogFormat, LogLevel, NetworkFile, PortOffset


def dev(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    port_offset: PortOffset = None,
    host: Host = None,
    network_file: NetworkFile = None,
    l1_rpc_url: Annotated[
        str | None, typer.Option(help="JSON-RPC of the L1 that `openledger l1 deploy` has prepared. Default: embedded.")
    ] = None,
    validator: Annotated[bool, typer.Option(help="Also run a validator node in a process of its own.")] = True,
    serving: Annotated[bool, typer.Option(help="Also run the inference engine and its API.")] = True,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the whole network with embedded defaults: L1, DA, sequencer, validator, inference engine, web page.

    Everything is kept in the data folder; stop it with Ctrl-C and start it again to go on. Example: `openledger dev`
    """
    import trio

    from openledger.node.config import load_config
    from openledger.node.daemon import run_node
    from openledger.node.logging import configure_logging
    from openledger.node.welcome import print_welcome

    loaded = load_config(
        config,
        role="dev",
        data_dir=data_dir,
        port_offset=port_offset,
        host=host,
        network_file=network_file,
        l1_rpc_url=l1_rpc_url,
        validator=validator,
        serving=serving,
        log_level=log_level,
        log_format=log_format,
    )
    configure_logging(loaded.log_level, loaded.log_format)
    trio.run(run_node, loaded, print_welcome)
