"""`openledger da get`: the payload behind a certificate, from EigenDA's relays, its operators, or a proxy; checked."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
import typer

from openledger.node.cli.input_file import read_bytes_or_hex
from openledger.node.cli.options import l1_address
from openledger.node.errors import UserError

if TYPE_CHECKING:
    from openledger.rollup.da.client import DAClient
    from openledger.rollup.da.retrieval import PayloadReader, RelayDirectory
    from openledger.rollup.da.worker import BlobWorker

Address = Annotated[str | None, typer.Option(help="An address on EigenDA's L1; needs --l1-rpc-url.")]


def get(
    file: Annotated[
        Path,
        typer.Argument(
            help="A commitment (calldata, op-generic or standard) or the ABI form, as bytes or hex; - reads standard input."
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="Where the payload goes; left out: standard output.")] = None,
    relay: Annotated[
        list[str] | None,
        typer.Option(help="KEY=HOST:PORT of a relay, or HOST:PORT for all keys; several may be given."),
    ] = None,
    relay_registry: Address = None,
    operator_state_retriever: Address = None,
    registry_coordinator: Address = None,
    cert_verifier: Address = None,
    l1_rpc_url: Annotated[str | None, typer.Option(help="JSON-RPC of EigenDA's L1.")] = None,
    proxy: Annotated[str | None, typer.Option(help="Ask an EigenDA proxy or DA server at this URL instead.")] = None,
    l1_inclusion_block: Annotated[
        int, typer.Option(min=0, help="L1 block that holds the commitment; 0 leaves recency unchecked.")
    ] = 0,
    srs_folder: Annotated[
        Path | None, typer.Option(help="EigenDA's SRS files, to recompute the blob's commitment.")
    ] = None,
    development: Annotated[
        bool, typer.Option("--development", help="A development network: use the SRS whose secret is public.")
    ] = False,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="No TLS, for relays of one's own.")] = False,
) -> None:
    """Get the payload behind a certificate, and believe it only if it is what the certificate commits to.

    The relays that the certificate names are asked first; --relay-registry finds them on L1. With
    --operator-state-retriever and --registry-coordinator the operators' chunks stand in for relays that fail. The
    certificate itself must pass every check that `da cert verify` makes; --cert-verifier asks the contract too.

    Example: `openledger da get cert.hex --l1-rpc-url https://… --relay-registry 0x… --srs-folder srs --output payload`

    On a devnet: `openledger da get cert.hex --proxy http://127.0.0.1:3100 --development --output payload`
    """
    from openledger.node.logging import configure_logging
    from openledger.rollup.da.certificate import CertificateParsingFailed, encode_generic_commitment
    from openledger.rollup.da.client import DAError
    from openledger.rollup.da.readable import find_certificate
    from openledger.rollup.da.srs import SrsError
    from openledger.rollup.da.worker import WorkerDied, open_blob_worker
    from openledger.rollup.l1.source import L1Error

    configure_logging("info", "console")  # on standard error: standard output is the payload alone
    if not development and srs_folder is None:
        raise UserError("give --srs-folder (EigenDA's resources/srs), or --development for a development network")
    try:
        commitment = encode_generic_commitment(find_certificate(read_bytes_or_hex(file)).certificate)
    except CertificateParsingFailed as error:
        raise UserError(f"{file} holds no certificate that can be read: {error}") from error
    places = {
        "--relay-registry": l1_address(relay_registry, "--relay-registry"),
        "--operator-state-retriever": l1_address(operator_state_retriever, "--operator-state-retriever"),
        "--registry-coordinator": l1_address(registry_coordinator, "--registry-coordinator"),
        "--cert-verifier": l1_address(cert_verifier, "--cert-verifier"),
    }
    if (places["--operator-state-retriever"] is None) != (places["--registry-coordinator"] is None):
        raise UserError("--operator-state-retriever and --registry-coordinator belong together")
    if any(places.values()) and l1_rpc_url is None:
        raise UserError(f"{next(name for name, given in places.items() if given)} stands on L1: give --l1-rpc-url")
    targets = _relays(relay or [])
    if proxy is None and not targets and not places["--relay-registry"] and not places["--operator-state-retriever"]:
        raise UserError("say who to ask: --relay, --relay-registry, --operator-state-retriever or --proxy")

    async def run() -> bytes:
        async with (
            open_blob_worker(development=development, srs_folder=srs_folder) as worker,
            _source(worker, places, targets, l1_rpc_url, proxy, plaintext=plaintext) as source,
        ):
            return await source.get(commitment, l1_inclusion_block or None)

    try:
        payload = trio.run(run)
    except (DAError, SrsError, L1Error, WorkerDied) as error:
        raise UserError(str(error)) from error
    if output is None:
        sys.stdout.buffer.write(payload)
        return
    try:
        output.write_bytes(payload)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from error


@asynccontextmanager
async def _source(
    worker: BlobWorker,
    places: dict[str, bytes | None],
    targets: dict[int, str],
    l1_rpc_url: str | None,
    proxy: str | None,
    *,
    plaintext: bool,
) -> AsyncIterator[PayloadReader | DAClient]:
    from openledger.rollup.da.client import open_da_client
    from openledger.rollup.da.retrieval import open_payload_reader
    from openledger.rollup.l1.certificate_verifier import L1CertificateVerifier
    from openledger.rollup.l1.client import L1Client
    from openledger.rollup.l1.operator_directory import L1OperatorDirectory
    from openledger.rollup.l1.relay_registry import L1RelayDirectory

    async with AsyncExitStack() as stack:
        registry: L1RelayDirectory | None = None
        operators: L1OperatorDirectory | None = None
        verifier: L1CertificateVerifier | None = None
        if l1_rpc_url is not None:
            l1 = await stack.enter_async_context(L1Client(l1_rpc_url))
            address, contract = places["--relay-registry"], places["--cert-verifier"]
            retriever, coordinator = places["--operator-state-retriever"], places["--registry-coordinator"]
            registry = L1RelayDirectory(l1, address) if address else None
            verifier = L1CertificateVerifier(l1, contract) if contract else None
            operators = L1OperatorDirectory(l1, retriever, coordinator) if retriever and coordinator else None
        if proxy is not None:
            yield await stack.enter_async_context(
                open_da_client(proxy, worker=worker, verify_certificates=True, verifier=verifier)
            )
            return
        yield await stack.enter_async_context(
            open_payload_reader(
                worker, GivenRelays(targets, registry), operators=operators, verifier=verifier, plaintext=plaintext
            )
        )


_ANY_KEY = -1


class GivenRelays:
    """A `RelayDirectory` of what the command line names; a relay without a key answers to all that no other has."""

    def __init__(self, targets: dict[int, str], registry: RelayDirectory | None) -> None:
        self._targets = targets
        self._registry = registry

    async def relay(self, key: int) -> str | None:
        """See `RelayDirectory`."""
        if key in self._targets:
            return self._targets[key]
        found = None if self._registry is None else await self._registry.relay(key)
        return found or self._targets.get(_ANY_KEY)


def _relays(given: list[str]) -> dict[int, str]:
    targets: dict[int, str] = {}
    for text in given:
        key, equals, target = text.rpartition("=")
        if (
            (equals and not key.isdecimal())
            or not target.rpartition(":")[2].isdecimal()
            or not target.rpartition(":")[0]
        ):
            raise UserError(f"--relay {text!r} is not KEY=HOST:PORT, nor HOST:PORT")
        targets[int(key) if equals else _ANY_KEY] = target
    return targets
