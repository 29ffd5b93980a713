"""What attribution takes: building and asking an index of spans, proving an account, and the search for passages.

    python benchmarks/attribution.py [--tokens 1000000 10000000] [--output benchmarks/results/attribution.json]

Texts are drawn: a Zipf law over 49,152 tokens in which the last token matters, cut into documents. Answers of 300 tokens are put
together from pieces of 4 to 60 tokens that stand in them. Beside it, where they are installed: `infini-gram` (its own
index of the same tokens; the spans must be the same; its time is that of all threads of its `attribute`, which also looks up
where a span stands) and, up to a million tokens, a plain scan in Python.

Times are medians of CPU time in one process with one thread; `cold` is elapsed time after the files left the page cache. Of the
proofs, the gas per microsecond stands beside ecrecover's: no call of SPANS may buy more time with its gas.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from openledger.evm_ext.precompiles.spans import spans as spans_precompile
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.span_statements import Absence, Account, HiddenMatch, SpanProof, StatedSpan
from openledger.evm_ext.proofs.spans import SENTINEL, Segment, corpus_root
from openledger.evm_ext.signatures import recover_address, sign_digest
from openledger.kernels.attribution.corpus import ContributionTokens, Corpus, lay_out
from openledger.kernels.attribution.prover import prove_account, prove_hidden_match
from openledger.kernels.attribution.retrieval import search
from openledger.kernels.attribution.spans import SegmentIndex, maximal_spans
from openledger.kernels.attribution.suffix_array import rank_tree, suffix_array, text_tree

RESULT = Path(__file__).parent / "results" / "attribution.json"
VOCABULARY = 49_152
DOCUMENT_TOKENS = 900
ANSWER_TOKENS = 300
ANSWERS = 40
SHORTEST = 6
SCANNED = 1_000_000
PROVED = 1_000_000
CHUNKS = 100_000
ECRECOVER_GAS = 3_000
Output = list[int]


def drawn_corpus(tokens: int, seed: int = 1) -> Corpus:
    """Documents of a drawn text, one to a contribution."""
    rng = np.random.default_rng(seed)
    rank = np.minimum(rng.zipf(1.25, tokens), VOCABULARY).astype(np.int64)
    text = np.empty(tokens, np.int64)
    text[0] = 0
    # What follows depends on what stands before: the same pairs come again, as in language.
    text[1:] = (rank[1:] * 7 + rank[:-1] * 31) % VOCABULARY
    pieces = np.array_split(text, max(1, tokens // DOCUMENT_TOKENS))
    return lay_out((ContributionTokens(i + 1, [piece]) for i, piece in enumerate(pieces)), VOCABULARY)


def drawn_answers(corpus: Corpus, seed: int = 2) -> list[Output]:
    rng = np.random.default_rng(seed)
    answers = []
    for _ in range(ANSWERS):
        answer: Output = []
        while len(answer) < ANSWER_TOKENS:
            start = int(rng.integers(0, len(corpus.tokens) - 64))
            piece = corpus.tokens[start : start + int(rng.integers(4, 60))].tolist()
            answer += [token for token in piece if token != SENTINEL]
        answers.append(answer[:ANSWER_TOKENS])
    return answers


@dataclass
class MappedIndex:
    """An index of spans in files that are mapped, as a node holds it: what the prover reads of an `Index`."""

    folder: Path
    corpus: Corpus
    depth: int = 256

    def __post_init__(self) -> None:
        self.build_s = cpu(lambda: self._write())
        self.counts = self.corpus.counts()

    def _write(self) -> None:
        suffix_array(self.corpus.tokens, self.depth).tofile(self.folder / "array")
        self.corpus.tokens.tofile(self.folder / "tokens")
        self.corpus.owners.tofile(self.folder / "owners")

    @cached_property
    def tokens(self) -> Any:
        return np.memmap(self.folder / "tokens", np.uint32, "r")

    @cached_property
    def owners(self) -> Any:
        return np.memmap(self.folder / "owners", np.uint32, "r")

    @cached_property
    def array(self) -> Any:
        return np.memmap(self.folder / "array", np.uint32, "r")

    @cached_property
    def segment(self) -> SegmentIndex:
        return SegmentIndex(self.tokens, self.array, self.owners, self.counts, self.depth)

    @cached_property
    def text_tree(self) -> Any:
        return text_tree(self.tokens, self.owners)

    @cached_property
    def rank_tree(self) -> Any:
        return rank_tree(self.array, self.owners)

    @cached_property
    def segment_header(self) -> Segment:
        roots = self.text_tree.root, self.rank_tree.root
        return Segment(len(self.tokens), self.depth, VOCABULARY, bytes(32), *roots)

    @cached_property
    def manifest(self) -> Any:
        root = corpus_root([self.segment_header.root])
        return SimpleNamespace(tokens=len(self.tokens), depth=self.depth, corpus_root=root.hex())

    def drop_from_cache(self) -> None:
        for name in ("tokens", "owners", "array"):
            self.__dict__.pop(name, None)
        self.__dict__.pop("segment", None)
        for name in ("tokens", "owners", "array"):
            with open(self.folder / name, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cpu(run: Callable[[], Any]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def median_ms(runs: Sequence[Callable[[], Any]]) -> float:
    return 1_000 * statistics.median(cpu(run) for run in runs)


def found_by_us(index: MappedIndex, answer: Output) -> list[tuple[int, int, int]]:
    return [(s.start, s.end, s.count) for s in maximal_spans([index.segment], answer, SHORTEST)]


def found_by_scanning(text: bytes, answer: Output) -> list[tuple[int, int]]:
    """The maximal spans by looking for each longer piece in the bytes of the text."""
    pieces = [token.to_bytes(4, "little") for token in answer]

    def stands(first: int, last: int) -> bool:
        wanted = b"".join(pieces[first:last])
        at = text.find(wanted)
        while at % 4 and at >= 0:
            at = text.find(wanted, at + 1)
        return at >= 0

    found, end = [], 0
    for first in range(len(answer)):
        last = max(first, end)
        while last < len(answer) and stands(first, last + 1):
            last += 1
        if last > end:
            end = last
            if last - first >= SHORTEST:
                found.append((first, last))
    return found


class InfiniGram:
    """The peer's index over the same tokens, built by its own program."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        import infini_gram
        from infini_gram import indexing
        from infini_gram.engine import InfiniGramEngine

        # It knows a document by the separator before it, and ours end with theirs. Its tokens take two bytes here, so that
        # its program, which sorts by an alphabet of all values, needs no 32 GiB.
        text = np.concatenate([np.array([SENTINEL], np.uint32), corpus.tokens]).astype("<u2")
        (folder / "tokenized.0").write_bytes(text.tobytes())
        starts = np.flatnonzero(text == SENTINEL & 0xFFFF)
        (folder / "offset.0").write_bytes((starts * 2).astype("<u8").tobytes())
        program = Path(infini_gram.__file__).parent / "rust_indexing"
        program.chmod(0o755)
        arguments = SimpleNamespace(
            save_dir=str(folder), temp_dir=str(folder), worker_id=0, shards=1, workers=1, cpus=1, mem=8, token_width=2
        )
        here, begin = os.getcwd(), time.perf_counter()
        with open(os.devnull, "w") as nowhere:
            said, sys.stdout = sys.stdout, nowhere
            try:
                indexing.build_sa(arguments)
            finally:
                sys.stdout = said
                os.chdir(here)
        self.build_s = time.perf_counter() - begin
        self._engine = InfiniGramEngine(
            str(folder), eos_token_id=VOCABULARY - 1, vocab_size=VOCABULARY, token_dtype="u16", maxnum=1
        )

    def find(self, answer: Output) -> list[tuple[int, int, int]]:
        told = self._engine.attribute(
            input_ids=answer, delim_ids=[], min_len=SHORTEST, max_cnt=1 << 30, enforce_bow=False
        )
        return [(span["l"], span["r"], span["count"]) for span in told["spans"]]


