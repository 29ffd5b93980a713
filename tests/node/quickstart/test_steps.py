"""A step told twice does its work once; every text of the story may be contributed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import trio

from openledger.node.quickstart import contributing
from openledger.node.quickstart.asking import _overlap
from openledger.node.quickstart.scene import Scene
from openledger.node.quickstart.story import CHAPTERS
from openledger.node.quickstart.texts import AUTHORS, TOPICS, documents

Scenes = Callable[..., Scene]


async def test_datanets_and_documents_are_there_once_however_often_the_story_begins(scenes: Scenes) -> None:
    first = scenes()
    await contributing.create_datanets(first)
    await contributing.add_documents(first)
    assert first.story.datanets == {"whales": 1, "presidents": 2}
    numbers = sorted(n for topic in first.story.contributions.values() for own in topic.values() for n in own)
    assert numbers == list(range(1, sum(len(documents(t, a)) for t in TOPICS for a in AUTHORS) + 1))

    # Killed before anything was saved: the chain remembers.
    (first.drafts.parent / "quickstart.json").unlink()
    again = scenes()
    await contributing.create_datanets(again)
    await contributing.add_documents(again)
    assert again.story.datanets == first.story.datanets
    assert again.story.contributions == first.story.contributions

    with trio.fail_after(120):
        await contributing.arrive_at_second_node(again)

    # Another story on the same chain takes names that are free, even where its file was lost.
    (first.drafts.parent / "quickstart.json").unlink()
    told = scenes(fresh=True)

    async def no_releases(kind: str) -> list[dict[str, object]]:
        return [] if kind == "releases" else await Scene.all(told, kind)

    told.all = no_releases  # type: ignore[method-assign]  # this net has no releases to list
    told.story.number = await contributing.unused_story_number(told)
    assert told.story.number == 2
    await contributing.create_datanets(told)
    assert told.story.datanets == {"whales": 3, "presidents": 4}


async def test_a_contribution_that_was_interrupted_goes_on(scenes: Scenes) -> None:
    scene = scenes()
    await contributing.create_datanets(scene)
    with trio.move_on_after(0.35):  # somewhere between commitment and reveal
        await contributing.add_documents(scene)
    again = scenes()
    await contributing.create_datanets(again)
    with trio.fail_after(120):
        await contributing.add_documents(again)
        await contributing.arrive_at_second_node(again)
    count = len([c for t in TOPICS for c in again.story.contributions[t.name].values()])
    assert count == len(TOPICS) * len(AUTHORS)
    assert not list(again.drafts.iterdir()), "every salt was used"


def test_every_text_may_be_contributed_and_no_two_are_alike() -> None:
    every = [document for topic in TOPICS for author in AUTHORS for document in documents(topic, author)]
    assert len({document.hash for document in every}) == len(every) >= 6
    assert all(document.metadata.licence == "CC0-1.0" and document.metadata.title for document in every)
    assert all(topic.questions for topic in TOPICS)


def test_adapters_differ_and_steps_have_one_key_each() -> None:
    settings = [topic.training for topic in TOPICS]
    assert all(a != b for a, b in pairwise(settings))
    keys = [step.key for _, steps in CHAPTERS for step in steps]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("order", "together", "turns"),
    [("", 0, 0), ("aaa", 0, 0), ("aabb", 0, 1), ("abab", 2, 3), ("aababbb", 2, 3)],
)
def test_what_was_streamed_together_is_counted(order: str, together: int, turns: int) -> None:
    assert _overlap(list(order)) == (together, turns)
