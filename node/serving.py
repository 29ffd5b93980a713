"""The services above the chain, by the node's role.

Every node follows the registries and keeps the content they name. With `serving` it also runs the engine and the
attribution process: a provider (dev, sequencer, serving) answers and settles with them, any other node checks.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio
from prometheus_client import CollectorRegistry

from openledger.evm_ext.proofs.receipt import ledger_domain
from openledger.genesis.dev_accounts import PROVIDER
from openledger.kernels.attribution.client import AttributionClient, AttributionConfig, open_attribution
from openledger.kernels.child import OpenChild
from openledger.kernels.engine.client import EngineClient, EngineUnusable, open_engine
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.finetune.client import run_finetune
from openledger.kernels.model.errors import ModelError
from openledger.kernels.model.tokenizer import ModelTokenizer, load_tokenizer
from openledger.kernels.replicas.places import open_place
from openledger.kernels.replicas.relay import RayUnavailable
from openledger.kernels.replicas.router import open_replicas
from openledger.node.api.accounts import AccountsApi
from openledger.node.api.adapters import AdaptersApi
from openledger.node.api.audits import AuditsApi
from openledger.node.api.channels import ChannelsApi
from openledger.node.api.chat import ChatApi
from openledger.node.api.completions import CompletionsApi
from openledger.node.api.content import ContentApi
from openledger.node.api.datanets import DatanetsApi
from openledger.node.api.dev_payer import DevPayerApi
from openledger.node.api.embeddings import EmbeddingsApi
from openledger.node.api.errors import ApiError
from openledger.node.api.explanations import ExplanationsApi
from openledger.node.api.factory import FactoryApi, ReleasesApi
from openledger.node.api.models import Models, ModelsApi
from openledger.node.api.paid_answers import PaidAnswers
from openledger.node.api.receipts import ReceiptsApi
from openledger.node.audit import Auditor, SettledPayload, Sources
from openledger.node.background import Background
from openledger.node.catalog_service import ReleaseCatalog
from openledger.node.config import Endpoints
from openledger.node.datanets.announcements import Announcements
from openledger.node.datanets.follower import ContentFollower
from openledger.node.datanets.indexes import IndexService
from openledger.node.datanets.registered import Registered
from openledger.node.datanets.service import PublishingService
from openledger.node.datanets.versions import version_contents
from openledger.node.engine_metrics import EngineMetrics
from openledger.node.errors import StartupError
from openledger.node.factory.jobs import FineTuneJobs
from openledger.node.http import Router
from openledger.node.inference import Head, Inference
from openledger.node.loaded_adapters import LoadedAdapters
from openledger.node.payments import Payments
from openledger.node.receipt_sync import ReceiptSync
from openledger.node.receipts import ReceiptBook
from openledger.node.rollup_node import RollupNode, private_key
from openledger.node.settlement import Settler
from openledger.node.staking import ProviderStake
from openledger.node.supervisor import Service
from openledger.node.wallet import Wallet
from openledger.node.web.pages import WebPages

log = structlog.get_logger(__name__)

PROVIDING_ROLES = ("dev", "sequencer", "serving")


@dataclass
class Model:
    """The engine as this node uses it: not there yet, ready, or unusable for a reason."""

    engine: EngineClient
    tokenizer: ModelTokenizer | None = None
    problem: str | None = "the model is being loaded"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for the engine and read its tokenizer. What is wrong with it stops nothing else of the node."""
        task_status.started()
        try:
            self.tokenizer = await trio.to_thread.run_sync(
                load_tokenizer, self.engine.config.model_file, self.engine.config.cache_folder
            )
            await self.engine.ready()
            self.problem = None
        except (EngineUnusable, ModelError) as error:
            self.problem = str(error)
            log.error("no answers can be given", reason=self.problem)
        await trio.sleep_forever()

    def probe(self) -> str | None:
        if self.problem is None and self.engine.info is None:
            return "the engine process is starting again"
        progress = self.engine.progress
        if self.problem and self.engine.info is None and progress is not None and self.tokenizer is None:
            return f"{self.problem}: {progress.stage} {progress.fraction:.0%}"
        return self.problem

    def ready_tokenizer(self) -> ModelTokenizer:
        """Raises ApiError while nothing can be answered."""
        if self.problem is not None or self.tokenizer is None:
            raise ApiError(503, "model_not_ready", f"no answers yet: {self.problem}", "server_error")
        return self.tokenizer


