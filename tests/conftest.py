"""A devnet in a process of its own, on free ports and in a temporary folder."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog
import trio
from eth_account import Account

from openledger.evm_ext.proofs.content import content_hash, content_manifest, encode_folder, split_chunks
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.receipt import ChannelTerms, Voucher, ledger_domain
from openledger.evm_ext.proofs.release import ReleaseManifest
from openledger.genesis.dev_accounts import USERS, DevAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import MICRO_OPEN_WEI, Split
from openledger.genesis.presets import DEVNET
from openledger.genesis.tables import tables_root
from openledger.node.config import VALIDATOR_PORT_STEP, Endpoints, Ports, load_config
from openledger.node.payments import PAYMENT_HEADER, SignedVoucher
from openledger.node.predeploy_contracts import datanet_registry, inference_ledger, model_registry
from openledger.node.prompt import template_hash
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet
from openledger.rollup.da.client import open_da_client

START_S = 240.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that none of them is left over when files run beside each other."""

    def length(item: pytest.Item) -> float:
        allowed = item.get_closest_marker("timeout")
        slow = item.get_closest_marker("slow") is not None
        return float(allowed.args[0]) if allowed else float(slow)

    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(length(item), longest.get(item.path, 0.0))
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """A command that runs inside a test configures logging for the whole process: take it back."""
    yield
    structlog.reset_defaults()


def free_port_offset() -> int:
    """An offset at which every port of a devnet and its validator is free now. Processes that run tests beside each
    other choose among different ones, as the ports are only bound later."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    step = 2 * VALIDATOR_PORT_STEP
    while True:
        offset = random.randrange(100 + step * worker, 20_000, step * workers)
        try:
            for of_node in (0, VALIDATOR_PORT_STEP):
                for port in Ports().shifted(offset + of_node).model_dump().values():
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return offset


@dataclass
class Devnet:
    """`openledger dev` as a user runs it."""

    folder: Path
    offset: int
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.of(load_config(port_offset=self.offset))

    @property
    def second(self) -> Endpoints:
        """The validator's endpoints."""
        return Endpoints.of(load_config(port_offset=self.offset + VALIDATOR_PORT_STEP))

    @property
    def log(self) -> str:
        return (self.folder / "dev.log").read_text(errors="replace")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "openledger.node.cli.main", *arguments]

    def start(self, open_files: int | None = None) -> None:
        """`open_files` is the most files and sockets that the processes may have open."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = self.command("dev", "--data-dir", str(self.folder / "data"), "--port-offset", str(self.offset))
        if open_files is not None:
            line = ["/bin/sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *line]
        with open(self.folder / "dev.log", "ab") as log:
            self.process = subprocess.Popen([*line, *self.flags], stdout=log, stderr=log, start_new_session=True)

    def health(self) -> tuple[int, dict[str, str]]:
        """Status and services of /health; status 0 while nothing answers."""
        try:
            answer = httpx.get(f"{self.endpoints.api}/health", timeout=180, trust_env=False)
            return answer.status_code, answer.json()["services"]
        except (httpx.HTTPError, ValueError):
            return 0, {}

    def wait_until_ready(self, timeout_s: float = START_S) -> None:
        self.wait_for(lambda: self.health()[0] == 200, timeout_s, "everything to be ready")

    def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the devnet ended with {self.process.returncode}:\n{self.log[-3000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout_s:.0f} s for {what}: {self.health()}\n{self.log[-3000:]}")
            time.sleep(0.3)

    def rpc(self, method: str, *params: object, url: str | None = None) -> object:
        answer = httpx.post(
            url or self.endpoints.rpc,
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
            timeout=180,
            trust_env=False,
        ).json()
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """A client command against this devnet."""
        environment = {
            **os.environ,
            "OPENLEDGER_PORT_OFFSET": str(self.offset),
            "OPENLEDGER_DATA_DIR": str(self.folder / "data"),
        }
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
        )

    def kill(self) -> None:
        """kill -9 of every process of the devnet at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"it did not stop:\n{self.log[-3000:]}") from None
        return self.process.returncode


