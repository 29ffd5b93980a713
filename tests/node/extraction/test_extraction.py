"""Text from real files of other kinds, each read by its own process; and hostile files, none of which is read."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from docx import Document as new_docx
from pyarrow import parquet
from pypdf import PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, TextStringObject

from openledger.evm_ext.proofs.content import content_hash
from openledger.kernels.documents import DocumentTooLarge, UnsupportedDocument, parse_document
from openledger.node.datanets.client import read_file
from openledger.node.datanets.documents import DocumentMetadata
from openledger.node.errors import UserError
from openledger.node.extraction.extract import extract_file
from openledger.node.extraction.text import ExtractionRefused
from openledger.node.extraction.worker import FORMATS

WHALE = "Ambergris is a curious substance found in the bowels of sperm whales, and perfumers pay for it in gold."
LIMIT = 5_000_000


def pdf(*pages: str, script: str = "", password: str = "", launch: bool = False) -> bytes:
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(612, 792)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
        )
        stream = DecodedStreamObject()
        stream.set_data(b"BT /F1 12 Tf 72 720 Td (" + text.encode("latin-1") + b") Tj ET")
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    if script:
        action = DictionaryObject(
            {NameObject("/S"): NameObject("/JavaScript"), NameObject("/JS"): TextStringObject(script)}
        )
        tree = DictionaryObject({NameObject("/Names"): ArrayObject([TextStringObject("a"), action])})
        writer.root_object[NameObject("/Names")] = DictionaryObject({NameObject("/JavaScript"): tree})
    if launch:
        writer.root_object[NameObject("/OpenAction")] = DictionaryObject({NameObject("/S"): NameObject("/Launch")})
    if password:
        writer.encrypt(password)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx(fill: Any) -> bytes:
    document = new_docx()
    fill(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def table(**columns: list[Any]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr({"types": "[Content_Types].xml", "vba": "word/vbaProject.bin"}.get(name, name), data)
    return out.getvalue()


def extracted(folder: Path, name: str, data: bytes, limit: int = LIMIT) -> str:
    (folder / name).write_bytes(data)
    return extract_file(folder / name, limit_bytes=limit).data.decode()


def parsed(name: str, data: bytes, limit: int = LIMIT) -> str:
    """As the process does it, in this one: starting one takes longer than most files do."""
    chosen = FORMATS[Path(name).suffix]
    module = importlib.import_module(f"openledger.node.extraction.{chosen.module}")
    return str(getattr(module, chosen.function)(data, limit))


def test_a_pdf_gives_its_pages_in_order(tmp_path):
    text = extracted(tmp_path, "whale.pdf", pdf(WHALE, "The second page."))
    assert text == f"{WHALE}\n\nThe second page.\n"


def test_a_word_document_keeps_headings_lists_and_tables(tmp_path):
    def fill(document):
        document.add_heading("Ambergris", 1)
        document.add_paragraph(WHALE)
        document.add_paragraph("grey", style="List Bullet")
        document.add_paragraph("# not a heading")
        grid = document.add_table(2, 2)
        grid.cell(0, 0).text, grid.cell(0, 1).text = "kind", "price"
        grid.cell(1, 0).merge(grid.cell(1, 1)).text = "unknown"
        document.add_heading("Uses", 2)

    text = extracted(tmp_path, "Whale.DOCX", docx(fill))
    assert text == (
        f"# Ambergris\n\n{WHALE}\n\n- grey\n\n\\# not a heading\n\n| kind | price |\n| unknown |\n\n## Uses\n"
    )
    parsed = parse_document("Whale.md", text.encode())
    assert (parsed.title, parsed.is_heading.count(True)) == ("Ambergris", 2)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.csv", b"\xef\xbb\xbfname;age\r\nIshmael;30\r\n\r\n\"Que;eg\"\"\";\r\n", 'name: Ishmael; age: 30\n\nname: Que;eg"\n'),
        ("a.csv", b"title,text\nx,\"one\n\ntwo\"\n", "one\n\ntwo\n"),
        ("a.jsonl", b'{"text": "one"}\n\n{"prompt": "Who?", "completion": "Ahab."}\n', "one\n\nWho?\n\nAhab.\n"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', "a\n\nb\n"),
        ("a.jsonl", b'{"n": 1, "tags": ["x", "y"], "who": {"name": "Pip"}, "none": null, "nan": NaN}', "n: 1; tags: x; tags: y; who: name Pip\n"),
        ("a.parquet", table(text=["one", "two", None]), "one\n\ntwo\n"),
        ("a.parquet", table(name=["Ahab"], legs=[1]), "name: Ahab; legs: 1\n"),
        ("a.parquet", table(messages=[[{"role": "user", "content": "a"}]]), "a\n"),
    ],
)  # fmt: skip
def test_rows_become_blocks(name, data, text):
    assert parsed(name, data) == text


def test_a_process_of_its_own_says_the_same(tmp_path):
    for name, data in (("a.csv", b"text\none\n"), ("a.jsonl", b'{"text": "one"}'), ("a.parquet", table(text=["one"]))):
        assert extracted(tmp_path, name, data) == "one\n"
    with pytest.raises(ExtractionRefused, match=r"b.csv: line 2 has 1 values"):
        extracted(tmp_path, "b.csv", b"a,b\n1\n")


DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
MANY = docx(lambda document: [document.add_paragraph(WHALE) for _ in range(300)])
REFUSED: list[tuple[str, bytes, str]] = [
    ("a.pdf", b"hello", "is no PDF"),
    ("a.pdf", b"%PDF-1.7\n" + b"x" * 1000, "damaged PDF"),
    ("a.pdf", pdf(WHALE)[:-300], "damaged PDF|holds text"),
    ("a.pdf", pdf(""), "only pictures"),
    ("a.pdf", pdf(WHALE, script="app.alert(1)"), "JavaScript"),
    ("a.pdf", pdf(WHALE, launch=True), "Launch"),
    ("a.pdf", pdf(WHALE, password="x"), "encrypted"),
    ("a.docx", b"PK\x03\x04junk", "no Word document"),
    ("a.docx", pdf(WHALE), "no Word document"),
    ("a.docx", zipped(a=b"b"), "a zip archive"),
    ("a.docx", zipped(types=b"<x/>"), "damaged Word document"),
    ("a.docx", zipped(types=b"<x/>", bomb=bytes(300 << 20)), "unpacks"),
    ("a.docx", zipped(types=b"<x/>", vba=b"x"), "macros"),
    ("a.docx", MANY, "longer than 10,000 bytes"),
    ("a.csv", b"a,b\n1\n", "line 2 has 1 values for 2 columns"),
    ("a.csv", b"a,a\n1,2\n", "name each column, once"),
    ("a.csv", b'a\n"x', "line 2 is not CSV"),
    ("a.csv", b"a\n\xff", "not UTF-8"),
    ("a.csv", pdf(WHALE), "is a PDF"),
    ("a.csv", b"a\n\x00", "NUL"),
    ("a.jsonl", b'{"a": 1}\n{', "line 2 is not JSON"),
    ("a.jsonl", b"[1]", "not a JSON object"),
    ("a.jsonl", DEEP, "nested deeper"),
    ("a.jsonl", b'{"text": "' + b"x" * (2 << 20) + b'"}', "characters, the limit"),
    ("a.jsonl", b'{"text": "' + b"x" * 20_000 + b'"}', "longer than 10,000 bytes"),
    ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", "damaged Parquet"),
    ("a.parquet", b"x", "no Parquet file"),
    ("a.parquet", table(image=[b"\x89PNG"]), "holds bytes"),
    ("a.parquet", table(text=["x" * 5_000] * 60_000), "unpacks to|longer than"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "said"), REFUSED, ids=[f"{n}-{s[:20]}" for n, _, s in REFUSED])
def test_what_is_no_document_of_words_is_refused(name, data, said):
    with pytest.raises(ExtractionRefused, match=said):
        parsed(name, data, 10_000)


def test_sizes_and_kinds_are_told_before_a_byte_is_read(tmp_path):
    file = tmp_path / "a.pdf"
    file.touch()
    os.truncate(file, 2 << 30)  # sparse
    with pytest.raises(DocumentTooLarge, match="the limit is"):
        extract_file(file, limit_bytes=LIMIT)
    with pytest.raises(UnsupportedDocument, match=r"\.pdf, \.docx"):
        extract_file(tmp_path / "a.xls", limit_bytes=LIMIT)


ATTACK = """
import json, os, socket, subprocess, sys
from openledger.node.extraction.worker import lock_down
lock_down(1000)
tried = {}
def attempt(name, do):
    try:
        do(); tried[name] = "done"
    except (OSError, MemoryError) as error:
        tried[name] = type(error).__name__
