"""Chapter 2: an adapter is trained on each version and registered as a release with its training record."""

from __future__ import annotations

from typing import Any

from openledger.genesis.parameters import Split
from openledger.node.cli.finetune import watching
from openledger.node.factory import client
from openledger.node.payer import Api
from openledger.node.quickstart.scene import Scene
from openledger.node.quickstart.texts import OWNER_ACCOUNT, TOPICS, Topic, topic

_LOST = ("failed", "cancelled")


async def fine_tune(scene: Scene, name: str) -> None:
    """Train the adapter of a topic, with its loss as it falls."""
    about = topic(name)
    job = await _job(scene, about)
    bars, show = watching(scene.narrator.console, f"  {scene.story.name(name)}")
    with bars:
        ended = await client.follow_finetune(scene.node, job, show)
    settings = " ".join(f"--{key.replace('_', '-')} {about.training[key]}" for key in ("max_steps", "rank", "seed"))
    scene.narrator.command(
        f"finetune start {scene.story.name(name)} --datanet {scene.story.datanets[name]}:{scene.story.versions[name]} {settings}"
    )
    record = ended["record"]
    scene.narrator.done(f"job {job} finished: {_losses(record)}")


def _losses(record: dict[str, Any]) -> str:
    before, after = record["held_out_loss_base"], record["held_out_loss_adapter"]
    return f"loss on text it was not trained on {before:.3f} before, {after:.3f} after"


async def _job(scene: Scene, about: Topic) -> str:
    """The job of this story: the one that is there, or a new one."""
    name = scene.story.name(about.name)
    version = (scene.story.datanets[about.name], scene.story.versions[about.name])
    for job in await _jobs(scene.node):
        sources = [(source["datanet"], source["version"]) for source in job["datanets"]]
        if job["name"] == name and sources == [version] and job["state"] not in _LOST:
            found = str(job["id"])
            break
    else:
        found = str((await client.start_finetune(scene.node, name, [version], about.training))["id"])
    scene.story.jobs[about.name] = found
    scene.memory.save()
    return found


async def _jobs(node: Api) -> list[dict[str, Any]]:
    told = await node.get("/v1/fine-tunes?limit=500")
    return list(told["fine_tunes"])


async def register_releases(scene: Scene) -> None:
    """Both adapters as releases of account 0, until both nodes serve them."""
    for about in TOPICS:
        name = scene.story.name(about.name)
        wallet = await scene.quiet(OWNER_ACCOUNT)
        job = scene.story.jobs[about.name]
        owner = "0x" + wallet.address.hex()
        mine = (
            r["id"] for r in await scene.all("releases") if r["active"] and (r["name"], r["owner"]) == (name, owner)
        )
        release = int(next(mine, 0)) or await client.register_release(
            scene.rpc, scene.node, wallet, name, job, price_in=about.price_in, price_out=about.price_out, split=Split()
        )
        scene.story.releases[about.name] = release
        scene.memory.save()
        scene.narrator.command(
            f"release register {name} --job {job} --price-in {about.price_in} --price-out {about.price_out} "
            f"--account {OWNER_ACCOUNT}"
        )
        with scene.narrator.spinner(f"release {release}: {name}") as progress:
            for node in (scene.node, scene.second):

                def show(reason: str, node: Api = node) -> None:
                    progress.update(progress.task_ids[0], note=f"{node.url}: {reason}")

                await client.wait_until_served(node, release, show, timeout_s=300)
        shown = await scene.node.get(f"/v1/releases/{release}")
        scene.narrator.done(
            f"release {release} ({name}): hash {shown['release_hash'][:18]}…, adapter {shown['adapter_hash'][:18]}…, "
            f"training record {shown['training_record_hash'][:18]}…; both nodes are ready for it"
        )
