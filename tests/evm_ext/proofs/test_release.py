import json
from dataclasses import fields, replace

import pytest

from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.release import (
    DatanetPin,
    InvalidRelease,
    ReleaseManifest,
)
from openledger.genesis.parameters import Split


def word(n: int) -> bytes:
    return n.to_bytes(32, "big")


MANIFEST = ReleaseManifest(
    name="smol-poems",
    base_model="SmolLM2-135M-Instruct",
    base_model_root=word(1),
    adapter_hash=word(2),
    tokenizer_hash=word(3),
    template_hash=word(4),
    tables_hash=word(5),
    numerics="exact-1",
    embedder_hash=word(6),
    datanets=(DatanetPin(1, 2, word(7), word(8), word(9)), DatanetPin(4, 1, word(10), word(11), word(12))),
    attribution=AttributionPolicy(),
    price_in=500,
    price_out=1_500,
    split=Split(),
)


def test_manifests_round_trip_in_one_form():
    encoded = MANIFEST.encode()
    assert ReleaseManifest.decode(encoded) == MANIFEST
    assert ReleaseManifest.decode(encoded).hash == MANIFEST.hash
    for other in (encoded + b" ", json.dumps(json.loads(encoded)).encode()):
        with pytest.raises(InvalidRelease, match="canonical"):
            ReleaseManifest.decode(other)


def test_the_release_hash_is_fixed():
    assert MANIFEST.hash.hex() == "1a29ff41b2f6fa99eda758ed430e4f72366fc0b7befd3c4fc699a40ef264e890"


def changed_values():
    yield from ((name, "other") for name in ("name", "base_model", "numerics"))
    for field in fields(ReleaseManifest):
        if field.name.endswith(("_hash", "_root")):
            yield field.name, word(99)
    yield from (("price_in", 1), ("price_out", 1))
    pin = MANIFEST.datanets[0]
    for name in ("version_root", "corpus_root", "retrieval_root"):
        yield "datanets", (replace(pin, **{name: word(99)}), MANIFEST.datanets[1])
    yield "datanets", (replace(pin, version=3), MANIFEST.datanets[1])
    yield "datanets", MANIFEST.datanets[:1]
    yield "attribution", AttributionPolicy(shortest_span=7)
    yield "split", Split(2_000, 0, 2_000, 2_000, 4_000)


def test_every_field_changes_the_hash():
    changes = list(changed_values())
    assert {name for name, _ in changes} == {field.name for field in fields(ReleaseManifest)}
    hashes = {MANIFEST.hash, *(replace(MANIFEST, **{name: value}).hash for name, value in changes)}
    assert len(hashes) == 1 + len(changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 200),
        ("adapter_hash", b""),
        ("price_in", -1),
        ("price_out", 1 << 64),
        ("datanets", MANIFEST.datanets[::-1]),
        ("datanets", MANIFEST.datanets[:1] * 2),
        ("datanets", MANIFEST.datanets * 9),
        ("datanets", ()),
        ("attribution", AttributionPolicy(spans_ppm=1)),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(InvalidRelease, match="without" if value == () else field.split("_")[0]):
        replace(MANIFEST, **{field: value})


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.pop("version"),
        lambda d: d.update(version=2),
        lambda d: d.pop("name"),
        lambda d: d.update(extra=1),
        lambda d: d.update(adapter_hash="22"),
        lambda d: d.update(adapter_hash="0xzz"),
        lambda d: d.update(datanets={}),
        lambda d: d["datanets"][0].pop("version"),
        lambda d: d["datanets"][0].update(version="1"),
        lambda d: d.update(split={"owner_bps": 10_000}),
        lambda d: d["split"].update(owner_bps=1),
        lambda d: d["split"].update(owner_bps="a"),
        lambda d: d["attribution"].update(spans_ppm=None),
    ],
)
def test_malformed_manifests_are_refused(edit):
    document = json.loads(MANIFEST.encode())
    edit(document)
    with pytest.raises(InvalidRelease):
        ReleaseManifest.decode(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"[" * 100_000, b"\xff", b"1"])
def test_what_is_not_a_json_object_is_refused(data):
    with pytest.raises(InvalidRelease):
        ReleaseManifest.decode(data)
