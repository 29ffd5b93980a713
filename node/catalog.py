"""What this node serves: releases whose adapter and indexes are on its disk, ready to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openledger.evm_ext.proofs.release import ReleaseManifest
from openledger.kernels.engine.messages import Adapter


class UnknownRelease(Exception):
    """No release has that name or number."""


class ReleaseNotReady(Exception):
    """The release exists, but its adapter or an index is not on this node yet; the message says what is missing."""


@dataclass(frozen=True)
class ServedRelease:
    """A release as it is served. Prices are micro-OPEN per 1,000 tokens, as the registry has them now.

    `index_folders` are the indexes of the manifest's Datanets, in its order; `owner` who registered
    it.
    """

    id: int
    manifest: ReleaseManifest
    price_in: int
    price_out: int
    adapter: Adapter | None
    index_folders: tuple[str, ...]
    owner: bytes = b""

    @property
    def model(self) -> str:
        """The name that a call gives as `model`."""
        return self.manifest.name


class Catalog(Protocol):
    """Finds releases. Reads only what is local."""

    def release(self, model: str) -> ServedRelease:
        """The release named `model`, or numbered `release-N`. Raises UnknownRelease, ReleaseNotReady."""

    def any_release(self, identifier: int) -> ServedRelease:
        """A release by its number, also a deprecated one: what it answered can still be checked. Errors as above."""

    def releases(self) -> list[ServedRelease]:
        """Everything that can be served now."""

    def adapter(self, digest: bytes, weight_milli: int = 1000) -> Adapter:
        """An adapter by its hash, as the engine loads it. Raises ReleaseNotReady while it is not on this node."""
