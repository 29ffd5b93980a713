"""Loading adapters by hand, under the paths that vLLM has for it; for callers on this machine only.

POST /v1/load_lora_adapter    {"lora_name", "lora_path", "base_model_name"?, "load_inplace"?}
POST /v1/unload_lora_adapter  {"lora_name"}
GET  /v1/lora_adapters        those that are loaded, for anybody

`base_model_name` is the release whose answers the adapter then gives, at its price; it may be left out where one release
without an adapter is served. The name can be asked as `model` from the answer on, and after a restart.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import msgspec
import trio

from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.messages import Adapter, Failed, Finished, Generate
from openledger.node.api.errors import ApiError, answering
from openledger.node.api.local_callers import require_local_json
from openledger.node.api.models import Models
from openledger.node.api.parameters import decode_body
from openledger.node.catalog import ServedRelease
from openledger.node.factory.releases import ReleaseRefused
from openledger.node.http import Request, Response, Router
from openledger.node.loaded_adapters import AdapterNotLoaded, LoadedAdapter, LoadedAdapters

_NAME = re.compile(r"[\w.:-][\w.:/-]{0,127}", re.ASCII)
_ONLY = "adapters are loaded"


class _Load(msgspec.Struct, frozen=True):
    lora_name: str
    lora_path: str
    base_model_name: str | None = None
    load_inplace: bool = False


class _Unload(msgspec.Struct, frozen=True):
    lora_name: str


class AdaptersApi:
    """The handlers. `ready()` raises ApiError while the engine is not ready."""

    def __init__(
        self, models: Models, loaded: LoadedAdapters, engine: EngineClient, ready: Callable[[], object]
    ) -> None:
        self._models = models
        self._loaded = loaded
        self._engine = engine
        self._ready = ready

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/load_lora_adapter", answering(self.load))
        router.add("POST", "/v1/unload_lora_adapter", answering(self.unload))
        router.add("GET", "/v1/lora_adapters", answering(self.list))

    async def list(self, _request: Request) -> Response:
        listed = await trio.to_thread.run_sync(self._models.loaded)
        return Response.json(
            {
                "object": "list",
                "data": [
                    {
                        "lora_name": adapter.name,
                        "adapter": "0x" + adapter.digest.hex(),
                        "base_model_name": release.model,
                        "release": release.id,
                    }
                    for adapter, release in listed
                ],
            }
        )

    async def load(self, request: Request) -> Response:
        require_local_json(request, _ONLY)
        body = decode_body(request.body, _Load, "an adapter to load")
        if not _NAME.fullmatch(body.lora_name):
            raise ApiError(
                400, "bad_parameter", "lora_name is 1 to 128 letters, digits and any of ._:-/", param="lora_name"
            )
        self._ready()
        adapter = await trio.to_thread.run_sync(self._load, body)
        return Response.text(
            f"Success: LoRA adapter {adapter.name!r} added: 0x{adapter.digest.hex()}, answering as release {adapter.release}"
        )

    async def unload(self, request: Request) -> Response:
        require_local_json(request, _ONLY)
        body = decode_body(request.body, _Unload, "an adapter to unload")
        try:
            adapter = await trio.to_thread.run_sync(self._loaded.unload, body.lora_name)
        except AdapterNotLoaded as error:
            raise ApiError(404, "adapter_not_found", str(error), param="lora_name") from error
        return Response.text(f"Success: LoRA adapter {adapter.name!r} removed")

    def _load(self, body: _Load) -> LoadedAdapter:
        if any(release.model == body.lora_name for release in self._models.releases()):
            raise ApiError(
                400, "bad_parameter", f"{body.lora_name!r} is the name of a release: take another", param="lora_name"
            )
        release = self._base(body.base_model_name)
        folder = Path(body.lora_path).expanduser()

        def check(digest: bytes) -> None:
            trio.from_thread.run(self._try, Adapter(str(folder), digest))

        try:
            return self._loaded.load(body.lora_name, folder, release.id, replace=body.load_inplace, check=check)
        except (AdapterNotLoaded, ReleaseRefused) as error:
            raise ApiError(400, "adapter_refused", str(error), param="lora_path") from error
        except OSError as error:
            raise ApiError(400, "adapter_refused", f"{folder} cannot be read: {error}", param="lora_path") from error

    def _base(self, name: str | None) -> ServedRelease:
        if name is not None:
            return self._models.release(name)
        bare = [release for release in self._models.releases() if release.adapter is None]
        if len(bare) != 1:
            named = ", ".join(release.model for release in bare)[:500] or "none is served"
            raise ApiError(
                400,
                "bad_parameter",
                f"base_model_name must say as which release the adapter answers: {named}",
                param="base_model_name",
            )
        return bare[0]

    async def _try(self, adapter: Adapter) -> None:
        """One token by it, which brings it into memory. Raises AdapterNotLoaded with what the engine says."""
        one = Generate(request_id=uuid.uuid4().hex, prompt_tokens=[0], max_tokens=1, stop_tokens=[], adapters=[adapter])
        async with aclosing(self._engine.generate(one)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise AdapterNotLoaded(event.message)
                if isinstance(event, Finished):
                    return
