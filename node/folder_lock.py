"""One process a data folder: a lock that the kernel gives back however the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openledger.node.errors import StartupError


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the folder while the scope is open, creating it if need be.

    Raises StartupError when another process holds it or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(
            f"the data folder {folder} cannot be written ({error.strerror}): choose another --data-dir"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartupError(
                f"another process runs on the data folder {folder}: stop it, or choose another --data-dir"
            ) from error
        yield
    finally:
        os.close(descriptor)
