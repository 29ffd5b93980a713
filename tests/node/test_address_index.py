"""An index that is switched on later is filled by a service beside the others."""

from __future__ import annotations

import structlog
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.state.policy import StateHistory
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.node.address_index import fill_index
from openledger.node.config import load_config


def _extend(chain: Chain) -> None:
    parent = chain.head()
    block = chain.build(
        parent.hash,
        PayloadAttributes(
            timestamp=parent.timestamp + 2,
            prev_randao=parent.hash,
            suggested_fee_recipient=bytes(20),
            parent_beacon_block_root=bytes(32),
        ),
    )
    chain.set_heads(unsafe=block.hash)


async def test_blocks_from_before_are_indexed_in_the_background(tmp_path):
    genesis = l2_genesis(DEVNET, 1_800_000_000)
    chain = Chain.open(tmp_path, genesis)
    for _ in range(5):
        _extend(chain)
    chain.close()
    chain = Chain.open(tmp_path, genesis, address_index=True)
    try:
        assert chain.blocks_to_index == 5
        async with trio.open_nursery() as nursery:
            await nursery.start(fill_index, chain)
            for _ in range(2_000):
                if not chain.blocks_to_index:
                    break
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert all(chain.index.has_block(chain.header_by_number(number).hash) for number in range(1, 6))
    finally:
        chain.close()


async def test_what_was_pruned_stays_out_and_is_said(tmp_path):
    genesis = l2_genesis(DEVNET, 1_800_000_000)
    pruned = StateHistory("pruned", keep_blocks=16, keep_changes=20)
    chain = Chain.open(tmp_path, genesis, history=pruned)
    for _ in range(60):
        _extend(chain)
        head = chain.head().hash
        chain.set_heads(safe=head, finalized=head)
    chain.close()
    chain = Chain.open(tmp_path, genesis, history=pruned, address_index=True)
    try:
        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                await nursery.start(fill_index, chain)
                for _ in range(2_000):
                    if any(entry["event"] == "address_index_incomplete" for entry in logs):
                        break
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        (said,) = [entry for entry in logs if entry["event"] == "address_index_incomplete"]
        assert "pruned" in said["reason"]
        # further back than whole states are kept, as far as changes are
        assert 60 - 24 <= said["blocks"] == chain.blocks_to_index <= 60 - 18
    finally:
        chain.close()


def test_the_devnet_is_indexed_unless_it_is_told_otherwise(tmp_path):
    assert load_config(data_dir=tmp_path).address_index
    assert not load_config(data_dir=tmp_path, network="testnet").address_index
    file = tmp_path / "node.toml"
    file.write_text('network = "testnet"\n[chain]\naddress_index = true\n')
    assert load_config(file).address_index
    file.write_text("[chain]\naddress_index = false\n")
    assert not load_config(file).address_index
