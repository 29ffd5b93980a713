"""What may be contributed, what goes with it, and how it is kept, bundled and remembered."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.proofs.content import InvalidContent, content_hash
from openledger.genesis.hashing import keccak256
from openledger.kernels.documents import DocumentTooLarge
from openledger.node.content import ContentMissing, ContentStore
from openledger.node.datanets.bundles import BUNDLE_BYTES, bundles, decode_bundle, fetch_from_da
from openledger.node.datanets.client import read_file
from openledger.node.datanets.documents import BadMetadata, DocumentMetadata, check_document, indexed_name
from openledger.node.datanets.drafts import Drafts
from openledger.node.datanets.outbox import Outbox
from openledger.node.errors import UserError
from openledger.rollup.da.client import DAClient

TEXT = b"# Foxes\n\n" + b"The quick brown fox jumps over the lazy dog and runs into the dark green wood. " * 4


def test_a_document_is_described_by_its_bytes_name_and_licence():
    document = check_document("C:\\texts\\foxes.md", TEXT, "cc0-1.0 or mit")
    assert document.metadata == DocumentMetadata("foxes.md", "text/markdown", "CC0-1.0 OR MIT", "Foxes")
    assert document.hash == content_hash(TEXT)
    assert document.words == 1 + 16 * 4
    assert DocumentMetadata.decode(document.metadata.encode()) == document.metadata
    assert check_document("f.txt", TEXT, "MIT", title="  My\n foxes ").metadata.title == "My foxes"


@pytest.mark.parametrize(
    ("name", "title", "licence"),
    [("", "", "MIT"), ("..", "", "MIT"), ("a\x01.md", "", "MIT"), ("a" * 300 + ".md", "", "MIT"), ("a.md", "t" * 201, "MIT"), ("a.md", "", ""), ("a.md", "", "free")],
)  # fmt: skip
def test_metadata_out_of_range_is_refused(name, title, licence):
    with pytest.raises((BadMetadata, ValueError)):
        check_document(name, TEXT, licence, title=title)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"version":1}', b"1" * 70_000, DocumentMetadata("a", "b", "c", "d").encode().replace(b":1", b":2"), DocumentMetadata("a", "b", "c", "d").encode().replace(b'"a"', b"1")],
)  # fmt: skip
def test_what_is_no_metadata_makes_plain_text(data):
    with pytest.raises(BadMetadata):
        DocumentMetadata.decode(data)
    assert indexed_name(data) == indexed_name(None) == "document.txt"
    assert indexed_name(DocumentMetadata("a.exe", "b", "c", "d").encode()) == "document.txt"
    assert indexed_name(DocumentMetadata("a.MD", "b", "c", "d").encode()) == "a.MD"


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    file = tmp_path / "a.md"
    file.write_bytes(b"")
    os.truncate(file, 1 << 40)  # sparse: reading it would need a terabyte of memory
    with pytest.raises(UserError, match="the limit is 1,000"):
        read_file(file, "MIT", 1_000)
    with pytest.raises(DocumentTooLarge):
        check_document("a.md", TEXT, "MIT", limit_bytes=10)


class HeldByDa(DAClient):
    """A DA client whose bundles are in memory: what is tested is how they are used."""

    def __init__(self, held: list[bytes]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.held = held
        self.asked: list[int] = []

    async def get(self, commitment: bytes, l1_inclusion_block: int | None = None) -> bytes:
        self.asked.append(commitment[0])
        return self.held[commitment[0]]


async def test_large_content_and_folders_travel_in_bundles_that_need_one_at_a_time(tmp_path):
    source = ContentStore(tmp_path / "source")
    folder = tmp_path / "adapter"
    (folder / "more").mkdir(parents=True)
    (folder / "a.bin").write_bytes(os.urandom(2 * BUNDLE_BYTES + 5))
    (folder / "more" / "b.bin").write_bytes(os.urandom(3_000_000))
    digest = source.put_folder(folder)
    packed = list(bundles(source, [digest]))
    assert len(packed) == 3
    assert all(len(bundle) < BUNDLE_BYTES + (2 << 20) for bundle in packed)
    da = HeldByDa([b"nonsense", *packed, msgspec.msgpack.encode([b"not asked for"])])
    target = ContentStore(tmp_path / "target")
    await target.obtain_folder(digest, fetch_from_da(da, [bytes([n]) for n in range(5)]), 64 << 20)
    assert da.asked == [0, 1, 2, 3]
    target.export_folder(digest, tmp_path / "out")
    assert (tmp_path / "out" / "a.bin").read_bytes() == (folder / "a.bin").read_bytes()
    assert target.get_object(keccak256(b"not asked for")) is None
    with pytest.raises(ContentMissing):
        await ContentStore(tmp_path / "x").obtain_folder(digest, fetch_from_da(da, [b"\x02"]), 64 << 20)
    with pytest.raises(ContentMissing):
        list(bundles(target, [bytes(32)]))


@given(st.lists(st.binary(max_size=50), max_size=8))
@settings(max_examples=50)
def test_a_bundle_gives_its_objects_by_hash(items):
    assert decode_bundle(msgspec.msgpack.encode(items)) == {keccak256(item): item for item in items}


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x91\x01", b"\x92\xc4\x01a"])
def test_what_is_no_bundle_is_refused(data):
    with pytest.raises(InvalidContent):
        decode_bundle(data)


def test_an_outbox_remembers_every_step(tmp_path):
    outbox = Outbox(tmp_path / "outbox.sqlite")
    outbox.add(b"a" * 32, (b"a" * 32, b"b" * 32), 10)
    outbox.add(b"a" * 32, (b"c" * 32,), 99)
    outbox.add(b"d" * 32, (b"d" * 32,), 5)
    assert outbox.unpublished_bytes() == 15
    outbox.set_published(b"a" * 32, (b"x", b"y"))
    outbox.set_announced(b"a" * 32, 7)
    outbox.close()
    outbox = Outbox(tmp_path / "outbox.sqlite")
    item = outbox.get(b"a" * 32)
    assert item is not None
    assert (item.contents, item.size, item.commitments) == ((b"a" * 32, b"b" * 32), 10, (b"x", b"y"))
    assert outbox.unpublished_bytes() == 5
    assert outbox.is_announced(b"a" * 32, 7)
    assert not outbox.is_announced(b"a" * 32, 8)
    assert outbox.get(b"z" * 32) is None


def test_a_salt_is_kept_until_the_reveal_and_a_damaged_one_is_not_guessed(tmp_path: Path):
    document = check_document("foxes.md", TEXT, "MIT")
    drafts = Drafts(tmp_path / "drafts", 1, 2, b"\x03" * 20)
    draft = drafts.open(document)
    assert drafts.open(document) == draft
    assert Drafts(tmp_path / "drafts", 9, 2, b"\x03" * 20).open(document).salt != draft.salt, "another chain"
    assert draft.commitment(1) != draft.commitment(2)
    (file,) = (tmp_path / "drafts").glob("1-*.json")
    assert (tmp_path / "drafts").stat().st_mode & 0o077 == 0
    file.write_text('{"salt": "00"}')
    with pytest.raises(UserError, match="damaged"):
        drafts.open(document)
    drafts.close(draft)
    assert drafts.open(document).salt != draft.salt
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot keep the salt"):
        Drafts(tmp_path / "file", 1, 2, b"\x03" * 20).open(document)