@dataclass(frozen=True)
class Checking:
    """What both answering and checking need."""

    model: Model
    attribution: AttributionClient
    indexes: IndexService
    catalog: ReleaseCatalog
    loaded: LoadedAdapters
    start_child: OpenChild


@asynccontextmanager
async def open_serving(node: RollupNode, router: Router, metrics: CollectorRegistry) -> AsyncIterator[list[Service]]:
    """Mount the REST API on `router`, give the services behind it, and let `metrics` see the engine. Raises
    StartupError."""
    config = node.config
    providing = config.serving and config.role in PROVIDING_ROLES
    async with AsyncExitStack() as stack:
        registered = Registered(node.chain, node.registry)
        announcements = Announcements(config.folder / "announcements.sqlite", node.chain)
        stack.callback(announcements.close)
        follower = ContentFollower(
            content=node.content,
            registered=registered,
            announcements=announcements,
            da=node.da,
            fetch=node.p2p.fetch_content,
        )
        services = [
            Service("registries", registered.run, probe=registered.probe),
            Service("content", follower.run),
        ]
        book = None
        if providing:
            book = ReceiptBook(config.folder / "receipts.sqlite")
            stack.callback(book.close)
        AccountsApi(node.chain, node.registry).mount(router)
        ReceiptsApi(node.content, ledger_domain(node.chain.chain_id), book).mount(router)
        checking: Checking | None = None
        ExplanationsApi(
            node.content, node.registry, lambda: checking.model.tokenizer if checking is not None else None
        ).mount(router)
        publishing: PublishingService | None = None
        if config.serving:
            checking = await _open_checking(stack, node, registered)
            services += [
                Service("engine", checking.model.run, probe=checking.model.probe),
                Service("indexes", checking.indexes.run),
                Service("releases", checking.catalog.run, probe=checking.catalog.probe),
            ]
            models = Models(checking.catalog, checking.loaded)
            ModelsApi(models, embeddings=providing and config.offers_embeddings).mount(router)
            receipts = ReceiptSync(node)
            AuditsApi(lambda: _auditor(node, checking, receipts), receipts).mount(router)
            if book is not None:
                engine_metrics = EngineMetrics(checking.model.engine)
                metrics.register(engine_metrics)
                publishing, provided = _provide(stack, node, router, registered, checking, models, book, engine_metrics)
                services += provided
        DatanetsApi(
            chain_id=node.chain.chain_id,
            max_document_bytes=node.network.preset.economy.max_document_bytes,
            registry=node.registry,
            registered=registered,
            content=node.content,
            indexes=checking.indexes if checking else None,
            contents=lambda datanet, number: version_contents(node.chain, node.registry(), datanet, number),
        ).mount(router)
        ContentApi(node.content, follower, publishing).mount(router)
        ReleasesApi(node.registry, node.content, checking.catalog if checking else None).mount(router)
        WebPages(config, node.chain.chain_id, node.network.preset.development).mount(router)
        yield services


