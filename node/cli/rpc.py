"""`openledger rpc`: the execution client by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from openledger.node.cli.options import LogFormat, LogLevel


def rpc(
    genesis: Annotated[Path, typer.Option(help="genesis.json of the chain, as geth reads it.")],
    import_rlp: Annotated[
        list[Path] | None, typer.Option(help="File of blocks in RLP, as geth exports them; may be given several times.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder to keep the chain in. Default: a temporary one.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of JSON-RPC, HTTP and WebSocket.")] = 8545,
    engine_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve the Engine API on this port, usually 8551.")
    ] = None,
    jwt_secret: Annotated[
        Path | None, typer.Option(help="File with the Engine API's secret in hex; made if it is not there.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help='Origin whose pages may read answers, or "*"; may be given several times.')
    ] = None,
    state: Annotated[
        Literal["archive", "pruned"],
        typer.Option(
            help="Keep the state after every block, or only below the finalized head what nodes usually keep."
        ),
    ] = "archive",
    address_index: Annotated[
        bool, typer.Option("--address-index", help="Record for explorers what transactions do inside (ots_*).")
    ] = False,
    allow_unprotected_txs: Annotated[
        bool,
        typer.Option(
            "--allow-unprotected-txs", help="Take transactions without a chain id (before EIP-155), as deployers send."
        ),
    ] = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Serve any chain that a genesis.json describes, at every fork, until interrupted.

    Imported blocks are executed and every header field is checked, except seals of proof of work (mixHash and nonce
    before the merge): import such chains from a source you trust.

    The head is the last imported block; a consensus client moves it over the Engine API: add `--data-dir l2
    --engine-port 8551 --jwt-secret jwt.hex` for that. Example: `openledger rpc --genesis genesis.json --import-rlp
    chain.rlp`
    """
    import trio

    from openledger.evm_ext.state.policy import StateHistory
    from openledger.node.execution_client import ENGINE_PORT, ExecutionClientConfig, run_execution_client
    from openledger.node.logging import configure_logging

    configure_logging(log_level or "info", log_format or "console")
    if engine_port is None and jwt_secret is not None:
        engine_port = ENGINE_PORT
    trio.run(
        run_execution_client,
        ExecutionClientConfig(
            genesis=genesis,
            import_rlp=tuple(import_rlp or ()),
            data_dir=data_dir,
            host=host,
            port=port,
            engine_port=engine_port,
            jwt_secret=jwt_secret,
            cors_origins=tuple(cors_origin or ()),
            history=StateHistory(state),
            address_index=address_index,
            allow_unprotected_txs=allow_unprotected_txs,
        ),
    )
