"""`openledger model run`: the same tokens and fingerprints however the work is cut and whoever computes it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Finished, Generate, Sampling
from openledger.kernels.engine.residency import stack_adapter
from openledger.kernels.model.errors import BackendUnavailable
from openledger.kernels.model.generate import Draw, Generated, PromptRefused, generate, request_hash
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.steps import Backend, triton_steps
from openledger.kernels.model.transformer import Lora

from .tiny_model import write_tiny_adapter, write_tiny_model

TEXTS = ["the fox", "ab", "a much longer prompt, of more than one page"]
DRAW = Draw(temperature_milli=800, top_k=50, top_p_ppm=950_000, seed=(7).to_bytes(32, "little"))
MAX_TOKENS = 4
BACKENDS_OF_TRITON: tuple[Literal["interpret", "triton"], ...] = ("interpret", "triton")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and an adapter for it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf")
    write_tiny_adapter(folder / "adapter", 12)
    return folder


def load(folder: Path, backend: Backend) -> Model:
    return load_model(folder / "cache", model_file=folder / "tiny.gguf", threads=1, backend=backend)


def adapter_for(folder: Path, model: Model) -> Lora:
    info = inspect_adapter(folder / "adapter", model.config)
    return stack_adapter(read_adapter(info, model.config), model.config, model.transformer.steps.array)


@pytest.fixture(scope="module")
def host(folder: Path) -> Model:
    return load(folder, "host")


@pytest.fixture(scope="module")
def prompts(host: Model) -> list[list[int]]:
    return [host.tokenizer.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def answers(host: Model, prompts: list[list[int]]) -> list[Generated]:
    return generate(host, prompts, max_tokens=MAX_TOKENS, draw=DRAW)


@pytest.mark.parametrize(("batch", "chunk", "page"), [(1, 1, 64), (2, 5, 16), (64, 512, 1)])
def test_batch_chunk_and_page_do_not_show(
    host: Model, prompts: list[list[int]], answers: list[Generated], batch: int, chunk: int, page: int
) -> None:
    cut = generate(host, prompts, max_tokens=MAX_TOKENS, draw=DRAW, batch=batch, chunk=chunk, page_tokens=page)
    assert cut == answers
    assert len({answer.fingerprint for answer in answers}) == len(prompts)


def test_the_definitions_answer_as_the_host_kernels_do_with_and_without_an_adapter(
    folder: Path, host: Model, prompts: list[list[int]], answers: list[Generated]
) -> None:
    defined = load(folder, "torch")
    assert generate(defined, prompts, max_tokens=MAX_TOKENS, draw=DRAW, batch=2, chunk=9) == answers
    adapted = [
        generate(model, prompts, max_tokens=MAX_TOKENS, draw=DRAW, adapters=(adapter_for(folder, model),))
        for model in (host, defined)
    ]
    assert adapted[0] == adapted[1]
    assert adapted[0] != answers


def test_the_engine_answers_the_same(
    folder: Path, host: Model, prompts: list[list[int]], answers: list[Generated]
) -> None:
    engine = ServingEngine(host, EngineConfig(cache_folder=str(folder), max_context=256, kv_tokens=1024))
    sampling = Sampling(temperature_milli=800, top_k=50, top_p_ppm=950_000)
    for index, prompt in enumerate(prompts):
        request = Generate(
            request_id=str(index), prompt_tokens=prompt, max_tokens=MAX_TOKENS, sampling=sampling, seed=DRAW.seed,
            request_hash=request_hash(prompt, DRAW),
        )  # fmt: skip
        assert engine.submit(request) == []
    found: dict[int, Finished] = {}
    while not engine.idle:
        found |= {int(message.request_id): message for message in engine.step() if isinstance(message, Finished)}
    engine.close()
    for index, answer in enumerate(answers):
        assert tuple(found[index].output_tokens) == answer.tokens
        assert found[index].fingerprint == answer.fingerprint


def test_a_prompt_that_is_empty_or_too_long_is_refused_by_its_number(host: Model) -> None:
    with pytest.raises(PromptRefused, match="prompt 1 is empty"):
        generate(host, [[1], []], max_tokens=1)
    with pytest.raises(PromptRefused, match="prompt 0 has 510 tokens, which with 3 more do not fit the context of 512"):
        generate(host, [[1] * 510], max_tokens=3)


def command(folder: Path, backend: str, texts: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """`openledger model run` as a user runs it."""
    file = folder / "prompts.json"
    file.write_text(json.dumps(texts))
    line = [
        sys.executable, "-P", "-m", "openledger.node.cli.main", "model", "run", "--prompts", str(file), "--seed", "7",
        "--model-file", str(folder / "tiny.gguf"), "--backend", backend, "--threads", "1", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OPENLEDGER_DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=600, env=environment)


def answered(folder: Path, backend: str, *options: str) -> Any:
    done = command(folder, backend, ["the fox", "ab"], "--max-tokens", "2", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.long
def test_the_command_prints_the_same_from_the_triton_interpreter_in_another_cut(folder: Path) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux only")
    with_adapter = ("--adapter", str(folder / "adapter"))
    defined = answered(folder, "torch", *with_adapter)
    assert [len(answer["tokens"]) for answer in defined] == [2, 2]
    assert [len(bytes.fromhex(answer["fingerprint"])) for answer in defined] == [32, 32]
    cut = ("--batch", "1", "--chunk", "3", "--page", "64")
    assert answered(folder, "interpret", *cut, *with_adapter) == defined


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_the_command_prints_the_same_from_a_gpu(folder: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    with_adapter = ("--adapter", str(folder / "adapter"))
    defined = answered(folder, "host", *with_adapter)
    for cut in (("--batch", "1", "--chunk", "3", "--page", "64"), ("--batch", "64", "--chunk", "512")):
        assert answered(folder, "triton", *cut, *with_adapter) == defined


def test_the_command_says_what_is_missing_where_there_is_no_gpu(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is an NVIDIA GPU")
    done = command(folder, "triton", ["a"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "backend triton needs" in done.stderr
    assert done.stdout == ""


def test_a_machine_without_triton_computes_everything_else_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("openledger.kernels.ops.triton"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    for backend in BACKENDS_OF_TRITON:
        with pytest.raises(BackendUnavailable, match=r"needs Triton.*pip install openledger-node\[serve\]"):
            triton_steps(backend)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "holds no prompts"),
        (b"[1, 2]", "must be a JSON list of strings"),
        (b"\xff", "not UTF-8"),
        (b"[", "is none"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused_by_name(tmp_path: Path, contents: bytes, message: str) -> None:
    from openledger.node.cli.model import read_prompts
    from openledger.node.errors import StartupError

    file = tmp_path / "prompts.txt"
    file.write_bytes(contents)
    with pytest.raises(StartupError, match=message):
        read_prompts(file)
    file.write_text("one\n\n two\n")
    assert read_prompts(file) == ["one", " two"]
