"""The story in order: chapters of steps, each of which looks at the chain first, so that it can be told on after a kill."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from openledger.node.cli.channel import show_open
from openledger.node.config import Endpoints
from openledger.node.quickstart import asking, checking, claiming, contributing, training
from openledger.node.quickstart.narrator import Narrator
from openledger.node.quickstart.scene import Scene, open_scene, patiently


@dataclass(frozen=True)
class Step:
    """One step: its key in the story's memory, what it is called, and how it is told."""

    key: str
    title: str
    tell: Callable[[Scene], Awaitable[None]]


CHAPTERS: tuple[tuple[str, tuple[Step, ...]], ...] = (
    (
        "1  Documents",
        (
            Step("datanets", "create Datanets", contributing.create_datanets),
            Step("documents", "commit, upload and reveal documents", contributing.add_documents),
            Step("versions", "approve, index and publish versions", contributing.publish_versions),
            Step("replicated", "documents on the second node", contributing.arrive_at_second_node),
        ),
    ),
    (
        "2  Adapters",
        (
            Step("train-whales", "fine-tune on whales", partial(training.fine_tune, name="whales")),
            Step("train-presidents", "fine-tune on presidents", partial(training.fine_tune, name="presidents")),
            Step("releases", "register both releases", training.register_releases),
        ),
    ),
    (
        "3  Answers",
        (
            Step("refused", "ask without paying", asking.be_refused),
            Step("channel", "open a channel", asking.open_channel),
            Step("answer", "a paid, streamed answer", asking.ask_one),
            Step("answers", "both adapters in one batch", asking.ask_both),
        ),
    ),
    (
        "4  Settlement and proof",
        (
            Step("settled", "settle the receipts", checking.wait_for_settlement),
            Step("derived", "derive the block on the second node", checking.derive_on_second_node),
            Step("verified", "re-do the answers on the second node", checking.verify_receipts),
        ),
    ),
    (
        "5  Reward",
        (
            Step("earned", "see who earned", claiming.choose_payee),
            Step("ripe", "wait out the dispute window", claiming.ripen),
            Step("claimed", "claim", claiming.claim),
        ),
    ),
)


async def tell(first: Endpoints, second: Endpoints, folder: Path, narrator: Narrator, *, fresh: bool) -> dict[str, Any]:
    """Tell the story to its end and return its wall times. Raises UserError, NoNode, and what a client's calls raise."""
    async with open_scene(first, second, folder, narrator, fresh=fresh) as scene:
        story = scene.story
        if scene.memory.resumed and story.done:
            every = sum(len(steps) for _, steps in CHAPTERS)
            narrator.say(
                f"going on with a story of which {len(story.done)} of {every} steps are told; --fresh begins anew"
            )
        if not story.datanets:
            if fresh:
                story.number = await contributing.unused_story_number(scene)
            scene.memory.save()
        for title, steps in CHAPTERS:
            narrator.chapter(title)
            for step in steps:
                if step.key in story.done:
                    narrator.already(step.title)
                    continue
                begun = time.monotonic()
                await patiently(partial(step.tell, scene), scene.node, narrator)
                story.seconds[step.key] = round(time.monotonic() - begun, 3)
                story.done.append(step.key)
                scene.memory.save()
        return _report(scene)


def _report(scene: Scene) -> dict[str, Any]:
    story = scene.story
    rows = [(step, story.seconds[step.key]) for _, steps in CHAPTERS for step in steps]
    scene.narrator.timings([(step.title, seconds) for step, seconds in rows])
    scene.narrator.console.print()
    scene.narrator.done(
        f"{len(story.answers)} answers, verified by the second node; "
        f"{show_open(story.paid_micro_open)} claimed by account {story.payee}"
    )
    return {
        "version": version("openledger-node"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "interruptions": story.interruptions,
        "steps": [{"key": step.key, "title": step.title, "seconds": seconds} for step, seconds in rows],
        "total_s": round(sum(seconds for _, seconds in rows), 3),
        "receipts": [told.receipt for told in story.answers],
        "claimed_micro_open": story.paid_micro_open,
    }