attempt("read", lambda: open("/etc/hostname"))
attempt("write", lambda: open("/tmp/x-of-extraction", "w"))
attempt("socket", lambda: socket.socket())
attempt("start", lambda: subprocess.run(["/bin/true"]))
attempt("memory", lambda: bytearray(3 << 30))
print(json.dumps(tried))
"""


def test_nothing_can_be_opened_started_or_filled_after_the_lock():
    ended = subprocess.run([sys.executable, "-c", ATTACK], capture_output=True, check=True, text=True)
    tried = json.loads(ended.stdout)
    assert set(tried) == {"read", "write", "socket", "start", "memory"}
    assert "done" not in tried.values(), tried


def test_a_process_that_dies_is_a_refusal(tmp_path, monkeypatch):
    monkeypatch.setattr("openledger.node.extraction.extract.sys.executable", "/bin/false")
    with pytest.raises(ExtractionRefused, match="without an answer"):
        extracted(tmp_path, "a.csv", b"a\n1")


def test_the_text_is_contributed_and_names_its_source(tmp_path):
    data = pdf(WHALE, WHALE)
    (tmp_path / "whale.pdf").write_bytes(data)
    document = read_file(tmp_path / "whale.pdf", "CC0-1.0", LIMIT)
    metadata = document.metadata
    assert metadata.source is not None
    assert (metadata.name, metadata.media_type, metadata.source.name) == ("whale.txt", "text/plain", "whale.pdf")
    assert metadata.source.hash == content_hash(data)
    assert metadata.source.tool.startswith("pypdf ")
    assert DocumentMetadata.decode(metadata.encode()) == metadata
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="is empty"):
        read_file(tmp_path / "empty.jsonl", "CC0-1.0", LIMIT)
