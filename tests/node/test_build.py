"""The node says which build it is, and nothing that is not so."""

from __future__ import annotations

import hashlib
import json

import pytest

from openledger.node.build import commit, commit_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OF_VERSION = hashlib.sha256(b"1.2.3").digest()[:4]


def test_a_package_from_version_control_says_its_commit():
    origin = {"url": "https://example.org/node.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    assert commit_of(json.dumps(origin), "1.2.3").hex() == COMMIT[:8]


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": COMMIT},
        {"HEAD": "ref: refs/heads/main", "refs/heads/main": COMMIT},
        {"HEAD": "ref: refs/heads/main", "packed-refs": f"# pack-refs with: peeled\n{'9' * 40} refs/tags/a\n{COMMIT} refs/heads/main"},
    ],
)  # fmt: skip
def test_a_working_tree_says_what_is_checked_out(tmp_path, files):
    tree = tmp_path / "a tree"
    for name, text in files.items():
        file = tree / ".git" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    origin = {"url": tree.as_uri(), "dir_info": {"editable": True}}
    assert commit_of(json.dumps(origin), "1.2.3").hex() == COMMIT[:8]


@pytest.mark.parametrize(
    "origin",
    [None, "no json", "[]", '{"url": 5}', '{"url": "file:///nowhere", "dir_info": {"editable": true}}', '{"url": ""}'],
)
def test_a_package_that_knows_no_commit_says_a_hash_of_its_version(origin):
    assert commit_of(origin, "1.2.3") == OF_VERSION
    assert commit_of(origin, "1.2.4") != OF_VERSION


def test_this_build_has_four_bytes_for_the_engine_api():
    assert len(commit()) == 4
    assert any(commit())
