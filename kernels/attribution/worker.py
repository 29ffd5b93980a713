"""The attribution process: opens indexes, answers requests one after another, in a process of its own.

Started by `client.py` as `python -m openledger.kernels.attribution.worker --fd N`. It ends at once when its parent
is gone, whatever it is doing. Models are loaded when first needed.
"""

import argparse
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import structlog

from openledger.kernels.attribution import messages as m
from openledger.kernels.attribution.attribute import attribute, retrieve
from openledger.kernels.attribution.encoder import Encoder
from openledger.kernels.attribution.errors import AttributionError, BadDocument, BadRequest, code_of
from openledger.kernels.attribution.index import Index, SourceDocument, TextTokenizer, build_index
from openledger.kernels.attribution.prover import prove_scores, prove_spans
from openledger.kernels.documents import DocumentError, parse_document, read_document
from openledger.kernels.framing import BlockingFrameChannel, ChannelClosed
from openledger.kernels.model.errors import ModelError
from openledger.kernels.model.tokenizer import load_tokenizer

log = structlog.get_logger(__name__)

MAX_TEXTS = 1_000
MAX_QUERY_CHARACTERS = 100_000
_OPEN_INDEXES = 64
_PROGRESS_EVERY_S = 0.1


class Worker:
    """Handles one request at a time; holds the models and the indexes opened lately."""

    def __init__(self, send: Callable[[m.Reply], None], model_file: str = "", cache_folder: str = "") -> None:
        """`model_file`: the model whose tokens are indexed, as the engine takes it; "" is the default one."""
        self._send = send
        self._model_file, self._cache_folder = model_file or None, cache_folder or None
        self._indexes: dict[tuple[str, int], Index] = {}

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder()

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        return load_tokenizer(self._model_file, self._cache_folder)

    def handle(self, request: m.Request) -> None:
        """Answer a request; an error of the request becomes a `Failed`."""
        try:
            self._send(self._answer(request))
        except ChannelClosed:
            raise
        except (AttributionError, DocumentError, ModelError, ValueError, OSError) as error:
            code = BadRequest.code if type(error) is ValueError else code_of(error)
            self._send(m.Failed(request.request_id, code, str(error)))
        except Exception as error:  # the process goes on: one bad request must not end the others
            log.exception("attribution request failed", request=type(request).__name__)
            self._send(m.Failed(request.request_id, code_of(error), f"{type(error).__name__}: {error}"))

    def _answer(self, request: m.Request) -> m.Reply:
        match request:
            case m.BuildIndex():
                return self._build(request)
            case m.Embed(request_id, texts):
                if len(texts) > MAX_TEXTS or any(len(t) > MAX_QUERY_CHARACTERS for t in texts):
                    raise BadRequest(f"at most {MAX_TEXTS} texts of {MAX_QUERY_CHARACTERS:,} characters")
                vectors = [self.encoder.embed(text) for text in texts]
                return m.Embedded(request_id, vectors, [self.encoder.count(text) for text in texts])
            case m.Retrieve(request_id, folders, query, k, minimum_score):
                if len(query) > MAX_QUERY_CHARACTERS:
                    raise BadRequest(f"a query has at most {MAX_QUERY_CHARACTERS:,} characters")
                indexes = self._open(folders)
                return m.Retrieved(request_id, retrieve(indexes, self.encoder.embed(query), k, minimum_score))
            case m.Attribute(request_id, folders, output_tokens, retrieval, policy):
                result = attribute(self._open(folders), output_tokens, retrieval, policy)
                spans = [
                    m.SpanFound(
                        start=e.span.start,
                        end=e.span.end,
                        worth=e.worth,
                        occurrences=e.span.count,
                        contributors=[contributor for contributor, _ in e.holders],
                        contributions=[contribution for _, contribution in e.holders],
                    )
                    for e in result.spans
                ]
                return m.Attributed(
                    request_id=request_id,
                    vector=list(result.vector),
                    spans=spans,
                    evidence=result.evidence,
                    evidence_hash=result.evidence_hash,
                    vector_hash=result.vector_hash,
                    retrieval_hash=result.retrieval_hash,
                )
            case m.ProveSpans(request_id, folder, output_tokens, start, end):
                (index,) = self._open([folder])
                return m.Proved(request_id, prove_spans(index, output_tokens, start, end).encode())
            case m.ProveScores(request_id, folder, query_vector, chunks):
                (index,) = self._open([folder])
                return m.Proved(request_id, prove_scores(index, query_vector, chunks).encode())

    def _build(self, request: m.BuildIndex) -> m.IndexSummary:
        reported = 0.0
        stage_before = ""

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal reported, stage_before
            if stage != stage_before or done == total or time.monotonic() - reported > _PROGRESS_EVERY_S:
                reported, stage_before = time.monotonic(), stage
                self._send(m.BuildProgress(request.request_id, stage, done, total))

        documents = [_source(d) for d in request.documents]
        manifest = build_index(
            Path(request.folder),
            request.datanet,
            request.version,
            documents,
            self.tokenizer,
            self.encoder,
            progress,
        )
        return m.IndexSummary(
            request_id=request.request_id,
            datanet=manifest.datanet,
            version=manifest.version,
            folder=request.folder,
            corpus_root=bytes.fromhex(manifest.corpus_root),
            information_root=bytes.fromhex(manifest.information_root),
            retrieval_root=bytes.fromhex(manifest.retrieval_root),
            tokenizer_hash=bytes.fromhex(manifest.tokenizer_hash),
            embedder_hash=bytes.fromhex(manifest.embedder_hash),
            tokens=manifest.tokens,
            chunks=len(manifest.chunks),
            tokens_by_contribution={c.contribution: c.tokens for c in manifest.contributions},
        )

    def _open(self, folders: Sequence[str]) -> list[Index]:
        """The indexes at these folders, kept open; one that was built again meanwhile is opened again."""
        indexes = []
        for folder in folders:
            try:
                inode = os.stat(folder).st_ino
            except OSError:
                inode = 0
            if (folder, inode) not in self._indexes:
                while len(self._indexes) >= _OPEN_INDEXES:
                    del self._indexes[next(iter(self._indexes))]
                self._indexes[folder, inode] = Index(Path(folder))
            indexes.append(self._indexes[folder, inode])
        return indexes


def _source(document: m.IndexDocument) -> SourceDocument:
    path = Path(document.path)
    try:
        if document.name:
            parsed = parse_document(document.name, path.read_bytes())
        else:
            parsed = read_document(path)
    except OSError as error:
        raise BadDocument(f"contribution {document.contribution}: cannot read {path}: {error.strerror}") from error
    except DocumentError as error:
        raise BadDocument(f"contribution {document.contribution}: {error}") from error
    return SourceDocument(document.contribution, document.contributor, parsed)


def serve(fd: int, model_file: str, cache_folder: str) -> None:
    """Answer the parent's requests until it closes the channel, which ends the process."""
    channel: BlockingFrameChannel[m.Request] = BlockingFrameChannel.from_fd(fd, m.Request)
    requests: queue.SimpleQueue[m.Request] = queue.SimpleQueue()

    def read() -> None:
        try:
            while (request := channel.receive()) is not None:
                requests.put(request)
        except ChannelClosed:
            pass
        finally:
            # The main thread may be deep in an index build that nobody waits for any more.
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    worker = Worker(channel.send, model_file, cache_folder)
    while True:
        worker.handle(requests.get())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--model-file", default="")
    parser.add_argument("--cache-folder", default="")
    serve(**vars(parser.parse_args()))
