"""GET /v1/models: the releases this node serves, in OpenAI's shape with prices beside."""

from __future__ import annotations

from typing import Any

import trio

from openledger.node.api.errors import ApiError, answering
from openledger.node.catalog import Catalog, ReleaseNotReady, ServedRelease, UnknownRelease
from openledger.node.http import Request, Response, Router


class ModelsApi:
    """Lists from the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/models", self.models)
        router.add("GET", "/v1/models/{model}", answering(self.model))

    async def models(self, _request: Request) -> Response:
        served = await trio.to_thread.run_sync(self._catalog.releases)
        return Response.json({"object": "list", "data": [_model(release) for release in served]})

    async def model(self, request: Request) -> Response:
        try:
            name = request.path_parameters["model"]
            return Response.json(_model(await trio.to_thread.run_sync(self._catalog.release, name)))
        except UnknownRelease as error:
            raise ApiError(404, "model_not_found", str(error)) from error
        except ReleaseNotReady as error:
            raise ApiError(503, "model_not_ready", str(error), "server_error") from error


def _model(release: ServedRelease) -> dict[str, Any]:
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
            "datanets": [{"datanet": pin.datanet, "version": pin.version} for pin in manifest.datanets],
            "price_in_micro_open_per_1000": release.price_in,
            "price_out_micro_open_per_1000": release.price_out,
        },
    }
