import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from openledger.evm_ext.proofs.policy import DEFAULT_POLICY
from openledger.kernels.attribution.attribute import attribute
from openledger.kernels.attribution.client import AttributionClient, AttributionConfig, open_attribution
from openledger.kernels.attribution.errors import (
    AttributionUnavailable,
    BadDocument,
    BadRequest,
    IndexMissing,
)
from openledger.kernels.attribution.index import Index
from openledger.kernels.attribution.messages import BuildProgress, IndexDocument, Retrieval
from openledger.kernels.model.tokenizer import load_tokenizer

from ..model.tiny_model import write_tiny_model
from .conftest import AMBER, BREAD, WHALE

ANSWER = " It is known that ambergris is soft, waxy, and so highly fragrant and spicy, as they say."


@pytest.fixture
async def client() -> AsyncIterator[AttributionClient]:
    async with open_attribution(AttributionConfig()) as opened:
        yield opened


@pytest.fixture
def documents(tmp_path: Path) -> list[IndexDocument]:
    made = []
    for contribution, (contributor, text) in enumerate([(1, WHALE), (2, AMBER), (3, BREAD)], 4):
        path = tmp_path / f"{contribution}.md"
        path.write_text(text)
        made.append(IndexDocument(contribution, contributor, str(path)))
    return made


async def test_the_tokens_of_an_index_are_those_of_the_model_that_is_served(
    documents: list[IndexDocument], tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    config = AttributionConfig(model_file=str(model), cache_folder=str(tmp_path / "cache"))
    with trio.fail_after(240):
        async with open_attribution(config) as client:
            await client.build_index(1, 1, documents, str(tmp_path / "index"))
    index = Index(tmp_path / "index")
    tokenizer = load_tokenizer(model)
    assert index.manifest.tokenizer_hash == tokenizer.hash.hex() != load_tokenizer().hash.hex()
    text = WHALE.split("\n")[0]
    assert tokenizer.encode(text) == index.tokens[: len(tokenizer.encode(text))].tolist()


async def test_an_index_is_built_searched_attributed_and_proved(
    client: AttributionClient, documents: list[IndexDocument], tmp_path: Path
) -> None:
    folder = str(tmp_path / "index")
    stages: list[BuildProgress] = []
    with trio.fail_after(120):
        summary = await client.build_index(1, 1, documents, folder, stages.append)
        assert [s.stage for s in stages][-1] == "writing"
        assert {s.stage for s in stages} >= {"tokens", "suffix array", "commitment", "embeddings"}
        assert set(summary.tokens_by_contribution) == {4, 5, 6}
        found = await client.retrieve([folder], "What is ambergris used for?", k=2)
        assert found.chunks[0].contribution == 5
        assert "perfumery" in found.chunks[0].text
        tokens = load_tokenizer().encode(ANSWER)
        result = await client.attribute([folder], tokens, found)
        proof = await client.prove_spans(folder, tokens, result.spans[0].start, result.spans[0].end)
        scores = await client.prove_scores(folder, found.query_vector, [c.chunk for c in found.chunks])
    assert dict(result.vector)[5] > 5000
    again = attribute([Index(Path(folder))], tokens, found, DEFAULT_POLICY)
    assert (again.evidence_hash, again.vector_hash, again.retrieval_hash) == (
        result.evidence_hash,
        result.vector_hash,
        result.retrieval_hash,
    )
    assert proof[:33] == b"\0" + summary.corpus_root
    assert scores[:33] == b"\0" + summary.retrieval_root


async def test_errors_come_back_by_name_and_stop_nothing(
    client: AttributionClient, documents: list[IndexDocument], tmp_path: Path
) -> None:
    with trio.fail_after(120):
        with pytest.raises(IndexMissing, match="build it first"):
            await client.retrieve([str(tmp_path / "none")], "q")
        with pytest.raises(BadRequest, match="384 bytes, not 3"):
            await client.attribute([], [1, 2, 3], Retrieval(bytes(3), 1, 0, []))
        (tmp_path / "4.md").write_bytes(b"\xff\xff")
        with pytest.raises(BadDocument, match=r"contribution 4: 4\.md is not UTF-8"):
            await client.build_index(1, 1, documents, str(tmp_path / "index"))
        assert len((await client.embed(["still there"]))[0]) == 384
    assert not (tmp_path / "index").exists()


async def test_a_killed_process_fails_its_requests_clearly_and_is_restarted(client: AttributionClient) -> None:
    with trio.fail_after(120):
        await client.embed(["warm"])
        (victim,) = children()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_unavailable, client)
            await trio.sleep(0.3)
            os.kill(victim, signal.SIGKILL)
        assert len(await client.embed(["again"])) == 1
        assert children() != [victim]


async def expect_unavailable(client: AttributionClient) -> None:
    with pytest.raises(AttributionUnavailable, match="killed by signal 9"):
        await client.embed(["a long text about whales " * 100] * 200)


async def test_a_cancelled_build_leaves_no_process_and_no_index(documents: list[IndexDocument], tmp_path: Path) -> None:
    async with open_attribution() as client:
        with trio.move_on_after(0.5):
            await client.build_index(1, 1, documents * 1, str(tmp_path / "index"))
        assert len(children()) == 1
    assert children() == []
    assert not (tmp_path / "index").exists()


def test_the_client_loads_no_heavy_library() -> None:
    code = (
        "import sys, openledger.kernels.attribution.client, openledger.kernels.attribution.worker;"
        "print([m for m in ('torch', 'numba', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def children() -> list[int]:
    """The living children of this process."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "attribution.worker"], capture_output=True)
    return sorted(int(p) for p in found.stdout.split())
