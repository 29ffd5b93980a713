"""A provider's desk over a tiny model: the API, payments, engine and attribution processes are real, only the ledger is a
table here. Runs in a thread of its own, so that clients that block can ask it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import trio
from prometheus_client import CollectorRegistry, generate_latest

from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.receipt import ChannelTerms, Voucher, ledger_domain
from openledger.evm_ext.proofs.release import ReleaseManifest
from openledger.genesis.parameters import Split
from openledger.kernels.attribution.client import AttributionClient, AttributionConfig, open_attribution
from openledger.kernels.engine.client import EngineClient, open_engine
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Adapter, Ready
from openledger.kernels.model.tokenizer import ModelTokenizer, load_tokenizer
from openledger.node.api.adapters import AdaptersApi
from openledger.node.api.chat import ChatApi
from openledger.node.api.completions import CompletionsApi
from openledger.node.api.embeddings import EmbeddingsApi
from openledger.node.api.models import Models, ModelsApi
from openledger.node.api.paid_answers import PaidAnswers
from openledger.node.api.receipts import ReceiptsApi
from openledger.node.audit import Auditor, Finding, Sources
from openledger.node.background import Background
from openledger.node.catalog import ReleaseNotReady, ServedRelease, UnknownRelease
from openledger.node.content import ContentMissing, ContentStore
from openledger.node.engine_metrics import EngineMetrics
from openledger.node.factory.releases import store_adapter
from openledger.node.http import AccessPolicy, Router, serve_http
from openledger.node.inference import Asked, Head, Inference
from openledger.node.loaded_adapters import LoadedAdapters
from openledger.node.payments import PAYMENT_HEADER, Payments, SignedVoucher
from openledger.node.prompt import template_hash
from openledger.node.receipts import ReceiptBook
from openledger.node.records import ChatRequest
from openledger.node.wallet import Wallet

from ..kernels.model.tiny_model import write_tiny_adapter, write_tiny_model

CHAIN = 161_299
HEAD = Head(7, b"\x07" * 32)
PROVIDER, PAYER, OWNER, OTHER_OWNER = Wallet(b"\x11" * 32), Wallet(b"\x22" * 32), b"\x0a" * 20, b"\x0b" * 20
PRICE_IN, PRICE_OUT, PLATFORM_BPS = 1000, 3000, 100

T = TypeVar("T")


@dataclass(frozen=True)
class Paid:
    """A channel as the ledger would tell of it."""

    payer: bytes
    receiver: bytes
    authorizer: bytes
    deposit: int = 1_000_000_000
    total_claimed: int = 0
    closing: bool = False


@dataclass
class Shelf:
    """The releases of a desk. See `node.catalog.Catalog`."""

    content: ContentStore
    folder: Path
    listed: list[ServedRelease] = field(default_factory=list)

    def release(self, model: str) -> ServedRelease:
        for release in self.listed:
            if model in (release.model, f"release-{release.id}"):
                return release
        raise UnknownRelease(f"there is no release named {model!r}")

    def any_release(self, identifier: int) -> ServedRelease:
        return self.release(f"release-{identifier}")

    def releases(self) -> list[ServedRelease]:
        return list(self.listed)

    def adapter(self, digest: bytes, weight_milli: int = 1000) -> Adapter:
        try:
            self.content.export_folder(digest, self.folder / digest.hex())
        except ContentMissing as error:
            raise ReleaseNotReady(str(error)) from error
        return Adapter(str(self.folder / digest.hex()), digest, weight_milli)


@dataclass(frozen=True)
class Registered:
    """What an auditor reads of a release in the registry."""

    owner: bytes
    adapter_hash: bytes


@dataclass(frozen=True)
class Table:
    """What an auditor reads of the contracts."""

    channels: dict[bytes, Paid]
    shelf: Shelf

    def channel(self, channel_id: bytes) -> Paid | None:
        return self.channels.get(channel_id)

    def prices(self, release: int) -> tuple[int, int]:
        served = self.shelf.any_release(release)
        return served.price_in, served.price_out

    def releases(self) -> list[Registered]:
        return [Registered(release.owner, release.manifest.adapter_hash) for release in self.shelf.listed]

    def settlement_count(self) -> int:
        return 0


class Desk:
    """`with Desk(folder) as desk:` serves at `desk.url`. Releases: bare (1), lora (2) with an adapter, theirs (3) with
    another owner's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = ContentStore(folder / "content")
        self.shelf = Shelf(self.content, folder / "adapters")
        self.terms = ChannelTerms(PAYER.address, PROVIDER.address, PAYER.address, 40, bytes(32))
        self.channels = {self.terms.id: Paid(PAYER.address, PROVIDER.address, PAYER.address)}
        self.engine: EngineClient
        self.attribution: AttributionClient
        self.tokenizer: ModelTokenizer
        self.book: ReceiptBook
        self.payments: Payments
        self.metrics: EngineMetrics
        self.url = ""
        self._ready = threading.Event()
        self._stop: trio.Event
        self._token: trio.lowlevel.TrioToken | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="desk")

    def __enter__(self) -> Desk:
        self._thread.start()
        if not self._ready.wait(500) or self._failure is not None:
            raise RuntimeError("the desk did not open") from self._failure
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
        self._thread.join(120)

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with AsyncExitStack() as stack:
            self.attribution = await stack.enter_async_context(open_attribution(AttributionConfig()))
            self.engine = await stack.enter_async_context(self.open_engine("model", 1))
            nursery = await stack.enter_async_context(trio.open_nursery())
            await self.engine.ready()
            self.tokenizer = load_tokenizer(self.engine.config.model_file, self.engine.config.cache_folder)
            self._fill_shelf()
            self.book = ReceiptBook(self.folder / "book.sqlite")
            stack.callback(self.book.close)
            self.payments = Payments(CHAIN, PROVIDER.address, self.book, self.channels.get)
            self.metrics = EngineMetrics(self.engine)
            self._background = Background()
            await nursery.start(self._background.run)
            self.url = (await nursery.start(self._listen)).url
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    async def _listen(self, task_status: Any) -> None:
        router = Router()
        loaded = LoadedAdapters(self.folder / "loaded.json", self.content)
        models = Models(self.shelf, loaded)
        inference = self.inference(self.engine)
        answers = PaidAnswers(lambda: inference, self.payments)
        ModelsApi(models, embeddings=True).mount(router)
        ChatApi(answers, models, 128).mount(router)
        CompletionsApi(answers, models, 128).mount(router)
        EmbeddingsApi(self.attribution, offered=True).mount(router)
        AdaptersApi(models, loaded, self.engine, lambda: None).mount(router)
        ReceiptsApi(self.content, ledger_domain(CHAIN), self.book).mount(router)
        await serve_http(router, policy=AccessPolicy(origins=("*",)), task_status=task_status)

    @asynccontextmanager
    async def open_engine(self, name: str, seed: int, **settings: Any) -> AsyncIterator[EngineClient]:
        """An engine process over a tiny model with weights by this seed."""
        file = self.folder / f"{name}.gguf"
        if not file.exists():
            write_tiny_model(file, seed)
        sizes = {"threads": 1, "max_context": 512, "kv_tokens": 4096, "max_batch": 8, **settings}
        async with open_engine(
            EngineConfig(cache_folder=str(self.folder / "cache"), model_file=str(file), **sizes)
        ) as engine:
            yield engine

    def inference(self, engine: Any, **limits: Any) -> Inference:
        """The provider's answering, by this engine or by what stands for one."""
        return Inference(
            engine=engine,
            attribution=self.attribution,
            tokenizer=self.tokenizer,
            payments=self.payments,
            book=self.book,
            content=self.content,
            provider=PROVIDER,
            head=lambda: HEAD,
            platform_bps=PLATFORM_BPS,
            background=self._background,
            metrics=self.metrics,
            **limits,
        )

    def asked(self, request: ChatRequest) -> Asked:
        """What the API makes of a request: with the adapters that it names, else the release's own."""
        release = self.shelf.any_release(request.release)
        placed = tuple(self.shelf.adapter(used.digest, used.weight_milli) for used in request.adapters)
        return Asked(request, release, placed or ((release.adapter,) if release.adapter else ()))

    def _fill_shelf(self) -> None:
        digests = [
            store_adapter(self.content, write_tiny_adapter(self.folder / f"lora-{seed}", 4, seed)) for seed in (2, 3)
        ]
        self.shelf.listed += [
            self.release_of(1, "bare", bytes(32), OWNER),
            self.release_of(2, "lora", digests[0], OWNER),
            self.release_of(3, "theirs", digests[1], OTHER_OWNER),
        ]

    def release_of(
        self, number: int, name: str, adapter: bytes, owner: bytes, info: Ready | None = None
    ) -> ServedRelease:
        """A release of the engine's model, or of another engine's."""
        info = info or self.engine.info
        assert info is not None
        manifest = ReleaseManifest(
            name=name,
            base_model=info.model,
            base_model_root=info.weights_root,
            adapter_hash=adapter,
            tokenizer_hash=info.tokenizer_hash,
            template_hash=template_hash(info.template_hash),
            tables_hash=info.tables_root,
            numerics=info.numerics,
            embedder_hash=bytes(32),
            datanets=(),
            attribution=AttributionPolicy(),
            price_in=PRICE_IN,
            price_out=PRICE_OUT,
            split=Split(owner_bps=5500, contributors_bps=0),
        )
        placed = self.shelf.adapter(adapter) if adapter != bytes(32) else None
        return ServedRelease(number, manifest, PRICE_IN, PRICE_OUT, placed, (), owner)

    # from tests' threads

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run something async where the desk runs."""
        assert self._token is not None
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def owed(self) -> int:
        """What the channel owes."""
        return self.payments.owed(self.terms.id, self.channels[self.terms.id])

    def voucher(self, most: int = 1_000_000) -> SignedVoucher:
        """One that pays for the next call."""
        allowed = self.payments.next_voucher(self.terms.id, self.channels[self.terms.id], most)
        voucher = Voucher(self.terms.id, allowed)
        return SignedVoucher(voucher, voucher.sign(ledger_domain(CHAIN), PAYER.private_key))

    def headers(self) -> dict[str, str]:
        """The payment of the next call."""
        return {PAYMENT_HEADER: self.voucher().header()}

    def post(self, path: str, body: Any, *, paid: bool = True, **headers: str) -> httpx.Response:
        sent = {**(self.headers() if paid else {}), **headers}
        return httpx.post(self.url + path, json=body, headers=sent, timeout=500, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=500, trust_env=False)

    def metric(self, name: str) -> float:
        """The value of a metric, by its name with labels."""
        registry = CollectorRegistry()
        registry.register(self.metrics)
        for line in generate_latest(registry).decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise KeyError(name)

    def audit(self, receipt_hash: bytes | str, engine: EngineClient | None = None) -> dict[str, Finding]:
        """What another node finds, by name."""
        digest = bytes.fromhex(receipt_hash.removeprefix("0x")) if isinstance(receipt_hash, str) else receipt_hash
        table: Any = Table(self.channels, self.shelf)
        sources = Sources(
            chain_id=CHAIN,
            named=self.content.get_named,
            registry_at=lambda _: table,
            canonical_hash=lambda number: HEAD.hash if number == HEAD.number else None,
            settlement=lambda _: None,
            catalog=self.shelf,
            platform_bps=PLATFORM_BPS,
        )
        auditor = Auditor(sources, engine or self.engine, self.attribution, self.tokenizer)

        async def found() -> dict[str, Finding]:
            return {finding.name: finding async for finding in auditor.audit(digest)}

        return self.call(found)


def doctored(release: ServedRelease, **changes: Any) -> ServedRelease:
    """The release as a cheat has it."""
    return replace(release, **changes)
