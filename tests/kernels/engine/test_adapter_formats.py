"""What PEFT can write, read as PEFT reads it; and files that mean harm, refused before memory is spent."""

import json
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openledger.kernels.engine.adapters import AdapterRefused, inspect_adapter, load_adapter
from openledger.kernels.engine.adapters.settings import parse_settings
from openledger.kernels.engine.adapters.shapes import MODULES, module_path
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.gguf import open_gguf

from ..model.tiny_model import write_tiny_adapter, write_tiny_model


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return open_gguf(write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")).config()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_adapter(tmp_path / "adapter", 4)


def said(**changes: Any) -> bytes:
    return json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **changes}).encode()


PATTERNS: list[dict[str, Any]] = [
    {},
    {"use_rslora": True},
    {"rank_pattern": {"q_proj": 8, "k_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    {"rank_pattern": {r"model\.layers\.1\.mlp\..*": 6, "up_proj": 7}},
    {"rank_pattern": {r"^model.layers.0.self_attn.v_proj": 5}, "alpha_pattern": {r"layers\.(0|2)\.self_attn\.[qk]_proj": 1}},
    {"alpha_pattern": {"proj": 9, "self_attn.o_proj": 5}, "use_rslora": True},
    {"target_modules": ["q_proj", "mlp.up_proj"]},
    {"target_modules": r".*\.self_attn\.(q|v)_proj"},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
    {"target_modules": ["down_proj"], "layers_to_transform": [0], "layers_pattern": ["blocks", "layers"]},
    {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["k_proj"]},
    {"target_modules": "all-linear", "exclude_modules": r".*layers\.0\..*"},
]  # fmt: skip


@pytest.mark.parametrize("changes", PATTERNS, ids=str)
def test_ranks_scales_and_targets_are_those_that_peft_gives(changes: dict[str, Any]) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.layer import LoraLayer
    from transformers import LlamaConfig, LlamaForCausalLM

    options = {"target_modules": list(MODULES), **changes}
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    with torch.device("meta"):
        model = get_peft_model(
            LlamaForCausalLM(LlamaConfig(**sizes, **heads)),
            LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options),
        )
    settings = parse_settings(said(**options))
    theirs = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    ours = {name for layer in range(3) for module in MODULES if settings.adapts(name := module_path(layer, module))}
    assert set(theirs) == ours
    for name, module in theirs.items():
        rank = module.r["default"]
        assert settings.rank_of(name) == rank
        assert settings.scale_of(name, rank) == module.scaling["default"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"trainable_token_indices": [1]}, "token table"),
        ({"target_parameters": ["experts.w"]}, "no linear layers"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "repeats layers"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"lora_bias": True}, "bias to B"),
        ({"bias": "lora_only"}, "bias = none"),
        ({"alora_invocation_tokens": [5]}, "activated LoRA"),
        ({"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "pissa_niter_16"}, "changed the base"),
        ({"init_lora_weights": "olora"}, "changed the base"),
        ({"init_lora_weights": "corda"}, "changed the base"),
        ({"init_lora_weights": "loftq"}, "changed the base"),
        ({"use_bdlora": {"a": 1}}, "not supported"),
        ({"a_setting_of_next_year": 3}, "a_setting_of_next_year"),
        ({"layers_to_transform": "0"}, "no list of numbers"),
        ({"rank_pattern": {"(a|a)*b": 4}}, "may take long"),
        ({"rank_pattern": {"(.*)*x": 4}}, "may take long"),
        ({"alpha_pattern": {".*" * 20 + "x": 4}}, "may take long"),
        ({"alpha_pattern": {"a?" * 60 + "a" * 60: 4}}, "may take long"),
        ({"target_modules": "(?=.*)(.+)+q_proj"}, "may take long"),
        ({"target_modules": "(a|aa)" * 20}, "may take long"),
        ({"rank_pattern": {"x" * 300: 4}}, "too long"),
        ({"rank_pattern": {f"{i}": 4 for i in range(5000)}}, "at most 4,096"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_ask_for_more_than_a_plain_lora_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(AdapterRefused, match=says):
        parse_settings(said(**changes))


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_beginnings_that_leave_the_base_as_it_is_are_served(init: Any) -> None:
    assert parse_settings(said(init_lora_weights=init)).rank == 4


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"[" * 200_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'{"peft_type":"LORA","r":4,"r":8,"lora_alpha":8}', "there twice"),
        (b'{"peft_type":"LORA","r":' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_configurations_made_to_harm_are_refused(raw: bytes, says: str) -> None:
    with pytest.raises(AdapterRefused, match=says):
        parse_settings(raw)


def weights(header: bytes | dict[str, Any], body: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


ENTRY = '{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04" + bytes(60), "header does not fit"),
        (b"\x80\x02cos\nsystem\n", "header does not fit"),
        (weights(b"[" * 100_000), "not a safetensors file"),
        (weights(f'{{"a":{ENTRY},"a":{ENTRY}}}'.encode(), bytes(8)), "there twice"),
        (weights({"a": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]},
                  "b": {"dtype": "F32", "shape": [1, 1], "data_offsets": [2, 6]}}, bytes(6)), "not at a multiple of 4"),
        (weights({"a": {"dtype": "F32", "shape": [2**60, 2**60], "data_offsets": [0, 8]}}, bytes(8)), "does not fill"),
        (weights({"a": {"dtype": "I64", "shape": [1, 1], "data_offsets": [0, 8]}}, bytes(8)), "of type I64"),
        (weights({"../../etc/passwd": json.loads(ENTRY)}, bytes(8)), "not a LoRA matrix"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_weights_made_to_harm_are_refused(config: ModelConfig, folder: Path, content: bytes, says: str) -> None:
    (folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(AdapterRefused, match=says):
        inspect_adapter(folder, config)


def test_ten_gigabytes_are_refused_before_they_are_read(config: ModelConfig, folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    with file.open("r+b") as sparse:
        sparse.truncate(10 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AdapterRefused, match=r"10,737,418,240 bytes, the limit is 536,870,912"):
        load_adapter(folder, config)
    # With a limit that lets it in, the header does not describe so much.
    with pytest.raises(AdapterRefused, match="its header describes"):
        load_adapter(folder, config, max_bytes=1 << 40)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def link_out(folder: Path, file: Path) -> None:
    outside = folder.parent / "outside"
    file.rename(outside)
    file.symlink_to(outside)


def link_up(folder: Path, file: Path) -> None:
    link_out(folder, file)
    file.unlink()
    file.symlink_to("../outside")


def pipe(folder: Path, file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def device(folder: Path, file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def broken(folder: Path, file: Path) -> None:
    file.unlink()
    file.symlink_to("nothing")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize(
    ("trick", "says"),
    [
        (link_out, "link out of the adapter folder"),
        (link_up, "link out of the adapter folder"),
        (pipe, "not a regular file"),
        (device, "link out of the adapter folder"),
        (broken, "has no"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(
    config: ModelConfig, folder: Path, name: str, trick: Callable[[Path, Path], None], says: str
) -> None:
    trick(folder, folder / name)
    with pytest.raises(AdapterRefused, match=says):
        load_adapter(folder, config)


def test_hard_links_and_links_within_the_folder_are_files_like_others(config: ModelConfig, folder: Path) -> None:
    wanted = load_adapter(folder, config)
    file = folder / "adapter_model.safetensors"
    os.link(file, folder / "same")
    file.unlink()
    file.symlink_to("same")
    assert load_adapter(folder, config) == wanted
    file.unlink()
    os.link(folder / "same", file)
    assert load_adapter(folder, config) == wanted


def test_repositories_and_folders_below_are_found(config: ModelConfig, folder: Path, tmp_path: Path) -> None:
    wanted = load_adapter(folder, config)
    repository = tmp_path / "models--owner--name"
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in folder.iterdir():
        (repository / "blobs" / file.name[:12]).write_bytes(file.read_bytes())
        (repository / "snapshots" / ("b" * 40) / file.name).symlink_to(f"../../blobs/{file.name[:12]}")
    with pytest.raises(AdapterRefused, match="has 2 snapshots and no refs/main"):
        load_adapter(repository, config)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("b" * 40)
    assert load_adapter(repository, config) == wanted
    assert load_adapter(repository / "snapshots" / ("b" * 40), config) == wanted
    (repository / "refs" / "main").write_text("../../../elsewhere")
    with pytest.raises(AdapterRefused, match="does not hold a commit"):
        load_adapter(repository, config)
    above = tmp_path / "above" / "checkpoints" / "main"
    above.parent.mkdir(parents=True)
    folder.rename(above)
    assert load_adapter(tmp_path / "above", config) == wanted
    write_tiny_adapter(tmp_path / "above" / "other", 4)
    with pytest.raises(AdapterRefused, match="holds 2 adapters: name one of checkpoints/main, other"):
        load_adapter(tmp_path / "above", config)


def test_a_file_that_changes_between_checking_and_reading_is_checked_as_it_was_read(
    config: ModelConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openledger.kernels.engine.adapters import folder as module

    check = module.inspect_adapter

    def swap(*arguments: Any, **settings: Any) -> Any:
        info = check(*arguments, **settings)
        (folder / "adapter_model.safetensors").write_bytes(weights(b"{}"))
        return info

    monkeypatch.setattr(module, "inspect_adapter", swap)
    with pytest.raises(AdapterRefused, match="holds no LoRA matrices"):
        load_adapter(folder, config)


def test_integers_are_those_of_the_base_models_rule(config: ModelConfig, folder: Path) -> None:
    from openledger.kernels.engine.adapters.pack import quantize_adapter, tensor_values
    from openledger.kernels.model.weights import quantize_matrix

    _, modules, data = load_adapter(folder, config)
    packed = quantize_adapter(modules, data, config)
    for (layer, module), entry in modules.items():
        weights = packed.module(layer, module)
        a, b = quantize_matrix(tensor_values(data, entry.a)), quantize_matrix(tensor_values(data, entry.b))
        assert (weights.a == a.w).all()
        assert weights.a_scales.tobytes() == a.scales.tobytes()
        order = np.arange(len(b.w))
        if module in ("q_proj", "k_proj"):
            order = order.reshape(-1, 2, config.head_size // 2).swapaxes(1, 2).reshape(-1)
        assert (weights.b == b.w[order]).all()
        assert weights.b_scales.tobytes() == b.scales[order].tobytes()
