"""DatanetRegistry: who may claim a document, what gets into a version, and that its root cannot lie."""

from dataclasses import replace

import pytest

from openledger.evm_ext.proofs.datanet import contribution_leaf, registry_domain, version_root
from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.presets import DEVNET

REGISTRY = "DatanetRegistry"
CHAIN_ID = 161_299


def create(world, owner, name="poems"):
    return world.send(owner, REGISTRY, "create", name, bytes(32), bytes(20), True).value


def refused(world, name, *call, **options):
    with pytest.raises(Exception, match=rf"^{name}\(") as caught:
        world.send(*call, **options)
    return caught.value.arguments


def test_ids_begin_at_one_and_are_global(world):
    owner, alice, bob = (world.party() for _ in range(3))
    first, second = create(world, owner), create(world, owner)
    assert (first, second) == (1, 2)
    ids = [world.contribute(net, who, b"%d %d" % (net, i)) for i, who in enumerate((alice, bob)) for net in (1, 2)]
    assert ids == [1, 2, 3, 4]
    assert world.view(REGISTRY, "contributorIds", alice.address) == 1
    assert world.view(REGISTRY, "contributorIds", bob.address) == 2
    assert world.view(REGISTRY, "contributors", 2) == bob.address
    record = world.view(REGISTRY, "getContribution", 3)
    assert record[:4] == (bob.address, 1, 2, 1)


def test_a_versions_root_is_what_python_computes_from_the_events(world):
    owner, alice, bob = (world.party() for _ in range(3))
    net = create(world, owner)
    leaves = []
    for size in range(1, 8):
        who = alice if size % 2 else bob
        document = b"document %d" % size
        contribution = world.contribute(net, who, document)
        approved = world.send(owner, REGISTRY, "approve", net, [contribution]).events[0]
        leaves.append(contribution_leaf(contribution, who.address, keccak256(document)))
        assert approved.arguments["leaf"] == leaves[-1]
        assert approved.arguments["index"] == size - 1
        published = world.send(owner, REGISTRY, "publishVersion", net)
        assert published.values == (size, version_root(net, size, leaves))
        assert world.view(REGISTRY, "getVersion", net, size) == (version_root(net, size, leaves), size, world.block)


def test_a_relayer_may_submit_what_the_contributor_signed(world):
    owner, alice, relayer = (world.party() for _ in range(3))
    net = create(world, owner)
    message = world.contribution(net, alice, b"poem")
    world.commit(message, relayer)
    world.mine()
    contribution = world.reveal(message, alice, relayer)
    assert world.view(REGISTRY, "getContribution", contribution)[0] == alice.address


def test_nobody_can_claim_anothers_document(world):
    owner, alice, thief = (world.party() for _ in range(3))
    net = create(world, owner)
    message = world.contribution(net, alice, b"poem")
    world.commit(message, alice)
    world.mine()
    # the thief copies what it saw of the reveal: its own commitment does not exist
    with pytest.raises(Exception, match="UnknownCommitment"):
        world.reveal(replace(message, contributor=thief.address), thief)
    # submits the author's reveal under its own signature
    with pytest.raises(Exception, match="InvalidSignature"):
        world.reveal(message, thief)
    # or commits after having seen it: the author was first
    contribution = world.reveal(message, alice)
    late = replace(message, contributor=thief.address)
    world.commit(late, thief)
    world.mine()
    with pytest.raises(Exception, match="DuplicateDocument") as caught:
        world.reveal(late, thief)
    assert caught.value.arguments == (contribution,)


@pytest.mark.parametrize("approved", [False, True])
def test_the_earlier_commitment_wins_even_if_revealed_later(world, approved):
    owner, alice, thief = (world.party() for _ in range(3))
    net = create(world, owner)
    message = world.contribution(net, alice, b"poem")
    world.commit(message, alice)
    world.mine()
    copy = replace(message, contributor=thief.address)
    world.commit(copy, thief)
    world.mine()
    stolen = world.reveal(copy, thief)
    if approved:
        world.send(owner, REGISTRY, "approve", net, [stolen])
    mine = world.reveal(message, alice)
    assert world.view(REGISTRY, "getContribution", stolen)[3] == (4 if approved else 3)
    assert world.view(REGISTRY, "getContribution", mine)[3] == 1
    assert world.view(REGISTRY, "contributionOf", net, message.document_hash) == mine


def test_reveals_have_a_window_a_deadline_and_one_use(world):
    owner, alice = world.party(), world.party()
    net = create(world, owner)
    message = world.contribution(net, alice, b"poem")
    world.commit(message, alice)
    with pytest.raises(Exception, match="RevealTooEarly"):
        world.reveal(message, alice)
    world.mine()
    with pytest.raises(Exception, match="DeadlinePassed"):
        world.reveal(replace(message, deadline=world.timestamp - 1), alice)
    with pytest.raises(Exception, match="InvalidSize"):
        world.reveal(replace(message, size=5_000_001), alice)
    with pytest.raises(Exception, match="InvalidSize"):
        world.reveal(replace(message, size=0), alice)
    world.reveal(message, alice)
    with pytest.raises(Exception, match="UnknownCommitment"):
        world.reveal(message, alice)
    other = world.contribution(net, alice, b"other")
    world.commit(other, alice)
    world.mine(1_801)
    with pytest.raises(Exception, match="RevealTooLate"):
        world.reveal(replace(other, deadline=world.timestamp), alice)
    world.send(alice, REGISTRY, "forfeit", other.commitment(CHAIN_ID))
    world.commit(other, alice)


