"""Each family beside transformers: the same logits but for quantisation, from a folder and from a GGUF of the same weights."""

import json
import math
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Generate, Sampling
from openledger.kernels.engine.residency import stack_adapter
from openledger.kernels.model.errors import DamagedModel, ModelError, ModelMissing, UnsupportedModel
from openledger.kernels.model.files import open_model
from openledger.kernels.model.generate import Draw, generate, request_hash
from openledger.kernels.model.huggingface import HuggingFaceFolder, config_from_json
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.memory import weight_bytes
from openledger.kernels.model.rotary_table import Llama3Scaling, frequencies, rotary_table, scaled
from openledger.kernels.model.tokenizer import Message
from openledger.kernels.model.transformer import Lora
from openledger.kernels.model.weights import import_weights, load_weights

from .conftest import TARGETS, Runner
from .tiny_families import FAMILIES, LLAMA3, SIZES, random_model, write_folder, write_gguf

TOKENS = np.random.default_rng(5).integers(0, 256, 40).tolist()


def logits_of(model: Model, tokens: list[int], adapters: tuple[Lora, ...] = ()) -> torch.Tensor:
    runner = Runner(model.transformer, 16, 1, len(tokens))
    runner.step([(0, tokens, adapters)])
    return torch.from_numpy(np.concatenate(runner.logits[0]))


