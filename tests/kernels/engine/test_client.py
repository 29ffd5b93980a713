"""The engine as its own process: streaming, cancelling, dying and coming back."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from openledger.kernels.engine.client import EngineClient, EngineError, EngineUnusable, open_engine
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import (
    Adapter,
    Failed,
    Finished,
    Generate,
    Progress,
    Token,
    Verify,
)
from openledger.kernels.model.load import Model


def config(model_cache: Path, **settings: Any) -> EngineConfig:
    sizes = {"threads": 1, "max_context": 1024, "kv_tokens": 4096, **settings}
    return EngineConfig(cache_folder=str(model_cache), **sizes)


def ask(identifier: str, max_tokens: int = 4, **settings: Any) -> Generate:
    return Generate(
        request_id=identifier, prompt_tokens=[504, 3575, 282], max_tokens=max_tokens, stop_tokens=[], **settings
    )


async def collect(engine: EngineClient, request: Generate) -> list[Any]:
    return [event async for event in engine.generate(request)]


def worker_pid() -> int:
    """The process id of this process's only engine worker."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == os.getpid() and b"openledger.kernels.engine.worker" in command:
                found.append(int(folder.name))
    (pid,) = found
    return pid


def test_the_client_does_not_load_torch() -> None:
    program = "import sys, openledger.kernels.engine.client; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0


async def test_requests_are_streamed_verified_cancelled_and_survive_a_kill(model: Model, model_cache: Path) -> None:
    stages: list[Progress] = []
    async with open_engine(config(model_cache), on_progress=stages.append) as engine:
        ready = await engine.ready()
        assert ready.weights_root == model.transformer.root
        assert ready.linear == model.linear
        assert stages[0].stage == "starting"

        results: dict[str, list[Any]] = {}

        async def run(request: Generate) -> None:
            results[request.request_id] = await collect(engine, request)

        async with trio.open_nursery() as nursery:
            for index in range(3):
                nursery.start_soon(run, ask(f"r{index}", 5, request_hash=bytes([index + 1]) * 32))
        finished = [events[-1] for events in results.values()]
        assert all(isinstance(f, Finished) for f in finished)
        assert len({tuple(f.output_tokens) for f in finished}) == 1
        assert len({f.fingerprint for f in finished}) == 3
        events = results["r0"]
        assert [e.token for e in events if isinstance(e, Token)] == events[-1].output_tokens

        claim = Verify(
            request_id="v", prompt_tokens=[504, 3575, 282], max_tokens=5, stop_tokens=[], stop_reason="length",
            output_tokens=events[-1].output_tokens, fingerprint=results["r1"][-1].fingerprint,
            request_hash=b"\x02" * 32,
        )  # fmt: skip
        assert (await engine.verify(claim)).ok
        with pytest.raises(EngineError, match="no adapter folder") as refused:
            await engine.verify(
                Verify(
                    request_id="w",
                    prompt_tokens=[1],
                    max_tokens=1,
                    output_tokens=[1],
                    stop_reason="length",
                    fingerprint=bytes(32),
                    adapters=[Adapter("/nowhere")],
                )
            )
        assert refused.value.code == "adapter_refused"

        # Leaving early cancels: the engine's memory is free again soon after.
        async for event in engine.generate(ask("left", 900)):
            assert isinstance(event, Token)
            break
        with trio.fail_after(120):
            while engine.load is None or engine.load.running:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert engine.load.kv_tokens_used == 0

        # Killed in the middle: that request fails clearly, the next one is served by a new process.
        first = worker_pid()
        killed: list[Any] = []
        async for event in engine.generate(ask("killed", 900)):
            if not killed:
                os.kill(first, signal.SIGKILL)
            killed.append(event)
        assert isinstance(killed[-1], Failed)
        assert killed[-1].code == "engine_died"
        assert "killed by signal 9" in killed[-1].message
        assert engine.info is None
        (*_, last) = await collect(engine, ask("after", 5, request_hash=b"\x01" * 32))
        assert last == msgspec.structs.replace(results["r0"][-1], request_id="after")
        assert engine.restarts == 1
        second = worker_pid()
    assert second != first
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_a_model_that_is_not_there_is_reported_with_what_to_do(tmp_path: Path) -> None:
    settings = EngineConfig(cache_folder=str(tmp_path), model_file=str(tmp_path / "absent.gguf"), threads=1)
    async with open_engine(settings) as engine:
        with pytest.raises(EngineUnusable, match=r"no model file .*absent\.gguf") as unusable:
            await engine.ready()
        assert unusable.value.code == "model_missing"
        (failed,) = await collect(engine, ask("x"))
        assert isinstance(failed, Failed)
        assert failed.code == "engine_unavailable"
        with pytest.raises(EngineError):
            await engine.verify(
                Verify(
                    request_id="v",
                    prompt_tokens=[1],
                    max_tokens=1,
                    output_tokens=[1],
                    stop_reason="length",
                    fingerprint=bytes(32),
                )
            )


async def test_settings_that_make_no_sense_are_refused_before_a_process_is_started() -> None:
    with pytest.raises(ValueError, match="kv_tokens"):
        async with open_engine(EngineConfig(cache_folder="", kv_tokens=10)):
            raise AssertionError("not reached")
