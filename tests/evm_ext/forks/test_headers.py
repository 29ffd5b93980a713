"""A block with any one header field wrong is refused, by the name of what is wrong, under every fork's rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext import Block
from openledger.evm_ext.block import HEADER_FIELDS, HeaderForm
from openledger.evm_ext.errors import HeaderFieldMismatch, InvalidBlock, UnknownParent
from openledger.genesis.hardforks import Hardfork, HardforkSchedule

FORKS = (
    Hardfork.FRONTIER,
    Hardfork.BYZANTIUM,
    Hardfork.LONDON,
    Hardfork.PARIS,
    Hardfork.SHANGHAI,
    Hardfork.CANCUN,
    Hardfork.PRAGUE,
    Hardfork.OSAKA,
)
# What a wrong value of a field shows itself as, where it is not the field itself: the fee recipient is paid.
SHOWS_AS = {"fee_recipient": "state_root"}
# What nothing can be said against: randomness, and under proof of work the seal.
FREE = {"prev_randao"}
FREE_UNDER_WORK = {"prev_randao", "nonce"}


@pytest.fixture
def at_fork(tools, open_chain):
    """A chain at a fork, and a block on its genesis that is not stored in it."""

    def open_at(fork: Hardfork):
        genesis = replace(
            tools.ethereum_genesis(),
            hardforks=HardforkSchedule.always(fork),
            difficulty=0 if fork >= Hardfork.PARIS else 1_000_000,
        )
        chain, builder = open_chain(genesis, f"{fork}-chain"), open_chain(genesis, f"{fork}-builder")
        chain_id = None if fork < Hardfork.SPURIOUS_DRAGON else 1337
        payment = tools.signed(
            0, chain_id, 0, tools.ADDRESSES[1], type=0, value=1, gas=21_000, max_fee_per_gas=10**10,
            max_priority_fee_per_gas=None,
        )  # fmt: skip
        return chain, tools.extend(builder, (payment,))

    return open_at


def wrong(header, name: str):
    value = getattr(header, name)
    if name == "extra_data":
        return bytes(33)
    if name == "timestamp":
        return header.timestamp - 2
    if name == "gas_limit":
        return value + value // 512
    if isinstance(value, int):
        return value + 1
    return bytes((value[0] ^ 1,)) + value[1:]


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_each_field_alone(fork, at_fork):
    chain, block = at_fork(fork)
    free = FREE if fork >= Hardfork.PARIS else FREE_UNDER_WORK
    for name in HEADER_FIELDS[: block.header.form]:
        bad = replace(block, header=replace(block.header, **{name: wrong(block.header, name)}))
        if name in free:
            chain.import_block(bad)
        elif name == "parent_hash":
            with pytest.raises(UnknownParent):
                chain.import_block(bad)
        elif name == "parent_beacon_block_root":
            with pytest.raises(HeaderFieldMismatch) as raised:
                chain.import_block(bad)
            assert raised.value.field == "state_root"  # it is stored (EIP-4788)
        else:
            with pytest.raises(HeaderFieldMismatch) as raised:
                chain.import_block(bad)
            # Work makes the time part of the difficulty; a block of work that claims none is judged as one of stake.
            assert raised.value.field == SHOWS_AS.get(name, name), name
    chain.import_block(block)


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_a_header_with_more_or_fewer_fields_than_its_fork_has(fork, at_fork):
    chain, block = at_fork(fork)
    for form in HeaderForm:
        if form != block.header.form:
            with pytest.raises(HeaderFieldMismatch) as raised:
                chain.import_block(replace(block, header=replace(block.header, form=form)))
            assert raised.value.field == HEADER_FIELDS[min(form, block.header.form)]


@pytest.mark.parametrize("fork", [Hardfork.PARIS, Hardfork.OSAKA], ids=lambda fork: fork.name)
def test_what_only_proof_of_work_has_is_refused_after_the_merge(fork, at_fork):
    chain, block = at_fork(fork)
    worked = replace(block, header=replace(block.header, difficulty=131_072))
    with pytest.raises(HeaderFieldMismatch, match="difficulty"):
        chain.import_block(worked)
    with pytest.raises(HeaderFieldMismatch, match="uncles_hash"):
        chain.import_block(replace(block, uncles=(chain.head(),)))


def test_a_body_that_the_header_does_not_commit_to_is_refused(at_fork, tools):
    chain, block = at_fork(Hardfork.CANCUN)
    with pytest.raises(HeaderFieldMismatch, match="transactions_root"):
        chain.import_block(Block(block.header, ()))
    from openledger.evm_ext import Withdrawal

    with pytest.raises(HeaderFieldMismatch, match="withdrawals_root"):
        chain.import_block(replace(block, withdrawals=(Withdrawal(0, 0, bytes(20), 1),)))
    chain, block = at_fork(Hardfork.LONDON)
    with pytest.raises(InvalidBlock, match="no withdrawals"):
        chain.import_block(replace(block, withdrawals=(Withdrawal(0, 0, bytes(20), 1),)))