def spans_at(size: int) -> dict[str, Any]:
    corpus = drawn_corpus(size)
    answers = drawn_answers(corpus)
    with tempfile.TemporaryDirectory() as place:
        index = MappedIndex(Path(place), corpus)
        ours = [found_by_us(index, answer) for answer in answers]
        row: dict[str, Any] = {
            "build_s": round(index.build_s, 2),
            "spans_per_answer": statistics.median(map(len, ours)),
            "warm_ms": round(median_ms([lambda a=a: found_by_us(index, a) for a in answers]), 3),
        }
        cold = []
        for answer in answers[:5]:
            index.drop_from_cache()
            begin = time.perf_counter()
            found_by_us(index, answer)
            cold.append(time.perf_counter() - begin)
        row["cold_ms"] = round(1_000 * statistics.median(cold), 2)
        if size <= SCANNED:
            text = corpus.tokens.tobytes()
            row["python_scan_ms"] = round(median_ms([lambda a=a: found_by_scanning(text, a) for a in answers[:3]]), 1)
            assert [found_by_scanning(text, a) for a in answers[:3]] == [[s[:2] for s in o] for o in ours[:3]]
        row |= beside_infini_gram(corpus, answers, ours)
        if size <= PROVED:
            row |= proofs(index, answers)
    return row


def beside_infini_gram(corpus: Corpus, answers: list[Output], ours: list[list[tuple[int, int, int]]]) -> dict[str, Any]:
    try:
        version("infini-gram")
    except PackageNotFoundError:
        return {}
    with tempfile.TemporaryDirectory() as place:
        peer = InfiniGram(Path(place), corpus)
        theirs = [peer.find(answer) for answer in answers]
        differing = sum(sorted(a) != sorted(b) for a, b in zip(ours, theirs))
        return {
            "infini_gram_build_s": round(peer.build_s, 2),
            "infini_gram_warm_ms": round(median_ms([lambda a=a: peer.find(a) for a in answers]), 3),
            "infini_gram_answers_that_differ": differing,
        }


