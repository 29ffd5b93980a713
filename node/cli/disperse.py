"""`openledger da disperse`: hand a payload to an EigenDA disperser, without a proxy or a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import trio
import typer

from openledger.node.cli.options import KeyFile, l1_address
from openledger.node.cli.session import wallet
from openledger.node.errors import UserError

Address = Annotated[str | None, typer.Option(help="An address on EigenDA's L1; needed where not every operator signs.")]


def disperse(
    file: Annotated[Path, typer.Argument(help="The payload.")],
    disperser: Annotated[str, typer.Option(help="HOST:PORT of the disperser's gRPC API.")],
    key_file: KeyFile = None,
    chain_id: Annotated[int, typer.Option(min=1, max=2**64 - 1, help="Chain id of EigenDA's L1; 1 is mainnet.")] = 1,
    disperser_id: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The disperser's number in EigenDA's registry.")
    ] = 0,
    certificate_version: Annotated[int, typer.Option(min=3, max=4, help="Version of the certificate.")] = 4,
    on_demand: Annotated[bool, typer.Option("--on-demand", help="Pay from the deposit, not the reservation.")] = False,
    srs_folder: Annotated[Path | None, typer.Option(help="EigenDA's SRS files, to compute the commitments.")] = None,
    development: Annotated[
        bool, typer.Option("--development", help="A development disperser: use the SRS whose secret is public.")
    ] = False,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="No TLS, for a disperser of one's own.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until the operators have signed.")] = 600.0,
    l1_rpc_url: Annotated[str | None, typer.Option(help="JSON-RPC of EigenDA's L1.")] = None,
    operator_state_retriever: Address = None,
    registry_coordinator: Address = None,
) -> None:
    """Disperse a file on EigenDA and print the commitment as hex: what a batcher posts behind 01.

    The key pays: by its account's reservation, or with --on-demand from its deposit.

    Example: `openledger da disperse payload.bin --disperser disperser.eigenda.xyz:443 --key-file key.hex --srs-folder srs`
    """
    from openledger.node.logging import configure_logging
    from openledger.rollup.da.client import DAError
    from openledger.rollup.da.disperser import DisperserSettings, open_disperser
    from openledger.rollup.da.encoding import PayloadTooLarge
    from openledger.rollup.da.payments import Payer
    from openledger.rollup.da.signature_indices import SignatureIndexReader
    from openledger.rollup.da.srs import SrsError
    from openledger.rollup.da.worker import WorkerDied, open_blob_worker
    from openledger.rollup.l1.client import L1Client
    from openledger.rollup.l1.signature_indices import L1SignatureIndexReader
    from openledger.rollup.l1.source import L1Error

    configure_logging("info", "console")  # on standard error: standard output is the commitment alone
    payer = Payer(wallet(None, key_file).private_key)
    if not development and srs_folder is None:
        raise UserError("give --srs-folder (EigenDA's resources/srs), or --development for a development disperser")
    try:
        payload = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    retriever = l1_address(operator_state_retriever, "--operator-state-retriever")
    coordinator = l1_address(registry_coordinator, "--registry-coordinator")
    if len({l1_rpc_url is None, retriever is None, coordinator is None}) > 1:
        raise UserError("--l1-rpc-url, --operator-state-retriever and --registry-coordinator belong together")
    settings = DisperserSettings(chain_id, disperser_id, certificate_version, timeout_s=timeout)

    async def send(indices: SignatureIndexReader | None) -> bytes:
        async with (
            open_blob_worker(development=development, srs_folder=srs_folder) as worker,
            open_disperser(disperser, worker, payer, settings, plaintext=plaintext, indices=indices) as client,
        ):
            return await client.put(payload, on_demand=on_demand)

    async def run() -> bytes:
        if l1_rpc_url is None or retriever is None or coordinator is None:
            return await send(None)
        async with L1Client(l1_rpc_url) as l1:
            return await send(L1SignatureIndexReader(l1, retriever, coordinator))

    try:
        print(f"0x{trio.run(run).hex()}")
    except (DAError, PayloadTooLarge, SrsError, L1Error, WorkerDied) as error:
        raise UserError(str(error)) from error
