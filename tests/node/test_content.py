"""Content by hash: what was acknowledged is there, what is damaged or foreign is not believed."""

from pathlib import Path

import pytest

from openledger.evm_ext.proofs.content import CHUNK_BYTES, InvalidContent, content_hash
from openledger.genesis.hashing import keccak256
from openledger.node.content import ContentMissing, ContentStore

LONG = bytes(range(256)) * 4096 * 2 + b"tail"


@pytest.mark.parametrize("data", [b"", b"a", LONG], ids=["empty", "short", "three chunks"])
def test_content_comes_back_under_its_hash_after_reopening(tmp_path: Path, data: bytes) -> None:
    digest = ContentStore(tmp_path).put(data)
    assert digest == content_hash(data)
    assert ContentStore(tmp_path).get(digest) == data


def test_a_damaged_object_counts_as_absent_and_can_be_put_again(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    digest = store.put_object(b"text")
    next(tmp_path.glob("objects/*/*")).write_bytes(b"lies")
    assert store.get_object(digest) is None
    store.put_object(b"text")
    assert store.get_object(digest) == b"text"


def test_limits_hold_before_the_content_is_read(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with pytest.raises(InvalidContent, match="at most"):
        store.put_object(b"x" * (CHUNK_BYTES + 1))
    with pytest.raises(InvalidContent, match="more than 10"):
        store.get(store.put(b"x" * 11), limit_bytes=10)


async def test_missing_parts_are_fetched_and_checked(tmp_path: Path) -> None:
    there, here = ContentStore(tmp_path / "there"), ContentStore(tmp_path / "here")
    digest = there.put(LONG)
    asked: list[bytes] = []

    async def fetch(key: bytes) -> bytes | None:
        asked.append(key)
        return there.get_object(key)

    assert await here.obtain(digest, fetch, len(LONG)) == LONG
    assert here.get(digest) == LONG
    before = len(asked)
    assert await here.obtain(digest, fetch, len(LONG)) == LONG
    assert len(asked) == before, "what is here is not fetched again"


async def test_a_peer_that_lies_is_not_believed_and_an_oversize_content_is_not_fetched(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)

    async def lie(key: bytes) -> bytes | None:
        return b"something else"

    with pytest.raises(ContentMissing):
        await store.obtain(keccak256(b"wanted"), lie, 100)

    there = ContentStore(tmp_path / "there")
    digest = there.put(LONG)
    asked: list[bytes] = []

    async def fetch(key: bytes) -> bytes | None:
        asked.append(key)
        return there.get_object(key)

    with pytest.raises(InvalidContent, match="more than"):
        await store.obtain(digest, fetch, 1000)
    assert asked == [digest], "only the manifest was asked for"


async def test_a_folder_travels_whole(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    (folder / "sub").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "sub" / "weights.safetensors").write_bytes(LONG)
    there, here = ContentStore(tmp_path / "there"), ContentStore(tmp_path / "here")
    digest = there.put_folder(folder)

    async def fetch(key: bytes) -> bytes | None:
        return there.serve(key)

    with pytest.raises(ContentMissing):
        here.export_folder(digest, tmp_path / "out")
    await here.obtain_folder(digest, fetch, 10 << 20)
    here.export_folder(digest, tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "weights.safetensors").read_bytes() == LONG
    assert here.put_folder(tmp_path / "out") == digest
