"""EigenDA: encoding, commitments, certificates, a DA server and a client.

The names here are the package's face. They are loaded when first used, so that the worker process, which lives in
this package, stays small.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openledger.rollup.da.client import (
        BlobNotFound,
        DAClient,
        DAError,
        DAUnavailable,
        InvalidCommitment,
        WrongPayload,
        open_da_client,
    )
    from openledger.rollup.da.memstore_config import MemstoreConfig
    from openledger.rollup.da.server import DAServer, DAServerSettings, Request, Response, open_da_server
    from openledger.rollup.da.worker import BlobWorker, open_blob_worker

_HOMES = {
    "client": (
        "BlobNotFound",
        "DAClient",
        "DAError",
        "DAUnavailable",
        "InvalidCommitment",
        "WrongPayload",
        "open_da_client",
    ),
    "memstore_config": ("MemstoreConfig",),
    "server": ("DAServer", "DAServerSettings", "Request", "Response", "open_da_server"),
    "worker": ("BlobWorker", "open_blob_worker"),
}

__all__ = [
    "BlobNotFound",
    "BlobWorker",
    "DAClient",
    "DAError",
    "DAServer",
    "DAServerSettings",
    "DAUnavailable",
    "InvalidCommitment",
    "MemstoreConfig",
    "Request",
    "Response",
    "WrongPayload",
    "open_blob_worker",
    "open_da_client",
    "open_da_server",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