@dataclass
class Shop:
    """A devnet that answers with a release of the bare model, and a payer with a channel."""

    devnet: Devnet
    release: int
    payer: Wallet
    terms: ChannelTerms
    model: str = "bare"

    @property
    def api(self) -> str:
        return self.devnet.endpoints.api

    def with_channel(self, terms: ChannelTerms, deposit_micro_open: int) -> Shop:
        """Open another channel; the shop as its payer sees it."""
        arguments = (terms.receiver, terms.authorizer, terms.withdraw_delay, terms.salt)
        value = deposit_micro_open * MICRO_OPEN_WEI
        transact(self.devnet, self.payer, inference_ledger(), "open", *arguments, value_wei=value)
        return replace(self, terms=terms)

    def state(self) -> dict[str, Any]:
        """What the provider says of the channel."""
        found: dict[str, Any] = self.get(f"/v1/channels/0x{self.terms.id.hex()}").json()
        return found

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.api + path, timeout=180, trust_env=False)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(self.api + path, timeout=120, trust_env=False, **options)

    def voucher(self, micro_open: int, *, key: bytes | None = None, chain_id: int = DEVNET.l2_chain_id) -> str:
        """The payment header of a voucher on the channel for that much in all."""
        voucher = Voucher(self.terms.id, micro_open)
        return SignedVoucher(voucher, voucher.sign(ledger_domain(chain_id), key or self.payer.private_key)).header()

    def good_voucher(self) -> str:
        """One that pays for any short call."""
        return self.voucher(int(self.state()["next_voucher_above_micro_open"]) + 20_000)

    def body(self, question: str = "What is a whale?", **fields: Any) -> dict[str, Any]:
        message = {"role": "user", "content": question}
        return {"model": self.model, "messages": [message], "max_tokens": 8, "temperature": 0, **fields}

    def ask(self, body: dict[str, Any], header: str | None = None) -> httpx.Response:
        headers = {PAYMENT_HEADER: header} if header is not None else {}
        return self.post("/v1/chat/completions", json=body, headers=headers)


def bare_manifest(name: str, adapter_hash: bytes = bytes(32)) -> ReleaseManifest:
    """The model as this machine's engine has it, without Datanets."""
    from openledger.kernels.model.files import open_model
    from openledger.kernels.model.tokenizer import ModelTokenizer
    from openledger.kernels.model.weights import load_weights

    cache = load_config().cache_folder
    files = open_model(cache_folder=cache)
    config, tokenizer = files.config(), ModelTokenizer.of(files)
    return ReleaseManifest(
        name=name,
        base_model=config.name,
        base_model_root=load_weights(files, config, cache).root,
        adapter_hash=adapter_hash,
        tokenizer_hash=tokenizer.hash,
        template_hash=template_hash(tokenizer.template_hash),
        tables_hash=tables_root(config.tables),
        numerics="exact-1",
        embedder_hash=bytes(32),
        datanets=(),
        attribution=AttributionPolicy(),
        price_in=1000,
        price_out=3000,
        split=Split(owner_bps=5500, contributors_bps=0),
    )


def register(devnet: Devnet, manifest: ReleaseManifest, owner: Wallet) -> int:
    """Upload a manifest and register it as a release; its number."""
    encoded = manifest.encode()
    kept = httpx.post(f"{devnet.endpoints.api}/v1/content", content=encoded, trust_env=False)
    assert kept.json()["content_hash"] == "0x" + content_hash(encoded).hex(), kept.text
    registration = (
        manifest.hash,
        content_hash(encoded),
        manifest.adapter_hash,
        manifest.tokenizer_hash,
        bytes(32),
        owner.address,
        manifest.price_in,
        manifest.price_out,
        list(manifest.split.parts),
        [],
        manifest.name,
    )
    transact(devnet, owner, model_registry(), "register", registration)
    releases = httpx.get(f"{devnet.endpoints.api}/v1/releases", trust_env=False).json()
    return int(releases["count"])


