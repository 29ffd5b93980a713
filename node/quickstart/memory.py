"""What the story remembers on disk, so that a killed quickstart, or a killed network, goes on where it was.

Only names and numbers by which the chain and the node's API are asked again: what happened is always read from them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from openledger.node.errors import UserError
from openledger.node.network import write_atomically


class Told(msgspec.Struct, kw_only=True):
    """An answer of the story."""

    topic: str
    question: str
    receipt: str


class StoryState(msgspec.Struct, kw_only=True):
    """One story. `number` tells stories on one chain apart in names; ids are 0 or "" until they are known."""

    number: int = 1
    datanets: dict[str, int] = {}
    contributions: dict[str, dict[str, list[int]]] = {}
    """Contribution numbers by topic and author."""
    versions: dict[str, int] = {}
    jobs: dict[str, str] = {}
    releases: dict[str, int] = {}
    answers: list[Told] = []
    settled_block: int = 0
    payee: int = -1
    """The development account that claims; -1 until one is chosen."""
    claimed_before: int = 0
    paid_micro_open: int = 0
    done: list[str] = []
    seconds: dict[str, float] = {}
    interruptions: int = 0

    def name(self, topic: str) -> str:
        """What the Datanet, the job and the release of a topic are called in this story."""
        return topic if self.number == 1 else f"{topic}-{self.number}"


class Memory:
    """The stories of every chain that was told of, in one file by genesis hash. Written atomically."""

    def __init__(self, file: Path, genesis: str, *, fresh: bool = False) -> None:
        """Read the story of the chain with this genesis hash, or begin one; `fresh` begins the next one.

        Raises UserError where the file is damaged.
        """
        self._file = file
        self._genesis = genesis
        try:
            self._stories = msgspec.json.decode(file.read_bytes(), type=dict[str, StoryState])
        except FileNotFoundError:
            self._stories = {}
        except msgspec.MsgspecError as error:
            if not fresh:
                raise UserError(f"{file} is damaged ({error}): --fresh begins a new story") from error
            self._stories = {}
        before = self._stories.get(genesis)
        self.resumed = before is not None and not fresh
        if before is None or fresh:
            self._stories[genesis] = StoryState(number=before.number + 1 if before else 1)
        elif set(before.done) or before.datanets:
            before.interruptions += 1
        self.story = self._stories[genesis]

    def save(self) -> None:
        """Keep the story as it stands now."""
        write_atomically(self._file, msgspec.json.format(msgspec.json.encode(self._stories), indent=1) + b"\n")
