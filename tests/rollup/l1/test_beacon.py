"""Blobs from beacon nodes that answer badly; tests/rollup/l1/test_anvil.py has one that answers well."""

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from openledger.evm_ext.genesis_block import genesis_block
from openledger.evm_ext.transactions import BLOB, sign_transaction
from openledger.genesis.dev_accounts import BATCHER
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.rollup.codec.blobs import encode_blob
from openledger.rollup.derivation.l1_retrieval import L1Retrieval
from openledger.rollup.l1.beacon import BeaconClient, BlobsUnavailable, NoBeacon
from openledger.rollup.l1.kzg import blob_versioned_hash

HEADER = replace(genesis_block(l1_genesis(DEVNET, 1_700_000_000))[0].header, number=77, timestamp=1_700_000_000 + 121)
FIRST, SECOND = encode_blob(b"\x00first"), encode_blob(b"\x00second")
HASHES = (blob_versioned_hash(FIRST), blob_versioned_hash(SECOND))
GENESIS = {"data": {"genesis_time": "1700000000"}}
SPEC = {"data": {"SECONDS_PER_SLOT": "12"}}

Answers = Callable[[str], httpx.Response]


def client(*nodes: dict[str, object]) -> tuple[BeaconClient, list[str]]:
    """A client of nodes that answer paths with JSON, or a status."""
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.url.host}{request.url.path}")
        answer = nodes[int(request.url.host)].get(request.url.path, 404)
        return httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, json=answer)

    urls = [f"http://{index}" for index in range(len(nodes))]
    return BeaconClient(urls, attempts=2, backoff_s=0, transport=httpx.MockTransport(handle)), asked


def times(**answers: object) -> dict[str, object]:
    known: dict[str, object] = {"/eth/v1/beacon/genesis": GENESIS, "/eth/v1/config/spec": SPEC}
    return known | {path.replace("__", "/"): answer for path, answer in answers.items()}


BLOBS, SIDECARS = "/eth/v1/beacon/blobs/10", "/eth/v1/beacon/blob_sidecars/10"


def hexed(*blobs: bytes) -> list[str]:
    return ["0x" + blob.hex() for blob in blobs]


async def test_blobs_are_found_by_slot_and_put_in_the_order_asked_for() -> None:
    beacon, _ = client(times() | {BLOBS: {"data": hexed(SECOND, FIRST)}})
    assert await beacon.blobs(HEADER, HASHES) == (FIRST, SECOND)


async def test_an_older_node_is_asked_for_sidecars() -> None:
    beacon, _ = client(times() | {SIDECARS: {"data": [{"index": "0", "blob": blob} for blob in hexed(FIRST, SECOND)]}})
    assert await beacon.blobs(HEADER, HASHES[1:]) == (SECOND,)


async def test_a_chain_without_slots_is_asked_by_block_number() -> None:
    beacon, _ = client({"/eth/v1/beacon/genesis": GENESIS, "/eth/v1/beacon/blobs/77": {"data": hexed(FIRST)}})
    assert await beacon.blobs(HEADER, HASHES[:1]) == (FIRST,)


@pytest.mark.parametrize(
    "bad",
    [
        {"data": hexed(FIRST)},
        {"data": hexed(FIRST, encode_blob(b"another"))},
        {"data": ["0x12"]},
        {"data": [None]},
        {"data": ["0x" + "zz" * 131_072]},
        {"data": ["0x" + "ff" * 131_072]},
        {"data": 3},
        {},
        [],
        500,
    ],
    ids=range(10),
)
async def test_a_node_with_wrong_or_missing_blobs_is_passed_over(bad: object) -> None:
    beacon, asked = client(times() | {BLOBS: bad}, times() | {BLOBS: {"data": hexed(FIRST, SECOND)}})
    assert await beacon.blobs(HEADER, HASHES) == (FIRST, SECOND)
    assert asked[-1] == "1" + BLOBS
    alone, _ = client(times() | {BLOBS: bad})
    with pytest.raises(BlobsUnavailable, match="block 77"):
        await alone.blobs(HEADER, HASHES)


async def test_times_that_make_no_sense_are_refused() -> None:
    for spec in ({"data": {"SECONDS_PER_SLOT": "0"}}, {"data": {}}, {"data": {"SLOT_DURATION_MS": "x"}}):
        beacon, _ = client({"/eth/v1/beacon/genesis": GENESIS, "/eth/v1/config/spec": spec})
        with pytest.raises(BlobsUnavailable):
            await beacon.blobs(HEADER, HASHES)


class _Block:
    """An L1 of one block with these transactions."""

    def __init__(self, *transactions: bytes) -> None:
        self._transactions = transactions

    async def transactions(self, header: object) -> tuple[bytes, ...]:
        return self._transactions


class _NoDA:
    async def get(self, commitment: bytes, l1_inclusion_block: int | None) -> bytes:
        return b"\x00from " + commitment


def batcher(nonce: int, **fields: object) -> bytes:
    values: dict[str, object] = {"chain_id": 900, "gas": 100_000, "to": b"\xff" * 20, "max_fee_per_gas": 10**9}
    return sign_transaction(BATCHER.private_key, nonce=nonce, **{**values, **fields}).raw  # type: ignore[arg-type]


async def test_calldata_blobs_and_commitments_are_read_in_the_order_of_l1() -> None:
    commitment = encode_blob(b"\x01\x01\x00\x02cert")
    blobs = (FIRST, bytes([0, 9]) + bytes(131_070), commitment)
    hashes = tuple(blob_versioned_hash(blob) for blob in blobs)
    beacon, _ = client(times() | {BLOBS: {"data": hexed(*blobs)}})
    l1 = _Block(
        batcher(0, data=b"\x00calldata"),
        batcher(1, type=BLOB, data=b"ignored", max_fee_per_blob_gas=1, blob_versioned_hashes=hashes),
        batcher(2, data=b"\x00last"),
    )
    retrieval = L1Retrieval(l1, _NoDA(), b"\xff" * 20, beacon)  # type: ignore[arg-type]
    found = []
    while (data := await retrieval.next_data(HEADER, BATCHER.address)) is not None:
        found.append(data)
    assert found == [b"\x00calldata", b"\x00first", b"\x00from \x01\x00\x02cert", b"\x00last"]


async def test_without_a_beacon_node_derivation_waits_at_a_blob_and_says_what_to_set() -> None:
    l1 = _Block(batcher(0, type=BLOB, max_fee_per_blob_gas=1, blob_versioned_hashes=HASHES))
    retrieval = L1Retrieval(l1, _NoDA(), b"\xff" * 20, NoBeacon())  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(BlobsUnavailable, match="l1_beacon_urls"):
            await retrieval.next_data(HEADER, BATCHER.address)
