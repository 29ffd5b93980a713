from dataclasses import replace
from typing import Any

import pytest

from openledger.evm_ext.block import Header
from openledger.rollup.l1.blob_fee import (
    BPO1_FRACTION,
    BPO2_FRACTION,
    CANCUN_FRACTION,
    PRAGUE_FRACTION,
    blob_base_fee,
    update_fraction,
)


@pytest.fixture
def header(network: Any) -> Header:
    return network.l1.chain.head()


# go-ethereum, consensus/misc/eip4844: TestCalcBlobFee.
@pytest.mark.parametrize(("excess", "fee"), [(0, 1), (2_314_057, 1), (2_314_058, 2), (10 * 1024 * 1024, 23)])
async def test_the_fee_is_geths(header: Header, excess: int, fee: int) -> None:
    assert blob_base_fee(1, replace(header, timestamp=1_710_338_135, excess_blob_gas=excess)) == fee


@pytest.mark.parametrize(
    ("chain", "timestamp", "fraction"),
    [
        (1, 1_746_612_310, CANCUN_FRACTION),
        (1, 1_746_612_311, PRAGUE_FRACTION),
        (1, 1_765_290_071, BPO1_FRACTION),
        (1, 1_767_747_671, BPO2_FRACTION),
        (11_155_111, 1_741_159_775, CANCUN_FRACTION),
        (11_155_111, 1_761_607_008, BPO2_FRACTION),
        (900, 5, PRAGUE_FRACTION),
    ],
)
def test_each_l1_has_its_schedule(chain: int, timestamp: int, fraction: int) -> None:
    assert update_fraction(chain, timestamp) == fraction
