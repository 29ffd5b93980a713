"""Adapter folders in PEFT's layout: checked from the header before a tensor is read.

Only `adapter_config.json` and `adapter_model.safetensors` are read, both once: what was checked and hashed is what is used.
Pickles (`.bin`, `.pt`, …) can run code when loaded and are refused by name. The digest of an adapter is the folder hash
(`openledger.evm_ext.proofs.content`) of those two files.

The folder may also be a repository of Hugging Face's cache (`refs`, `snapshots`, `blobs`: the snapshot of `main` is taken),
or hold the one adapter in a folder below. A link may lead to another file of the folder or, in such a cache, to a blob.
"""

import io
import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from openledger.evm_ext.proofs.content import content_hash, folder_hash
from openledger.kernels.engine.adapters.errors import AdapterRefused
from openledger.kernels.engine.adapters.settings import CONFIG_FILE, LoraSettings, parse_settings
from openledger.kernels.engine.adapters.shapes import MODULES, module_path, module_shape
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.limits import MAX_RANK
from openledger.kernels.safetensors import BadSafetensors, TensorEntry, header_of

WEIGHTS_FILE: Final = "adapter_model.safetensors"
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_HEADER_BYTES: Final = 4 << 20
MAX_BYTES: Final = 512 << 20
MAX_FOLDERS: Final = 256
"""Folders that are looked through for an adapter."""

_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_NAME: Final = re.compile(
    r"base_model\.model\.model\.layers\.(\d{1,4})\.(self_attn|mlp)\.(\w{1,32})\.lora_([AB])(?:\.default)?\.weight"
)


@dataclass(frozen=True)
class ModuleEntry:
    """One adapted matrix."""

    a: TensorEntry
    b: TensorEntry
    alpha: float


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter whose header has been checked; no tensor has been read. `bytes`: of its weights file."""

    folder: Path
    modules: Mapping[tuple[int, str], ModuleEntry]
    bytes: int
    max_rank: int


def adapter_digest(folder: str | Path) -> bytes:
    """What a release names the adapter by. Raises `AdapterRefused` if a file is missing or too large."""
    return digest_of(*read_files(find_adapter(Path(folder))))


def digest_of(config: bytes, weights: bytes) -> bytes:
    """The digest of an adapter whose files have these contents."""
    return folder_hash({CONFIG_FILE: content_hash(config), WEIGHTS_FILE: content_hash(weights)})


def inspect_adapter(
    folder: str | Path, config: ModelConfig, *, max_bytes: int = MAX_BYTES, max_rank: int = MAX_RANK
) -> AdapterInfo:
    """Check an adapter's files without reading a tensor. Raises `AdapterRefused`."""
    found = find_adapter(Path(folder))
    _refuse_pickles(found)
    with open_file(found, CONFIG_FILE, MAX_CONFIG_BYTES) as file:
        settings = parse_settings(file.read(MAX_CONFIG_BYTES + 1))
    with open_file(found, WEIGHTS_FILE, max_bytes) as file:
        size = os.fstat(file.fileno()).st_size
        modules = _modules(file, size, settings, config, max_rank)
    return AdapterInfo(found, modules, size, max(module.a.shape[0] for module in modules.values()))


def load_adapter(
    folder: str | Path, config: ModelConfig, *, max_bytes: int = MAX_BYTES, max_rank: int = MAX_RANK
) -> tuple[bytes, Mapping[tuple[int, str], ModuleEntry], bytes]:
    """The digest of an adapter, its modules, and the contents of its weights file that both are of.

    The header is checked before the file is read, and again as it was read. Raises `AdapterRefused`.
    """
    info = inspect_adapter(folder, config, max_bytes=max_bytes, max_rank=max_rank)
    said, data = read_files(info.folder, max_bytes)
    modules = _modules(io.BytesIO(data), len(data), parse_settings(said), config, max_rank)
    return digest_of(said, data), modules, data


def read_files(folder: Path, max_bytes: int = MAX_BYTES) -> tuple[bytes, bytes]:
    """The contents of both files. Raises `AdapterRefused`."""
    contents = []
    for name, limit in ((CONFIG_FILE, MAX_CONFIG_BYTES), (WEIGHTS_FILE, max_bytes)):
        with open_file(folder, name, limit) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise AdapterRefused(f"{name} grew beyond {limit:,} bytes while it was read")
        contents.append(data)
    return contents[0], contents[1]


def find_adapter(folder: Path) -> Path:
    """The folder that holds the two files: this one, a repository's snapshot, or the only one below that does.

    Raises `AdapterRefused`.
    """
    if not folder.is_dir():
        raise AdapterRefused(f"there is no adapter folder {folder}")
    if (folder / CONFIG_FILE).exists():
        return folder
    if (folder / "snapshots").is_dir():
        return find_adapter(_snapshot(folder))
    found, looked, waiting = [], 0, [folder]
    while waiting:
        here = waiting.pop()
        looked += 1
        if looked > MAX_FOLDERS:
            raise AdapterRefused(f"{folder} has more than {MAX_FOLDERS} folders: name the one that holds the adapter")
        if (here / CONFIG_FILE).exists():
            found.append(here)
        else:
            waiting += [Path(entry) for entry in os.scandir(here) if entry.is_dir(follow_symlinks=False)]
    if not found:
        raise AdapterRefused(f"the adapter folder {folder} has no {CONFIG_FILE}")
    if len(found) > 1:
        names = ", ".join(sorted(each.relative_to(folder).as_posix() for each in found)[:8])
        raise AdapterRefused(f"{folder} holds {len(found)} adapters: name one of {names}")
    return found[0]


