"""`openledger model`: what a model file is, and what it answers on this machine, to compare with another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from openledger.node.config import load_config
from openledger.node.errors import StartupError, UserError

app = typer.Typer(help="Look at a model, or run it by itself to compare machines bit by bit.", no_args_is_help=True)

MAX_PROMPT_FILE_BYTES = 16 << 20


def read_prompts(file: Path) -> list[str]:
    """The prompts of a file: a JSON list of strings, else one a line, empty lines left out. Raises StartupError."""
    try:
        with file.open("rb") as source:
            data = source.read(MAX_PROMPT_FILE_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise StartupError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StartupError(f"{file} is not UTF-8 text: {error}") from error
    if len(data) > MAX_PROMPT_FILE_BYTES:
        raise StartupError(f"{file} has more than {MAX_PROMPT_FILE_BYTES >> 20} MiB of prompts: split it")
    prompts: object = [line for line in text.splitlines() if line.strip()]
    if text.lstrip().startswith("["):
        try:
            prompts = json.loads(text)
        except ValueError as error:
            raise StartupError(f"{file} begins like a JSON list and is none: {error}") from error
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise StartupError(f"{file} must be a JSON list of strings, none of them empty, or have one prompt a line")
    if not prompts:
        raise StartupError(f"{file} holds no prompts: write one a line, or a JSON list of strings")
    return prompts


def _weight_bits(value: int) -> Literal[8, 4]:
    if value not in (8, 4):
        raise UserError(f"--weight-bits must be 8 or 4, not {value}")
    return 8 if value == 8 else 4


@app.command("info")
def info(
    path: Annotated[
        Path | None,
        typer.Argument(help="GGUF file, or folder in Hugging Face's layout. Default: SmolLM2-135M-Instruct."),
    ] = None,
    weight_bits: Annotated[
        list[int] | None,
        typer.Option(help="Also the weights root in 8 or 4 bits: imports the model; may be given twice."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Show what a model is, what names it in a release and what it takes; or why it cannot be served.

    Example: `openledger model info models/Qwen3-0.6B --weight-bits 8`
    """
    bits = [_weight_bits(value) for value in weight_bits or ()]
    try:
        from openledger.genesis.tables import tables_root
        from openledger.kernels.model.errors import ModelError
        from openledger.kernels.model.files import open_model
        from openledger.kernels.model.memory import cache_bytes_per_token, weight_bytes
        from openledger.kernels.model.tokenizer import ModelTokenizer
        from openledger.kernels.model.weights import load_weights
    except ImportError as error:
        raise StartupError(f"{error}: run `pip install openledger-node[serve]`") from error
    cache = load_config().cache_folder
    try:
        files = open_model(path, cache)
        config, tokenizer = files.config(), ModelTokenizer.of(files)
        tied = "output.weight" not in set(files.names())
        found: dict[str, object] = {
            "name": config.name,
            "family": config.family,
            "layers": config.layers,
            "hidden": config.hidden,
            "feed_forward": config.feed_forward,
            "heads": config.heads,
            "kv_heads": config.kv_heads,
            "head_size": config.head_size,
            "vocabulary": config.vocabulary,
            "context": config.context,
            "positions_served": config.positions,
            "sliding_window": config.window,
            "attention_bias": config.attention_bias,
            "head_norm": config.head_norm,
            "rotary_base": config.rotary_base,
            "rotary_scaling": "none" if config.scaling is None else str(config.scaling),
            "tied_head": tied,
            "tables_root": tables_root(config.tables).hex(),
            "tokenizer_hash": tokenizer.hash.hex(),
            "template_hash": tokenizer.template_hash.hex(),
            "int8_bytes": weight_bytes(config, tied=tied, bits=8),
            "int4_bytes": weight_bytes(config, tied=tied, bits=4),
            "cache_bytes_per_token": cache_bytes_per_token(config),
        }
        for one in sorted(set(bits), reverse=True):
            found[f"weights_root_int{one}"] = load_weights(files, config, cache, bits=one).root.hex()
    except ModelError as error:
        raise StartupError(f"this model cannot be served: {error}") from error
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    console = Console(soft_wrap=True)
    for key, value in found.items():
        large = isinstance(value, int) and key in ("int8_bytes", "int4_bytes")
        shown = f"{int(str(value)) / (1 << 20):,.1f} MiB" if large else str(value)
        console.print(f"{key.removesuffix('_bytes').replace('_', ' '):24}{shown}", markup=False, highlight=False)


