"""What a story remembers survives a kill, belongs to one chain, and never mixes with another story's."""

from pathlib import Path

import pytest

from openledger.node.errors import UserError
from openledger.node.quickstart.memory import Memory, Told

CHAIN, OTHER = "0x" + "11" * 32, "0x" + "22" * 32


def test_a_story_is_found_again_as_it_was_left(tmp_path: Path) -> None:
    file = tmp_path / "quickstart.json"
    memory = Memory(file, CHAIN)
    assert not memory.resumed
    memory.story.datanets["whales"] = 7
    memory.story.contributions["whales"] = {"account-1": [1, 2]}
    memory.story.answers.append(Told(topic="whales", question="?", receipt="0xab"))
    memory.story.done.append("datanets")
    memory.story.seconds["datanets"] = 1.5
    memory.save()

    again = Memory(file, CHAIN)
    assert again.resumed
    assert again.story.interruptions == 1
    again.story.interruptions = 0
    assert again.story == memory.story


def test_what_was_not_saved_is_forgotten(tmp_path: Path) -> None:
    Memory(tmp_path / "quickstart.json", CHAIN).story.datanets["whales"] = 7
    assert Memory(tmp_path / "quickstart.json", CHAIN).story.datanets == {}


def test_each_chain_has_its_own_story(tmp_path: Path) -> None:
    file = tmp_path / "quickstart.json"
    first = Memory(file, CHAIN)
    first.story.datanets["whales"] = 1
    first.save()
    second = Memory(file, OTHER)
    assert second.story.datanets == {}
    second.story.datanets["whales"] = 2
    second.save()
    assert Memory(file, CHAIN).story.datanets == {"whales": 1}
    assert Memory(file, OTHER).story.datanets == {"whales": 2}


def test_a_fresh_story_has_other_names(tmp_path: Path) -> None:
    file = tmp_path / "quickstart.json"
    memory = Memory(file, CHAIN)
    memory.story.done.append("datanets")
    memory.save()
    fresh = Memory(file, CHAIN, fresh=True)
    assert (fresh.resumed, fresh.story.done, fresh.story.number) == (False, [], 2)
    assert (memory.story.name("whales"), fresh.story.name("whales")) == ("whales", "whales-2")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"0x11": {"number": "one"}}', b'{"a": {"done": [1]}}'])
def test_a_damaged_file_is_said_and_can_be_left_behind(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "quickstart.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match="--fresh"):
        Memory(file, CHAIN)
    fresh = Memory(file, CHAIN, fresh=True)
    fresh.save()
    assert Memory(file, CHAIN).resumed
