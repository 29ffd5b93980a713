"""What a model builder does over a node's API and JSON-RPC: train, watch, register."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import httpx
import orjson
import trio

from openledger.evm_ext.proofs.content import content_hash
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.release import InvalidRelease, ReleaseManifest
from openledger.genesis.parameters import Split
from openledger.node.contract_reads import events_of
from openledger.node.datanets.client import hash_of
from openledger.node.errors import UserError
from openledger.node.payer import Api, ApiUnavailable
from openledger.node.predeploy_contracts import model_registry
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet

RECONNECT_S = 1.0
PATIENCE_S = 120.0
ENDED = ("finished", "failed", "cancelled")


class FineTuneEnded(UserError):
    """The job ended without an adapter; the message says why."""


async def start_finetune(
    api: Api, name: str, versions: Sequence[tuple[int, int]], parameters: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Queue a job on these (Datanet, version) pairs and return it. Raises ApiRefused, ApiUnavailable."""
    body = {
        "name": name,
        "datanets": [{"datanet": datanet, "version": version} for datanet, version in versions],
        "parameters": parameters or {},
    }
    job: dict[str, Any] = await api.request("POST", "/v1/fine-tunes", json=body)
    return job


async def follow_finetune(
    api: Api, job: str, on_event: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Every event of a job from its first, until it is finished; the finished job.

    A connection that breaks is made again, also across a restart of the node. Raises FineTuneEnded (failed or
    cancelled), ApiRefused, ApiUnavailable.
    """
    after = 0
    alive = trio.current_time()
    while True:
        try:
            async with api.http.stream("GET", f"/v1/fine-tunes/{job}/events", params={"after": after}) as response:
                if response.status_code == 200:
                    async for line in response.aiter_lines():
                        alive = trio.current_time()
                        if not line.startswith("data: "):
                            continue
                        event = orjson.loads(line[6:])
                        after = event["number"]
                        on_event(event)
            ended: dict[str, Any] = await api.get(f"/v1/fine-tunes/{job}")
        except (httpx.HTTPError, ApiUnavailable) as error:
            if trio.current_time() - alive > PATIENCE_S:
                raise ApiUnavailable(
                    f"no answer from {api.url} for {PATIENCE_S:.0f} s: the job goes on when the node does; "
                    f"`openledger finetune watch {job}` shows it"
                ) from error
        else:
            if ended["state"] == "finished":
                return ended
            if ended["state"] in ENDED:
                raise FineTuneEnded(
                    f"fine-tuning job {job} {ended['state']}" + f": {ended['error']}" * bool(ended["error"])
                )
        await trio.sleep(RECONNECT_S)


async def register_release(
    rpc: RpcClient,
    api: Api,
    wallet: Wallet,
    name: str,
    job: str,
    *,
    price_in: int,
    price_out: int,
    split: Split | None = None,
    attribution: AttributionPolicy | None = None,
    trainer: bytes | None = None,
    merged_from: Sequence[int] = (),
) -> int:
    """Register what a finished job trained as a release owned by `wallet`, and return its number. With `merged_from` and
    an empty `job`: the engine's own model, into which the adapters of these releases were merged.

    Prices are micro-OPEN per 1,000 tokens; `trainer` (who paid for the compute) is the wallet where it is None. What the
    node proposes is recomputed before it is signed. Raises ApiRefused, TransactionReverted, UserError, RpcError,
    RpcUnavailable, ApiUnavailable.
    """
    split, attribution = split or Split(), attribution or AttributionPolicy()
    told = await api.request(
        "POST",
        "/v1/releases",
        json={
            "name": name,
            "job": job,
            "merged_from": list(merged_from),
            "price_in": price_in,
            "price_out": price_out,
            "split": asdict(split),
            "attribution": asdict(attribution),
        },
    )
    encoded = orjson.dumps(told["manifest"], option=orjson.OPT_SORT_KEYS)
    try:
        manifest = ReleaseManifest.decode(encoded)
    except InvalidRelease as error:
        raise UserError(f"the node at {api.url} proposes an invalid release: {error}") from error
    asked = (name, price_in, price_out, split, attribution)
    if asked != (manifest.name, manifest.price_in, manifest.price_out, manifest.split, manifest.attribution):
        raise UserError(f"the node at {api.url} proposes other terms than those asked for: not signed")
    registry = model_registry()
    registration = (
        manifest.hash,
        content_hash(encoded),
        manifest.adapter_hash,
        manifest.tokenizer_hash,
        hash_of(told["training_record_hash"]),
        trainer or wallet.address,
        price_in,
        price_out,
        list(split.parts),
        [(pin.datanet, pin.version) for pin in manifest.datanets],
        name,
    )
    receipt = await wallet.send(rpc, registry, "register", registration)
    return int(events_of(registry, receipt, "ReleaseRegistered")[0].arguments["release"])


async def wait_until_served(
    api: Api, release: int, on_waiting: Callable[[str], None] = lambda _: None, timeout_s: float = PATIENCE_S
) -> dict[str, Any]:
    """The release as the API shows it, once this node answers with it. Raises UserError saying what it waits for."""
    reason = "the node has not seen it yet"
    with trio.move_on_after(timeout_s):
        while True:
            told = await api.get("/v1/releases?limit=500")
            for shown in told["releases"]:
                if shown["id"] == release:
                    if shown["served_here"]:
                        return dict(shown)
                    reason = shown["waits_for"] or reason
            on_waiting(reason)
            await trio.sleep(0.5)
    raise UserError(f"release {release} is not served by {api.url} after {timeout_s:.0f} s: {reason}")
