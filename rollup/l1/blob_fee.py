"""The blob base fee of an L1 block, which the L1 attributes deposit carries (EIP-4844, EIP-7691, EIP-7892).

It depends on the L1's fork at that block, so the schedules of the public L1s are written down here; every other chain
is taken to run at Prague from its start, as the development L1 does.
"""

from types import MappingProxyType

from openledger.evm_ext.block import Header

MIN_BASE_FEE_PER_BLOB_GAS = 1

CANCUN_FRACTION = 3_338_477
PRAGUE_FRACTION = 5_007_716
BPO1_FRACTION = 8_346_193
BPO2_FRACTION = 11_684_671

# (activation time, update fraction), newest first.
_SCHEDULES = MappingProxyType(
    {
        1: (
            (1_767_747_671, BPO2_FRACTION),
            (1_765_290_071, BPO1_FRACTION),
            (1_746_612_311, PRAGUE_FRACTION),
            (0, CANCUN_FRACTION),
        ),
        11_155_111: (
            (1_761_607_008, BPO2_FRACTION),
            (1_761_017_184, BPO1_FRACTION),
            (1_741_159_776, PRAGUE_FRACTION),
            (0, CANCUN_FRACTION),
        ),
    }
)


def update_fraction(l1_chain_id: int, timestamp: int) -> int:
    """BLOB_BASE_FEE_UPDATE_FRACTION in force on an L1 at a block time in seconds."""
    for activation, fraction in _SCHEDULES.get(l1_chain_id, ((0, PRAGUE_FRACTION),)):
        if timestamp >= activation:
            return fraction
    return PRAGUE_FRACTION


# When blobs began to travel with cell proofs (Osaka, EIP-7594).
_CELL_PROOFS_SINCE = MappingProxyType({1: 1_764_798_551, 11_155_111: 1_760_427_360})


def has_cell_proofs(l1_chain_id: int, timestamp: int) -> bool | None:
    """Whether a public L1's pool wants cell proofs beside blobs at a head's time in seconds, instead of one proof a
    blob; None for an L1 whose schedule is not known here."""
    since = _CELL_PROOFS_SINCE.get(l1_chain_id)
    return None if since is None else timestamp >= since


def blob_base_fee(l1_chain_id: int, header: Header) -> int:
    """Wei per blob gas in an L1 block."""
    return _fake_exponential(
        MIN_BASE_FEE_PER_BLOB_GAS, header.excess_blob_gas, update_fraction(l1_chain_id, header.timestamp)
    )


def _fake_exponential(factor: int, numerator: int, denominator: int) -> int:
    """factor * e ** (numerator / denominator) by Taylor expansion (EIP-4844)."""
    index, output, term = 1, 0, factor * denominator
    while term > 0:
        output += term
        term = term * numerator // (denominator * index)
        index += 1
    return output // denominator