@app.command("run")
def run(
    prompts: Annotated[Path, typer.Option(help="Text file, one prompt a line, or a JSON list of strings.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling; any number below 2^256.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Prompts that run at once.")] = 8,
    chunk: Annotated[int, typer.Option(min=1, max=8192, help="Tokens of a prompt that run in one step.")] = 128,
    page: Annotated[int, typer.Option(min=1, max=1024, help="Tokens in a page of the key/value cache.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Tokens of an answer, at most.")] = 32,
    backend: Annotated[
        Literal["host", "torch", "interpret", "triton"],
        typer.Option(
            help="host: kernels compiled for this CPU, as the engine runs; torch: the definitions; interpret: the Triton "
            "kernels in Triton's interpreter, slow; triton: the same on an NVIDIA GPU."
        ),
    ] = "host",
    temperature_milli: Annotated[
        int, typer.Option(min=0, max=100_000, help="Temperature in thousandths; 0 takes the likeliest token.")
    ] = 1000,
    top_k: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Draw among the first so many tokens; 0: all.")] = 0,
    top_p_ppm: Annotated[int, typer.Option(min=1, max=1_000_000, help="Top-p in millionths.")] = 1_000_000,
    min_p_ppm: Annotated[int, typer.Option(min=0, max=1_000_000, help="Min-p in millionths.")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Put each prompt into the model's chat template.")] = False,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="Folder of a LoRA adapter in PEFT's layout; may be given several times.")
    ] = None,
    model_file: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "--model-file",
            help="GGUF file, or folder in Hugging Face's layout. Default: SmolLM2-135M-Instruct.",
        ),
    ] = None,
    weight_bits: Annotated[
        int, typer.Option(help="Bits of the layers' weights: 8, or 4 for half the memory and another weights root.")
    ] = 8,
    tensor_parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Processes (on GPUs: one each) that the model is cut over.")
    ] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU. Default: all.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON list with tokens, fingerprint and text of each prompt.")
    ] = False,
) -> None:
    """Answer prompts and print tokens and fingerprints: two machines that agree print the same.

    Batch, chunk, page, threads, tensor_parallel and backend change no bit. A fingerprint chains a hash of every logit of every token.
    Example: `openledger model run --prompts prompts.txt --seed 7 --backend torch --json`
    """
    texts = read_prompts(prompts)
    if seed >= 2**256:
        raise UserError("--seed must be below 2^256")
    bits = _weight_bits(weight_bits)
    try:
        from openledger.kernels.engine.adapters import AdapterRefused, inspect_adapter, read_adapter
        from openledger.kernels.engine.residency import pack_adapter
        from openledger.kernels.model.errors import ModelError
        from openledger.kernels.model.generate import Draw, NumericFault, PromptRefused, generate
        from openledger.kernels.model.tokenizer import Message
        from openledger.kernels.parallel.load import adapter_placer, close_ranks, load_parallel
    except ImportError as error:
        raise StartupError(f"{error}: run `pip install openledger-node[serve]`") from error
    try:
        model = load_parallel(
            load_config().cache_folder, tensor_parallel, model_file=model_file, weight_bits=bits, threads=threads,
            backend=backend,
        )  # fmt: skip
        place, loaded = adapter_placer(model), []
        for folder in adapter or ():
            info = inspect_adapter(folder, model.config)
            loaded.append(place(pack_adapter(read_adapter(info, model.config), model.config)))
        encoded = [
            model.tokenizer.chat_prompt([Message("user", text)]) if chat else model.tokenizer.prompt(text)
            for text in texts
        ]
        draw = Draw(temperature_milli, top_k, top_p_ppm, min_p_ppm, seed.to_bytes(32, "little"))
        answers = generate(
            model, encoded, max_tokens=max_tokens, draw=draw, batch=batch, chunk=chunk, page_tokens=page,
            adapters=tuple(loaded),
        )  # fmt: skip
        close_ranks(model)
    except ModelError as error:
        raise StartupError(str(error)) from error
    except (AdapterRefused, PromptRefused, NumericFault) as error:
        raise UserError(str(error)) from error
    if as_json:
        found = [
            {
                "tokens": list(answer.tokens),
                "fingerprint": answer.fingerprint.hex(),
                "text": answer.text,
                "stop_reason": answer.stop_reason,
            }
            for answer in answers
        ]
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    console = Console(soft_wrap=True)
    for text, answer in zip(texts, answers):
        console.print(f"[bold]{answer.fingerprint.hex()}[/bold]", highlight=False)
        console.print(f"{text} → {answer.text}\n", markup=False, highlight=False)
