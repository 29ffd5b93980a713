"""What the story is told with: the documents beside this file, who contributes them, and questions they answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from openledger.node.datanets.documents import CheckedDocument, check_document

LICENCE = "CC0-1.0"
OWNER_ACCOUNT, PAYER_ACCOUNT = 0, 3
AUTHORS = {"account-1": 1, "account-2": 2}
"""Folder name of a contributor, and the development account that signs for them."""


@dataclass(frozen=True)
class Topic:
    """A Datanet of the story and the adapter that is trained on it. Prices are micro-OPEN per 1,000 tokens."""

    name: str
    description: str
    questions: tuple[str, ...]
    training: dict[str, Any] = field(hash=False)
    price_in: int = 20_000
    price_out: int = 60_000


TOPICS = (
    Topic(
        "whales",
        "What Herman Melville wrote of whales in Moby-Dick",
        ("What is ambergris?", "What covers the sperm whale?"),
        {"max_steps": 24, "rank": 8, "alpha": 16, "seed": 1},
    ),
    Topic(
        "presidents",
        "What presidents of the United States told Congress",
        ("What are the four freedoms?",),
        {"max_steps": 16, "rank": 4, "alpha": 8, "seed": 2},
    ),
)


def topic(name: str) -> Topic:
    """The topic of that name."""
    return next(t for t in TOPICS if t.name == name)


def documents(topic: Topic, author: str) -> list[CheckedDocument]:
    """An author's documents to a topic, checked as a contributor's tool checks them."""
    return list(_documents(topic, author))


def _documents(topic: Topic, author: str) -> Iterator[CheckedDocument]:
    folder = files("openledger.node.quickstart") / "documents" / topic.name / author
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".md"):
            yield check_document(entry.name, entry.read_bytes(), LICENCE)
