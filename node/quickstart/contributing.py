"""Chapter 1: two people contribute documents, the owner admits them, and the second node has them too."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio
from rich.progress import Progress

from openledger.node.datanets import client
from openledger.node.quickstart.scene import Scene, until
from openledger.node.quickstart.texts import AUTHORS, LICENCE, OWNER_ACCOUNT, TOPICS, Topic, documents

ARRIVE_S = 300.0
_STAGES = ("committing", "uploading", "waiting", "revealing", "done")


async def create_datanets(scene: Scene) -> None:
    """A public Datanet for each topic."""
    wallet = await scene.quiet(OWNER_ACCOUNT)
    for topic in TOPICS:
        name = scene.story.name(topic.name)
        found = await _datanet_named(scene, name, wallet.address)
        if not found:
            found = await client.create_datanet(scene.rpc, scene.node, wallet, name, description=topic.description)
        scene.story.datanets[topic.name] = found
        scene.memory.save()
        scene.narrator.command(f'datanet create {name} --description "{topic.description}" --account {OWNER_ACCOUNT}')
        scene.narrator.done(f"Datanet {found} ({name}) belongs to 0x{wallet.address.hex()}")


async def _datanet_named(scene: Scene, name: str, owner: bytes) -> int:
    """The first Datanet of that name and owner; 0 where there is none."""
    mine = (d["id"] for d in await scene.all("datanets") if (d["name"], d["owner"]) == (name, "0x" + owner.hex()))
    return int(next(mine, 0))


async def unused_story_number(scene: Scene) -> int:
    """The least number whose names are not taken on this chain, from the story's own number on."""
    taken = {d["name"] for d in await scene.all("datanets")} | {r["name"] for r in await scene.all("releases")}
    number = scene.story.number
    while any((t.name if number == 1 else f"{t.name}-{number}") in taken for t in TOPICS):
        number += 1
    return number


async def add_documents(scene: Scene) -> None:
    """Commit, upload, reveal: both contributors at once, each signing for themselves."""
    for topic in TOPICS:
        kept = scene.story.contributions.setdefault(topic.name, {})
        with scene.narrator.bars() as bars:
            async with trio.open_nursery() as nursery:
                for author in AUTHORS:
                    nursery.start_soon(_add, scene, topic, author, bars, kept)
        scene.memory.save()
        for author, account in AUTHORS.items():
            datanet = scene.story.datanets[topic.name]
            scene.narrator.command(
                f"datanet add {datanet} documents/{topic.name}/{author} --licence {LICENCE} --account {account}"
            )
            for document, number in zip(documents(topic, author), kept[author], strict=True):
                scene.narrator.done(
                    f"contribution {number} by {author}: {document.metadata.title}, {document.words:,} words, "
                    f"content 0x{document.hash.hex()[:12]}…"
                )


async def _add(scene: Scene, topic: Topic, author: str, bars: Progress, kept: dict[str, list[int]]) -> None:
    own = documents(topic, author)
    rows = {
        d.metadata.name: bars.add_task(f"{author}: {d.metadata.name}", total=len(_STAGES) - 1, note="") for d in own
    }

    def show(progress: client.ContributeProgress) -> None:
        bars.update(rows[progress.name], completed=_STAGES.index(progress.stage), note=progress.stage)

    wallet = await scene.quiet(AUTHORS[author])
    added = await client.contribute(
        scene.rpc,
        scene.node,
        wallet,
        scene.story.datanets[topic.name],
        own,
        folder=scene.drafts,
        on_progress=show,
    )
    kept[author] = [contributed.contribution for contributed in added]


async def publish_versions(scene: Scene) -> None:
    """The owner approves what is pending and publishes a version; the node indexes it; its roots go on chain."""
    for topic in TOPICS:
        datanet = scene.story.datanets[topic.name]
        wallet = await scene.quiet(OWNER_ACCOUNT)
        pending = [c["id"] for c in await client.contributions(scene.node, datanet) if c["status"] == "pending"]
        if pending:
            await client.approve(scene.rpc, wallet, datanet, pending)
        with scene.narrator.bars() as bars:
            bar = bars.add_task(f"version of {topic.name}", total=None, note="")

            def show(progress: client.PublishProgress, bars: Progress = bars, bar: Any = bar) -> None:
                bars.update(bar, completed=progress.done, total=progress.total or None, note=progress.stage)

            version = await client.publish(scene.rpc, scene.node, wallet, datanet, on_progress=show)
        scene.story.versions[topic.name] = version.version
        scene.memory.save()
        scene.narrator.command(f"datanet approve {datanet} --account {OWNER_ACCOUNT}")
        scene.narrator.command(f"datanet publish {datanet} --account {OWNER_ACCOUNT}")
        scene.narrator.done(
            f"version {version.version} of Datanet {datanet}: root 0x{version.root.hex()[:16]}…, {version.tokens:,} tokens, "
            f"corpus root 0x{version.corpus_root.hex()[:16]}…"
        )


async def arrive_at_second_node(scene: Scene) -> None:
    """Every document, byte for byte, from the second node's own API."""
    expected = [
        (number, document)
        for topic in TOPICS
        for author in AUTHORS
        for number, document in zip(
            scene.story.contributions[topic.name][author], documents(topic, author), strict=True
        )
    ]
    with scene.narrator.bars() as bars:
        bar = bars.add_task("documents on the second node", total=len(expected), note="")
        for number, document in expected:
            bars.update(bar, note=f"contribution {number}")
            await until(
                partial(_second_has, scene, number), ARRIVE_S, f"contribution {number} to reach the second node"
            )
            answer = await scene.second.http.get(f"/v1/content/0x{document.hash.hex()}")
            if answer.content != document.data:
                raise AssertionError(f"the second node has other bytes for contribution {number}")
            bars.advance(bar)
    size = sum(len(document.data) for _, document in expected)
    scene.narrator.done(f"{len(expected)} documents ({size:,} bytes) arrived at {scene.second.url}, byte for byte")


async def _second_has(scene: Scene, number: int) -> bool:
    answer = await scene.second.http.get(f"/v1/contributions/{number}")
    return answer.status_code == 200 and bool(answer.json()["held"])
