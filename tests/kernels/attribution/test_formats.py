"""The values of the folder's README: other implementations must find the same bytes."""

import numpy as np

from openledger.evm_ext.proofs.spans import corpus_root, information_root
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.corpus import ContributionTokens, information_table, lay_out
from openledger.kernels.attribution.encoder import Encoder
from openledger.kernels.attribution.retrieval import SCALE_BITS
from openledger.kernels.attribution.suffix_array import commit, suffix_array


def test_a_small_corpus_has_these_roots() -> None:
    corpus = lay_out(
        [ContributionTokens(4, [[1, 2], [3]]), ContributionTokens(9, [list(range(31)), [1, 2, 3]])], vocab=40
    )
    array = suffix_array(corpus.tokens)
    assert array[:8].tolist() == [32, 33, 64, 0, 34, 65, 1, 35]
    segment = commit(corpus, array, b"\x11" * 32)
    assert segment.text_root.hex() == "08de8ebecc0b3b29a1f3c8785dc1fccedc8e42d191a977a42cbc4bbe633facff"
    assert segment.rank_root.hex() == "7a73e7e9a04bdf18d5eb009909bf9ecbbac166d6ba71724c494a58f50d9a6d61"
    root = corpus_root([segment.root]).hex()
    assert root == "4e2431dcc8f837f50f46b38ad6a5286f8410ece312b80dedf4cbf2fceef5be32"
    information = information_table(corpus.counts()).tolist()
    assert information[:4] == [341406, 237534, 237534, 237534]
    assert information_root(information).hex() == "08f9c2e7f1f976cc9e920c089a597579dab24ac9cea70ae0283530c8a69410f4"


def test_a_question_has_this_vector() -> None:
    vector = Encoder().embed("How do I bake bread?")
    assert np.frombuffer(vector, np.int8)[:8].tolist() == [22, 22, -11, -9, -51, -1, -4, 8]
    assert keccak256(vector).hex() == "888ab9e56520a1f3a4cf34eed6223a0b9340de6bb7d9e7b2f22e75ab2e3377b8"
    assert f"{SCALE_BITS:08x}" == "3b000000"
