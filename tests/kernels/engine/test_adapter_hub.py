"""Adapters from a hub: Hugging Face's own client against a server here that answers as a hub does."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from openledger.kernels.engine.adapters import AdapterRefused, adapter_digest
from openledger.kernels.engine.adapters.hub import fetch_adapter
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Failed, Finished, FromWorker, Generate
from openledger.kernels.model.load import load_model

from ..model.tiny_model import write_tiny_adapter, write_tiny_model

pytest.importorskip("huggingface_hub")
COMMIT = "c" * 40


class Hub:
    """Repositories by name; `asked` are the requests that came, `claimed` sizes that it lies about."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.claimed: dict[str, int] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0].removeprefix("/")
                hub.asked.append(f"{self.command} {path}")
                repository, _, rest = path.partition("/resolve/")
                revision, _, name = rest.partition("/")
                data = hub.files.get(f"{repository}/{name}")
                if data is None or revision not in ("main", "v1", COMMIT):
                    self.send_response(404)
                    missing = (
                        "EntryNotFound" if any(f.startswith(repository + "/") for f in hub.files) else "RepoNotFound"
                    )
                    self.send_header("X-Error-Code", missing)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(hub.claimed.get(name, len(data)) if not body else len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def push(self, repository: str, folder: Path, below: str = "") -> None:
        for file in folder.iterdir():
            self.files[f"{repository}/{below}{file.name}"] = file.read_bytes()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_adapter(tmp_path / "adapter", 4)


def test_two_files_are_fetched_once_and_nothing_else(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "run.py").write_text("print('never fetched')")
    hub.push("owner/whales", folder)
    for place in ("hf://owner/whales", "hf://owner/whales@v1", f"hf://owner/whales@{COMMIT}"):
        found = fetch_adapter(place, str(tmp_path / "hub"), 1 << 20)
        assert adapter_digest(found) == adapter_digest(folder)
        # Hugging Face's own cache: the snapshot's files are links to blobs.
        assert found == tmp_path / "hub" / "models--owner--whales" / "snapshots" / COMMIT
    assert sorted(asked for asked in hub.asked if asked.startswith("GET") and "resolve" in asked) == [
        f"GET owner/whales/resolve/{COMMIT}/adapter_{name}" for name in ("config.json", "model.safetensors")
    ]


def test_an_adapter_in_a_folder_of_a_repository_is_found(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.push("owner/many", folder, "seas/north/")
    found = fetch_adapter("hf://owner/many:seas/north", str(tmp_path / "hub"), 1 << 20)
    assert adapter_digest(found) == adapter_digest(folder)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("hf://owner/absent", "cannot be fetched"),
        ("hf://owner/whales@v9", "cannot be fetched"),
        ("hf://owner/whales:deep", "cannot be fetched"),
        ("hf://owner", "names no adapter"),
        ("hf://owner/../../etc", "names no adapter"),
        ("hf://owner/whales:../up", "names no adapter"),
        ("hf://owner/whales@main/../../x", "names no adapter"),
        ("hf://owner/whales?x=1", "names no adapter"),
    ],
)
def test_what_is_not_there_is_refused_by_name(hub: Hub, folder: Path, tmp_path: Path, place: str, says: str) -> None:
    hub.push("owner/whales", folder)
    with pytest.raises(AdapterRefused, match=says):
        fetch_adapter(place, str(tmp_path / "hub"), 1 << 20)


def test_a_file_that_is_too_large_is_not_fetched(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.push("owner/whales", folder)
    hub.claimed["adapter_model.safetensors"] = 10 << 30
    with pytest.raises(AdapterRefused, match="10,737,418,240 bytes, the limit is 1,048,576"):
        fetch_adapter("hf://owner/whales", str(tmp_path / "hub"), 1 << 20)
    assert not [asked for asked in hub.asked if asked.startswith("GET") and "resolve" in asked]


def test_without_a_folder_to_keep_them_none_are_fetched(hub: Hub) -> None:
    with pytest.raises(AdapterRefused, match="adapter_hub_folder"):
        fetch_adapter("hf://owner/whales", "", 1 << 20)
    assert hub.asked == []


def test_the_engine_answers_with_an_adapter_of_a_hub(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.push("owner/whales", folder)
    model = load_model(tmp_path / "cache", model_file=write_tiny_model(tmp_path / "tiny.gguf"), threads=1)
    config = EngineConfig(
        cache_folder="", max_context=64, kv_tokens=256, adapter_hub_folder=str(tmp_path / "hub"), kept_tokens=0
    )
    engine = ServingEngine(model, config)

    def ask(*adapters: Adapter) -> FromWorker:
        request = Generate(
            request_id="a", prompt_tokens=[72, 73], max_tokens=3, stop_tokens=[], adapters=list(adapters)
        )
        heard = engine.submit(request)
        while not engine.idle:
            heard += engine.step()
        return heard[-1]

    local = ask(Adapter(str(folder)))
    assert isinstance(local, Finished)
    assert ask(Adapter("hf://owner/whales")) == local
    assert ask(Adapter("hf://owner/whales", adapter_digest(folder))) == local
    assert isinstance(ask(Adapter("hf://owner/whales", b"\x01" * 32)), Failed)
    engine.close()
