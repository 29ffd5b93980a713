"""A validator without a database executes the economy's blocks from their witnesses, our precompiles included."""

from __future__ import annotations

from openledger.evm_ext import PayloadAttributes
from openledger.evm_ext.proofs.settlement import Record
from openledger.evm_ext.stateless import execute
from openledger.evm_ext.witness import Witness


def attributes_of(block):
    header = block.header
    return PayloadAttributes(
        timestamp=header.timestamp,
        prev_randao=header.prev_randao,
        suggested_fee_recipient=header.fee_recipient,
        parent_beacon_block_root=header.parent_beacon_block_root,
        transactions=tuple(transaction.raw for transaction in block.transactions),
        no_tx_pool=True,
        gas_limit=header.gas_limit,
        eip_1559_params=header.extra_data[1:9],
    )


def test_every_block_up_to_a_settlement_is_executed_from_its_witness(chain_world, make_story):
    world = chain_world
    story = make_story(world)
    a, b, c = story.ids
    records = [Record(10_001, ((a, 3_333), (b, 3_333), (c, 3_334))), Record(99_999)]
    world.settle(story.provider, [story.group(0, records)])
    assert sum(story.credited().values()) == 110_000
    chain = world.chain
    for block in world.blocks:
        parent = chain.header_by_hash(block.header.parent_hash)
        preimages = chain.execution_witness(block).preimages()
        result = execute(chain.rules, parent, attributes_of(block), Witness(preimages.values()))
        assert result.block.hash == block.hash
        assert result.executed.receipts == chain.receipts(block.hash)
