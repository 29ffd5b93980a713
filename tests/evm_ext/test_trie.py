"""Tries against the `trie` library."""

import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from openledger.evm_ext.encoding import decode, encode_uint
from openledger.evm_ext.trie import EMPTY_ROOT, Trie, ordered_root, root_of
from openledger.genesis.hashing import keccak256

# Keys of one length, as in state and storage (the library fails on keys that are prefixes of others), over few
# bytes, so that shared prefixes, values in branches and embedded nodes are likely.
_KEYS = st.one_of(
    st.lists(st.sampled_from([0x00, 0x01, 0x10, 0x11]), min_size=3, max_size=3).map(bytes),
    st.binary(min_size=3, max_size=3),
)
_VALUES = st.one_of(st.binary(min_size=1, max_size=4), st.binary(min_size=30, max_size=40))
_CHANGES = st.lists(st.tuples(_KEYS, st.one_of(st.none(), _VALUES)), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(_CHANGES, max_size=4))
def test_batches_of_updates_and_deletions_give_the_library_s_root(batches):
    nodes: dict[bytes, bytes] = {}
    cache: dict[bytes, object] = {}
    reference = HexaryTrie({})
    contents: dict[bytes, bytes] = {}
    root = EMPTY_ROOT
    for batch in batches:
        trie = Trie(nodes.get, root, cache)
        for key, value in batch:
            if value is None:
                trie.delete(key)
                contents.pop(key, None)
                if key in reference:
                    del reference[key]
            else:
                trie.set(key, value)
                contents[key] = value
                reference[key] = value
        for key in [key for key, _ in batch]:
            assert trie.get(key) == contents.get(key)
        root = trie.commit(nodes)
        assert root == reference.root_hash
        assert root == root_of(contents)
        # What is cached of new nodes is what decoding them would give.
        assert all(decode(nodes[digest]) == item for digest, item in cache.items())
        committed = Trie(nodes.get, root, cache)
        for key, value in contents.items():
            assert committed.get(key) == value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.binary(min_size=3, max_size=3), _VALUES, max_size=20), max_size=4))
def test_many_values_at_once_give_what_one_by_one_gives(batches):
    nodes: dict[bytes, bytes] = {}
    one_by_one: dict[bytes, bytes] = {}
    contents: dict[bytes, bytes] = {}
    root = EMPTY_ROOT
    for batch in batches:
        at_once, singly = Trie(nodes.get, root), Trie(one_by_one.get, root)
        at_once.update(batch)
        for key, value in batch.items():
            singly.set(key, value)
        contents |= batch
        root = at_once.commit(nodes)
        assert root == singly.commit(one_by_one) == root_of(contents)
        assert nodes == one_by_one
        assert set(at_once.replaced) == set(singly.replaced)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=20), _KEYS)
def test_proofs_of_presence_and_absence_are_accepted_by_the_library(contents, asked):
    nodes: dict[bytes, bytes] = {}
    trie = Trie(nodes.get, EMPTY_ROOT)
    for key, value in contents.items():
        trie.set(key, value)
    root = trie.commit(nodes)
    for key in (asked, next(iter(contents))):
        proof = [rlp.decode(node) for node in Trie(nodes.get, root).proof(key)]
        assert HexaryTrie.get_from_proof(root, key, proof) == contents.get(key, b"")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=300))
def test_the_root_of_a_list_is_that_of_the_trie_over_its_indexes(values):
    reference = HexaryTrie({})
    for index, value in enumerate(values):
        reference[encode_uint(index)] = value
    assert ordered_root(values) == reference.root_hash


def test_deleting_everything_leaves_the_empty_root():
    nodes: dict[bytes, bytes] = {}
    trie = Trie(nodes.get, EMPTY_ROOT)
    keys = [keccak256(bytes([number])) for number in range(50)]
    for key in keys:
        trie.set(key, b"x" * 40)
    trie = Trie(nodes.get, trie.commit(nodes))
    for key in keys:
        trie.delete(key)
    assert trie.commit(nodes) == EMPTY_ROOT
