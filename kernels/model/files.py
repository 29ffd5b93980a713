"""A model's files by their path: a GGUF file, or a folder in Hugging Face's layout."""

from pathlib import Path

from openledger.kernels.model.errors import ModelMissing
from openledger.kernels.model.gguf import GgufFile, default_model_file, open_gguf
from openledger.kernels.model.huggingface import HuggingFaceFolder


def open_model(path: Path | None = None, cache_folder: Path | None = None) -> GgufFile | HuggingFaceFolder:
    """The files of the default model if `path` is None. With a cache folder, what is slow to parse is kept there. Raises a
    `ModelError`."""
    if path is None:
        path = default_model_file()
    if path.is_dir():
        return HuggingFaceFolder(path)
    if not path.exists():
        raise ModelMissing(f"there is no model file or folder {path}")
    return open_gguf(path, cache_folder)