def _snapshot(repository: Path) -> Path:
    """The snapshot of `main`, or the only one there is."""
    main = repository / "refs" / "main"
    if main.is_file():
        commit = main.read_bytes()[:64].decode("ascii", "replace").strip()
        if _COMMIT.fullmatch(commit) is None:
            raise AdapterRefused(f"{main} does not hold a commit: download the repository again")
        return repository / "snapshots" / commit
    snapshots = sorted(path for path in (repository / "snapshots").iterdir() if path.is_dir() and not path.is_symlink())
    if len(snapshots) != 1:
        raise AdapterRefused(f"{repository} has {len(snapshots)} snapshots and no refs/main: name one of them")
    return snapshots[0]


def open_file(folder: Path, name: str, max_bytes: int) -> io.BufferedReader:
    """One of an adapter's files: a regular one, in the folder, of no more bytes. Raises `AdapterRefused`."""
    path = folder / name
    if not path.exists():
        raise AdapterRefused(f"the adapter folder {folder} has no {name}")
    real, root = path.resolve(), folder.resolve()
    if not real.is_relative_to(root) and not real.is_relative_to(_blobs(root)):
        raise AdapterRefused(f"{name} is a link out of the adapter folder: put the file itself there")
    try:
        # Not blocking: a pipe would wait for a writer.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise AdapterRefused(f"{path} cannot be read: {error}") from error
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise AdapterRefused(f"{path} is not a regular file")
    if status.st_size > max_bytes:
        file.close()
        raise AdapterRefused(f"{name} has {status.st_size:,} bytes, the limit is {max_bytes:,}")
    return file


def _refuse_pickles(folder: Path) -> None:
    """Say what is wrong with a folder that has nothing else."""
    if (folder / WEIGHTS_FILE).exists():
        return
    for file in sorted(folder.iterdir()):
        if file.suffix in _PICKLES:
            raise AdapterRefused(
                f"{file.name} is a pickle, which can run code when it is loaded: save the adapter as "
                f"{WEIGHTS_FILE} (peft: save_pretrained(..., safe_serialization=True))"
            )


def _blobs(root: Path) -> Path:
    """Where a snapshot of Hugging Face's cache links to; `root` itself for any other folder."""
    for parent in root.parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            return parent.parent / "blobs"
    return root


def _modules(
    file: BinaryIO, size: int, settings: LoraSettings, config: ModelConfig, max_rank: int
) -> Mapping[tuple[int, str], ModuleEntry]:
    """What the weights file's header says, each matrix checked against the model."""
    try:
        entries = header_of(file, size, WEIGHTS_FILE, MAX_HEADER_BYTES)
    except (BadSafetensors, struct.error) as error:
        raise AdapterRefused(str(error)) from error
    pairs: dict[tuple[int, str], dict[str, TensorEntry]] = {}
    for name, entry in entries.items():
        found = _NAME.fullmatch(name)
        if found is None or found[3] not in MODULES or MODULES[found[3]][0] != found[2]:
            raise AdapterRefused(
                f"tensor {name[:200]!r} is not a LoRA matrix of {', '.join(MODULES)}: train with those target modules only"
            )
        if len(entry.shape) != 2:
            raise AdapterRefused(f"tensor {name!r} has the shape {list(entry.shape)}, not that of a matrix")
        layer = int(found[1])
        if layer >= config.layers:
            raise AdapterRefused(f"tensor {name!r} is for layer {layer}, the model has {config.layers}")
        part = pairs.setdefault((layer, found[3]), {})
        if found[4] in part:
            raise AdapterRefused(f"tensor {name!r} is there twice")
        part[found[4]] = entry
    if not pairs:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no LoRA matrices")
    return {
        (at, module): _module(config, settings, at, module, part, max_rank)
        for (at, module), part in sorted(pairs.items())
    }


def _module(
    config: ModelConfig, settings: LoraSettings, layer: int, module: str, part: Mapping[str, TensorEntry], max_rank: int
) -> ModuleEntry:
    where, name = f"layer {layer} {module}", module_path(layer, module)
    if set(part) != {"A", "B"}:
        raise AdapterRefused(f"{where} has only one of lora_A and lora_B")
    outputs, inputs = module_shape(config, module)
    rank = part["A"].shape[0]
    if part["A"].shape != (rank, inputs) or part["B"].shape != (outputs, rank):
        raise AdapterRefused(
            f"{where} has lora_A {list(part['A'].shape)} and lora_B {list(part['B'].shape)}; this model needs "
            f"[r, {inputs}] and [{outputs}, r]: it was trained on another model"
        )
    if rank > max_rank:
        raise AdapterRefused(f"{where} has rank {rank}, the limit is {max_rank}")
    if not settings.adapts(name):
        raise AdapterRefused(f"{where} has matrices, but {CONFIG_FILE} does not name it among its target modules")
    declared = settings.rank_of(name)
    if declared != rank:
        raise AdapterRefused(f"{where} has rank {rank}, {CONFIG_FILE} says {declared}")
    scale = settings.scale_of(name, rank)
    if not abs(scale) <= float(np.finfo(np.float32).max):
        raise AdapterRefused(f"{where} has the scale {scale}, which is not finite")
    return ModuleEntry(part["A"], part["B"], scale)