def proofs(index: MappedIndex, answers: list[Output]) -> dict[str, Any]:
    """Sizes, times and prices of accounts of whole answers, and of what convicts one that leaves something out."""
    policy = AttributionPolicy(shortest_span=SHORTEST)
    accounts, hidden = [], []
    for answer in answers:
        found = maximal_spans([index.segment], answer, SHORTEST)
        accounts.append(prove_account(index, answer, found, policy).encode())  # type: ignore[arg-type]
        match = prove_hidden_match(index, answer, [], policy)  # type: ignore[arg-type]
        assert match is not None
        hidden.append(match.encode())
    check = [measured(proof) for proof in accounts]
    challenge = [measured(proof) for proof in hidden]
    return {
        "account_bytes": statistics.median(map(len, accounts)),
        "account_check_ms": round(1_000 * statistics.median(s for s, _ in check), 3),
        "account_gas": statistics.median(gas for _, gas in check),
        "hidden_match_bytes": statistics.median(map(len, hidden)),
        "hidden_match_check_us": round(1e6 * statistics.median(s for s, _ in challenge), 1),
        "least_gas_per_us": least_gas_per_us(accounts, hidden),
        "ecrecover_gas_per_us": round(ECRECOVER_GAS / (1e6 * ecrecover_s()), 1),
    }


def least_gas_per_us(accounts: list[bytes], hidden: list[bytes]) -> float:
    """Of usual proofs and of those that make the most work of the fewest bytes."""
    account, match = SpanProof.decode(accounts[0]), SpanProof.decode(hidden[0])
    statement, other = account.statement, match.statement
    assert isinstance(statement, Account)
    assert isinstance(other, HiddenMatch)
    span, absence = statement.spans[0], statement.absences[0]
    many: list[tuple[StatedSpan, ...]] = [(span,) * 4_000, (StatedSpan(span.start, span.start + 1, 0, 0, False),)]
    absences: tuple[Absence, ...] = (absence,) * 4_000
    odd = [
        SpanProof(Account(SHORTEST, statement.output, many[0], ()), account.openings).encode(),
        SpanProof(Account(SHORTEST, statement.output, (), absences), account.openings).encode(),
        SpanProof(HiddenMatch(SHORTEST, other.output, ((1, 2),) * 4_000, *_match(other)), match.openings).encode(),
    ]
    rates = []
    for proof in (*accounts[:10], *hidden[:10], *odd):
        seconds, gas = measured(proof)
        rates.append(gas / (1e6 * seconds))
    return round(min(rates), 1)


def _match(statement: HiddenMatch) -> tuple[int, int, int]:
    return statement.position, statement.start, statement.end


def measured(proof: bytes, repeat: int = 5) -> tuple[float, int]:
    """Least CPU seconds of the precompile's call, and its gas."""
    paid: list[int] = []
    call = SimpleNamespace(
        msg=SimpleNamespace(data=proof), output=b"", consume_gas=lambda amount, _: paid.append(amount)
    )
    best = min(cpu(lambda: spans_precompile(call)) for _ in range(repeat))
    assert call.output[31] == 1, "a true proof"
    return best, sum(paid) // repeat


def ecrecover_s() -> float:
    digest = os.urandom(32)
    parity, r, s = sign_digest(digest, os.urandom(32))
    return min(cpu(lambda: recover_address(digest, parity, r, s)) for _ in range(200))


def retrieval() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    vectors = rng.integers(-127, 128, (CHUNKS, 384), dtype=np.int8)
    queries = [rng.integers(-127, 128, 384, dtype=np.int8).tobytes() for _ in range(21)]
    search([vectors], queries[0], 4, 0)

    def by_numpy(query: bytes) -> Any:
        scores = vectors.astype(np.float32) @ np.frombuffer(query, np.int8).astype(np.float32)
        return np.argsort(-scores, kind="stable")[:4]

    ours = median_ms([lambda q=q: search([vectors], q, 4, 0) for q in queries])
    numpys = median_ms([lambda q=q: by_numpy(q) for q in queries[:5]])
    return {
        "chunks": CHUNKS,
        "search_ms": round(ours, 2),
        "numpy_ms": round(numpys, 1),
        "ratio": round(numpys / ours, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = {}
    for size in arguments.tokens:
        rows[str(size)] = spans_at(size)
        print(f"{size:>13,} tokens", rows[str(size)], flush=True)
    found = retrieval()
    print("retrieval", found)
    packages = {}
    for package in ("numpy", "numba", "infini-gram"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": packages,
        "answer_tokens": ANSWER_TOKENS,
        "spans": rows,
        "retrieval": found,
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
