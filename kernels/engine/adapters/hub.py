"""Adapters from a hub that speaks Hugging Face's API: `hf://owner/name[@revision][/folder]`.

Two files of a revision are fetched, by name, into a folder of the shape that Hugging Face's own tools keep; what is there
already is not fetched again. Sizes are asked for first, and a file that is too large is not fetched. The hub is the one that
`HF_ENDPOINT` names, else huggingface.co; a token is taken from `HF_TOKEN`.
"""

import os
import re
from pathlib import Path
from typing import Final

from openledger.kernels.engine.adapters.errors import AdapterRefused
from openledger.kernels.engine.adapters.folder import MAX_CONFIG_BYTES, WEIGHTS_FILE
from openledger.kernels.engine.adapters.settings import CONFIG_FILE

HUB_PREFIX: Final = "hf://"
TIMEOUT_S: Final = 20.0
_PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_PLACE: Final = re.compile(
    rf"hf://(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_PART}(?:/{_PART}){{0,3}}?))?(?::(?P<folder>{_PART}(?:/{_PART}){{0,3}}))?"
)


def fetch_adapter(place: str, folder: str, max_bytes: int) -> Path:
    """The folder on this disk that holds the adapter. Blocks for the network.

    Raises `AdapterRefused`: no such place or file, too large, no folder to keep it in, or the hub cannot be reached and the
    adapter is not here yet.
    """
    found = _PLACE.fullmatch(place)
    if found is None:
        raise AdapterRefused(f"{place!r} names no adapter on a hub: write hf://owner/name[@revision][:folder]")
    if not folder:
        raise AdapterRefused("no folder for adapters from a hub is set (adapter_hub_folder), so none are fetched")
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise AdapterRefused(f"{error}: run `pip install openledger-node[serve]`") from error
    repository, revision, below = found["repository"], found["revision"] or "main", found["folder"]
    endpoint = os.environ.get("HF_ENDPOINT") or None
    token = os.environ.get("HF_TOKEN") or False
    try:
        for name, limit in ((CONFIG_FILE, MAX_CONFIG_BYTES), (WEIGHTS_FILE, max_bytes)):
            url = hf_hub_url(repository, name, subfolder=below, revision=revision, endpoint=endpoint)
            told = get_hf_file_metadata(url, token=token, timeout=TIMEOUT_S, endpoint=endpoint)
            if told.size is None or told.size > limit:
                size = "an unknown number of" if told.size is None else f"{told.size:,}"
                raise AdapterRefused(f"{name} of {place} has {size} bytes, the limit is {limit:,}")
            # One revision for both files, whatever is pushed meanwhile.
            revision = told.commit_hash or revision
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            path = hf_hub_download(
                repository, name, subfolder=below, revision=revision, cache_dir=folder, endpoint=endpoint, token=token,
                etag_timeout=TIMEOUT_S,
            )  # fmt: skip
    except HfHubHTTPError as error:
        raise AdapterRefused(f"{place} cannot be fetched: {str(error).strip().splitlines()[-1]}") from error
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise AdapterRefused(f"{place} cannot be fetched: {error}") from error
    return Path(path).parent
