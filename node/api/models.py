"""GET /v1/models: what a call may name as `model`, in OpenAI's shape with prices beside.

That is the releases this node serves, the adapters its operator loaded, each with the release whose answers it gives, and the
sentence encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from openledger.evm_ext.proofs.receipt import mode_of
from openledger.kernels.engine.messages import Adapter
from openledger.node.api.errors import ApiError, answering
from openledger.node.api.parameters import UsedModel, refuse
from openledger.node.catalog import Catalog, ReleaseNotReady, ServedRelease, UnknownRelease
from openledger.node.http import Request, Response, Router
from openledger.node.loaded_adapters import LoadedAdapter, LoadedAdapters
from openledger.node.records import UsedAdapter

EMBEDDER = "all-MiniLM-L6-v2"
MAX_MEMBERS = 8
MAX_WEIGHT = 8.0


@dataclass(frozen=True)
class Served:
    """What answers to a name. `used` is what the request says of adapters: nothing for a release's own; `adapters` are
    what the engine loads in any case."""

    release: ServedRelease
    used: tuple[UsedAdapter, ...]
    adapters: tuple[Adapter, ...]


class Models:
    """Finds what a call names. Methods block for reads and raise ApiError."""

    def __init__(self, catalog: Catalog, loaded: LoadedAdapters | None = None) -> None:
        self._catalog = catalog
        self._loaded = loaded

    def served(self, model: str, ensemble: Sequence[UsedModel] = ()) -> Served:
        """The release and the adapters behind a name, or behind an ensemble that answers for it.

        An ensemble is paid as `model` alone, so its other members must be its owner's too.
        """
        named = self._named(model)
        if not ensemble:
            return named
        where = "openledger.adapters"
        if len(ensemble) > MAX_MEMBERS:
            raise refuse(where, f"an ensemble has at most {MAX_MEMBERS} members, not {len(ensemble)}")
        used: list[UsedAdapter] = []
        adapters: list[Adapter] = []
        for wanted in ensemble:
            weight = round(wanted.weight * 1000) if abs(wanted.weight) <= MAX_WEIGHT else 0
            if not weight:
                raise refuse(
                    where,
                    f"the weight of {wanted.model!r} is from -{MAX_WEIGHT} to {MAX_WEIGHT} and not 0: 1.0 is usual",
                )
            member = self._named(wanted.model)
            if not member.adapters:
                raise refuse(where, f"{wanted.model!r} is a model without an adapter, so there is nothing to add")
            if member.release.owner != named.release.owner:
                raise refuse(
                    where, f"{wanted.model!r} is another owner's, who would not be paid by {model!r}: ask it itself"
                )
            digest = member.adapters[0].digest
            if any(digest == other.digest for other in used):
                raise refuse(where, f"the adapter of {wanted.model!r} is in the ensemble twice: add up its weights")
            used.append(UsedAdapter(digest, weight))
            adapters.append(Adapter(member.adapters[0].path, digest, weight))
        return Served(named.release, tuple(used), tuple(adapters))

    def release(self, model: str) -> ServedRelease:
        """The release of that name."""
        try:
            return self._catalog.release(model)
        except UnknownRelease as error:
            raise ApiError(404, "model_not_found", str(error), param="model") from error
        except ReleaseNotReady as error:
            raise ApiError(503, "model_not_ready", str(error), "server_error") from error

    def releases(self) -> list[ServedRelease]:
        """All that are served."""
        return self._catalog.releases()

    def loaded(self) -> list[tuple[LoadedAdapter, ServedRelease]]:
        """The loaded adapters whose releases are served."""
        if self._loaded is None:
            return []
        served = {release.id: release for release in self.releases()}
        return [(adapter, served[adapter.release]) for adapter in self._loaded.all() if adapter.release in served]

    def _named(self, model: str) -> Served:
        adapter = self._loaded.get(model) if self._loaded is not None else None
        try:
            release = self._catalog.release(model)
        except (UnknownRelease, ReleaseNotReady):
            if adapter is None:
                release = self.release(model)
            else:
                return self._with(adapter)
        return Served(release, (), (release.adapter,) if release.adapter else ())

    def _with(self, adapter: LoadedAdapter) -> Served:
        release = self.release(f"release-{adapter.release}")
        try:
            placed = self._catalog.adapter(adapter.digest)
        except ReleaseNotReady as error:
            raise ApiError(503, "model_not_ready", str(error), "server_error") from error
        return Served(release, (UsedAdapter(adapter.digest),), (placed,))


class ModelsApi:
    """Lists from the catalog."""

    def __init__(self, models: Models, *, embeddings: bool) -> None:
        self._models = models
        self._embeddings = embeddings

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/models", answering(self.models))
        router.add("GET", "/v1/models/{model...}", answering(self.model))

    async def models(self, _request: Request) -> Response:
        return Response.json({"object": "list", "data": await trio.to_thread.run_sync(self._listed)})

    async def model(self, request: Request) -> Response:
        name = request.path_parameters["model"]
        return Response.json(await trio.to_thread.run_sync(self._found, name))

    def _listed(self) -> list[dict[str, Any]]:
        listed = [_shown(release) for release in self._models.releases()]
        listed += [_shown_loaded(adapter, release) for adapter, release in self._models.loaded()]
        return [*listed, _EMBEDDER_SHOWN] if self._embeddings else listed

    def _found(self, name: str) -> dict[str, Any]:
        if self._embeddings and name == EMBEDDER:
            return _EMBEDDER_SHOWN
        for adapter, release in self._models.loaded():
            if adapter.name == name:
                return _shown_loaded(adapter, release)
        return _shown(self._models.release(name))


_EMBEDDER_SHOWN = {"id": EMBEDDER, "object": "model", "created": 0, "owned_by": "openledger", "openledger": {}}


def _shown(release: ServedRelease) -> dict[str, Any]:
    manifest = release.manifest
    return {
        "id": release.model,
        "object": "model",
        "created": 0,
        "owned_by": "openledger",
        "openledger": {
            "release": release.id,
            "release_hash": "0x" + manifest.hash.hex(),
            "base_model": manifest.base_model,
            "numerics": manifest.numerics,
            "mode": mode_of(manifest.numerics).name.lower(),
            "datanets": [{"datanet": pin.datanet, "version": pin.version} for pin in manifest.datanets],
            "price_in_micro_open_per_1000": release.price_in,
            "price_out_micro_open_per_1000": release.price_out,
        },
    }


def _shown_loaded(adapter: LoadedAdapter, release: ServedRelease) -> dict[str, Any]:
    shown = _shown(release)
    return {
        **shown,
        "id": adapter.name,
        "parent": release.model,
        "openledger": {**shown["openledger"], "adapter": "0x" + adapter.digest.hex()},
    }
