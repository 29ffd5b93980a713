"""The DA layer that a node is configured with: a proxy's REST API, or EigenDA itself over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from openledger.genesis.preset import Preset
from openledger.node.config import Config
from openledger.node.errors import StartupError
from openledger.rollup.da.client import DAError, open_da_client
from openledger.rollup.da.direct import DALayer, DirectDA
from openledger.rollup.da.disperser import DisperserClient, DisperserSettings, open_disperser
from openledger.rollup.da.payments import Payer
from openledger.rollup.da.retrieval import ConfiguredRelays, open_payload_reader
from openledger.rollup.da.srs import DevelopmentSrsRefused
from openledger.rollup.da.worker import BlobWorker, open_blob_worker
from openledger.rollup.l1.certificate_verifier import L1CertificateVerifier
from openledger.rollup.l1.endpoints import L1Endpoints
from openledger.rollup.l1.operator_directory import L1OperatorDirectory
from openledger.rollup.l1.relay_registry import L1RelayDirectory
from openledger.rollup.l1.signature_indices import L1SignatureIndexReader


@asynccontextmanager
async def open_da_layer(config: Config, preset: Preset, l1: L1Endpoints, proxy_url: str) -> AsyncIterator[DALayer]:
    """The DA layer of `da_route`, closed when the block ends; whatever comes out of it is held against its certificate.

    Raises StartupError for settings that do not fit together.
    """
    async with AsyncExitStack() as stack:
        try:
            worker = await stack.enter_async_context(
                open_blob_worker(development=preset.development, srs_folder=config.eigenda.srs_folder)
            )
        except DevelopmentSrsRefused as error:
            raise StartupError(f"eigenda.srs_folder is not set: {error}") from error
        verifier = _certificate_verifier(config, l1)
        if config.da_route == "disperser":
            yield await _direct(stack, config, preset, l1, worker, verifier)
            return
        yield await stack.enter_async_context(
            open_da_client(
                proxy_url,
                worker=worker,
                verify_certificates=config.da_trust != "payload",
                verifier=verifier,
                deadline_s=config.da_timeout_s,
            )
        )


async def _direct(
    stack: AsyncExitStack,
    config: Config,
    preset: Preset,
    l1: L1Endpoints,
    worker: BlobWorker,
    verifier: L1CertificateVerifier | None,
) -> DirectDA:
    chosen = config.eigenda
    if verifier is None and not preset.development:
        # A proxy asks the contract for whoever trusts it; without one nobody else does.
        raise StartupError("da_route is disperser: set da_trust to l1, for no proxy asks L1 who may sign certificates")
    registry = _address(chosen.relay_registry, "eigenda.relay_registry")
    retriever = _address(chosen.operator_state_retriever, "eigenda.operator_state_retriever")
    coordinator = _address(chosen.registry_coordinator, "eigenda.registry_coordinator")
    if (retriever is None) != (coordinator is None):
        raise StartupError("eigenda.operator_state_retriever and eigenda.registry_coordinator belong together")
    if not chosen.relays and registry is None and retriever is None:
        raise StartupError(
            "da_route is disperser, but nobody to read from is set: eigenda.relays, eigenda.relay_registry, or the "
            "operators' registries"
        )
    operators: L1OperatorDirectory | None = None
    indices: L1SignatureIndexReader | None = None
    if retriever is not None and coordinator is not None:
        operators = L1OperatorDirectory(l1, retriever, coordinator)
        indices = L1SignatureIndexReader(l1, retriever, coordinator)
    reader = await stack.enter_async_context(
        open_payload_reader(
            worker,
            ConfiguredRelays(chosen.relays, None if registry is None else L1RelayDirectory(l1, registry)),
            operators=operators,
            verifier=verifier,
            plaintext=chosen.plaintext,
        )
    )
    disperser: DisperserClient | None = None
    if bool(chosen.disperser) != bool(config.da_payment_key):
        raise StartupError(
            "eigenda.disperser and da_payment_key belong together: where blobs go, and who pays for them"
        )
    if chosen.disperser:
        settings = DisperserSettings(
            preset.l1_chain_id, chosen.disperser_id, chosen.certificate_version, timeout_s=chosen.timeout_s
        )
        payer = Payer(_key(config.da_payment_key))
        try:
            disperser = await stack.enter_async_context(
                open_disperser(chosen.disperser, worker, payer, settings, plaintext=chosen.plaintext, indices=indices)
            )
        except DAError as error:  # the extra is not installed
            raise StartupError(str(error)) from error
    return DirectDA(reader, disperser, on_demand=chosen.payment == "on-demand", verifier=verifier)


def _certificate_verifier(config: Config, l1: L1Endpoints) -> L1CertificateVerifier | None:
    if config.da_trust != "l1":
        return None
    address = _address(config.da_cert_verifier, "da_cert_verifier")
    if address is None:
        raise StartupError("da_trust is l1: set da_cert_verifier to the address of EigenDACertVerifier on L1")
    return L1CertificateVerifier(l1, address)


def _address(setting: str, name: str) -> bytes | None:
    """An address from the configuration, None for an empty one. Raises StartupError for what is none."""
    address = _hex(setting)
    if setting and len(address) != 20:
        raise StartupError(f"{name} must be an address of 40 hex digits, not {setting!r}")
    return address or None


def _key(setting: str) -> bytes:
    key = _hex(setting)
    if len(key) != 32:
        raise StartupError("da_payment_key must be a private key of 64 hex digits")
    return key


def _hex(setting: str) -> bytes:
    try:
        return bytes.fromhex(setting.removeprefix("0x"))
    except ValueError:
        return b""
