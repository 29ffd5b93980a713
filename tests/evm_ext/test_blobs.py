"""Blobs beside transactions: the network form, their room in the pool, and crashes and reorganisations."""

import hashlib

import pytest

from openledger.evm_ext import encoding, errors
from openledger.evm_ext.blobs import (
    BLOB_BYTES,
    BlobSidecar,
    decode_network,
    encode_network,
    sidecar_of,
    versioned_hash,
)
from openledger.evm_ext.pool import PoolLimits, TransactionPool
from openledger.evm_ext.pool.sidecars import Sidecars
from openledger.evm_ext.transactions import BLOB, sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS

ALICE = DEV_ACCOUNTS[0]

RECORDED = (
    "f90137870c72dd9d5e883e808201f484044105e683013880947dcd17433742f4c0ca53122ab541d0ba67fc27df80b844a9059cbb"
    "000000000000000000000000cff33720980c026cc155dcb366861477e988fd87000000000000000000000000000000000000000000"
    "0000000000000002fd6892f85bf859947dcd17433742f4c0ca53122ab541d0ba67fc27dff842a00000000000000000000000000000"
    "000000000000000000000000000000000000a0010000000000000000000000000000000000000000000000000000000000000083"
    "020000e1a0010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c44401401a04a0ab61dc19e0596d2445f4c8e7"
    "679703d6c9bea762355ab8d89957b420f3d8ca00f50ecf2cc11fc5990d69e9ac5fd2709116fca38dc08d16d279752fdf4b6bc32"
)
"""The transaction of eth_sendRawTransaction/send-blob-tx in ethereum/execution-apis (CC0); its blob is all zeros."""


def sidecar(*seeds: int, has_cells: bool = False) -> BlobSidecar:
    """Of the right form; nothing in it is proven."""
    count = 128 if has_cells else 1
    return BlobSidecar(
        blobs=tuple(bytes((seed,)) * BLOB_BYTES for seed in seeds),
        commitments=tuple(bytes((seed,)) * 48 for seed in seeds),
        proofs=tuple(bytes((seed,)) * 48 for seed in seeds for _ in range(count)),
        has_cells=has_cells,
    )


def transaction(beside: BlobSidecar):
    return sign_transaction(
        ALICE.private_key,
        type=BLOB,
        chain_id=1,
        nonce=0,
        gas=21_000,
        to=ALICE.address,
        max_fee_per_gas=10**9,
        max_fee_per_blob_gas=1,
        blob_versioned_hashes=beside.hashes,
    )


def test_a_hash_is_the_commitments_with_a_version():
    commitment = bytes(range(48))
    assert versioned_hash(commitment) == b"\x01" + hashlib.sha256(commitment).digest()[1:]


@pytest.mark.parametrize("has_cells", [False, True])
def test_the_network_form_is_read_back(has_cells):
    beside = sidecar(1, 2, has_cells=has_cells)
    signed = transaction(beside)
    raw = encode_network(signed, beside)
    assert decode_network(raw) == (signed, beside)
    parts = encoding.split_list(raw[1:])
    assert b"\x03" + parts[0] == signed.raw
    assert parts[1:2] == ([b"\x01"] if has_cells else [parts[1]])


def test_a_recorded_transaction_is_read_and_its_blob_proven():
    infinity = "f1b0c0" + "00" * 47
    raw = bytes.fromhex("03fa0201a6" + RECORDED + "fa020004ba020000" + "00" * BLOB_BYTES + infinity * 2)
    signed, beside = decode_network(raw)
    assert signed.hash.hex() == "3f1f6834e904b0062d403f0ab51aa5541fdc5c17b23f52351f0d6f9f9e525648"
    beside.check(signed)
    assert beside == sidecar_of((bytes(BLOB_BYTES),))
    assert encode_network(signed, beside) == raw


def test_without_blobs_it_is_the_transaction_alone():
    signed = transaction(sidecar(1))
    assert decode_network(signed.raw) == (signed, None)


def test_other_forms_are_refused():
    beside = sidecar(1)
    parts = encoding.split_list(encode_network(transaction(beside), beside)[1:])
    short = encoding.encode_sequence([encoding.encode_bytes(bytes(BLOB_BYTES - 1))])
    for wrong in (
        parts[:3],
        [parts[0], b"\x02", *parts[1:]],
        [parts[0], short, *parts[2:]],
        [*parts, *parts[1:]],
        [parts[0], parts[1], b"\x80", parts[3]],
        [encoding.encode_sequence([]), *parts[1:]],
    ):
        with pytest.raises(errors.UndecodableTransaction):
            decode_network(b"\x03" + encoding.encode_sequence(wrong))
    many = sidecar(*range(9))
    with pytest.raises(errors.UndecodableTransaction, match="send fewer blobs"):
        decode_network(encode_network(transaction(many), many))