async def _open_checking(stack: AsyncExitStack, node: RollupNode, registered: Registered) -> Checking:
    config = node.config
    reading = AttributionConfig(model_file=config.engine.model_file, cache_folder=str(config.cache_folder))
    attribution = await stack.enter_async_context(open_attribution(reading))
    # The rest of the machine executes blocks, and a devnet's second node has an engine too.
    threads = config.engine.threads or max(1, (os.cpu_count() or 1) // 2)
    if config.engine.backend == "local":
        threads = max(1, threads // config.engine.replicas)
    try:
        start_child = await stack.enter_async_context(
            open_place(
                config.engine.backend,
                address=config.engine.ray_address,
                cpus=threads,
                gpus=config.engine.ray_gpus,
                children=config.engine.replicas + 1,
            )
        )
    except RayUnavailable as error:
        raise StartupError(f"engine.backend is ray, but {error}") from error
    engine = await stack.enter_async_context(
        open_replicas(
            EngineConfig(
                cache_folder=str(config.cache_folder),
                model_file=config.engine.model_file or None,
                threads=threads,
                max_batch=config.engine.max_batch,
                max_context=config.engine.max_context_tokens,
                numerics=config.engine.numerics,
                weight_bits=config.engine.weight_bits,
                tensor_parallel=config.engine.tensor_parallel,
            ),
            config.engine.replicas,
            partial(open_engine, start_child=start_child),
        )
    )
    indexes = IndexService(
        folder=config.folder / "indexes",
        chain=node.chain,
        registry=node.registry,
        registered=registered,
        content=node.content,
        attribution=attribution,
    )
    catalog = ReleaseCatalog(
        chain=node.chain,
        registry=node.registry,
        content=node.content,
        indexes=indexes,
        engine=engine,
        adapters_folder=config.folder / "adapters",
    )
    loaded = LoadedAdapters(config.folder / "loaded-adapters.json", node.content)
    return Checking(Model(engine), attribution, indexes, catalog, loaded, start_child)


def _auditor(node: RollupNode, checking: Checking, receipts: ReceiptSync) -> Auditor:
    """Raises ApiError while the engine is not ready."""

    def settlement(root: bytes) -> SettledPayload | None:
        found = receipts.settled_payload(root)
        return SettledPayload(*found) if found else None

    def canonical_hash(number: int) -> bytes | None:
        header = node.chain.header_by_number(number)
        return header.hash if header else None

    sources = Sources(
        chain_id=node.chain.chain_id,
        named=node.content.get_named,
        registry_at=node.registry,
        canonical_hash=canonical_hash,
        settlement=settlement,
        catalog=checking.catalog,
        platform_bps=node.registry().platform_bps(),
    )
    return Auditor(sources, checking.model.engine, checking.attribution, checking.model.ready_tokenizer())


def _provide(
    stack: AsyncExitStack,
    node: RollupNode,
    router: Router,
    registered: Registered,
    checking: Checking,
    models: Models,
    book: ReceiptBook,
    metrics: EngineMetrics,
) -> tuple[PublishingService, list[Service]]:
    """Answering for pay: the chat API, fine-tuning, publishing, staking and settling with the provider's key."""
    config = node.config
    development = node.network.preset.development
    provider = Wallet(private_key(config.provider_key, "provider_key", PROVIDER.private_key if development else None))
    rpc_url = Endpoints.of(config).rpc
    sending = trio.Lock()
    payments = Payments(node.chain.chain_id, provider.address, book, lambda channel: node.registry().channel(channel))
    platform_bps = node.registry().platform_bps()
    made: list[Inference] = []
    background = Background()

    def head() -> Head:
        header = node.chain.head("unsafe")
        return Head(header.number, header.hash)

    def inference() -> Inference:
        tokenizer = checking.model.ready_tokenizer()
        if not made:
            made.append(
                Inference(
                    engine=checking.model.engine,
                    attribution=checking.attribution,
                    tokenizer=tokenizer,
                    payments=payments,
                    book=book,
                    content=node.content,
                    provider=provider,
                    head=head,
                    platform_bps=platform_bps,
                    background=background,
                    metrics=metrics,
                    answer_timeout_s=config.engine.answer_timeout_s,
                )
            )
        return made[0]

    answers = PaidAnswers(inference, payments)
    ChatApi(answers, models, config.engine.max_output_tokens).mount(router)
    CompletionsApi(answers, models, config.engine.max_output_tokens).mount(router)
    EmbeddingsApi(checking.attribution, offered=config.offers_embeddings).mount(router)
    AdaptersApi(models, checking.loaded, checking.model.engine, checking.model.ready_tokenizer).mount(router)
    ChannelsApi(payments, node.registry).mount(router)
    publishing = PublishingService(
        folder=config.folder,
        content=node.content,
        registered=registered,
        da=node.da,
        rpc_url=rpc_url,
        wallet=provider,
        max_document_bytes=node.network.preset.economy.max_document_bytes,
        sending=sending,
    )
    stack.callback(publishing.close)
    settler = Settler(
        book=book,
        content=node.content,
        registry=node.registry,
        publish=node.da.put,
        rpc_url=rpc_url,
        provider=provider,
        interval_s=config.settle_interval_s,
        sending=sending,
    )
    stake = ProviderStake(node.registry, provider, rpc_url, sending, stake_for_me=development)
    train = partial(run_finetune, start_child=checking.start_child)
    jobs = FineTuneJobs(
        config.folder / "fine-tunes",
        threads=config.engine.threads,
        base_model=config.engine.model_file,
        train=train,
    )
    FactoryApi(
        chain=node.chain,
        registry=node.registry,
        content=node.content,
        indexes=checking.indexes,
        jobs=jobs,
        publishing=publishing,
        engine=checking.model.engine,
    ).mount(router)
    if development:
        DevPayerApi(Endpoints.of(config), development=True).mount(router)
    return publishing, [
        Service("answers", background.run),
        Service("publishing", publishing.run, probe=publishing.probe),
        Service("fine-tuning", jobs.run),
        Service("stake", stake.run, probe=stake.probe),
        Service("settlement", settler.run, probe=settler.probe),
    ]
