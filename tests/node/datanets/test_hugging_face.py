"""Datasets in Hugging Face's layout: which files are data, and under which licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from openledger.node.datanets.hugging_face import open_dataset
from openledger.node.errors import UserError


def dataset(folder: Path, card: str | None, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


def test_data_files_are_found_and_the_card_is_none_of_them(tmp_path):
    names = ("data/train.parquet", "data/test.JSONL", ".cache/a.txt", ".gitattributes", "images/a.png", "b.md")
    found = open_dataset(dataset(tmp_path, "---\nlicense: cc-by-4.0\n---\n# Card", *names))
    assert [str(f.relative_to(tmp_path)) for f in found.files] == ["b.md", "data/test.JSONL", "data/train.parquet"]
    assert found.licence == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (None, ""),
        ("# A card without front matter\nlicense: mit", ""),
        ("---\ntags:\n- text\nlicense: 'apache-2.0'  # ours\n---\n", "Apache-2.0"),
        ("---\r\nlicense: MIT\r\n---\r\n", "MIT"),
        ("---\nlicense:\n- mit\n- cc0-1.0\nlanguage: en\n---\n", "MIT AND CC0-1.0"),
        ("---\nlicense: other\nlicense_name: ours\n---\n", ""),
        ("---\nlicense_name: mit\n---\n", ""),
    ],
)
def test_the_card_names_the_licence(tmp_path, card, licence):
    assert open_dataset(dataset(tmp_path, card, "a.txt")).licence == licence


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(UserError, match="no data files"):
        open_dataset(dataset(tmp_path, "---\nlicense: mit\n---\n", "a.png"))
    (tmp_path / "a.txt").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match="a link out"):
        open_dataset(tmp_path)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match="not SPDX's"):
        open_dataset(dataset(tmp_path, "---\nlicense: free as in beer\n---\n", "a.txt"))
