"""Adapter folders in Hugging Face layout: `adapter_config.json` and `adapter_model.safetensors`, nothing executable."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from openledger.evm_ext.proofs.content import content_hash
from openledger.kernels.finetune.job import MAX_RANK, InvalidJob
from openledger.kernels.strict_json import parse_json

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_MAX_CONFIG_BYTES: Final = 1 << 20
_MAX_HEADER_BYTES: Final = 16 << 20


def check_adapter(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter folder whose files are what they should be, without loading its tensors.

    Raises `InvalidJob`: missing files, a pickle (which could run code when loaded), a configuration that is not
    LoRA, a header that does not fit the file.
    """
    if not folder.is_dir():
        raise InvalidJob(f"{folder} is not an adapter folder")
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _PICKLES)
    if pickles:
        raise InvalidJob(
            f"{folder} holds {', '.join(pickles)}: pickled weights can run code and are refused, "
            f"save the adapter as {WEIGHTS}"
        )
    config_path, weights = folder / CONFIG, folder / WEIGHTS
    for path in (config_path, weights):
        if not path.is_file():
            raise InvalidJob(f"{folder} lacks {path.name}: it is not a PEFT adapter in safetensors form")
    if config_path.stat().st_size > _MAX_CONFIG_BYTES:
        raise InvalidJob(f"{config_path} is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        config = parse_json(config_path.read_bytes())
    except ValueError as error:
        raise InvalidJob(f"{config_path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InvalidJob(f"{config_path} does not describe a LoRA adapter")
    rank = config.get("r")
    if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise InvalidJob(f"{config_path}: rank {rank!r} is not between 1 and {MAX_RANK}")
    _check_safetensors(weights)
    return config


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise InvalidJob(f"{path} is not a safetensors file")
        try:
            header = parse_json(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InvalidJob(f"{path} is not a safetensors file") from error
    if not ends or max(ends) != size - 8 - length:
        raise InvalidJob(f"{path} is truncated or empty: download or train the adapter again")


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Put a folder in place as a whole: filled beside its place, synced, renamed over what was there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    fill(building)
    for path in (*building.iterdir(), building):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    previous = folder.with_name(folder.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    building.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def file_hashes(folder: Path) -> dict[str, str]:
    """Name to content hash (hex) of the files in a folder."""
    return {p.name: content_hash(p.read_bytes()).hex() for p in sorted(folder.iterdir()) if p.is_file()}
