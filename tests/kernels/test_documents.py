from pathlib import Path

import pytest

from openledger.kernels.documents import (
    DocumentNotText,
    DocumentTooLarge,
    EmptyDocument,
    UnsupportedDocument,
    parse_document,
    read_document,
)


def test_wrapped_lines_are_joined_and_blank_lines_part() -> None:
    document = parse_document(
        "story.txt", b"\xef\xbb\xbfA title\r\n\r\nOne  sentence\r\nin two\tlines.\r\r\n\n\nEnd.\n"
    )
    assert document.blocks == ("A title", "One sentence in two lines.", "End.")
    assert document.title == "A title"
    assert document.text == "A title\n\nOne sentence in two lines.\n\nEnd."


def test_markdown_structure_is_kept() -> None:
    text = "intro\n## Sub  title\nbody\n- one\n  more\n- two\n1. first\n> said\n```py\nif  x:\n    y\n```\nafter"
    document = parse_document("a.MD", text.encode())
    assert document.blocks == (
        "intro",
        "## Sub title",
        "body",
        "- one more",
        "- two",
        "1. first",
        "> said",
        "```py\nif  x:\n    y\n```",
        "after",
    )
    assert document.title == "Sub title"
    assert document.is_heading == (False, True, *[False] * 7)


def test_a_document_without_a_title_has_its_file_name() -> None:
    assert parse_document("my notes.txt", b"word " * 100).title == "my notes"
    assert parse_document("a.md", b"```\nnever closed").blocks == ("```\nnever closed",)


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.pdf", b"text", UnsupportedDocument, "convert it"),
        ("a", b"text", UnsupportedDocument, "convert it"),
        ("a.txt", b"caf\xe9", DocumentNotText, r"byte 3.*UTF-8"),
        ("a.txt", b"a\0b", DocumentNotText, "NUL"),
        ("a.txt", b"", EmptyDocument, "no words"),
        ("a.md", b" \n\n# \n***\n", EmptyDocument, "no words"),
        ("a.txt", b"x" * 101, DocumentTooLarge, "101 bytes, the limit is 100"),
    ],
)
def test_bad_documents_are_named(name: str, data: bytes, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        parse_document(name, data, limit=100)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message):
        read_document(tmp_path / name, limit=100)
