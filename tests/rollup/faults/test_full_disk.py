"""A disk that is full for a while costs no node its chain."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openledger.evm_ext import batches
from openledger.evm_ext.errors import DiskFull
from openledger.genesis.dev_accounts import USERS


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No room is left for what lies in `folder`."""
    real = os.statvfs

    def told(path: Path) -> os.statvfs_result:
        found = real(path)
        if folder not in (path, *Path(path).parents):
            return found
        return os.statvfs_result((*found[:3], 0, 0, *found[5:]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches.os, "statvfs", told)
        yield


async def test_a_block_that_did_not_fit_on_the_disk_is_derived_when_there_is_room_again(network) -> None:
    for _ in range(3):
        network.send_l2(USERS[0], b"\x77" * 20, value=1)
        await network.advance(6)
    await network.post(batcher=network.make_batcher(max_channel_blocks=100))
    validator = network.open_node("validator")
    driver, chain = validator.driver, validator.chain
    while chain.head("safe").number < 3:
        await driver.step()
    # The next block of the span is out of the pipeline already when its write is refused.
    with full_disk(validator.folder):
        for _ in range(3):
            with pytest.raises(DiskFull, match="make room"):
                await driver.step()
    assert (await driver.derive_to_tip()).hash == network.node.chain.head().hash
    assert (driver.status.resets, driver.status.reorgs) == (0, 0)
    validator.close()