def divergence(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    p, q = torch.log_softmax(theirs.double(), -1), torch.log_softmax(ours.double(), -1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def load(path: Path, cache: Path, **options: Any) -> Model:
    return load_model(cache, model_file=path, threads=1, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Each family: transformers' model and its folder, one of them in shards."""
    folder = tmp_path_factory.mktemp("families")
    found = {}
    for name in FAMILIES:
        model = random_model(name)
        shards = {"max_shard_size": "100KB"} if name == "mistral" else {}
        found[name] = (model, write_folder(folder / name, model, **shards))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_transformers_but_for_quantisation_and_gguf_gives_the_same_root(
    made: dict[str, tuple[Any, Path]], tmp_path: Path, name: str
) -> None:
    peer, folder = made[name]
    with torch.inference_mode():
        theirs = peer(torch.tensor([TOKENS])).logits[0]
    model = load(folder, tmp_path)
    ours = logits_of(model, TOKENS)
    assert theirs.std() > 0.5
    assert divergence(ours, theirs) < 0.005
    assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() >= 0.8
    if name == "llama-3.1":
        return
    same = load(write_gguf(tmp_path / "same.gguf", peer), tmp_path)
    assert same.transformer.root == model.transformer.root
    assert torch.equal(logits_of(same, TOKENS), ours)


def test_a_gguf_of_llama_3_1_brings_its_own_divisors(made: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    peer, folder = made["llama-3.1"]
    plain = frequencies(500000.0, 16)
    factors = [a / b for a, b in zip(plain, scaled(plain, Llama3Scaling(8.0, 1.0, 4.0, 32)))]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(8.0)
    ours = load(write_gguf(tmp_path / "same.gguf", peer, factors), tmp_path)
    bare = load(write_gguf(tmp_path / "bare.gguf", peer), tmp_path)
    reference = logits_of(load(folder, tmp_path), TOKENS)
    assert divergence(logits_of(ours, TOKENS), reference) < 1e-6
    assert divergence(logits_of(bare, TOKENS), reference) > 1e-3


def test_bf16_f16_and_shards_are_read_as_they_are(tmp_path: Path) -> None:
    for kind in (torch.bfloat16, torch.float16):
        peer = random_model("qwen2", seed=3).to(kind)
        folder = write_folder(tmp_path / str(kind), peer, kind, max_shard_size="60KB")
        assert (folder / "model.safetensors.index.json").is_file()
        source = HuggingFaceFolder(folder)
        values = source.tensor("blk.1.attn_k.weight")
        assert values.dtype == np.float32
        assert np.array_equal(values, peer.state_dict()["model.layers.1.self_attn.k_proj.weight"].float().numpy())


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_the_definitions_give_the_bits_of_the_host_kernels_however_the_work_is_cut(
    made: dict[str, tuple[Any, Path]], tmp_path: Path, name: str
) -> None:
    host, defined = load(made[name][1], tmp_path), load(made[name][1], tmp_path, backend="torch")
    prompts = [TOKENS[:9], TOKENS[9:30]]
    draw = Draw(temperature_milli=900, seed=bytes(range(32)))
    answers = generate(host, prompts, max_tokens=5, draw=draw)
    assert generate(defined, prompts, max_tokens=5, draw=draw, batch=1, chunk=4, page_tokens=64) == answers
    assert generate(host, prompts, max_tokens=5, draw=draw, chunk=1, page_tokens=1) == answers


@pytest.mark.parametrize("name", ["llama-3.1", "qwen3"])
def test_an_adapter_of_peft_gives_pefts_logits(tmp_path: Path, name: str) -> None:
    from peft import LoraConfig, get_peft_model

    base = random_model(name)
    model = load(write_folder(tmp_path / "base", base), tmp_path)
    torch.manual_seed(2)
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM")).eval()
    with torch.no_grad():
        for parameter, values in adapted.named_parameters():
            if "lora_" in parameter:
                values.normal_(0.0, 0.1)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    with torch.inference_mode():
        theirs = adapted(torch.tensor([TOKENS])).logits[0]
    info = inspect_adapter(tmp_path / "adapter", model.config)
    lora = stack_adapter(read_adapter(info, model.config), model.config, model.transformer.steps.array)
    moved = divergence(logits_of(model, TOKENS), theirs)
    assert divergence(logits_of(model, TOKENS, (lora,)), theirs) < min(0.01, moved / 5)


def test_a_window_limits_the_context_to_where_it_changes_nothing(
    made: dict[str, tuple[Any, Path]], tmp_path: Path
) -> None:
    model = load(made["mistral"][1], tmp_path)
    assert model.config.context == 128
    assert model.transformer.max_context == model.config.window == 48
    with torch.inference_mode():
        theirs = made["mistral"][0](torch.tensor([TOKENS + TOKENS[:8]])).logits[0]
    assert divergence(logits_of(model, TOKENS + TOKENS[:8]), theirs) < 0.005


def test_a_table_made_at_import_is_transformers_but_for_its_rounding() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    for parameters in ({"rope_type": "default", "rope_theta": 10000.0}, LLAMA3):
        config = LlamaConfig(**SIZES | {"hidden_size": 512}, rope_parameters=parameters)
        c, s = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(100)[None])
        scaling = Llama3Scaling(8.0, 1.0, 4.0, 32) if parameters is LLAMA3 else None
        table = rotary_table(parameters["rope_theta"], 128, 100, scaling)
        assert np.abs(table[..., 0] - c[0, :, :64].numpy()).max() < 2e-5
        assert np.abs(table[..., 1] - s[0, :, :64].numpy()).max() < 2e-5


SETTINGS = {**SIZES, "architectures": ["LlamaForCausalLM"], "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["MixtralForCausalLM"]}, "Mixtral"),
        ({"architectures": None}, "none"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"vision_config": {"a": 1}}, "vision"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised checkpoint"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "feed-forward"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"rope_scaling": {**LLAMA3, "factor": None}}, "wrongly"),
        ({"alibi": True}, "ALiBi"),
        ({"partial_rotary_factor": 0.5}, "part of the head"),
        ({"num_attention_heads": 7}, "7 heads"),
        ({"num_key_value_heads": 3}, "do not make a model"),
        ({"hidden_size": 1 << 20, "head_dim": 64}, "too wide"),
        ({"hidden_size": "many"}, "wrongly"),
        ({"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ({"rope_theta": math.inf}, "base inf"),
        ({"rms_norm_eps": math.nan}, "epsilon nan"),
        ({"rms_norm_eps": None}, "wrongly"),
        ({"vocab_size": ...}, "does not say vocab_size"),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(change: dict[str, Any], says: str) -> None:
    assert config_from_json(SETTINGS, "x").family == "llama"
    settings = {key: value for key, value in {**SETTINGS, **change}.items() if value is not ...}
    with pytest.raises(UnsupportedModel, match=says):
        config_from_json(settings, "x")


@pytest.mark.parametrize(
    "scaling",
    [
        Llama3Scaling(math.inf, 1.0, 4.0, 8),
        Llama3Scaling(8.0, 4.0, 1.0, 8),
        Llama3Scaling(8.0, 1.0, math.nan, 8),
        (1.0,),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused(scaling: Any) -> None:
    with pytest.raises(ValueError, match=r"makes no sense|do not fit"):
        rotary_table(10000.0, 8, 4, scaling)


def _spoil_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[:8] = struct.pack("<Q", 1 << 60)
    file.write_bytes(data)


def _spoil_number(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-4:] = struct.pack("<f", float("nan"))
    file.write_bytes(data)


def _as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _index(target: str) -> Any:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"model.norm.weight": target}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (_spoil_header, DamagedModel, "header does not fit"),
        (_spoil_number, DamagedModel, "not finite"),
        (_as_pickle, UnsupportedModel, "pickle"),
        (_index("../model.safetensors"), DamagedModel, "no file of the folder"),
        (_index("absent.safetensors"), ModelMissing, "absent"),
        (lambda folder: (folder / "tokenizer.json").unlink(), ModelMissing, "tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), DamagedModel, "not a tokenizer"),
        (lambda folder: (folder / "config.json").write_text("[1]"), DamagedModel, "not a JSON object"),
        (lambda folder: (folder / "config.json").unlink(), ModelMissing, "config.json"),
    ],
)
def test_a_damaged_folder_is_refused_by_what_is_wrong_with_it(
    tmp_path: Path, spoil: Any, error: type[ModelError], says: str
) -> None:
    folder = write_folder(tmp_path / "model", random_model("llama-2"))
    spoil(folder)
    with pytest.raises(error, match=says):
        load(folder, tmp_path / "cache")


def test_a_tensor_that_the_family_has_not_is_refused_by_name(tmp_path: Path) -> None:
    peer = random_model("qwen3", attention_bias=True)
    folder = write_folder(tmp_path / "model", peer)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "attention_bias": False}))
    with pytest.raises(UnsupportedModel, match=r"blk\.0\.attn_k\.bias"):
        load(folder, tmp_path)


def test_a_folders_chat_begins_with_its_own_tokens_and_its_text_does_too(made: dict[str, tuple[Any, Path]]) -> None:
    from openledger.kernels.model.tokenizer import ModelTokenizer

    tokenizer = ModelTokenizer.of(open_model(made["llama-2"][1]))
    prompt = tokenizer.chat_prompt([Message("user", "hi <|end|>")])
    assert prompt[0] == 257
    assert 256 not in prompt
    assert tokenizer.decode(prompt) == "user: hi <|end|>\n"
    assert tokenizer.end_tokens == (256,)


def test_weights_of_four_bits_have_a_root_of_their_own_half_the_size_and_the_same_bits_everywhere(
    made: dict[str, tuple[Any, Path]], tmp_path: Path
) -> None:
    peer, folder = made["qwen3"]
    whole, half = load(folder, tmp_path), load(folder, tmp_path, weight_bits=4)
    assert half.transformer.root != whole.transformer.root
    assert half.config == whole.config
    ours = logits_of(half, TOKENS)
    assert torch.equal(logits_of(load(folder, tmp_path, weight_bits=4, backend="torch"), TOKENS), ours)
    assert torch.equal(logits_of(load(folder, tmp_path, weight_bits=4, linear="pieces"), TOKENS), ours)
    one_by_one = Runner(half.transformer, 16, 1, len(TOKENS))
    for token in TOKENS:
        one_by_one.step([(0, [token], ())])
    assert torch.equal(torch.from_numpy(np.concatenate(one_by_one.logits[0])), ours)
    with torch.inference_mode():
        theirs = peer(torch.tensor([TOKENS])).logits[0]
    assert divergence(logits_of(whole, TOKENS), theirs) < divergence(ours, theirs) < 0.5
    files = open_model(folder)
    config = files.config()
    made_again = import_weights(files, config, bits=4)
    kept = load_weights(files, config, tmp_path, bits=4)
    assert made_again.root == kept.root == half.transformer.root
    for bits, weights in ((8, load_weights(files, config, tmp_path)), (4, kept)):
        parts = [p for m in weights.matrices.values() for p in (m.w, m.scales, m.groups) if p is not None]
        assert sum(p.nbytes for p in (*parts, *weights.vectors.values())) == weight_bytes(config, tied=False, bits=bits)
    large = replace(config, layers=32, hidden=4096, feed_forward=14336, heads=32, kv_heads=8, head_size=128)
    sizes = [weight_bytes(large, tied=False, bits=bits) for bits in (8, 4)]
    assert sizes[1] < 0.56 * sizes[0]


def test_the_command_says_what_a_model_is_and_why_it_is_refused(
    made: dict[str, tuple[Any, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from openledger.node.cli.model import app
    from openledger.node.errors import StartupError

    monkeypatch.setenv("OPENLEDGER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = made["qwen2"][1]
    shown = json.loads(CliRunner().invoke(app, ["info", str(folder), "--weight-bits", "4", "--json"]).stdout)
    assert shown["family"] == "qwen2"
    assert shown["attention_bias"] is True
    assert shown["weights_root_int4"] == load(folder, tmp_path, weight_bits=4).transformer.root.hex()
    assert shown["int4_bytes"] < shown["int8_bytes"]
    plain = CliRunner().invoke(app, ["info", str(folder)]).stdout
    assert shown["tokenizer_hash"] in plain
    other = write_folder(tmp_path / "other", random_model("llama-2", hidden_act="gelu"))
    refused = CliRunner().invoke(app, ["info", str(other)])
    assert isinstance(refused.exception, StartupError)
    assert "cannot be served: the model's activation is 'gelu'" in str(refused.exception)


def test_the_engine_serves_a_family_in_four_bits_as_generate_answers(
    made: dict[str, tuple[Any, Path]], tmp_path: Path
) -> None:
    model = load(made["qwen3"][1], tmp_path, weight_bits=4)
    draw = Draw(temperature_milli=900, seed=bytes(range(32)))
    (answer,) = generate(model, [TOKENS[:9]], max_tokens=4, draw=draw)
    engine = ServingEngine(model, EngineConfig(cache_folder=str(tmp_path), max_context=128, kv_tokens=512))
    engine.warm_up()
    request = Generate(
        request_id="1", prompt_tokens=TOKENS[:9], max_tokens=4, sampling=Sampling(temperature_milli=900), seed=draw.seed,
        request_hash=request_hash(TOKENS[:9], draw),
    )  # fmt: skip
    assert engine.submit(request) == []
    messages: list[Any] = []
    while not engine.idle:
        messages += engine.step()
    engine.close()
    assert tuple(messages[-1].output_tokens) == answer.tokens
    assert messages[-1].fingerprint == answer.fingerprint


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "bits"), [("qwen2", "8"), ("qwen3", "4")])
@pytest.mark.long
def test_the_command_runs_a_folder_and_the_triton_interpreter_prints_the_same(
    made: dict[str, tuple[Any, Path]], tmp_path: Path, name: str, bits: str
) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux only")
    (tmp_path / "prompts.txt").write_text("the fox\n")
    printed = []
    for backend, cut in (("host", "128"), ("interpret", "3")):
        line = [
            sys.executable, "-P", "-m", "openledger.node.cli.main", "model", "run", "--prompts", str(tmp_path / "prompts.txt"),
            "--model", str(made[name][1]), "--weight-bits", bits, "--backend", backend, "--chunk", cut, "--threads", "1",
            "--max-tokens", "2", "--json",
        ]  # fmt: skip
        environment = {**os.environ, "OPENLEDGER_DATA_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
        environment.pop("TRITON_INTERPRET", None)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1]
    assert len(printed[0][0]["tokens"]) == 2
