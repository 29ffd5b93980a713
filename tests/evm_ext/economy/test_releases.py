"""ModelRegistry: what may be registered, and what settlements read of it."""

import pytest

from openledger.genesis.hashing import keccak256

REGISTRY = "ModelRegistry"
TOKENIZER = keccak256(b"tokenizer")
WORD = b"\x07" * 32


def registration(trained_by, **changed):
    values = {
        "releaseHash": keccak256(b"release"),
        "manifestHash": WORD,
        "adapterHash": WORD,
        "tokenizerHash": TOKENIZER,
        "trainingRecord": WORD,
        "trainer": trained_by.address,
        "priceIn": 500,
        "priceOut": 1_500,
        "split": (1_500, 500, 2_000, 2_000, 4_000),
        "datanets": [],
        "name": "poet",
    }
    return tuple({**values, **changed}.values())


def test_a_release_pins_the_token_counts_of_its_datanets(world):
    owner, trainer, alice = (world.party() for _ in range(3))
    one, _ = world.datanet(owner, [alice], tokens=300)
    two, _ = world.datanet(owner, [alice], tokens=700)
    sent = world.send(owner, REGISTRY, "register", registration(trainer, datanets=[(one, 1), (two, 1)]))
    assert sent.value == 1
    assert [event.name for event in sent.events] == ["ReleaseRegistered", "PriceChanged"]
    record = world.view(REGISTRY, "getRelease", 1)
    assert record[0] == owner.address
    assert record[-2] == ((one, 1, 300), (two, 1, 700))
    assert world.view(REGISTRY, "releaseOf", keccak256(b"release")) == 1
    assert world.view(REGISTRY, "getPrice", 1) == (500, 1_500)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"name": ""}, "InvalidName"),
        ({"name": "x" * 129}, "InvalidName"),
        ({"releaseHash": bytes(32)}, "ZeroHash"),
        ({"manifestHash": bytes(32)}, "ZeroHash"),
        ({"trainer": bytes(20)}, "ZeroAddress"),
        ({"split": (1_500, 500, 2_000, 2_000, 3_999)}, "InvalidSplit"),
        ({"datanets": []}, "InvalidDatanets"),
        ({"datanets": [(i, 1) for i in range(1, 18)]}, "InvalidDatanets"),
        ({"datanets": [(1, 1), (1, 1)]}, "DatanetsNotAscending"),
        ({"datanets": [(0, 1)]}, "DatanetsNotAscending"),
        ({"datanets": [(1, 2)]}, "CorpusMissing"),
        ({"datanets": [(2, 1)]}, "CorpusMissing"),
        ({"tokenizerHash": WORD}, "CorpusMissing"),
    ],
)
def test_each_wrong_registration_has_its_error(world, changed, error):
    owner, trainer, alice = (world.party() for _ in range(3))
    world.datanet(owner, [alice])
    with pytest.raises(Exception, match=f"^{error}"):
        world.send(owner, REGISTRY, "register", registration(trainer, **{"datanets": [(1, 1)], **changed}))


def test_a_release_hash_is_registered_once_and_owned(world):
    owner, trainer, other = (world.party() for _ in range(3))
    base = registration(trainer, split=(10_000, 0, 0, 0, 0))
    release = world.send(owner, REGISTRY, "register", base).value
    with pytest.raises(Exception, match="ReleaseExists"):
        world.send(other, REGISTRY, "register", base)
    for function, arguments in (("setPrice", (release, 1, 2)), ("deprecate", (release,))):
        with pytest.raises(Exception, match="NotOwner"):
            world.send(other, REGISTRY, function, *arguments)
        with pytest.raises(Exception, match="UnknownRelease"):
            world.send(owner, REGISTRY, function, 9, *arguments[1:])
    changed = world.send(owner, REGISTRY, "setPrice", release, 1, 2).events[0]
    assert changed.arguments == {"release": release, "priceIn": 1, "priceOut": 2}
    world.send(owner, REGISTRY, "deprecate", release)
    with pytest.raises(Exception, match="AlreadyDeprecated"):
        world.send(owner, REGISTRY, "deprecate", release)
    with pytest.raises(Exception, match="UnknownRelease"):
        world.view(REGISTRY, "getRelease", 2)
