"""A dataset in Hugging Face's layout, as a folder on disk: which of its files are data, and under which licence.

The card is `README.md`: YAML between two lines of `---`, of which the licence is read. Data files are those that
documents are made of, wherever they lie; the card, hidden files and caches are not among them. Nothing is fetched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openledger.kernels.documents import SUPPORTED_SUFFIXES
from openledger.node.datanets.documents import BadMetadata, canonical_licence
from openledger.node.errors import UserError
from openledger.node.extraction.extract import EXTRACTED_SUFFIXES

CARD: Final = "README.md"
MAX_CARD_BYTES: Final = 1 << 20
MAX_FILES: Final = 10_000
_FRONT_MATTER: Final = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LICENCE: Final = re.compile(r"^license:[ \t]*[\"']?([^\"'\n#]*)", re.MULTILINE)
_LISTED: Final = re.compile(r"^license:[ \t]*\n((?:[ \t]*-[ \t]*.+\n?)+)", re.MULTILINE)
_SUFFIXES: Final = (*SUPPORTED_SUFFIXES, *EXTRACTED_SUFFIXES)


@dataclass(frozen=True)
class HuggingFaceDataset:
    """Its data files in order of their paths, and the SPDX expression of its card; "" where the card names none."""

    files: tuple[Path, ...]
    licence: str


def open_dataset(folder: Path) -> HuggingFaceDataset:
    """Raises UserError for a folder without data files, with too many, or with a licence that SPDX does not know."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    files = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or path.name == CARD or path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{path} is a link out of the dataset: put the file itself there")
        files.append(path)
        if len(files) > MAX_FILES:
            raise UserError(f"{folder} has more than {MAX_FILES:,} data files: import a part of it")
    if not files:
        raise UserError(f"{folder} has no data files: {', '.join(_SUFFIXES)} are read")
    return HuggingFaceDataset(tuple(files), _licence(folder / CARD))


def _licence(card: Path) -> str:
    if not card.is_file():
        return ""
    if card.stat().st_size > MAX_CARD_BYTES:
        raise UserError(f"{card} is larger than {MAX_CARD_BYTES:,} bytes: it is no dataset card")
    matter = _FRONT_MATTER.match(card.read_text("utf-8", "replace").replace("\r\n", "\n"))
    if matter is None:
        return ""
    if listed := _LISTED.search(matter[1] + "\n"):
        named = " AND ".join(line.strip(" \t-\"'") for line in listed[1].strip().split("\n"))
    elif found := _LICENCE.search(matter[1]):
        named = found[1].strip()
    else:
        return ""
    if named in ("", "other", "unknown"):
        return ""
    try:
        return canonical_licence(named)
    except BadMetadata as error:
        raise UserError(
            f"the card names the licence {named!r}, which is not SPDX's: give one with --licence"
        ) from error
