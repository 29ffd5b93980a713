"""Which build of the node this is: its version, and the commit that it was made from as far as anybody can tell."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

PACKAGE = "openledger-node"
COMMIT_BYTES = 4
"""What the Engine API's ClientVersionV1 wants of a commit."""

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


class _VersionControl(msgspec.Struct):
    commit_id: str = ""


class _Folder(msgspec.Struct):
    editable: bool = False


class _Origin(msgspec.Struct):
    """What pip notes of where a package came from (PEP 610)."""

    url: str = ""
    vcs_info: _VersionControl = msgspec.field(default_factory=_VersionControl)
    dir_info: _Folder = msgspec.field(default_factory=_Folder)


@lru_cache(maxsize=1)
def commit() -> bytes:
    """The first four bytes of the commit: as pip noted it, or of the working tree where the package is used from one.

    A package built from files alone knows no commit: then they are those of the SHA-256 of its version's name, so that
    equal builds say the same and different versions something else."""
    try:
        installed = distribution(PACKAGE)
    except PackageNotFoundError:
        return commit_of(None, "unknown")
    return commit_of(installed.read_text("direct_url.json"), installed.version)


def commit_of(origin: str | None, version: str) -> bytes:
    """`commit` for a package with this direct_url.json (None: there is none) and version."""
    found = None if origin is None else _noted_commit(origin)
    whole = hashlib.sha256(version.encode()).digest() if found is None else bytes.fromhex(found)
    return whole[:COMMIT_BYTES]


def _noted_commit(origin: str) -> str | None:
    try:
        noted = msgspec.json.decode(origin, type=_Origin)
    except msgspec.DecodeError:
        return None
    found = noted.vcs_info.commit_id
    if noted.dir_info.editable and noted.url.startswith("file://"):
        found = _checked_out(Path(unquote(urlsplit(noted.url).path)) / ".git") or ""
    return found if _COMMIT.match(found) else None


def _checked_out(git: Path) -> str | None:
    """The commit at HEAD of a git folder, read without git."""
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split(" ") for line in (git / "packed-refs").read_text().splitlines())
        return next((parts[0] for parts in packed if parts[1:] == [name]), None)
    except (OSError, UnicodeDecodeError):
        return None
