"""One model over two processes: the same fingerprints as in one, and what happens when a rank dies."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.engine.client import EngineClient, EngineUnusable, open_engine
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Adapter, Finished, Generate, Sampling, Verify
from openledger.kernels.engine.residency import pack_adapter
from openledger.kernels.model.generate import Draw, Generated, generate, request_hash
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.parallel.load import adapter_placer
from tests.kernels.model.tiny_model import write_tiny_adapter, write_tiny_model
from tests.kernels.replicas.dying import killed_in_the_middle

RANK = b"openledger.kernels.parallel.rank"
PROMPTS = ["the fox", "ab", "a much longer prompt, of more than one page"]
DRAW = Draw(temperature_milli=800, top_k=50, seed=bytes(range(32)))
MAX_TOKENS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose heads two ranks can share, and an adapter for it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf", kv_heads=2)
    write_tiny_adapter(folder / "adapter", 12, kv_heads=2)
    write_tiny_adapter(folder / "other", 4, seed=9, kv_heads=2)
    return folder


@pytest.fixture(scope="module")
def single(folder: Path) -> Model:
    return load_model(folder / "cache", model_file=folder / "tiny.gguf", threads=1, backend="torch")


def config(folder: Path, **settings: Any) -> EngineConfig:
    sizes = {"threads": 2, "max_context": 256, "kv_tokens": 1024, "backend": "host", **settings}
    return EngineConfig(cache_folder=str(folder / "cache"), model_file=str(folder / "tiny.gguf"), **sizes)


def expected(
    single: Model, folder: Path, prompts: list[list[int]], adapted: bool, name: str = "adapter"
) -> list[Generated]:
    info = inspect_adapter(folder / name, single.config)
    adapters = (
        (adapter_placer(single)(pack_adapter(read_adapter(info, single.config), single.config)),) if adapted else ()
    )
    return generate(single, prompts, max_tokens=MAX_TOKENS, draw=DRAW, adapters=adapters)


def ask(identifier: str, prompt: list[int], *adapters: Adapter) -> Generate:
    return Generate(
        request_id=identifier, prompt_tokens=prompt, max_tokens=MAX_TOKENS, seed=DRAW.seed, adapters=list(adapters),
        sampling=Sampling(temperature_milli=DRAW.temperature_milli, top_k=DRAW.top_k),
        request_hash=request_hash(prompt, DRAW),
    )  # fmt: skip


async def answer(engine: EngineClient, request: Generate) -> Any:
    return [event async for event in engine.generate(request)][-1]


def ranks_below(parent: int) -> list[int]:
    """The process ids of ranks that this process's children started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and RANK in (entry / "cmdline").read_bytes():
                ppid = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                above = int(Path(f"/proc/{ppid}/stat").read_text().rpartition(")")[2].split()[1])
                if above == parent:
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


async def gone(pid: int) -> None:
    while await trio.Path(f"/proc/{pid}").exists():  # noqa: ASYNC110  there is nothing to wait for but this
        await trio.sleep(0.05)


@pytest.mark.slow
async def test_two_ranks_give_the_fingerprints_of_one_and_end_together(folder: Path, single: Model) -> None:
    prompts = [single.tokenizer.encode(text) for text in PROMPTS]
    adapter = Adapter(str(folder / "adapter"))
    plain, adapted = (expected(single, folder, prompts, with_adapter) for with_adapter in (False, True))
    assert {one.fingerprint for one in plain}.isdisjoint(one.fingerprint for one in adapted)
    settings = config(folder, tensor_parallel=2, max_step_tokens=7, page_tokens=4, max_adapters_resident=1)
    with trio.fail_after(240):
        async with open_engine(settings) as engine:
            assert (await engine.ready()).weights_root == single.transformer.root
            results: dict[str, Any] = {}

            async def run(name: str, request: Generate) -> None:
                results[name] = await answer(engine, request)

            async with trio.open_nursery() as nursery:
                for index, prompt in enumerate(prompts):
                    nursery.start_soon(run, f"plain {index}", ask(f"p{index}", prompt))
                    nursery.start_soon(run, f"adapted {index}", ask(f"a{index}", prompt, adapter))
            for kind, wanted in (("plain", plain), ("adapted", adapted)):
                for index, one in enumerate(wanted):
                    assert results[f"{kind} {index}"].fingerprint == one.fingerprint, (kind, index)
                    assert tuple(results[f"{kind} {index}"].output_tokens) == one.tokens

            # One adapter is held: the other ranks let go of it too, and are given it again.
            (other,) = expected(single, folder, prompts[:1], True, "other")
            for at in range(2):
                found = await answer(engine, ask(f"other {at}", prompts[0], Adapter(str(folder / "other"))))
                assert found.fingerprint == other.fingerprint
                found = await answer(engine, ask(f"first {at}", prompts[0], adapter))
                assert found.fingerprint == adapted[0].fingerprint

            # Again, from what the cache kept of it.
            again = await answer(engine, ask("again", prompts[2]))
            assert again.fingerprint == plain[2].fingerprint
            verdict = await engine.verify(
                Verify(
                    request_id="check",
                    prompt_tokens=prompts[2],
                    max_tokens=MAX_TOKENS,
                    seed=DRAW.seed,
                    output_tokens=list(adapted[2].tokens),
                    stop_reason="length",
                    fingerprint=adapted[2].fingerprint,
                    adapters=[adapter],
                    sampling=ask("", prompts[2]).sampling,
                    request_hash=request_hash(prompts[2], DRAW),
                )
            )
            assert verdict.ok, verdict.detail

            # A rank dies in the middle of an answer.
            async def kill_rank() -> None:
                (rank,) = ranks_below(os.getpid())
                os.kill(rank, signal.SIGKILL)

            failed = await killed_in_the_middle(engine, kill_rank)
            assert failed.code == "engine_died"
            after = await answer(engine, ask("after", prompts[1], adapter))
            assert isinstance(after, Finished)
            assert after.fingerprint == adapted[1].fingerprint
            assert engine.restarts >= 1
            (rank,) = ranks_below(os.getpid())
        await gone(rank)


async def test_a_model_that_cannot_be_cut_so_says_what_divides_it(folder: Path) -> None:
    with trio.fail_after(120):
        async with open_engine(config(folder, tensor_parallel=3)) as engine:
            with pytest.raises(EngineUnusable, match="= 3 does not divide the 2 attention heads of tiny: use 2"):
                await engine.ready()
    with pytest.raises(ValueError, match="tensor_parallel must be at least 1"):
        config(folder, tensor_parallel=0).check()


@pytest.mark.slow
def test_the_command_cuts_a_model_too(folder: Path, single: Model) -> None:
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    line = [
        sys.executable, "-P", "-m", "openledger.node.cli.main", "model", "run", "--prompts", str(folder / "prompts.txt"),
        "--model-file", str(folder / "tiny.gguf"), "--adapter", str(folder / "adapter"), "--threads", "1",
        "--max-tokens", str(MAX_TOKENS), "--temperature-milli", "800", "--top-k", "50", "--json",
        "--seed", str(int.from_bytes(DRAW.seed, "little")), "--tensor-parallel", "2", "--backend", "torch", "--chunk", "5",
    ]  # fmt: skip
    environment = {**os.environ, "OPENLEDGER_DATA_DIR": str(folder / "data")}
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    prompts = [single.tokenizer.encode(text) for text in PROMPTS]
    wanted = [one.fingerprint.hex() for one in expected(single, folder, prompts, adapted=True)]
    assert [one["fingerprint"] for one in json.loads(done.stdout)] == wanted
