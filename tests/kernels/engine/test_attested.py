"""The engine in the mode `bf16`: its answers are checked by their activations."""

from pathlib import Path

import msgspec
import pytest

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Finished, Generate, Verified, Verify
from openledger.kernels.model.load import load_bf16
from openledger.kernels.ops.activations import COMMITMENT_BYTES
from tests.kernels.model.tiny_model import write_tiny_adapter, write_tiny_model

TOKENS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf")
    write_tiny_adapter(folder / "adapter", 12)
    return folder


def engine_for(folder: Path, **settings: object) -> ServingEngine:
    cache = folder / "cache"
    model = load_bf16(cache, model_file=folder / "tiny.gguf", threads=1, backend="torch")
    common = {"cache_folder": str(cache), "max_context": 256, "kv_tokens": 512, "kept_tokens": 0, "numerics": "bf16"}
    return ServingEngine(model, EngineConfig(**common, **settings))


def finish(engine: ServingEngine, request: Generate | Verify) -> Finished | Verified:
    assert engine.submit(request) == []
    while True:
        for message in engine.step():
            if isinstance(message, Finished | Verified):
                return message


def check(engine: ServingEngine, answer: Finished, **changed: object) -> Verified:
    request = Verify(
        request_id="check", prompt_tokens=[1, 2, 3], max_tokens=TOKENS, output_tokens=answer.output_tokens,
        stop_reason="length", fingerprint=answer.fingerprint, stop_tokens=[],
        adapters=[Adapter(str(engine.config.cache_folder).removesuffix("cache") + "adapter")],
    )  # fmt: skip
    verdict = finish(engine, msgspec.structs.replace(request, **changed))
    assert isinstance(verdict, Verified)
    return verdict


def test_an_answer_is_attested_and_a_missing_adapter_or_other_tokens_show(folder: Path) -> None:
    serving = engine_for(folder, decode_graphs="always")
    request = Generate(
        request_id="one", prompt_tokens=[1, 2, 3], max_tokens=TOKENS, stop_tokens=[],
        adapters=[Adapter(str(folder / "adapter"))],
    )  # fmt: skip
    answer = finish(serving, request)
    assert isinstance(answer, Finished)
    assert len(answer.output_tokens) == TOKENS
    assert len(answer.fingerprint) == 2 * COMMITMENT_BYTES
    serving.close()
    verifying = engine_for(folder, page_tokens=64, max_step_tokens=9)
    honest = check(verifying, answer)
    assert honest.ok
    assert honest.detail == "40 tokens re-run, activations agree"
    missing = check(verifying, answer, adapters=[])
    assert not missing.ok
    assert "of 128 exponents differ" in missing.detail
    other = [*answer.output_tokens[:3], (answer.output_tokens[3] + 1) % 250, *answer.output_tokens[4:]]
    assert not check(verifying, answer, output_tokens=other).ok
    assert "516 bytes of activation fingerprint, not 32" in check(verifying, answer, fingerprint=b"x" * 32).detail
    verifying.close()


def test_settings_that_do_not_go_with_it_are_refused() -> None:
    for wrong in ({"weight_bits": 4}, {"tensor_parallel": 2}):
        with pytest.raises(ValueError, match="numerics = bf16 goes with"):
            EngineConfig(cache_folder="x", numerics="bf16", **wrong).check()
