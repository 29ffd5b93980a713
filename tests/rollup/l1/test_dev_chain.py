from typing import Any

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.pool import TransactionPool
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.rollup.l1.dev_chain import DevL1


async def test_safe_and_finalized_trail_the_head_by_two_and_four_blocks(network: Any) -> None:
    numbers = []
    for _ in range(6):
        await network.advance(4, sequence=False)
        numbers.append([network.l1.chain.head(label).number for label in ("unsafe", "safe", "finalized")])
    assert numbers == [[1, 0, 0], [2, 0, 0], [3, 1, 0], [4, 2, 0], [5, 3, 1], [6, 4, 2]]


async def test_it_goes_on_where_it_was_at_todays_time(network: Any, tmp_path: Any) -> None:
    genesis = l1_genesis(DEVNET, 1_700_000_000)
    chain = Chain.open(tmp_path / "own", genesis)
    dev = DevL1(chain, TransactionPool(chain), 4)
    for step in range(1, 6):
        await dev.produce_block(1_700_000_000 + 4 * step)
    head = chain.head()
    chain.close()
    chain = Chain.open(tmp_path / "own", genesis)
    assert [chain.head(label).number for label in ("unsafe", "safe", "finalized")] == [5, 3, 1]
    dev = DevL1(chain, TransactionPool(chain), 4)
    later = (await dev.produce_block(1_700_086_400)).header
    assert (later.parent_hash, later.timestamp) == (head.hash, 1_700_086_400)
    # A clock that was set back does not stop it.
    assert (await dev.produce_block(1_700_000_000)).header.timestamp == 1_700_086_401
    chain.close()