def test_a_signature_for_another_chain_is_refused(world):
    owner, alice = world.party(), world.party()
    net = create(world, owner)
    message = world.contribution(net, alice, b"poem")
    world.commit(message, alice)
    world.mine()
    signature = message.sign(registry_domain(1), alice.key)
    values = tuple(getattr(message, name) for name in message.TYPES)
    refused(world, "InvalidSignature", alice, REGISTRY, "reveal", values, signature)


def test_only_the_owner_decides_and_each_status_once(world):
    owner, alice, other = (world.party() for _ in range(3))
    net = create(world, owner)
    one, two = (world.contribute(net, alice, text) for text in (b"one", b"two"))
    refused(world, "NotOwner", other, REGISTRY, "approve", net, [one])
    refused(world, "NotOwner", other, REGISTRY, "reject", one, "no")
    refused(world, "NotOwner", other, REGISTRY, "publishVersion", net)
    refused(world, "NothingApproved", owner, REGISTRY, "publishVersion", net)
    world.send(owner, REGISTRY, "approve", net, [one])
    assert refused(world, "WrongStatus", owner, REGISTRY, "approve", net, [one]) == (one, 2)
    refused(world, "WrongStatus", owner, REGISTRY, "reject", one, "no")
    world.send(owner, REGISTRY, "reject", two, "not a poem")
    refused(world, "WrongStatus", owner, REGISTRY, "approve", net, [two])
    refused(world, "NotOwner", other, REGISTRY, "retire", one, "")
    world.send(alice, REGISTRY, "retire", one, "mine to take back")
    refused(world, "WrongStatus", owner, REGISTRY, "retire", one, "")
    refused(world, "UnknownContribution", owner, REGISTRY, "approve", net, [99])
    refused(world, "UnknownDatanet", owner, REGISTRY, "approve", 9, [one])
    elsewhere = create(world, other)
    refused(world, "UnknownContribution", other, REGISTRY, "approve", elsewhere, [two])


def test_a_corpus_is_set_once_by_the_owner_for_a_version_that_exists(world):
    owner, alice = world.party(), world.party()
    net, _ = world.datanet(owner, [alice])
    root = b"\x01" * 32
    refused(world, "UnknownVersion", owner, REGISTRY, "setCorpus", net, 2, root, root, root, root, 5)
    refused(world, "EmptyCorpus", owner, REGISTRY, "setCorpus", net, 1, root, root, root, root, 0)
    refused(world, "NotOwner", alice, REGISTRY, "setCorpus", net, 1, root, root, root, root, 5)
    world.send(owner, REGISTRY, "setCorpus", net, 1, root, root, root, root, 5)
    refused(world, "CorpusAlreadySet", owner, REGISTRY, "setCorpus", net, 1, root, root, root, root, 6)
    assert world.view(REGISTRY, "getCorpus", net, 1, root) == (root, root, root, 5, world.block)


def test_announcements_name_the_content(world):
    owner, alice = world.party(), world.party()
    _, ids = world.datanet(owner, [alice])
    event = world.send(alice, REGISTRY, "announce", ids[0], b"\x01\x00cert").events[0]
    assert event.name == "Announced"
    assert event.arguments == {
        "contentHash": keccak256(b"document 0 of 1"),
        "contribution": ids[0],
        "announcer": alice.address,
        "daCommitment": b"\x01\x00cert",
    }
    refused(world, "UnknownContribution", alice, REGISTRY, "announce", 77, b"")


def test_names_are_limited(world):
    owner = world.party()
    for name in ("", "x" * 65):
        refused(world, "InvalidName", owner, REGISTRY, "create", name, bytes(32), bytes(20), True)


def test_deposits_come_back_to_who_paid_or_go_to_the_platform(world):
    owner, alice, payer = (world.party() for _ in range(3))
    net = create(world, owner)
    slot = artifact(REGISTRY).slot("commitDeposit")
    word = world.state.get_storage(predeploys.DATANET_REGISTRY, slot)
    world.state.set_storage(predeploys.DATANET_REGISTRY, slot, word | 7 << 192)
    deposit = 7 * MICRO_OPEN_WEI
    kept, lost = (world.contribution(net, alice, text) for text in (b"kept", b"lost"))
    refused(world, "WrongDeposit", payer, REGISTRY, "commit", net, kept.commitment(CHAIN_ID))
    before = world.balance(payer.address)
    for message in (kept, lost):
        world.send(payer, REGISTRY, "commit", net, message.commitment(CHAIN_ID), value=deposit)
    refused(world, "CommitmentExists", payer, REGISTRY, "commit", net, kept.commitment(CHAIN_ID), value=deposit)
    world.mine()
    refused(world, "RevealTooEarly", payer, REGISTRY, "forfeit", lost.commitment(CHAIN_ID))
    world.reveal(kept, alice)
    world.send(alice, REGISTRY, "withdrawRefund", payer.address)
    assert world.balance(payer.address) == before - deposit
    refused(world, "NothingToRefund", alice, REGISTRY, "withdrawRefund", payer.address)
    world.mine(1_801)
    world.send(alice, REGISTRY, "forfeit", lost.commitment(CHAIN_ID))
    assert world.view(REGISTRY, "refunds", DEVNET.owner) == deposit
    assert world.balance(predeploys.DATANET_REGISTRY) == deposit