def test_blobs_of_what_left_make_room_for_what_waits():
    waiting: set[bytes] = {b"a", b"b"}
    room = Sidecars(2 * sidecar(1).size, waiting.__contains__)
    room.put(b"a", sidecar(1))
    room.put(b"b", sidecar(2))
    with pytest.raises(errors.PoolFull, match="bytes of blobs wait"):
        room.put(b"c", sidecar(3))
    waiting.discard(b"a")
    assert room.get(b"a") == sidecar(1), "kept while there is room"
    room.put(b"c", sidecar(3))
    assert room.get(b"a") is None
    assert room.blob(sidecar(1).hashes[0]) is None
    assert room.blob(sidecar(3).hashes[0]) == (sidecar(3), 0)
    assert room.get(b"b") == sidecar(2)


def test_a_blob_that_two_transactions_carry_is_found_while_one_has_it():
    room = Sidecars(10 * sidecar(1).size, lambda _: True)
    room.put(b"a", sidecar(1, 2))
    room.put(b"b", sidecar(2))
    room.drop(b"a")
    assert room.blob(sidecar(2).hashes[0]) == (sidecar(2), 0)
    assert room.blob(sidecar(1).hashes[0]) is None


# --- in a pool, proven ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proven() -> BlobSidecar:
    return sidecar_of((bytes(BLOB_BYTES),))


@pytest.fixture
def chain(tools, open_chain):
    chain = open_chain(tools.ethereum_genesis())
    tools.extend(chain)
    return chain


def carrying(tools, beside: BlobSidecar, nonce: int = 0, **changes):
    given = {"type": BLOB, "max_fee_per_blob_gas": 10, "blob_versioned_hashes": beside.hashes} | changes
    return tools.signed(0, 1337, nonce, ALICE.address, **given)


def test_a_crash_loses_no_blob(tools, chain, tmp_path, proven):
    signed = carrying(tools, proven)
    journal = tmp_path / "transactions.journal"
    pool = TransactionPool(chain, journal=journal)
    pool.add(encode_network(signed, proven))
    again = TransactionPool(chain, journal=journal)
    assert list(again.pending()) == [signed]
    assert again.sidecar(signed.hash) == proven
    again.close()
    assert TransactionPool(chain, journal=journal).sidecar(signed.hash) == proven


def test_what_a_reorganisation_gives_back_has_its_blobs_still(tools, chain, proven):
    pool = TransactionPool(chain)
    signed = carrying(tools, proven)
    pool.add(encode_network(signed, proven))
    parent = chain.head()
    first = chain.build(parent.hash, tools.attributes(parent), pool.pending())
    assert first.transactions == (signed,)
    chain.set_heads(unsafe=first.hash)
    assert len(pool) == 0
    assert pool.blob(proven.hashes[0]) == (proven, 0)
    other = chain.build(parent.hash, tools.attributes(parent, timestamp=parent.timestamp + 3))
    chain.set_heads(unsafe=other.hash)
    assert list(pool.pending()) == [signed]


def test_blobs_are_paid_for_and_replaced_at_twice_the_price(tools, chain, proven):
    pool = TransactionPool(chain)
    signed = carrying(tools, proven)
    pool.add(encode_network(signed, proven))
    assert pool.cost(signed) == signed.gas * signed.max_fee_per_gas + 131_072 * 10
    fees = {name: getattr(signed, name) * 2 for name in ("max_fee_per_gas", "max_priority_fee_per_gas")}
    dear = carrying(tools, proven, max_fee_per_blob_gas=20, **fees)
    cheap = carrying(tools, proven, max_fee_per_blob_gas=19, **fees)
    with pytest.raises(errors.ReplacementUnderpriced):
        pool.add(encode_network(cheap, proven))
    assert pool.add(encode_network(dear, proven)) == dear.hash
    assert list(pool.pending()) == [dear]


def test_a_block_takes_no_more_blobs_than_its_fork_allows(tools, chain, proven):
    pool = TransactionPool(chain, PoolLimits(maximum_fee=None))
    for nonce in range(11):
        pool.add(encode_network(carrying(tools, proven, nonce), proven))
    parent = chain.head()
    block = chain.build(parent.hash, tools.attributes(parent), pool.pending())
    assert len(block.transactions) == 9, "Prague's limit"
    assert block.header.blob_gas_used == 9 * 131_072
