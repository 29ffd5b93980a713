"""The formats' fixed values: who changes one of these breaks every commitment made before."""

import json
from pathlib import Path

import pytest

from openledger.evm_ext.proofs import domain
from openledger.evm_ext.proofs.content import content_hash, folder_hash
from openledger.evm_ext.proofs.datanet import Contribution, contribution_leaf, registry_domain, version_root
from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.evm_ext.proofs.receipt import ChannelTerms, Receipt, Voucher, ledger_domain, tokens_hash
from openledger.evm_ext.proofs.scores import retrieval_root, vector_leaf
from openledger.evm_ext.proofs.settlement import Group, Record, Settlement, encode_entries, encode_settlement
from openledger.evm_ext.proofs.spans import corpus_root, information_root, rank_leaf, segment_root, text_leaf

VECTORS = json.loads((Path(__file__).parent / "vectors" / "formats.json").read_bytes())
CHAIN = 161_299


def word(n: int) -> bytes:
    return n.to_bytes(32, "big")


TREE = DomainTree([word(1), word(2), word(3)])
CONTRIBUTION = Contribution(1, b"\x11" * 20, word(1), word(2), 500, word(3), 1_800_000_000)
LEAF = contribution_leaf(1, b"\x11" * 20, word(1))
RECEIPT_HASHES = [word(n) for n in range(1, 9)]
RECEIPT = Receipt(
    3, "exact-1", 0, *RECEIPT_HASHES[:3], 2, *RECEIPT_HASHES[3:], word(9), 100, 150, 12, word(10), 0
)  # fmt: skip
VALUES = {
    "content of nothing": content_hash(b""),
    "content hello": content_hash(b"hello"),
    "content of 1 MiB + 1 zero bytes": content_hash(bytes(2**20 + 1)),
    "folder {a/b: 1, a.txt: 2}": folder_hash({"a/b": word(1), "a.txt": word(2)}),
    "domain tree of 1, 2, 3": TREE.root,
    "text leaf of 7, 0..31": text_leaf(7, list(range(32))),
    "rank leaf of (i, 100 + i)": rank_leaf([(i, 100 + i) for i in range(16)]),
    "segment": segment_root(96, 256, 49_152, word(4), TREE.root, word(5)),
    "corpus of 1, 2": corpus_root([word(1), word(2)]),
    "information of 5, 6": information_root([5, 6]),
    "vector leaf of 1, 2, 3, (0, 1, -1)": vector_leaf(1, 2, 3, bytes([0, 1, 255])),
    "retrieval": retrieval_root(3, 3, 0x3F800000, word(6), TREE.root),
    "contribution leaf": LEAF,
    "version 1 of datanet 1 with that leaf": version_root(1, 1, [LEAF]),
    "commitment": CONTRIBUTION.commitment(CHAIN),
    "contribution digest": CONTRIBUTION.hash(registry_domain(CHAIN)),
    "receipt digest": RECEIPT.hash(ledger_domain(CHAIN)),
    "voucher digest": Voucher(word(9), 10**6).hash(ledger_domain(CHAIN)),
    "ledger domain": ledger_domain(CHAIN).separator,
    "channel id": ChannelTerms(b"\x01" * 20, b"\x02" * 20, b"\x03" * 20, 40, word(1)).id,
    "tokens 1, 2": tokens_hash((1, 2)),
    "entries ((6, 10000),)": encode_entries(((6, 10_000),)),
    "settlement": encode_settlement(
        Settlement(word(1), (Group(word(2), 3, 4, bytes(65), (Record(5, ((6, 10_000),)),)),))
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_format_is_what_it_was(name):
    assert VALUES[name].hex() == VECTORS[name]


def test_every_vector_is_checked_and_the_readme_shows_true_ones():
    assert VALUES.keys() == VECTORS.keys()
    readme = (Path(domain.__file__).parent / "README.md").read_text()
    for name in ("content of nothing", "content hello", "content of 1 MiB + 1 zero bytes"):
        assert f"`{VECTORS[name]}`" in readme


def test_domain_bytes_are_distinct():
    values = [value for name, value in vars(domain).items() if name.isupper()]
    assert len(values) == len(set(values))
    assert all(len(value) == 1 for value in values)