def transact(devnet: Devnet, wallet: Wallet, contract: Any, function: str, *arguments: Any, value_wei: int = 0) -> None:
    async def send() -> None:
        async with RpcClient(devnet.endpoints.rpc) as rpc:
            await wallet.send(rpc, contract, function, *arguments, value_wei=value_wei)

    trio.run(send)


def open_shop(devnet: Devnet) -> Shop:
    """Register the bare release and open a channel of 5 OPEN with the provider."""
    payer = Wallet(USERS[3].private_key)
    release = register(devnet, bare_manifest(Shop.model), Wallet(USERS[0].private_key))
    provider = httpx.get(f"{devnet.endpoints.api}/v1/provider", trust_env=False).json()
    delay = provider["min_withdraw_delay_blocks"]
    terms = ChannelTerms(payer.address, bytes.fromhex(provider["provider"][2:]), payer.address, delay, bytes(32))
    shop = Shop(devnet, release, payer, terms).with_channel(terms, 5_000_000)
    devnet.wait_for(lambda: shop.get(f"/v1/models/{Shop.model}").status_code == 200, 300, "the release to be served")
    return shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A serving devnet, ready, with a release and a channel; parametrise indirectly for other flags."""
    flags = getattr(request, "param", ("--no-validator",))
    devnet = Devnet(tmp_path_factory.mktemp("shop"), free_port_offset(), flags)
    devnet.start()
    try:
        devnet.wait_until_ready(240)
        yield open_shop(devnet)
    finally:
        if devnet.process is not None and devnet.process.poll() is None:
            devnet.kill()


@pytest.fixture
def devnet_without_serving(tmp_path: Path) -> Iterator[Devnet]:
    """The chain part of a devnet, not started yet: no engine."""
    devnet = Devnet(tmp_path / "devnet", free_port_offset(), ("--no-serving",))
    yield devnet
    if devnet.process is not None and devnet.process.poll() is None:
        devnet.kill()


@pytest.fixture(scope="module")
def running_devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """The chain part of a devnet without a second node, ready; a module's tests share it."""
    flags = ("--no-serving", "--no-validator")
    devnet = Devnet(tmp_path_factory.mktemp("devnet"), free_port_offset(), flags)
    devnet.start()
    try:
        devnet.wait_until_ready()
        yield devnet
    finally:
        if devnet.process is not None and devnet.process.poll() is None:
            devnet.kill()


@pytest.fixture(scope="session")
def send() -> Callable[..., str]:
    """Sends a transfer from a user and returns its hash, once the node has acknowledged it."""

    def send(devnet: Devnet, sender: DevAccount) -> str:
        nonce = int(str(devnet.rpc("eth_getTransactionCount", "0x" + sender.address.hex(), "pending")), 16)
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": DEVNET.l2_chain_id,
                "nonce": nonce,
                "to": USERS[1].address,
                "value": 1,
                "gas": 21_000,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 10**6,
            },
            sender.private_key,
        )
        return str(devnet.rpc("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex()))

    return send


@pytest.fixture(scope="session")
def new_devnet() -> Callable[[Path, tuple[str, ...]], Devnet]:
    """Makes a devnet that is not started yet, in a folder, with flags of `openledger dev`."""
    return lambda folder, flags: Devnet(folder / "devnet", free_port_offset(), flags)


@pytest.fixture(scope="session")
def release_anything() -> Callable[[Shop, str, dict[str, bytes]], int]:
    """Registers a release whose adapter is any files at all, announced on the DA layer as anybody may; its number."""

    def release(shop: Shop, name: str, files: dict[str, bytes]) -> int:
        folder = encode_folder({path: content_hash(data) for path, data in files.items()})
        objects = [folder]
        for path in sorted(files):
            objects += [content_manifest(files[path]).encode(), *split_chunks(files[path])]
        adapter = keccak256(folder)
        owner = Wallet(USERS[0].private_key)

        async def publish() -> bytes:
            async with open_da_client(shop.devnet.endpoints.da) as da:
                return await da.put(msgspec.msgpack.encode(objects))

        transact(shop.devnet, owner, datanet_registry(), "announceContent", adapter, trio.run(publish))
        return register(shop.devnet, bare_manifest(name, adapter), owner)

    return release
