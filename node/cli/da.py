"""`openledger da`: run a DA server; disperse and get payloads; check EigenDA certificates without trusting their giver."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
import typer
from rich.console import Console

from openledger.node.cli.disperse import disperse
from openledger.node.cli.input_file import read_bytes_or_hex
from openledger.node.cli.options import LogFormat, LogLevel
from openledger.node.cli.retrieve import get
from openledger.node.cli.verify import print_finding
from openledger.node.errors import StartupError, UserError

if TYPE_CHECKING:
    from openledger.rollup.da.readable import FoundCertificate
    from openledger.rollup.da.srs import Srs
    from openledger.rollup.da.verification import Check

app = typer.Typer()
cert = typer.Typer(help="EigenDA certificates: what they hold, and whether it is true.", no_args_is_help=True)
app.add_typer(cert, name="cert")
app.command()(disperse)
app.command()(get)


class Storage(StrEnum):
    """Where a DA server keeps blobs."""

    DISK = "disk"
    MEMORY = "memory"
    S3 = "s3"


@app.callback(invoke_without_command=True)
def da(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the REST API.")] = 3100,
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port of Prometheus metrics.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder of the blobs.")] = Path("~/.openledger/da"),
    storage: Annotated[Storage, typer.Option(help="Where blobs are kept.")] = Storage.DISK,
    s3_bucket: Annotated[str, typer.Option(help="Bucket, for --storage s3; credentials as boto3 finds them.")] = "",
    s3_endpoint: Annotated[str, typer.Option(help="Endpoint of an S3-compatible service; left out: AWS.")] = "",
    s3_prefix: Annotated[str, typer.Option(help="What every object's name begins with.")] = "",
    operators: Annotated[int, typer.Option(min=1, help="Simulated operators that keep chunks and sign.")] = 4,
    chunks: Annotated[int, typer.Option(help="Chunks of a blob, a power of two; mainnet has 8192.")] = 64,
    srs_folder: Annotated[
        Path | None, typer.Option(help="EigenDA's SRS files; left out: the development SRS, whose secret is public.")
    ] = None,
    api: Annotated[
        list[str] | None,
        typer.Option(help="API to enable: op-generic, op-keccak, standard, admin; several may be given."),
    ] = None,
    expiration: Annotated[str, typer.Option(help="How long blobs are kept, such as 25m; 0s is for good.")] = "0s",
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Serve EigenDA's proxy REST API, with operators that keep chunks and certificates that verify.

    Example: `openledger da --port 3100 --storage disk --data-dir ./da`
    """
    if context.invoked_subcommand is not None:
        return
    from openledger.node.da_service import run_da_server
    from openledger.node.logging import configure_logging
    from openledger.rollup.da.chunks import ChunkParameters
    from openledger.rollup.da.memstore_config import InvalidConfig, MemstoreConfig, parse_duration
    from openledger.rollup.da.operator_network import NetworkParameters
    from openledger.rollup.da.server import DAServerSettings
    from openledger.rollup.da.stores import S3Settings

    configure_logging(log_level or "info", "json" if log_format == "json" else "console")
    try:
        # Of mainnet's 8192 chunks 3537 are reserved for rounding; a smaller number keeps about that share.
        network = NetworkParameters(operators, ChunkParameters(chunks, 8, max(operators, chunks * 3537 // 8192)))
        memstore = MemstoreConfig(blob_expiration_ns=parse_duration(expiration))
    except (ValueError, InvalidConfig) as error:
        raise StartupError(str(error)) from error
    settings = DAServerSettings(
        folder=data_dir.expanduser(),
        development=srs_folder is None,
        srs_folder=srs_folder,
        storage=storage.value,
        s3=S3Settings(s3_bucket, s3_prefix, s3_endpoint) if s3_bucket else None,
        network=network,
        memstore=memstore,
        apis_enabled=frozenset(api or ("op-generic", "op-keccak", "standard")),
    )
    if srs_folder is None:
        Console(stderr=True).print(
            "[yellow]development SRS: its secret is public, so commitments prove nothing[/yellow]; "
            "give --srs-folder for a chain that is worth something"
        )
    trio.run(run_da_server, settings, host, port, metrics_port)


CertificateFile = Annotated[
    Path,
    typer.Argument(
        help="A commitment (calldata, op-generic or standard) or the ABI form, as bytes or hex; - reads standard input."
    ),
]


def _find(file: Path) -> FoundCertificate:
    from openledger.rollup.da.certificate import CertificateParsingFailed
    from openledger.rollup.da.readable import find_certificate

    try:
        return find_certificate(read_bytes_or_hex(file))
    except CertificateParsingFailed as error:
        raise UserError(f"{file} holds no certificate that can be read: {error}") from error


@cert.command()
def show(file: CertificateFile) -> None:
    """Print a certificate as JSON, with the hashes that follow from it.

    Example: `openledger da cert show certificate.hex`
    """
    from openledger.rollup.da.readable import certificate_json

    found = _find(file)
    print(json.dumps({"framing": found.framing, **certificate_json(found.certificate)}, indent=2))


@cert.command()
def verify(
    file: CertificateFile,
    l1_inclusion_block: Annotated[
        int, typer.Option(min=0, help="L1 block that holds the commitment; 0 leaves recency unchecked.")
    ] = 0,
    payload: Annotated[Path | None, typer.Option(help="The payload, to be compared with what is committed to.")] = None,
    srs_folder: Annotated[Path | None, typer.Option(help="EigenDA's SRS files, needed for --payload.")] = None,
    development: Annotated[
        bool,
        typer.Option("--development", help="Certificate of a development chain: use its SRS, whose secret is public."),
    ] = False,
    l1_rpc_url: Annotated[
        str | None, typer.Option(help="JSON-RPC of the L1, to ask its verifier contract too.")
    ] = None,
    cert_verifier: Annotated[str | None, typer.Option(help="Address of EigenDACertVerifier on that L1.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
) -> None:
    """Check a certificate and print each check with its verdict. Exit status 1 if one is false, else 0.

    Who the operators are and what they have at stake only the L1 knows: give --l1-rpc-url and --cert-verifier for it.

    Example: `openledger da cert verify certificate.hex --l1-inclusion-block 4146500`
    """
    from openledger.rollup.da.srs import DevelopmentSrs, FileSrs
    from openledger.rollup.da.verification import Check, certificate_checks

    found = _find(file)
    srs: Srs = DevelopmentSrs() if development else FileSrs(srs_folder or Path())
    console = Console(soft_wrap=True)
    made: list[Check] = []

    def say(check: Check) -> None:
        made.append(check)
        if as_json:
            print(json.dumps(asdict(check)), flush=True)
        else:
            print_finding(console, check.name, check.verdict, check.detail)

    say(Check("form", "good", f"V{found.certificate.version}, {found.framing}"))
    for check in certificate_checks(found.certificate, srs):
        say(check)
    say(_recency(found, l1_inclusion_block))
    if payload is not None:
        say(_payload(found, payload, srs, has_points=development or srs_folder is not None))
    say(_l1(found, l1_rpc_url, cert_verifier))
    false = [check.name for check in made if check.verdict == "false"]
    unchecked = [check.name for check in made if check.verdict == "unchecked"]
    if not as_json:
        verdict = "[red]false[/red]" if false else "[green]good[/green]"
        console.print(verdict + (f", but not checked: {', '.join(unchecked)}" if unchecked else ""))
    raise typer.Exit(1 if false else 0)


def _recency(found: FoundCertificate, l1_inclusion_block: int) -> Check:
    from openledger.rollup.da.verification import CertificateNotRecent, Check, verify_recency

    if found.certificate.version < 4:
        return Check("recency", "good", "asked of V4 certificates only")
    if not l1_inclusion_block:
        return Check("recency", "unchecked", "give --l1-inclusion-block")
    try:
        verify_recency(found.certificate, l1_inclusion_block)
    except CertificateNotRecent as error:
        return Check("recency", "false", str(error))
    return Check("recency", "good", f"L1 block {l1_inclusion_block} is within the window")


def _payload(found: FoundCertificate, payload: Path, srs: Srs, *, has_points: bool) -> Check:
    from openledger.rollup.da.encoding import PayloadTooLarge, blob_from_encoded_payload, encode_payload
    from openledger.rollup.da.srs import SrsError
    from openledger.rollup.da.verification import Check, CommitmentMismatch, verify_blob

    if not has_points:
        return Check("payload", "unchecked", "give --srs-folder (EigenDA's resources/srs) or --development")
    try:
        data = payload.read_bytes()
        verify_blob(blob_from_encoded_payload(encode_payload(data)), found.certificate, srs)
    except OSError as error:
        raise UserError(f"{payload} cannot be read: {error.strerror or error}") from error
    except (CommitmentMismatch, PayloadTooLarge) as error:
        return Check("payload", "false", str(error))
    except SrsError as error:
        return Check("payload", "unchecked", str(error))
    return Check("payload", "good", f"{len(data)} bytes are what the certificate commits to")


def _l1(found: FoundCertificate, l1_rpc_url: str | None, cert_verifier: str | None) -> Check:
    from eth_abi import encode

    from openledger.genesis.hashing import keccak256
    from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
    from openledger.rollup.da.abi_certificate import encode_abi_certificate
    from openledger.rollup.da.verification import Check

    if l1_rpc_url is None or cert_verifier is None:
        return Check("stakes", "unchecked", "whose keys these are stands on L1: give --l1-rpc-url and --cert-verifier")
    call = keccak256(b"checkDACert(bytes)")[:4] + encode(["bytes"], [encode_abi_certificate(found.certificate)])

    async def ask() -> str:
        async with RpcClient(l1_rpc_url) as l1:
            return str(await l1.call("eth_call", {"to": cert_verifier, "data": "0x" + call.hex()}, "latest"))

    try:
        status = int(trio.run(ask), 16)
    except (RpcError, RpcUnavailable, ValueError) as error:
        return Check("stakes", "unchecked", f"the verifier contract did not answer: {error}")
    if status != 1:
        return Check("stakes", "false", f"checkDACert on L1 answered status {status}")
    return Check("stakes", "good", "checkDACert on L1 says valid")
